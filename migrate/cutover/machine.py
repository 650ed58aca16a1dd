"""The night itself: from shards to target and back, step by step, each one durable before its effect.

Until the switch is decided everything can be undone, and is, by any failure; from then on there is only forward. So
whatever kills us, the same command later either undoes and begins again, or finishes.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Self, TypeVar

from migrate.config import Config
from migrate.cutover.brisk import AWAY, brisk
from migrate.cutover.deadline import Deadline
from migrate.cutover.hooks import run_hook
from migrate.cutover.journal import CutoverJournal, Direction, Run, StepRecord, TakenOver
from migrate.cutover.note import Note
from migrate.cutover.outcome import Outcome
from migrate.cutover.readiness import Verification, Verifier
from migrate.cutover.shield import unstoppable
from migrate.cutover.step import Step
from migrate.db import Session, patiently, stop
from migrate.doublewrite import fence as epochs
from migrate.doublewrite import phases
from migrate.doublewrite.phase import Phase
from migrate.errors import ConfigError, Interrupted, MigrateError, NoGo, OutcomeUnknown
from migrate.faults import fault_point
from migrate.source import read_routing
from migrate.state import State

log = logging.getLogger("migrate")
T = TypeVar("T")


class Machine(ABC):
    """Takes the steps of one run. `config` waits for servers as the operator wants it, `brisk` as a freeze does."""

    direction: Direction

    def __init__(self, config: Config, verifier: Verifier):
        self.config, self.brisk, self.verifier = config, brisk(config), verifier
        self.tables = read_routing(config).checked()
        self.phase = _phase(config)
        self.kept: dict[str, Any] = {}
        self.run = 0
        self._note = Note(config)
        self._session: Session | None = None
        self._deadline: Deadline | None = None
        self._taken: list[StepRecord] = []
        self._fenced: float | None = None
        self._opened: float | None = None
        self.hurried = False  # the application waits for us
        self.target_away = False
        self._undoing = False

    # -- what a direction consists of ---------------------------------------------------------------------------------

    @abstractmethod
    def before(self) -> Sequence[Step]:
        """The steps before the freeze. They change nothing that the application sees."""

    @abstractmethod
    def frozen(self) -> Sequence[Step]:
        """The steps of the freeze, up to the decision."""

    @abstractmethod
    def after(self) -> Sequence[Step]:
        """The steps from the decision on. Each is safe to repeat."""

    @abstractmethod
    def backwards(self) -> Sequence[Step]:
        """The steps that take back what may have been done before the decision. Each is safe to repeat."""

    @abstractmethod
    def done(self) -> str:
        """What is so, in words, when all is done."""

    # -- a run --------------------------------------------------------------------------------------------------------

    def go(self, **facts: Any) -> Outcome:
        """Takes all steps. The outcome is a no-go, and nothing has changed, if one fails before the decision."""
        self.kept = facts
        self.run = self.meta(lambda j: j.begin(self.direction, facts))
        try:
            for step in self.before():
                self.take(step)
            self._freeze()
            for step in self.frozen():
                self.take(step)
            self._decide()
        except TakenOver:
            raise
        except BaseException as error:
            return self._undone(error)
        return self.finish()

    def resume(self, run: Run) -> Self:
        """Takes over a run that was killed."""
        self.run, self.kept = run.number, dict(run.kept)
        self.meta(lambda j: j.take_over(run.number))
        self._taken = self.meta(lambda j: j.steps(run.number))
        if run.fenced:
            self._fenced = monotonic() - (run.freeze_s or 0)
        return self

    def finish(self) -> Outcome:
        """What follows the decision. Safe to repeat."""
        self._deadline, self.hurried = None, False
        if self.kept.get("double") and self.direction == "cutover" and epochs.opened_meanwhile(self.config):
            reason = "its fence was lifted while the target was away"
            self.undo(reason)
            return self._outcome(False, f"{reason}; everything is as it was before")
        fault_point("switch_decided")
        for step in self.after():
            self.take(step)
        self.meta(lambda j: j.end(self.run, "done", self.done()))
        self._ended("done", self.done())
        return self._outcome(True, self.done())

    def _freeze(self) -> None:
        self._fenced, self.hurried = monotonic(), True
        self._deadline = Deadline(self.config.cutover.freeze_s)
        self.meta(lambda j: j.mark(self.run, "fenced_at"))
        self._write_note(fenced=True)

    def _decide(self) -> None:
        """From here on there is only forward."""
        self.left()
        fault_point("before_decision")
        self._write_note(switched=True)
        try:
            self.keep(switched=True)
        except AWAY as error:
            if self.kept.get("double"):
                raise  # undone all the same: finishing finds the instances open, and gives up
            raise OutcomeUnknown(
                f"whether the switch is decided isn't known ({error}): the shards stay fenced; run the same command "
                "again when the target is back"
            ) from None

    def opened(self) -> None:
        """The freeze is over."""
        self._opened = monotonic()
        self.meta(lambda j: j.mark(self.run, "opened_at"))

    def take(self, step: Step) -> None:
        """Takes a step."""
        number = self._told(lambda j: j.step(self.run, step.name), perhaps=self._undoing)
        log.info("%s: %s", self.direction, step.name)
        fault_point(f"before_{step.name}")
        began = monotonic()
        try:
            if step.patient and self._deadline is not None:
                said = self._deadline.wait_for(step.name, step.work, lambda: self.verifier.close(kill=True))
            else:
                said = step.work()
        except BaseException as error:
            text = str(error) or type(error).__name__
            self._taken.append(StepRecord(step.name, "failed", monotonic() - began, text))
            if number is not None:
                self._told(lambda j: j.step_ended(self.run, number, "failed", text), perhaps=True)
            if isinstance(error, NoGo) and (self._undoing or self.kept.get("switched")):
                # not the no-go that has changed nothing
                raise MigrateError(f"{step.name}: {text}\nrun the same command again when that is mended") from error
            raise
        self._taken.append(StepRecord(step.name, "done", monotonic() - began, said))
        fault_point(f"after_{step.name}")
        if number is not None:
            self._told(lambda j: j.step_ended(self.run, number, "done", said), perhaps=self._undoing)

    def _told(self, work: Callable[[CutoverJournal], T], *, perhaps: bool) -> T | None:
        """Tells the journal; `perhaps`: unless it is out of reach, with the target."""
        if not perhaps:
            return self.meta(work)
        if self.target_away:
            return None
        try:
            return self.meta(work)
        except AWAY as error:
            log.warning("the target can't be reached: %s", error)
            self.target_away = True
            return None

    def left(self) -> float:
        """Seconds that are left of the freeze. NoGo if there are none."""
        assert self._deadline is not None
        return self._deadline.left()

    # -- undoing ------------------------------------------------------------------------------------------------------

    def _undone(self, error: BaseException) -> Outcome:
        """Takes back what was begun. A request to stop, or a bug, is raised again after that."""
        log.warning("%s: %s", self.direction, error)
        if isinstance(error, OutcomeUnknown) and self.kept.get("switched") and not self.kept.get("double"):
            raise error
        reason = str(error) or type(error).__name__
        stop.clear()  # a request to stop mustn't stop this
        self.undo(reason)
        restored = "everything is as it was before"
        if isinstance(error, KeyboardInterrupt | Interrupted):
            raise Interrupted(f"stopped on request: {restored}") from error
        if not isinstance(error, MigrateError):
            raise error
        return self._outcome(False, f"{reason}\n{restored}")

    def undo(self, reason: str) -> None:
        """Takes back what was begun, without the target if that can't be reached."""
        self._deadline, self.hurried, self._undoing = None, True, True
        with unstoppable():
            for step in self.backwards():
                self.take(step)
            if self._fenced is not None:
                self._opened = monotonic()
                self._told(lambda j: j.mark(self.run, "opened_at"), perhaps=True)
            self._told(lambda j: j.end(self.run, "undone", reason), perhaps=True)
            if not self.target_away:
                with suppress(*AWAY):
                    self._ended("undone", reason)

    def _ended(self, outcome: str, reason: str) -> None:
        with State.open(self.brisk) as state:
            state.journal(f"{self.direction} {outcome}", run=self.run, reason=reason, freeze_s=str(self.freeze_s))
        self._note.remove()

    # -- tools of the steps -------------------------------------------------------------------------------------------

    def meta(self, work: Callable[[CutoverJournal], T]) -> T:
        """Does the work with the journal; again if the target went away."""
        config = self.brisk if self.hurried else self.config
        if self._session is not None and self._session.endpoint != config.target:
            self._session.close()
            self._session = None

        def attempt() -> T:
            if self._session is None:
                self._session = Session(config.target)
            try:
                return work(CutoverJournal(config.name, self._session))
            except AWAY:
                self._session.close()
                self._session = None
                raise

        return patiently(config.run.patience_s, attempt, *AWAY)

    def keep(self, **facts: Any) -> None:
        """Records what finishing or undoing will need, before it is needed."""
        self._write_note(**facts)
        self.meta(lambda j: j.keep(self.run, facts))

    def _write_note(self, **facts: Any) -> None:
        self.kept |= facts
        self._note.write({"run": self.run, "direction": self.direction, "kept": self.kept})

    def proven(self, result: Verification) -> str:
        """What a verification says, with what must be known of it. NoGo if the two sides differ."""
        if not result.ok:
            raise NoGo(f"the two sides differ:\n{result.text()}")
        *lines, verdict = result.text().splitlines()
        return "\n".join([*(line for line in lines if line.startswith("note: ")), verdict])

    def hook(self, name: str) -> str:
        """Runs a hook of the operator's, if there is one."""
        path = getattr(self.config.cutover.hooks, name)
        if path is None:
            return "no hook"
        limit = self.config.cutover.hooks.timeout_s
        limit = limit if self._deadline is None else min(limit, self.left())
        return run_hook(self.config, name, path, direction=self.direction, run=self.run, limit_s=limit)

    def switch(self, phase: str, side: str) -> str:
        """Opens the other side; nothing if that is done already. Whoever is away is waited for."""
        now = phases.read(self.config)
        if now.pending is not None or now.epoch.primary != side:
            patience = self.config.run.patience_s
            now = patiently(patience, lambda: epochs.switch(self.config, phase), *AWAY)
        self.opened()
        return str(now.epoch)

    @property
    def freeze_s(self) -> float | None:
        """How long writes were refused; until now, if they still are."""
        return None if self._fenced is None else (self._opened or monotonic()) - self._fenced

    def _outcome(self, go: bool, reason: str) -> Outcome:
        return Outcome(self.direction, go, reason, self.freeze_s, tuple(self._taken))

    def close(self) -> None:
        if self._session is not None:
            self._session.close()


def _phase(config: Config) -> Phase | None:
    """The double write's phase; None if it isn't installed."""
    try:
        return phases.read(config)
    except ConfigError:
        return None
