"""The way back: from the target to the shards, with all that was written there since."""

from __future__ import annotations

from collections.abc import Sequence

from migrate.config import Config
from migrate.cutover.changed import how_many
from migrate.cutover.drain import drain_reverse
from migrate.cutover.fences import fences_of
from migrate.cutover.journal import Direction, Run
from migrate.cutover.machine import Machine
from migrate.cutover.narrow import CATALOGUES, DOES, IN_FREEZE, Narrowed
from migrate.cutover.readiness import Check, Verifier, ready_to_roll_back
from migrate.cutover.resume import sync_goes_on_at
from migrate.cutover.reverse import end_process, reverse_process, start_reverse
from migrate.cutover.step import SHARE_OF_FREEZE, Step
from migrate.doublewrite import fence as epochs
from migrate.errors import NoGo
from migrate.source import capture_positions


class Back(Machine):
    """Makes the shards primary again."""

    direction: Direction = "rollback"

    def __init__(self, config: Config, verifier: Verifier):
        super().__init__(config, verifier)
        self.kept = {"double": self.phase is not None, "forward": self.phase.forward if self.phase else "sync"}
        self.cutover: Run | None = self.meta(lambda j: j.last("cutover"))
        self._narrowed: Narrowed | None = None

    @property
    def _everything(self) -> bool:
        return self.config.cutover.digests == "all"

    def checks(self) -> list[Check]:
        return ready_to_roll_back(self.config, self.phase)

    def before(self) -> Sequence[Step]:
        return [
            Step("readiness", "check that all is ready; nothing is changed", self._ready),
            Step("reverse", "start `migrate reverse` if it doesn't run", self._reverse_runs),
            Step("ahead", CATALOGUES if self._everything else DOES, self._ahead),
        ]

    def frozen(self) -> Sequence[Step]:
        steps = [
            Step("fence", "raise the epoch in migrate_outbox.epoch on the target, waiting for the library's open "
                 "transactions: it refuses writes from then on", self._fence),
            Step("proof", "look at every epoch row of the target", self._prove),
            Step("drain", "wait until `migrate reverse` has emptied the target's outbox",
                 self._drain, patient=True),
            Step("verify", "verify everything, digests of 64 bits" if self._everything else IN_FREEZE, self._verify,
                 patient=True),
        ]  # fmt: skip
        if self.config.cutover.hooks.back:
            steps.append(Step("hooks", f"run the hook {self.config.cutover.hooks.back}", self._hook_back))
        steps.append(Step("still", "look again whether the target's outbox is empty; take the shards' positions",
                          self._still))  # fmt: skip
        return steps

    def after(self) -> Sequence[Step]:
        steps = [
            Step(f"lift-{fence.name}", f"lift the {fence.name} of the cutover", self._lift_shards)
            for fence in fences_of(self.config, double=True)[1:]
        ]
        if self.kept["forward"] != "outbox":
            steps.append(Step("position", "let the next `migrate sync` go on from where the shards stand now",
                              self._move_sync))  # fmt: skip
        phase = "shadow" if self.kept["forward"] == "outbox" else "off"
        steps += [
            Step("switch", f"open the shards: phase {phase}, the epoch rows of the target for good, then those of the "
                 "shards", lambda: self.switch(phase, "source")),
            Step("reverse-end", "end `migrate reverse`", self._end_reverse),
        ]  # fmt: skip
        return steps

    def backwards(self) -> Sequence[Step]:
        if self._fenced is None:
            return []
        steps = [Step("lift-fence", "lift the fence of the target", self._lift)]
        if self.kept.get("hooked"):
            steps.append(Step("hooks-again", "point the application at the target again", lambda: self.hook("switch")))
        return steps

    def done(self) -> str:
        if self.kept["forward"] == "outbox":
            return "the shards are primary, the double write goes on in phase shadow"
        return "the shards are primary; start `migrate sync`: it goes on from here"

    # -- before the freeze --------------------------------------------------------------------------------------------

    def _ready(self) -> str:
        checks = self.checks()
        text = "\n".join(c.text() for c in checks)
        if not all(c.ok for c in checks):
            raise NoGo(f"not ready:\n{text}")
        return text

    def _reverse_runs(self) -> str:
        if self.cutover is not None and (process := reverse_process(self.cutover.kept)):
            return f"process {process.pid} runs"
        return start_reverse(self.config, self.keep)

    def _ahead(self) -> str:
        said = self.verifier.prepare()
        if self._everything:
            return said
        clean = self.verifier.last_clean()
        if clean is None:
            raise NoGo("no clean `verify all` is in the evidence; set cutover.digests = 'all'")
        self._narrowed = Narrowed(self.config, clean, self.verifier.unequal)
        text = self.verifier.measure(f"in run {clean.run}")
        self._narrowed.narrow()
        return f"{said}\n{self._narrowed.said}\n{text}"

    # -- in it --------------------------------------------------------------------------------------------------------

    def _fence(self) -> str:
        found = epochs.fence(self.brisk, "target", within_s=max(1.0, self.left() * SHARE_OF_FREEZE))
        self.keep(epoch=found[0].epoch)
        return f"epoch {found[0].epoch}; waited {found[0].waited_s:.3f} s for open transactions"

    def _prove(self) -> str:
        found = epochs.proof(self.brisk, "target", since=0)
        older = [o for p in found for o in p.older]
        return f"fenced; {len(older)} transactions of others are open on the target" if older else "fenced"

    def _drain(self) -> str:
        return drain_reverse(self.brisk, self.left())

    def _verify(self) -> str:
        if self._everything:
            text = self.proven(self.verifier.everything())
        else:
            assert self._narrowed is not None
            keys = self._narrowed.read_to(capture_positions(self.brisk))
            text = f"{how_many(keys):,} rows to compare\n{self.proven(self.verifier.frozen(keys))}"
        return text

    def _still(self) -> str:
        said = drain_reverse(self.brisk, self.left())
        self.keep(positions=capture_positions(self.brisk))
        return said

    def _hook_back(self) -> str:
        self.keep(hooked=True)
        return self.hook("back")

    # -- after the decision -------------------------------------------------------------------------------------------

    def _lift_shards(self) -> str:
        if self.cutover is None:
            return "there was no cutover"
        said = [
            fence.lift(self.config, self.cutover.number, self.cutover.kept, target_away=False)
            for fence in fences_of(self.config, double=True)[1:]
        ]
        return "; ".join(said)

    def _move_sync(self) -> str:
        return sync_goes_on_at(self.config, self.kept["positions"], self.tables)

    def _end_reverse(self) -> str:
        runs = [self.kept, self.cutover.kept if self.cutover else {}]
        return "ended" if any([end_process(kept) for kept in runs]) else "it doesn't run on this machine"

    # -- back again ---------------------------------------------------------------------------------------------------

    def _lift(self) -> str:
        return f"lifted: {epochs.lift(self.config, of=self.kept.get('epoch')).epoch}"
