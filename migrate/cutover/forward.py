"""The way forward: from the shards to the target."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from migrate.config import Config
from migrate.cutover.changed import Changed
from migrate.cutover.drain import drain_binlogs, drain_outbox
from migrate.cutover.fences import fence_of, prove
from migrate.cutover.journal import Direction
from migrate.cutover.machine import SHARE_OF_FREEZE, Machine, Outcome
from migrate.cutover.readiness import Verifier, readiness
from migrate.cutover.reverse import start_reverse
from migrate.cutover.sequences import raise_counters
from migrate.cutover.smoke import smoke
from migrate.db import connect
from migrate.doublewrite import phases
from migrate.errors import NoGo
from migrate.faults import fault_point
from migrate.model import Shard
from migrate.position import Position
from migrate.source import capture_positions
from migrate.state import State
from migrate.sync.run import command


class Forward(Machine):
    """Makes the target primary."""

    direction: Direction = "cutover"

    def __init__(self, config: Config, verifier: Verifier):
        super().__init__(config, verifier)
        self._changed: list[Changed] = []

    def go(self, *, way_back: bool) -> Outcome:
        """Makes the target primary. Nothing has changed if it is a no-go."""
        double = self.installed()
        self.run = self.meta(lambda j: j.begin("cutover"))
        self.keep(way_back=way_back, double=double)
        try:
            self.step("readiness", lambda: self._ready(way_back))
            if (
                way_back
            ):  # before the freeze: it takes a while to start, and has nothing to do until the target is opened
                self.step("reverse", lambda: start_reverse(self.config, self.keep))
            self.freeze(lambda left: fence_of(self.config).put_up(self.config, self.run, self.keep, left))
            final: dict[str, Position] = {}
            self.step("proof", lambda: self._final(final))
            self.step("drain", lambda: self._drained(final))
            self.step("verify", lambda: self._verified(final), only_reads=True)
            self.step("sequences", self._counters)
            self.step("smoke", self._smoke)
            self.keep(hooked=True)
            self.step("hooks", lambda: self.hook("switch"))
            self.left()
            # From here on there is only forward.
            self.keep(switched=True)
        except BaseException as error:
            return self.undone(error)
        return self.finish()

    def _ready(self, way_back: bool) -> str:
        checks = readiness(self.config, self.verifier, way_back=way_back)
        text = "\n".join(c.text() for c in checks)
        if not all(c.ok for c in checks):
            raise NoGo(f"not ready:\n{text}")
        if self.config.cutover.digests == "changed":
            self._read_changes(capture_positions(self.config))
        return text

    def _read_changes(self, goals: dict[str, Position]) -> None:
        """Which rows were written since the last clean verification; read on in the freeze, from where this ended."""
        clean = self.verifier.last_clean()
        if clean is None:
            raise NoGo("the last clean verification is gone from the evidence")
        if not self._changed:
            self._changed = [Changed(self.config, name, clean.positions[name]) for name in goals]
        with ThreadPoolExecutor(len(goals)) as pool:
            list(pool.map(lambda changed: changed.read_to(goals[changed.instance]), self._changed))

    def _final(self, final: dict[str, Position]) -> str:
        final.update(prove(self.config, self.left() * SHARE_OF_FREEZE))
        return ", ".join(f"{name} stands at {p['file']}:{p['offset']}" for name, p in final.items())

    def _drained(self, final: dict[str, Position]) -> str:
        if self.installed() and phases.read(self.config).delivers:
            return drain_outbox(self.config, "source", self.left())
        return drain_binlogs(self.config, final, self.left())

    def _verified(self, final: dict[str, Position]) -> str:
        if self.config.cutover.digests == "all":
            return self.proven(self.verifier.everything())
        self._read_changes(final)
        keys: dict[str, dict[Shard, Collection[str]]] = {}
        for changed in self._changed:
            for target, shards in changed.keys.items():
                keys.setdefault(target, {}).update(shards)
        rows = sum(len(some) for shards in keys.values() for some in shards.values())
        money = self.proven(self.verifier.money())
        digests = self.proven(self.verifier.changed(keys)) if rows else "no row was"
        return f"{money}\nwritten since the last clean verification ({rows:,} rows): {digests}"

    def _counters(self) -> str:
        with connect(self.config.target, patience_s=self.config.run.patience_s) as session:
            return "\n".join(raise_counters(session, self.tables)) or "no table numbers its rows by itself"

    def _smoke(self) -> str:
        with connect(self.config.target, patience_s=self.config.run.patience_s) as session:
            said = smoke(session, self.tables)
        return f"{said}; {self.hook('smoke')}"

    def finish(self) -> Outcome:
        """What follows the point of no return. Safe to repeat."""
        self.deadline = None
        fault_point("switch_decided")
        kept = self.meta(lambda j: j.last())
        assert kept is not None
        if kept.kept.get("double"):
            self.step("switch", lambda: self.switch("reversed", "target"))
        self.meta(lambda j: j.mark(self.run, "opened_at"))
        State.settled(self.config, lambda state: command(state, "stop"))
        return self.ended(True, "the target is primary")
