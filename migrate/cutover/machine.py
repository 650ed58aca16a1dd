"""The night itself: from shards to target and back, step by step, each one durable before its effect.

Until the switch is recorded everything can be undone, and is, by any failure; from then on there is only forward. So
whatever kills us, the same command later either undoes and begins again, or finishes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any, Self, TypeVar

from migrate.config import Config
from migrate.cutover.fences import fence_of
from migrate.cutover.hooks import run_hook
from migrate.cutover.journal import CutoverJournal, Direction, Run, StepRecord
from migrate.cutover.readiness import Verification, Verifier
from migrate.cutover.reverse import end_reverse
from migrate.db import Session, patiently, stop
from migrate.doublewrite import fence as epochs
from migrate.doublewrite import phases
from migrate.errors import ConfigError, ConnectionLost, MigrateError, NoGo, OutcomeUnknown, TryAgain
from migrate.faults import fault_point
from migrate.source import read_routing
from migrate.state import State

log = logging.getLogger("migrate")
T = TypeVar("T")

SHARE_OF_FREEZE = 0.5  # what one wait may take of the time that is left


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

    direction: Direction

    def __init__(self, config: Config, verifier: Verifier):
        self.config, self.verifier = config, verifier
        self._session: Session | None = None
        self.run = 0
        self.deadline: float | None = None
        self.tables = read_routing(config).checked()

    # -- what is durable ----------------------------------------------------------------------------------------------

    def meta(self, work: Callable[[CutoverJournal], T]) -> T:
        """Does the work with the journal; again if the target went away."""

        def attempt() -> T:
            if self._session is None:
                self._session = Session(self.config.target)
            try:
                return work(CutoverJournal(self.config.name, self._session))
            except ConnectionLost:
                self._session.close()
                self._session = None
                raise

        return patiently(self.config.run.patience_s, attempt, ConnectionLost, OutcomeUnknown, TryAgain)

    def keep(self, **facts: Any) -> None:
        self.meta(lambda j: j.keep(self.run, **facts))

    def step(self, name: str, work: Callable[[], str], *, only_reads: bool = False) -> None:
        """Takes a step, which says what it did. One that only reads is given up when the freeze is over; the others
        keep the time themselves."""
        number = self.meta(lambda j: j.step(self.run, name))
        log.info("%s: %s", self.direction, name)
        fault_point(f"before_{name}")
        try:
            said = self._in_time(name, work) if only_reads else work()
        except BaseException as error:
            text = str(error) or type(error).__name__
            self.meta(lambda j: j.step_ended(self.run, number, "failed", text))
            raise
        fault_point(f"after_{name}")
        self.meta(lambda j: j.step_ended(self.run, number, "done", said))

    def _in_time(self, name: str, work: Callable[[], str]) -> str:
        pool = ThreadPoolExecutor(1)
        try:
            return pool.submit(work).result(self.left())
        except TimeoutError:
            raise NoGo(f"{name} was not done when the freeze had lasted {self.config.cutover.freeze_s:g} s") from None
        finally:
            pool.shutdown(wait=False)

    def left(self) -> float:
        """Seconds that are left of the freeze. NoGo if there are none."""
        assert self.deadline is not None
        left = self.deadline - monotonic()
        if left <= 0:
            raise NoGo(f"the freeze had lasted {self.config.cutover.freeze_s:g} s")
        return left

    def proven(self, result: Verification) -> str:
        if not result.ok:
            raise NoGo(f"the two sides differ:\n{result.text()}")
        return result.text().splitlines()[-1]

    def hook(self, name: str) -> str:
        path = getattr(self.config.cutover.hooks, name)
        if path is None:
            return "no hook"
        limit = self.config.cutover.hooks.timeout_s
        limit = limit if self.deadline is None else min(limit, self.left())
        return run_hook(self.config, name, path, direction=self.direction, run=self.run, limit_s=limit)

    # -- undoing and finishing ----------------------------------------------------------------------------------------

    def undone(self, error: BaseException) -> Outcome:
        """Takes back what was begun. The error itself if it wasn't about the migration (a request to stop, a bug)."""
        log.warning("%s: %s", self.direction, error)
        reason = str(error) or type(error).__name__
        stop.clear()  # a request to stop mustn't stop this
        self.undo(reason)
        if not isinstance(error, MigrateError) or error.exit_code not in (NoGo.exit_code, MigrateError.exit_code):
            raise error
        return self.outcome(False, f"{reason}\neverything is as it was before")

    def undo(self, reason: str) -> None:
        """Lifts the fence of this run and calls back what its hooks did."""
        run = self.meta(lambda j: j.last())
        assert run is not None
        self.run, self.deadline = run.number, None
        if run.fenced:
            if run.direction == "cutover":
                if run.kept.get("hooked"):
                    self.step("hooks-back", lambda: self.hook("back"))
                self.step("lift", lambda: fence_of(self.config).lift(self.config, run.number, run.kept))
            else:
                if run.kept.get("hooked"):
                    self.step("hooks-again", lambda: self.hook("switch"))
                self.step("lift", lambda: f"lifted: {epochs.lift(self.config).epoch}")
            self.meta(lambda j: j.mark(run.number, "opened_at"))
        if run.direction == "cutover":
            end_reverse(self.config)
        self.meta(lambda j: j.end(run.number, "undone"))
        State.settled(self.config, lambda s: s.journal(f"{run.direction} undone", run=run.number, reason=reason))

    def resume(self, run: Run) -> Self:
        """Takes over a run that was killed."""
        self.run = run.number
        return self

    def ended(self, go: bool, reason: str) -> Outcome:
        self.meta(lambda j: j.end(self.run, "done"))
        outcome = self.outcome(go, reason)
        State.settled(
            self.config,
            lambda s: s.journal(f"{self.direction} done", run=self.run, freeze_s=str(outcome.freeze_s)),
        )
        return outcome

    def outcome(self, go: bool, reason: str) -> Outcome:
        steps = self.meta(lambda j: tuple(j.steps(self.run)))
        return Outcome(self.direction, go, reason, self.meta(lambda j: j.freeze_s(self.run)), steps)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def installed(self) -> bool:
        try:
            phases.read(self.config)
        except ConfigError:
            return False
        return True

    def switch(self, phase: str, side: str) -> str:
        """Opens the other side; nothing if that is done already."""
        now = phases.read(self.config)
        if now.pending is None and now.epoch.primary == side:
            return str(now.epoch)
        # Beyond the point of no return: whoever is away is waited for.
        done = patiently(
            self.config.run.patience_s, lambda: epochs.switch(self.config, phase, forward="sync"),
            ConnectionLost, OutcomeUnknown, TryAgain,
        )  # fmt: skip
        return str(done.epoch)

    def freeze(self, put_up: Callable[[float], str]) -> None:
        self.deadline = monotonic() + self.config.cutover.freeze_s
        self.meta(lambda j: j.mark(self.run, "fenced_at"))
        self.step("fence", lambda: put_up(self.left() * SHARE_OF_FREEZE))
