"""One way through a binlog: from the stream, through batches, into the target."""

from __future__ import annotations

import logging
from time import monotonic, time
from typing import Any

from migrate.config import Config
from migrate.copy.rowformat import RowRefused
from migrate.db import connect, stop, wait
from migrate.errors import ConnectionLost, Interrupted
from migrate.faults import fault_point
from migrate.model import Target
from migrate.position import Position, place, reached
from migrate.state import State
from migrate.sync.appliers import MOVE_S, Appliers, ReadOn
from migrate.sync.asking import STREAM_S, impatient
from migrate.sync.batch import Batch, Doubt, Layout
from migrate.sync.calm import Calm
from migrate.sync.elsewhere import Elsewhere
from migrate.sync.goal import Goal
from migrate.sync.marks import Marks
from migrate.sync.monitor import Halt, Monitor, Progress
from migrate.sync.resolution import Held
from migrate.sync.router import ECHO, Router
from migrate.sync.statements import Statements
from migrate.sync.stream import BEGIN, COMMIT, DELETE, HEARTBEAT, IDLE, INSERT, ROWS, STATEMENT, UNDONE, Stream
from migrate.sync.undone import ReadAgain, Undone

log = logging.getLogger("migrate")

# More changes merge better: an account that is posted to ten times is written once. More bytes than this would be
# felt as memory here, and as a long transaction there.
_CHANGES = 30_000
_BYTES = 24 << 20
_ENOUGH = 5_000  # so many are applied as soon as the appliers are free
_NEAR_S = 5.0  # closer to the source than this, what has come is applied as soon as the appliers are free
_LOOK_S = 0.25  # how often the appliers are asked what they wait for
_SLOW_S = 5.0  # a batch that takes the target longer than this is followed by smaller ones


