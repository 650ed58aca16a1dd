"""The night itself: from shards to target and back, step by step, each one durable before its effect.

Until the switch is recorded everything can be undone, and is, by any failure; from then on there is only forward. So
whatever kills us, the same command later either undoes and begins again, or finishes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, TypeVar

from migrate.config import Config
from migrate.cutover.drain import drain_binlogs, drain_outbox
from migrate.cutover.fences import fence_of, prove
from migrate.cutover.hooks import run_hook
from migrate.cutover.journal import CutoverJournal, Direction, Run, StepRecord
from migrate.cutover.readiness import Verification, Verifier, readiness
from migrate.cutover.reverse import end_reverse, start_reverse
from migrate.cutover.sequences import raise_counters
from migrate.cutover.smoke import smoke
from migrate.db import Session, connect, patiently, stop
from migrate.doublewrite import fence as epochs
from migrate.doublewrite import phases
from migrate.errors import ConfigError, ConnectionLost, MigrateError, NoGo, OutcomeUnknown, TryAgain
from migrate.faults import fault_point
from migrate.lease import lease
from migrate.position import Position
from migrate.source import capture_positions, read_routing
from migrate.state import State
from migrate.sync.run import command

log = logging.getLogger("migrate")
T = TypeVar("T")

_SHARE_OF_FREEZE = 0.5  # what one wait may take of the time that is left


@dataclass(frozen=True)
class Outcome:
    """How a cutover or rollback ended. `freeze_s`: how long writes were refused (None: they never were)."""

    direction: Direction
    go: bool
    reason: str
    freeze_s: float | None
    steps: tuple[StepRecord, ...]

    def document(self) -> dict[str, Any]:
        return {
            "ok": self.go,
            "direction": self.direction,
            "reason": self.reason,
            "freeze_s": None if self.freeze_s is None else round(self.freeze_s, 3),
            "steps": [
                {"name": s.name, "ok": s.outcome == "done", "seconds": s.seconds, "said": s.said} for s in self.steps
            ],
        }

    def text(self) -> str:
        lines = []
        for step in self.steps:
            took = "" if step.seconds is None else f", {step.seconds:.2f} s"
            lines.append(f"== {step.name}: {step.outcome}{took}")
            lines += [f"   {line}" for line in step.said.splitlines()]
        if self.freeze_s is not None:
            lines.append(f"writes were refused for {self.freeze_s:.2f} s")
        return "\n".join([*lines, f"{'DONE' if self.go else 'NO-GO'}: {self.reason}"])


class Machine:
    """Takes the steps of one run."""

    def __init__(self, config: Config, verifier: Verifier, direction: Direction):
        self._config, self._verifier, self._direction = config, verifier, direction
        self._session: Session | None = None
        self._run = 0
        self._deadline: float | None = None
        self._tables = read_routing(config).checked()

    # -- what is durable ----------------------------------------------------------------------------------------------

    def meta(self, work: Callable[[CutoverJournal], T]) -> T:
        """Does the work with the journal; again if the target went away."""

        def attempt() -> T:
            if self._session is None:
                self._session = Session(self._config.target)
            try:
                return work(CutoverJournal(self._config.name, self._session))
            except ConnectionLost:
                self._session.close()
                self._session = None
                raise

        return patiently(self._config.run.patience_s, attempt, ConnectionLost, OutcomeUnknown, TryAgain)

    def _keep(self, **facts: Any) -> None:
        self.meta(lambda j: j.keep(self._run, **facts))

    def _step(self, name: str, work: Callable[[], str]) -> None:
        number = self.meta(lambda j: j.step(self._run, name))
        log.info("%s: %s", self._direction, name)
        fault_point(f"before_{name}")
        try:
            said = self._in_time(name, work)
        except BaseException as error:
            text = str(error) or type(error).__name__
            self.meta(lambda j: j.step_ended(self._run, number, "failed", text))
            raise
        fault_point(f"after_{name}")
        self.meta(lambda j: j.step_ended(self._run, number, "done", said))

    def _in_time(self, name: str, work: Callable[[], str]) -> str:
        """The work, for as long as the freeze may last. What is given up only reads, or is undone."""
        if self._deadline is None:
            return work()
        pool = ThreadPoolExecutor(1)
        try:
            return pool.submit(work).result(self._left())
        except TimeoutError:
            self._session = None  # the work that is given up may be using it
            raise NoGo(f"{name} was not done when the freeze had lasted {self._config.cutover.freeze_s:g} s") from None
        finally:
            pool.shutdown(wait=False)

    def _left(self) -> float:
        """Seconds that are left of the freeze. NoGo if there are none."""
        assert self._deadline is not None
        left = self._deadline - monotonic()
        if left <= 0:
            raise NoGo(f"the freeze had lasted {self._config.cutover.freeze_s:g} s")
        return left

    def _proven(self, result: Verification) -> str:
        if not result.ok:
            raise NoGo(f"the two sides differ:\n{result.text()}")
        return result.text().splitlines()[-1]

    def _hook(self, name: str) -> str:
        path = getattr(self._config.cutover.hooks, name)
        return run_hook(self._config, name, path, direction=self._direction, run=self._run) if path else "no hook"

    # -- forward ------------------------------------------------------------------------------------------------------

    def cut_over(self, *, way_back: bool) -> Outcome:
        """Makes the target primary. Nothing has changed if it is a no-go."""
        double = self._installed()
        self._run = self.meta(lambda j: j.begin("cutover"))
        self._keep(way_back=way_back, double=double)
        try:
            self._step("readiness", lambda: self._ready(way_back))
            if (
                way_back
            ):  # before the freeze: it has nothing to do until the target is opened, and takes a while to start
                self._step("reverse", lambda: start_reverse(self._config, self._keep))
            self._freeze(lambda left: fence_of(self._config).put_up(self._config, self._run, self._keep, left))
            final: dict[str, Position] = {}
            self._step("proof", lambda: self._final(final))
            self._step("drain", lambda: self._drained(final))
            self._step("verify", self._verified)
            self._step("sequences", self._counters)
            self._step("smoke", self._smoke)
            self._keep(hooked=True)
            self._step("hooks", lambda: self._hook("switch"))
            self._left()
            # From here on there is only forward.
            self._keep(switched=True)
        except BaseException as error:
            return self._undone(error)
        return self._finish_forward()

    def _ready(self, way_back: bool) -> str:
        checks = readiness(self._config, self._verifier, way_back=way_back)
        text = "\n".join(c.text() for c in checks)
        if not all(c.ok for c in checks):
            raise NoGo(f"not ready:\n{text}")
        return text

    def _freeze(self, put_up: Callable[[float], str]) -> None:
        self._deadline = monotonic() + self._config.cutover.freeze_s
        self.meta(lambda j: j.mark(self._run, "fenced_at"))
        self._step("fence", lambda: put_up(self._left() * _SHARE_OF_FREEZE))

    def _final(self, final: dict[str, Position]) -> str:
        final.update(prove(self._config, self._left() * _SHARE_OF_FREEZE))
        return ", ".join(f"{name} stands at {p['file']}:{p['offset']}" for name, p in final.items())

    def _drained(self, final: dict[str, Position]) -> str:
        if self._installed() and phases.read(self._config).delivers:
            return drain_outbox(self._config, "source", self._left())
        return drain_binlogs(self._config, final, self._left())

    def _verified(self) -> str:
        if self._config.cutover.digests == "all":
            return self._proven(self._verifier.everything())
        clean = self._verifier.last_clean()
        if clean is None:
            raise NoGo("the last clean verification is gone from the evidence")
        money = self._proven(self._verifier.money())
        changed = self._proven(self._verifier.changed(clean.positions))
        return f"{money}\nchanged since {clean.run}: {changed}"

    def _counters(self) -> str:
        with connect(self._config.target, patience_s=self._config.run.patience_s) as session:
            return "\n".join(raise_counters(session, self._tables)) or "no table numbers its rows by itself"

    def _smoke(self) -> str:
        with connect(self._config.target, patience_s=self._config.run.patience_s) as session:
            said = smoke(session, self._tables)
        return f"{said}; {self._hook('smoke')}"

    def _installed(self) -> bool:
        try:
            phases.read(self._config)
        except ConfigError:
            return False
        return True

    def _finish_forward(self) -> Outcome:
        self._deadline = None
        fault_point("switch_decided")
        kept = self.meta(lambda j: j.last())
        assert kept is not None
        if kept.kept.get("double"):
            self._step("switch", lambda: self._switch("reversed", "target"))
        self.meta(lambda j: j.mark(self._run, "opened_at"))
        State.settled(self._config, lambda state: command(state, "stop"))
        return self._ended(True, "the target is primary")

    def _switch(self, phase: str, side: str) -> str:
        """Opens the other side; nothing if that is done already."""
        now = phases.read(self._config)
        if now.pending is None and now.epoch.primary == side:
            return str(now.epoch)
        return str(epochs.switch(self._config, phase, forward="sync").epoch)

    # -- back ---------------------------------------------------------------------------------------------------------

    def roll_back(self) -> Outcome:
        """Makes the shards primary again, with all that was written on the target since."""
        self._run = self.meta(lambda j: j.begin("rollback"))
        try:
            self._step("readiness", self._ready_to_go_back)
            self._freeze(self._fence_target)
            self._step("proof", self._proof_of_target)
            self._step("drain", lambda: drain_outbox(self._config, "target", self._left()))
            self._step("verify", self._verified_back)
            self._keep(hooked=True)
            self._step("hooks", lambda: self._hook("back"))
            self._left()
            self._keep(switched=True)
        except BaseException as error:
            return self._undone(error)
        return self._finish_back()

    def _ready_to_go_back(self) -> str:
        phase = phases.read(self._config)
        if phase.epoch.primary != "target":
            raise NoGo(f"the target isn't primary ({phase.epoch}): there is nothing to roll back")
        capture_positions(self._config)
        return f"{phase.epoch}; every instance answers"

    def _fence_target(self, within_s: float) -> str:
        found = epochs.fence(self._config, "target", within_s=max(1.0, within_s))
        return f"epoch {found[0].epoch}"

    def _proof_of_target(self) -> str:
        found = epochs.proof(self._config, "target")
        older = [o for p in found for o in p.older]
        return f"fenced; {len(older)} other transactions are open on the target" if older else "fenced"

    def _verified_back(self) -> str:
        if self._config.cutover.digests == "all":
            return self._proven(self._verifier.everything())
        return self._proven(self._verifier.money())

    def _finish_back(self) -> Outcome:
        self._deadline = None
        fault_point("switch_decided")
        self._step("lift-shards", self._lift_shards)
        self._step("switch", lambda: self._switch("off", "source"))
        self.meta(lambda j: j.mark(self._run, "opened_at"))
        end_reverse(self._config)
        return self._ended(True, "the shards are primary; start `migrate sync` again, it goes on from where it ended")

    def _lift_shards(self) -> str:
        """The fence of the cutover that is rolled back, where it isn't the epoch (which the switch changes)."""
        if self._config.cutover.fence == "epoch":
            return "by the epoch, next"
        done = self.meta(lambda j: j.newest("cutover"))
        if done is None:
            return "there was none"
        return fence_of(self._config).lift(self._config, done.number, done.kept)

    # -- undoing and finishing ----------------------------------------------------------------------------------------

    def _undone(self, error: BaseException) -> Outcome:
        """Takes back what was begun. The error itself if it wasn't about the migration (a request to stop, a bug)."""
        log.warning("%s: %s", self._direction, error)
        reason = str(error) or type(error).__name__
        stop.clear()  # a request to stop mustn't stop this
        self.undo(reason)
        if not isinstance(error, MigrateError) or error.exit_code not in (NoGo.exit_code, MigrateError.exit_code):
            raise error
        return self._outcome(False, f"{reason}\neverything is as it was before")

    def undo(self, reason: str) -> None:
        """Lifts the fence of this run and calls back what its hooks did."""
        run = self.meta(lambda j: j.last())
        assert run is not None
        self._run, self._deadline = run.number, None
        if run.fenced:
            if run.direction == "cutover":
                if run.kept.get("hooked"):
                    self._step("hooks-back", lambda: self._hook("back"))
                self._step("lift", lambda: fence_of(self._config).lift(self._config, run.number, run.kept))
            else:
                if run.kept.get("hooked"):
                    self._step("hooks-again", lambda: self._hook("switch"))
                self._step("lift", lambda: f"lifted: {epochs.lift(self._config).epoch}")
            self.meta(lambda j: j.mark(run.number, "opened_at"))
        if run.direction == "cutover":
            end_reverse(self._config)
        self.meta(lambda j: j.end(run.number, "undone"))
        State.settled(self._config, lambda s: s.journal(f"{run.direction} undone", run=run.number, reason=reason))

    def settle(self, run: Run) -> Outcome | None:
        """Finishes a run that was killed, if its switch was recorded; else undoes it and gives None."""
        self._run = run.number
        if run.kept.get("switched"):
            return self._finish_forward() if run.direction == "cutover" else self._finish_back()
        self.undo("it was killed")
        return None

    def _ended(self, go: bool, reason: str) -> Outcome:
        self.meta(lambda j: j.end(self._run, "done"))
        outcome = self._outcome(go, reason)
        State.settled(
            self._config,
            lambda s: s.journal(f"{self._direction} done", run=self._run, freeze_s=str(outcome.freeze_s)),
        )
        return outcome

    def _outcome(self, go: bool, reason: str) -> Outcome:
        steps = self.meta(lambda j: tuple(j.steps(self._run)))
        return Outcome(self._direction, go, reason, self.meta(lambda j: j.freeze_s(self._run)), steps)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()


