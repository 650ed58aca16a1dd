"""The way back: from the target to the shards, with all that was written there since."""

from __future__ import annotations

from migrate.cutover.drain import drain_outbox
from migrate.cutover.fences import fence_of
from migrate.cutover.journal import Direction
from migrate.cutover.machine import Machine, Outcome
from migrate.cutover.reverse import end_reverse
from migrate.doublewrite import fence as epochs
from migrate.doublewrite import phases
from migrate.errors import NoGo
from migrate.faults import fault_point
from migrate.source import capture_positions


class Back(Machine):
    """Makes the shards primary again."""

    direction: Direction = "rollback"

    def go(self) -> Outcome:
        """Makes the shards primary again, with all that was written on the target since."""
        self.run = self.meta(lambda j: j.begin("rollback"))
        try:
            self.step("readiness", self._ready_to_go_back)
            self.freeze(self._fence_target)
            self.step("proof", self._proof_of_target)
            self.step("drain", lambda: drain_outbox(self.config, "target", self.left()))
            self.step("verify", self._verified_back, only_reads=True)
            self.keep(hooked=True)
            self.step("hooks", lambda: self.hook("back"))
            self.left()
            self.keep(switched=True)
        except BaseException as error:
            return self.undone(error)
        return self.finish()

    def _ready_to_go_back(self) -> str:
        phase = phases.read(self.config)
        if phase.epoch.primary != "target":
            raise NoGo(f"the target isn't primary ({phase.epoch}): there is nothing to roll back")
        capture_positions(self.config)
        return f"{phase.epoch}; every instance answers"

    def _fence_target(self, within_s: float) -> str:
        found = epochs.fence(self.config, "target", within_s=max(1.0, within_s))
        return f"epoch {found[0].epoch}"

    def _proof_of_target(self) -> str:
        found = epochs.proof(self.config, "target")
        older = [o for p in found for o in p.older]
        return f"fenced; {len(older)} other transactions are open on the target" if older else "fenced"

    def _verified_back(self) -> str:
        if self.config.cutover.digests == "all":
            return self.proven(self.verifier.everything())
        return self.proven(self.verifier.money())

    def finish(self) -> Outcome:
        self.deadline = None
        fault_point("switch_decided")
        self.step("lift-shards", self._lift_shards)
        self.step("switch", lambda: self.switch("off", "source"))
        self.meta(lambda j: j.mark(self.run, "opened_at"))
        end_reverse(self.config)
        return self.ended(True, "the shards are primary; start `migrate sync` again, it goes on from where it ended")

    def _lift_shards(self) -> str:
        """The fence of the cutover that is rolled back, where it isn't the epoch (which the switch changes)."""
        if self.config.cutover.fence == "epoch":
            return "by the epoch, next"
        done = self.meta(lambda j: j.newest("cutover"))
        if done is None:
            return "there was none"
        return fence_of(self.config).lift(self.config, done.number, done.kept)