class Passage:
    """One way through the binlog: of an instance, from its marks on; or of a table that was held, up to `end`."""

    def __init__(
        self, config: Config, instance: str, router: Router, marks: Marks, monitor: Monitor, progress: Progress,
        *, end: Position | None = None, held: Held | None = None,
    ):  # fmt: skip
        self._config, self._instance, self._router, self._marks = config, instance, router, marks
        self._monitor, self._progress = monitor, progress
        self._goal = Goal(instance, end, exactly=held is None)
        self._statements = Statements(config, router, held)
        self._overwrite = held is not None and held.resolution == "overwrite"
        self._limit, self._slow = _CHANGES, ""  # the most changes of a batch; why they are fewer than they might be
        self._least: Position | None = None  # up to where the next batch must go, and until when it may be made longer
        self._grows_until: float | None = None
        self._calm = Calm(config, instance)
        self._undone = Undone()

    def run(self) -> str:
        """Applies until something else is to be done; gives what: end, stop, pause, resolve or held.

        ConnectionLost if the source went away; run it again then.
        """
        while True:
            try:
                return self._run()
            except ReadOn as longer:
                if self._marks.held is not None and not reached(self._goal.position or {}, longer.position):
                    return "later"  # when the others are there
                self._least = longer.position
                self._grows_until = self._grows_until or monotonic() + MOVE_S
            except ReadAgain:
                continue

    def _run(self) -> str:
        self._appliers = Appliers(self._config, self._instance, self._marks, Elsewhere(self._config, self._router))
        self._flying: tuple[Batch, float] | None = None
        self._ordinal = self._inside = 0  # row events of the transaction under way: seen, and in already
        self._moved = False  # whether anything was applied, or nothing is left to be
        try:
            marks = State.settled(self._config, lambda state: self._marks.claim(state.session))
            self._consistent = State.settled(self._config, State.consistent)[self._instance]
            self._appliers.resume(marks)
            behind, ahead = min(marks, key=lambda m: m.seq), max(marks, key=lambda m: m.seq)
            # Parts that were lost between the commits of the others, or after what leaves: their batch is assembled
            # again, exactly.
            left = next((m.departed for m in marks if m.departed), None)
            self._redo = ahead if ahead.seq > behind.seq else left
            self._redo_parts = [p for p, m in enumerate(marks) if m.seq == behind.seq]
            self._inside = behind.inside
            self._goal.check_start(ahead)
            self._progress.position, self._progress.source_time = behind.position, behind.source_time
            source = impatient(self._config.source(self._instance), STREAM_S)
            number = Stream.server_id(self._config.name, self._instance, str(self._marks.held or ""))
            self._stream = Stream(source, behind.position, self._router.wanted, server_id=number)
            try:
                self._batch = self._new_batch()
                return self._follow()
            finally:
                self._stream.close()
        finally:
            self._appliers.close()

    def _new_batch(self) -> Batch:
        at = self._stream.position()
        fuzzy = self._overwrite or not reached(at, self._consistent)
        inside = max(self._ordinal, self._inside)
        return Batch(
            fuzzy, careful=not self._calm.reached(at), overwriting=self._overwrite, grows_until=self._grows_until,
            start=at, start_inside=inside, position=at, inside=inside,
        )  # fmt: skip

    def _follow(self) -> str:
        within = skip = False
        if reason := self._boundary():
            return reason
        for item in self._stream:
            kind = item[0]
            if kind == ROWS:
                self._ordinal += 1
                if self._ordinal == 1:
                    skip = (item[2].schema, item[2].table) == ECHO
                if skip or self._ordinal <= self._inside:
                    continue
                self._rows(item)
                self._within()
            elif kind == BEGIN:
                within, skip = True, False
                if self._undone.known:
                    self._undone.begin(self._stream.position())
                fault_point("inside_transaction")
            elif kind == COMMIT:
                within = False
                self._ordinal = self._inside = 0
                batch = self._batch
                batch.transactions += 1
                batch.source_time = item[4]
                if reason := self._boundary():
                    return reason
            elif kind == UNDONE:
                if not skip:
                    self._undo(item[1], item[2])
            elif kind == STATEMENT:
                if not skip and self._ordinal >= self._inside and self._redo is None:
                    self._statement(item)
            elif kind in (IDLE, HEARTBEAT) and not within and (reason := self._idle()):
                return reason
        raise ConnectionLost(2013, "the stream of the binlog ended", str(self._config.source(self._instance)))

    def _rows(self, item: tuple[Any, ...]) -> None:
        _, op, table_map, data, start, end, used_before, used_after = item
        layout: Layout | None = table_map.decoder
        batch = self._batch
        try:
            if layout is None or not layout.valid:
                layout = self._router.layout(table_map)
                if layout is None:
                    return
                table_map.decoder = layout
            if self._undone.here and self._undone.has(self._ordinal, layout, overwriting=self._overwrite):
                return
            if batch.doubts and layout.target in batch.doubts:
                return
            if used_before is not None or used_after is not None:
                layout.require_full(used_before, used_after)
            if op == INSERT:
                batch.insert(layout, layout.decoder.images(data, start, end))
            elif op == DELETE:
                batch.delete(layout, layout.decoder.images(data, start, end))
            else:
                batch.update(layout, layout.decoder.pairs(data, start, end))
            batch.bytes += end - start
        except Doubt as doubt:
            self._doubt(doubt.target, doubt.reason)
        except RowRefused as refused:  # only a layout refuses rows
            assert layout is not None
            self._doubt(layout.target, str(refused))

    def _undo(self, first: int, last: int) -> None:
        """Rows of this transaction were rolled back. NoGo if some of them are applied."""
        at = self._stream.position()
        if max(self._inside, self._batch.start_inside if self._batch.start == at else 0) > first:
            raise self._stream.refusal(
                "a transaction of more rows than a batch takes is rolled back, and stands in the binlog all the same "
                "(a temporary table, or one without transactions, took part)",
                "some of its rows are on the target already; copy again from behind it",
            )
        self._undone.take(at, first, last)

    def _within(self) -> None:
        """In a transaction that is too large for a batch: what of it has come is applied."""
        batch, redo = self._batch, self._redo
        if redo is None:
            if batch.changes < self._limit and batch.bytes < _BYTES:
                return
        elif self._ordinal != redo.inside or not reached(self._stream.position(), redo.position):
            return
        self._flush()

    def _statement(self, item: tuple[Any, ...]) -> None:
        """DDL, or rows logged as text: what came before is applied first, and the statement is alone in its batch."""
        _, schema, sql, sql_mode = item
        changes = self._router.changes(schema, sql, sql_mode)
        if not changes:
            return
        self._flush(now=True)
        self._land()
        self._statements.take(changes, self._batch)

    def _doubt(self, target: Target, reason: str) -> None:
        log.warning("%s: %s is held: %s", self._instance, target, reason)
        self._batch.hold(target, reason)

    def _boundary(self) -> str | None:
        """Between two transactions: applies what is due, and listens. Gives a reason to leave the stream."""
        batch = self._batch
        if self._goal:
            self._goal.check_end(self._stream.position())
        if self._redo is not None:
            if self._redo.inside or not reached(self._stream.position(), self._redo.position):
                return None
            self._flush()
        elif batch.definitions or batch.doubts or batch.replacements:
            self._flush(now=True)
            self._land()
        elif self._due(batch):
            self._flush()
        return self._asked()

    def _due(self, batch: Batch) -> bool:
        if batch.changes >= self._limit or batch.bytes >= _BYTES:
            return True
        if batch.fuzzy and not self._overwrite and reached(self._stream.position(), self._consistent):
            return True
        some = batch.transactions > 0 and (batch.changes >= _ENOUGH or time() - batch.source_time < _NEAR_S)
        return some and self._appliers.free

    def _idle(self) -> str | None:
        """Nothing more has come: applies what has."""
        if self._redo is None:
            if self._batch.transactions:
                self._flush()
            elif self._appliers.free:
                self._land()
                self._read_on()
                self._moved = True
                self._progress.position = self._stream.position()
                self._progress.state, self._progress.reason = "following", self._slow
            else:
                self._progress.reason = self._appliers.reason or self._slow
        return self._asked()

    def _read_on(self) -> None:
        """Where the binlog has gone on without a transaction, into another file maybe: we are there. Others may wait
        for us to be, and the file that we were in may be purged."""
        here, start = self._stream.position(), self._batch.start
        moved = place(here) != place(start) or here["server_uuid"] != start["server_uuid"]
        if moved and not self._inside and not self._held_again:
            self._appliers.read_on(here)
            self._batch = self._new_batch()

    def _asked(self) -> str | None:
        if stop.is_set():
            raise Interrupted("stopped on request")
        if self._monitor.failed is not None:
            raise self._monitor.failed
        if self._redo is not None or self._inside:  # not between two transactions, by what is applied
            return None
        if self._held_again:
            return "held"
        reason = self._wanted()
        if reason is not None:
            self._flush(now=reason == "end")  # a row that is on two shards is read again next time
            self._land()
        elif self._monitor.halt is not None and self._marks.held is None:
            self._stand()
        return "held" if self._held_again else reason

    def _wanted(self) -> str | None:
        """Why to leave the stream here."""
        if self._goal and self._goal.reached(self._stream.position()):
            return "end"
        if self._monitor.wanted != "run":
            return self._monitor.wanted
        return "resolve" if self._monitor.resolved and self._moved and self._marks.held is None else None

    @property
    def _held_again(self) -> bool:
        return self._marks.held is not None and self._marks.held in self._router.held

    def _stand(self) -> None:
        """Stands still as long as somebody wants it, once we are where he wants us."""

        def wanted_here() -> Halt | None:
            halt = self._monitor.halt
            here = halt is not None and (halt.position is None or reached(self._stream.position(), halt.position))
            return halt if here else None

        if wanted_here() is None:
            return
        self._flush()
        self._land()
        if self._batch.doubled:
            return
        self._progress.state = "halted"
        while (halt := wanted_here()) and self._monitor.wanted == "run":
            self._monitor.reached(halt, self._stream.position())
            wait(0.02)
        self._monitor.reached(None, {})
        self._progress.state = "following"
        # who had us stand may have written ahead of us meanwhile, up to where he says
        with connect(self._config.target, patience_s=self._config.run.patience_s) as session:
            self._consistent = State(self._config.name, session).consistent()[self._instance]
        self._batch = self._new_batch()

    def _flush(self, *, now: bool = False) -> None:
        """Hands the batch to the appliers, when they have done with the one before, and begins another.

        Not while a row is on two shards, unless it must be `now`: it may be about to leave one of them.
        """
        batch = self._batch
        if self._redo is None and not now and self._longer(batch):
            return
        if batch.doubled and self._redo is None:
            for (target, _), (layout, image) in list(batch.doubled.items()):
                self._doubt(target, layout.twice(batch, image))
        self._appliers.prepare(batch)
        self._land()
        if self._held_again or not (batch.transactions or batch.changes or batch.doubts or self._redo):
            self._batch = self._new_batch()
            return
        batch.position, batch.inside = self._stream.position(), self._ordinal
        parts = self._redo_parts if self._redo else None
        self._redo = self._least = None
        self._appliers.submit(batch, parts)
        self._flying = (batch, monotonic())
        self._batch = self._new_batch()

    def _longer(self, batch: Batch) -> bool:
        """Whether the batch should go on, for what may clear the place of a row."""
        if batch.doubled and monotonic() - batch.doubled_at < MOVE_S:
            return True
        return (
            self._least is not None and batch.bytes < 4 * _BYTES and not reached(self._stream.position(), self._least)
        )

    def _land(self) -> None:
        """Until the batch under way is in; what it brought to light is taken into account."""
        if self._flying is None:
            return
        batch, begun = self._flying
        waiting = monotonic()
        while not self._appliers.landed(_LOOK_S):
            self._progress.reason = self._appliers.reason or self._slow
        self._appliers.wait()
        self._progress.waited_s += monotonic() - waiting
        self._flying = self._grows_until = None
        for target in batch.doubts:
            self._router.hold(target)
            self._batch.forget(target)
        self._tell(batch, monotonic() - begun)

    def _tell(self, batch: Batch, seconds: float) -> None:
        told, self._moved = self._progress, True
        told.state = "following"
        told.batches += 1
        told.changes += batch.changes
        told.transactions += batch.transactions
        told.retries = self._appliers.retries
        told.doubts += len(batch.doubts)
        told.position, told.source_time = batch.position, batch.source_time or told.source_time
        if seconds > _SLOW_S:
            self._limit = max(1000, self._limit // 2)
            self._slow = f"the target took {seconds:.1f} s for a batch; the next are of {self._limit:,} changes at most"
        elif self._limit < _CHANGES and seconds < _SLOW_S / 4:
            self._limit = min(_CHANGES, self._limit * 2)
        if self._limit == _CHANGES:
            self._slow = ""
        told.reason = self._slow