@contextmanager
def machine(config: Config, verifier: Verifier, direction: Direction) -> Iterator[tuple[Machine, Run | None]]:
    """A machine and the run that was killed before, if there is one. NoGo if another operator is at it."""
    # A lease of its own: that of the migration is held by sync, which goes on meanwhile.
    with lease(replace(config, name=f"{config.name[:55]}/cutover")):
        made = Machine(config, verifier, direction)
        try:
            made.meta(lambda j: j.install())
            last = made.meta(lambda j: j.last())
            yield made, last if last is not None and last.outcome == "running" else None
        finally:
            made.close()


def cut_over(config: Config, verifier: Verifier, *, way_back: bool = True) -> Outcome:
    """`migrate cutover --execute`: makes the target primary, or changes nothing and says why."""
    with machine(config, verifier, "cutover") as (made, killed):
        if killed is not None and killed.direction == "rollback":
            raise NoGo("a rollback was killed on its way: run `migrate rollback --execute` to finish it first")
        if killed is not None and (outcome := made.settle(killed)) is not None:
            return outcome
        return made.cut_over(way_back=way_back)


def roll_back(config: Config, verifier: Verifier) -> Outcome:
    """`migrate rollback --execute`: makes the shards primary again; undoes a cutover that didn't get to its switch."""
    with machine(config, verifier, "rollback") as (made, killed):
        if killed is not None:
            outcome = made.settle(killed)
            if killed.direction == "rollback" and outcome is not None:
                return outcome
            if killed.direction == "cutover" and outcome is None:
                return Outcome("rollback", True, "the cutover is undone, the shards are primary", None, ())
        return made.roll_back()
