"""The way forward: from the shards to the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from migrate.config import Config
from migrate.cutover.changed import Keys, how_many
from migrate.cutover.drain import deliver, drain_binlogs
from migrate.cutover.fences import Fence, fences_of
from migrate.cutover.journal import Direction
from migrate.cutover.machine import Machine
from migrate.cutover.narrow import CATALOGUES, DOES, IN_FREEZE, Narrowed
from migrate.cutover.proof import final_positions, nobody_wrote
from migrate.cutover.readiness import Check, Verifier, ready_to_cut_over
from migrate.cutover.reverse import end_process, start_reverse
from migrate.cutover.sequences import raise_counters, read_counters
from migrate.cutover.smoke import smoke
from migrate.cutover.step import SHARE_OF_FREEZE, Step
from migrate.db import connect
from migrate.doublewrite.router import Router
from migrate.errors import NoGo
from migrate.position import Position
from migrate.state import State
from migrate.sync.run import command


class Forward(Machine):
    """Makes the target primary."""

    direction: Direction = "cutover"

    def __init__(self, config: Config, verifier: Verifier, *, way_back: bool = True):
        super().__init__(config, verifier)
        self.kept = {"way_back": way_back and self.phase is not None, "double": self.phase is not None}
        self.way_back = way_back
        self._router: Router | None = None
        self._narrowed: Narrowed | None = None
        self._final: dict[str, Position] = {}

    def checks(self) -> list[Check]:
        return ready_to_cut_over(self.config, self.verifier, self.phase, way_back=self.way_back)

    @property
    def _everything(self) -> bool:
        return self.config.cutover.digests == "all"

    @property
    def _delivers(self) -> bool:
        return self.phase is not None and self.phase.delivers

    @property
    def _fences(self) -> list[Fence]:
        return fences_of(self.config, double=bool(self.kept.get("double")))

    def before(self) -> Sequence[Step]:
        at_a_cut = (
            "verify, live at exact cuts: the rows written since the last clean verification, accounts, invariants, "
            "counts and control totals of everything; then the rows written meanwhile, until few are left. How long "
            "the totals take decides of which tables the freeze reads them again"
        )
        steps = [
            Step("readiness", "check that all is ready; nothing is changed", self._ready),
            Step("ahead", at_a_cut if not self._delivers else CATALOGUES if self._everything else DOES, self._ahead),
        ]
        if self.kept["way_back"]:
            steps.append(
                Step("reverse", "start `migrate reverse` as a process of its own, which idles until the target writes",
                     lambda: start_reverse(self.config, self.keep))
            )  # fmt: skip
        return steps

    def frozen(self) -> Sequence[Step]:
        steps = [Step(f.name, f.describe(self.config), self._putter(f)) for f in self._fences]
        steps += [
            Step("proof", "lock every shard for a moment: no transaction that began before is open; those that don't "
                 "end are ended; take the final positions", self._prove),
            Step("drain", "wait until the outboxes are empty" if self._delivers else
                 "wait until sync has applied the final positions", self._drain, patient=True),
            Step("verify", "verify everything, digests of 64 bits" if self._everything else IN_FREEZE, self._verify,
                 patient=True),
            Step("sequences", "ALTER TABLE .. AUTO_INCREMENT on the target, above every number that a shard gave out",
                 self._raise_counters),
            Step("smoke", "lock, delete and insert a row of every target table, rolled back" +
                 _then(self.config.cutover.hooks.smoke), self._smoke),
        ]  # fmt: skip
        if self.kept["double"] and self.config.cutover.hooks.switch:
            # The library keeps the target closed until the switch: what was pointed there can be pointed back.
            steps.append(Step("hooks", f"run the hook {self.config.cutover.hooks.switch}", self._hook_switch))
        steps.append(Step("still", "look again, by the binlogs, whether anybody wrote since the fence", self._still,
                          patient=True))  # fmt: skip
        return steps

    def after(self) -> Sequence[Step]:
        steps = []
        if self.kept["double"]:
            steps.append(Step("switch", "open the target: phase reversed, the epoch rows of the shards for good, then "
                              "those of the target", lambda: self.switch("reversed", "target")))  # fmt: skip
        else:
            steps.append(Step("switch", "the target is primary" + _then(self.config.cutover.hooks.switch),
                              self._switch_by_hook))  # fmt: skip
        steps.append(Step("sync", "tell `migrate sync` to stop", self._stop_sync))
        return steps

    def backwards(self) -> Sequence[Step]:
        steps = []
        if self._fenced is not None:
            steps += [Step(f"lift-{f.name}", "lift it", self._lifter(f)) for f in reversed(self._fences)]
            if self.kept.get("hooked"):
                steps.append(Step("hooks-back", "point the application at the shards again", lambda: self.hook("back")))
        if self.kept.get("reverse"):
            steps.append(Step("reverse-end", "end `migrate reverse`", self._end_reverse))
        return steps

    def done(self) -> str:
        back = (
            "`migrate rollback --execute` goes back, days later too"
            if self.kept.get("way_back")
            else "there is no way back"
        )
        return f"the target is primary; {back}"

    # -- before the freeze --------------------------------------------------------------------------------------------

    def _ready(self) -> str:
        checks = self.checks()
        text = "\n".join(c.text() for c in checks)
        if not all(c.ok for c in checks):
            raise NoGo(f"not ready:\n{text}")
        if self._delivers:
            self._router = Router.of(self.brisk)
        return text

    def _ahead(self) -> str:
        said = self.verifier.prepare()
        clean = self.verifier.last_clean()
        if clean is None:
            raise NoGo("the last clean verification is gone from the evidence")
        if self._delivers:
            if self._everything:
                return said
            self._narrowed = Narrowed(self.config, clean, self.verifier.unequal)
            text = self.verifier.measure(f"in run {clean.run}")
        else:
            self._narrowed = Narrowed(self.config, clean, self._equal)
            self._narrowed.lap()
            text = self.proven(self.verifier.ahead())
        if not self._everything:
            self._narrowed.narrow()
        return f"{said}\n{self._narrowed.said}\n{text}"

    def _equal(self, keys: Keys) -> Keys:
        """NoGo if the rows of those keys aren't equal; none of them has to be compared again."""
        self.proven(self.verifier.equal(keys))
        return {}

    # -- in it --------------------------------------------------------------------------------------------------------

    def _putter(self, fence: Fence) -> Callable[[], str]:
        return lambda: fence.put_up(self.brisk, self.run, self.keep, self.left() * SHARE_OF_FREEZE)

    def _prove(self) -> str:
        self._final, ended = final_positions(self.brisk, self.tables, self.left() * SHARE_OF_FREEZE)
        lines = [f"{name} stands at {p['file']}:{p['offset']}" for name, p in self._final.items()]
        return "\n".join([*lines, *([ended] if ended else [])])

    def _drain(self) -> str:
        if self._router is not None:
            return deliver(self.brisk, self._router, self.left())
        return drain_binlogs(self.brisk, self._final, self.left())

    def _verify(self) -> str:
        if self._everything:
            return self.proven(self.verifier.everything())
        assert self._narrowed is not None
        keys = self._narrowed.read_to(self._final)
        return f"{how_many(keys):,} rows were written meanwhile\n{self.proven(self.verifier.frozen(keys))}"

    def _raise_counters(self) -> str:
        counters = read_counters(self.brisk, self.tables)
        with connect(self.brisk.target) as session:
            return "\n".join(raise_counters(session, self.tables, counters)) or "no table numbers its rows by itself"

    def _smoke(self) -> str:
        with connect(self.brisk.target) as session:
            said = smoke(session, self.tables)
        return f"{said}; {self.hook('smoke')}"

    def _hook_switch(self) -> str:
        self.keep(hooked=True)
        return self.hook("switch")

    def _still(self) -> str:
        return nobody_wrote(self.brisk, self._final)

    # -- after the decision -------------------------------------------------------------------------------------------

    def _switch_by_hook(self) -> str:
        said = self.hook("switch")
        self.opened()
        return said

    def _stop_sync(self) -> str:
        State.settled(self.config, lambda state: command(state, "stop"))
        return "told to stop"

    # -- back again ---------------------------------------------------------------------------------------------------

    def _lifter(self, fence: Fence) -> Callable[[], str]:
        def lift() -> str:
            return fence.lift(self.config, self.run, self.kept, target_away=self.target_away)

        return lift

    def _end_reverse(self) -> str:
        return "ended" if end_process(self.kept) else "it doesn't run on this machine"


def _then(hook: object) -> str:
    return f", then run the hook {hook}" if hook else ""
