"""The writers of an instance's batches: every part in a transaction of its own, all or none that anyone waits for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Set
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as futures_done
from contextlib import suppress
from time import monotonic
from typing import Literal

from migrate.config import Config
from migrate.db import Session, connect, patiently, wait
from migrate.errors import ConnectionLost, OutcomeUnknown, ServerError, TryAgain
from migrate.faults import fault_point
from migrate.model import Target, literal
from migrate.position import Position, reached
from migrate.schema.stored import definition_to_json
from migrate.sync.apply import Collision, write_share
from migrate.sync.batch import Batch, Doubt
from migrate.sync.changes import prepared
from migrate.sync.elsewhere import Elsewhere
from migrate.sync.marks import PARTS, Mark, Marks, json_literal
from migrate.sync.resolution import read_holds
from migrate.sync.writer import Writer

log = logging.getLogger("migrate")

# A row that moves between shards of two instances may arrive before it leaves: so long is its departure waited for.
MOVE_S = 10.0
_STILL_S = 3 * MOVE_S  # how long another follower may stand still: it reads on itself before it lets its rows leave


class ReadOn(Exception):
    """A batch can't be written as it is, but may together with what follows it in the binlog, up to a position."""

    def __init__(self, position: Position):
        self.position = position


class Appliers:
    """Applies one batch after the other, beside the caller, who assembles the next one meanwhile."""

    def __init__(self, config: Config, instance: str, marks: Marks, elsewhere: Elsewhere):
        self._config, self._instance, self._marks, self._elsewhere = config, instance, marks, elsewhere
        self._writers: list[Writer | None] = [None] * PARTS
        self._pool = ThreadPoolExecutor(PARTS + 1, thread_name_prefix="applier")
        self._running: Future[None] | None = None
        self._done = [0] * PARTS
        self._departed: list[Set[str]] = [frozenset()] * PARTS  # tables, in the batch that is under way
        self._doubtful = False
        self._waited_s = 0.0  # for other followers, with the batch that is under way
        self._tried: set[tuple[str, int, int]] = set()  # again, after what left in that batch of that follower's part
        self.retries = 0
        self.reason = ""

    def resume(self, marks: list[Mark]) -> None:
        """Where the parts stand: batches that each has in, and what of the next one."""
        self._done = [m.seq for m in marks]
        self._departed = [m.departed.targets if m.departed else frozenset() for m in marks]

    @staticmethod
    def prepare(batch: Batch) -> None:
        """Makes what the statements of a whole batch will say, while the target is busy with the one before."""
        batch.shares = prepared(batch, PARTS)

    @property
    def free(self) -> bool:
        return self._running is None or self._running.done()

    def submit(self, batch: Batch, parts: list[int] | None = None) -> None:
        """Starts applying a prepared batch (of those parts only, if given). The one before must be in."""
        self._running = self._pool.submit(self._apply, batch, parts or list(range(PARTS)))

    def landed(self, within_s: float) -> bool:
        """Whether the last batch is in, or failed, within so long."""
        return self._running is None or bool(futures_done([self._running], within_s).done)

    def wait(self) -> None:
        """Until the last batch is in. Raises what went wrong with it; ReadOn if it must be longer."""
        if self._running is not None:
            running, self._running = self._running, None
            running.result()

    def read_on(self, position: Position) -> None:
        """Between two batches: up to there nothing is to be applied."""

        def attempt() -> None:
            with Session(self._config.target) as session:
                self._marks.read_on(session, self._done[0], position)

        patiently(self._config.run.patience_s, attempt, ConnectionLost, TryAgain)

    def _apply(self, batch: Batch, parts: list[int]) -> None:
        goal = max(self._done) if len(parts) < PARTS else self._done[0] + 1
        deadlines: dict[Target, float] = {}  # of our own time: others may take theirs
        self._waited_s, self._tried = 0.0, set()
        while True:
            try:
                patiently(
                    self._config.run.patience_s,
                    lambda: self._attempt(batch, parts, goal),
                    ConnectionLost, TryAgain, OutcomeUnknown,
                )  # fmt: skip
                return
            except Doubt as doubt:
                deadline = deadlines.setdefault(doubt.target, self._own_time() + MOVE_S)
                if isinstance(doubt, Collision) and self._clears(doubt, batch, deadline):
                    continue
                log.warning("%s: %s is held: %s", self._instance, doubt.target, doubt.reason)
                touched = frozenset(p for p, share in enumerate(batch.shares) if doubt.target in share)
                batch.hold(doubt.target, doubt.reason, doubt.statement, touched)
            finally:
                self.reason = ""

    def _clears(self, collision: Collision, batch: Batch, deadline: float) -> bool:
        """Waits for what may clear the place of a row; False if nothing will. ReadOn if it is in our own binlog."""
        target = collision.target
        self.reason = f"a row of {target} must leave another shard first: {collision.reason}"
        if collision.passing:
            wait(0.2)
            return self._own_time() < deadline
        if target in batch.settled:  # but the others go on meanwhile, and what they wrote may be history by now
            batch.settled.discard(target)
            wait(0.1)
            if self._own_time() >= deadline:
                return False
        # No other shard has it any more. So its leaving stands in the binlogs before where they are now.
        goals = self._elsewhere.positions(target)
        own = goals.pop(self._instance)
        whole = len(set(self._done)) == 1 and not any(self._departed)
        may_grow = batch.grows_until is None or batch.grows_until > monotonic()
        if whole and not reached(batch.position, own) and may_grow:
            wait(0.05)
            raise ReadOn(own)
        if target not in batch.leaving and not batch.fuzzy:  # who waits for us must not wait for what we wait for
            batch.leaving.update(batch.tables)
            return True
        for instance, goal in goals.items():
            begun = monotonic()
            there = self._awaited(instance, goal, target)
            self._waited_s += monotonic() - begun
            if there == "still":
                collision.reason = _too_far(collision, instance)
                return False
            if there == "departed":
                return True
        batch.settled.add(target)
        return True

    def _own_time(self) -> float:
        """The monotonic clock, which stands still while we wait for another follower."""
        return monotonic() - self._waited_s

    def _awaited(self, instance: str, goal: Position, target: Target) -> Literal["passed", "departed", "still"]:
        """Waits until another follower has applied all departures up to there; tells if it doesn't get on. One that
        waits for its source is waited for: it comes back, or ends us all. One that has let go what leaves in a batch
        may wait for us by now, and that may be what we wait for, though it is not up to there: that is tried."""
        names = self._config.name, instance
        marks, last, since = Marks(*names), -1, monotonic()
        with connect(self._config.target, patience_s=self._config.run.patience_s) as session:
            while monotonic() - since < _STILL_S:
                now = marks.of(session, target)
                if all(m.passed(goal, target) for m in now):
                    return "passed"
                left = {(instance, p, m.seq) for p, m in enumerate(now) if m.departed and m.departed.has(target)}
                if not left <= self._tried:
                    self._tried |= left
                    return "departed"
                decided = [h.resolution for h in read_holds(session, *names) if h.target == str(target)]
                if self._marks.held is not None and decided == ["overwrite"]:
                    return "passed"  # it would wait for us as we for it, and puts back what of ours it writes over
                if decided == [None]:
                    return "still"
                if (seq := sum(m.seq for m in now)) != last or self._lacks_source(session, instance):
                    last, since = seq, monotonic()
                wait(0.1)
        return "still"

    def _lacks_source(self, session: Session, instance: str) -> bool:
        told = "SELECT state->>'$.state' FROM migrate_meta.sync_status WHERE migration = %s AND instance = %s"
        return bool(session.value(told, (self._config.name, instance)) == "waiting")

    def _attempt(self, batch: Batch, parts: list[int], goal: int) -> None:
        try:
            self._settle()
            waiting = [p for p in parts if self._done[p] < goal]
            leaving = {str(t) for t in batch.leaving}
            self._together([p for p in waiting if not leaving <= self._departed[p]], batch, goal, leaving=leaving)
            if batch.doubts or batch.definitions or batch.replacements:  # in before anything that counts on it
                self._together(waiting[:1], batch, goal, first=True)
                waiting = waiting[1:]
            if waiting and self._marks.held not in batch.doubts:
                self._together(waiting, batch, goal)
        except (ConnectionLost, OutcomeUnknown, TryAgain) as error:
            self.reason = f"waiting: {error}"
            self.retries += 1
            self._doubtful = True
            raise

    def _together(
        self, parts: list[int], batch: Batch, goal: int, *, first: bool = False, leaving: Set[str] | None = None
    ) -> None:
        """Prepares all the parts, and commits them when none of them had anything against it. `leaving`: only what
        leaves those tables."""
        if not parts:
            return
        try:
            self._each(parts, lambda p: self._prepare(p, batch, goal, first, leaving))
        except BaseException:
            self._each(parts, self._roll_back)
            raise
        fault_point("after_batch_prepared")
        self._each(parts, lambda p: self._commit(p, goal, leaving))

    def _each(self, parts: list[int], work: Callable[[int], None]) -> None:
        running = [self._pool.submit(work, part) for part in parts]
        errors = [error for future in running if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda e: isinstance(e, Doubt)):  # a lost connection before a doubt
            raise error

    def _prepare(self, part: int, batch: Batch, goal: int, first: bool, leaving: Set[str] | None) -> None:
        writer = self._writers[part]
        if writer is None:
            writer = self._writers[part] = Writer(self._config.target)
        writer.execute("BEGIN OPTIMISTIC")
        departed = self._departed[part]
        write_share(writer, batch.shares[part], batch, self._elsewhere, departed, leaving)
        if first:
            self._marks.hold(writer, batch, [d >= goal for d in self._done], self._departed)
            if self._marks.held not in batch.doubts:
                self._replace(writer, batch)
                self._define(writer, batch)
        fault_point("before_position_save")
        if leaving is not None:
            self._marks.depart(writer, part, goal, batch, departed | leaving)
        elif self._marks.held not in batch.doubts:
            self._marks.advance(writer, part, goal, batch)

    def _define(self, writer: Writer, batch: Batch) -> None:
        for (schema, table), definition in batch.definitions.items():
            names = ", ".join(map(literal, (self._config.name, self._instance, schema, table)))
            if definition is None:
                writer.execute(
                    "DELETE FROM migrate_meta.shard_schema WHERE (migration, instance, schema_name, table_name) = "
                    f"({names})"
                )
            else:
                writer.execute(
                    "REPLACE INTO migrate_meta.shard_schema (migration, instance, schema_name, table_name, definition) "
                    f"VALUES ({names}, {json_literal(definition_to_json(definition))})"
                )

    def _replace(self, writer: Writer, batch: Batch) -> None:
        for statement, original in batch.replacements:
            try:
                writer.execute(statement)
            except (ConnectionLost, TryAgain):
                raise
            except ServerError as error:
                assert self._marks.held is not None
                raise Doubt(self._marks.held, f"the replacement failed: {error}", original) from None

    def _commit(self, part: int, goal: int, leaving: Set[str] | None) -> None:
        writer = self._writers[part]
        assert writer is not None
        try:
            writer.execute("COMMIT")
        except ConnectionLost as error:
            raise OutcomeUnknown(f"{error}; the answer to COMMIT was lost") from None
        if leaving is not None:
            self._departed[part] |= leaving
            fault_point("after_departure")
            return
        self._done[part], self._departed[part] = goal, frozenset()
        fault_point("after_part_commit")

    def _roll_back(self, part: int) -> None:
        writer = self._writers[part]
        if writer is not None:
            with suppress(Exception):
                writer.execute("ROLLBACK")

    def _settle(self) -> None:
        """After trouble: new connections, and from the target itself which parts are in."""
        if not self._doubtful:
            return
        for part, writer in enumerate(self._writers):
            if writer is not None:
                writer.close()
                self._writers[part] = None
        with Session(self._config.target) as session:
            self.resume(self._marks.claim(session))
        self._doubtful = False

    def close(self) -> None:
        """Ends the threads and the connections; a transaction that is open rolls back."""
        with suppress(BaseException):
            self.wait()
        self._pool.shutdown()
        for writer in self._writers:
            if writer is not None:
                writer.close()


def _too_far(collision: Collision, instance: str) -> str:
    return (
        f"{collision.reason.removeprefix('drift: ')}, and {instance} doesn't get to where the row left there: the "
        "table is held there, or rows cross between the instances further apart than a batch reaches. If it is held "
        f"there for another reason, mend that and run `migrate sync go-on {collision.target}`; else wait until "
        "`migrate sync status` shows all instances less than a second behind, run "
        f"`migrate sync overwrite {collision.target}`, and verify the table"
    )
