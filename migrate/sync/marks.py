"""How far an instance's changes are applied: rows of migrate_meta that change in the transactions of the changes."""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from dataclasses import dataclass

from migrate.db import Session
from migrate.errors import MigrateError
from migrate.model import Target, literal
from migrate.position import Position, reached
from migrate.sync.batch import Batch
from migrate.sync.writer import Writer

# Parts of an instance's changes that are written at once. A constant: their positions are kept one by one.
PARTS = 4


@dataclass(frozen=True)
class Departed:
    """Tables (by name) whose rows that leave in a batch have left, ahead of the rest of it; and where it ends."""

    position: Position
    inside: int
    targets: frozenset[str]

    def has(self, target: Target) -> bool:
        return str(target) in self.targets


@dataclass(frozen=True)
class Mark:
    """A part's place: `seq` batches, up to `position`, and `inside` row events of the transaction after it.
    `departed`: what is in of the next batch."""

    seq: int
    position: Position
    inside: int
    source_time: float
    departed: Departed | None = None

    def passed(self, goal: Position, target: Target) -> bool:
        """Whether every row of the target that left up to there has left by this part."""
        if reached(self.position, goal) and not self.inside:
            return True
        return self.departed is not None and self.departed.has(target) and reached(self.departed.position, goal)


class Marks:
    """The marks of one passage through the binlog: of an instance, or of a target table of it that was held."""

    def __init__(self, migration: str, instance: str, held: Target | None = None):
        self.held = held
        self._names = (migration, instance)
        self._where = f"migration = {literal(migration)} AND instance = {literal(instance)} AND target = "
        self._own = self._where + literal(str(held or ""))

    def begin(self, session: Session, position: Position) -> None:
        """Makes the marks of an instance at its captured position, where there are none."""
        session.executemany(
            "INSERT IGNORE INTO migrate_meta.applied (migration, instance, target, part, seq, position, inside, "
            "source_time, committed_at) VALUES (%s, %s, '', %s, 0, %s, 0, 0, NOW(6))",
            [(*self._names, part, json.dumps(position)) for part in range(PARTS)],
        )

    def read(self, session: Session, how: str = "") -> list[Mark]:
        """The marks, by part. MigrateError if they are gone."""
        found = _read(session, self._own, how)
        if len(found) != PARTS:
            raise MigrateError(
                f"migrate_meta.applied has {len(found)} rows for {self}, expected {PARTS}: restore them, or copy anew"
            )
        return found

    def claim(self, session: Session) -> list[Mark]:
        """The marks, by part, that nobody moves any more whose transaction began before: the target may still be
        committing for a client that was killed, or cut off. It is waited for, or fails since its mark was changed."""
        with session.transaction("BEGIN PESSIMISTIC"):
            session.execute(f"UPDATE migrate_meta.applied SET committed_at = NOW(6) WHERE {self._own}")
            return self.read(session, "FOR UPDATE")

    def of(self, session: Session, target: Target) -> list[Mark]:
        """How far the changes of one table are applied: where it is held, or where its instance is."""
        return _read(session, self._where + literal(str(target))) or self.read(session)

    def advance(self, writer: Writer, part: int, seq: int, batch: Batch) -> None:
        """Inside the part's transaction: it is at the batch's end. MigrateError if somebody else moved it."""
        changed = writer.execute(
            f"UPDATE migrate_meta.applied SET seq = {seq}, position = {json_literal(json.dumps(batch.position))}, "
            f"inside = {batch.inside}, departed = NULL, source_time = {batch.source_time!r}, committed_at = NOW(6) "
            f"WHERE {self._own} AND part = {part} AND seq = {seq - 1}"
        )
        if changed != 1:
            raise MigrateError(
                f"the position of {self} was moved by another process: stopped, nothing of this batch is kept by this "
                "one"
            )

    def read_on(self, session: Session, seq: int, position: Position) -> None:
        """All parts, which have the same batches in, are at a position that no transaction lies before any more: in one
        statement, so that none is ever ahead of the others without a batch to make up for. Safe to repeat."""
        changed = session.execute(
            f"UPDATE migrate_meta.applied SET position = {json_literal(json.dumps(position))}, committed_at = NOW(6) "
            f"WHERE {self._own} AND seq = {seq} AND inside = 0 AND departed IS NULL"
        )
        if changed != PARTS:
            raise MigrateError(f"the position of {self} was moved by another process: stopped")

    def depart(self, writer: Writer, part: int, seq: int, batch: Batch, targets: Set[str]) -> None:
        """Inside a transaction that has the departures of those tables in the batch: they are in."""
        changed = writer.execute(
            f"UPDATE migrate_meta.applied SET departed = {_departed(batch, targets)}, committed_at = NOW(6) "
            f"WHERE {self._own} AND part = {part} AND seq = {seq - 1}"
        )
        if changed != 1:
            raise MigrateError(f"the position of {self} was moved by another process: stopped")

    def hold(self, writer: Writer, batch: Batch, done: Sequence[bool], departed: Sequence[Set[str]]) -> None:
        """Inside a transaction that comes before those of other parts: tables in doubt wait, each part of them where
        it is: behind the batch if it has it in (`done`), else before it, with what has `departed` of it. One that was
        held stays where it is. A part that had no rows of it to write is before the batch, too: where none is ahead of
        the others, the batch may be another one next time."""
        for target, doubt in batch.doubts.items():
            statement = "NULL" if doubt.statement is None else literal(doubt.statement)
            had = [doubt.parts is not None and part in doubt.parts for part in range(len(done))]
            if target == self.held:
                for part in (p for p, d in enumerate(done) if d and not had[p]):
                    writer.execute(
                        f"UPDATE migrate_meta.applied SET seq = seq - 1, inside = {batch.start_inside}, position = "
                        f"{json_literal(json.dumps(batch.start))}, departed = NULL WHERE {self._own} AND part = {part}"
                    )
                writer.execute(
                    f"UPDATE migrate_meta.hold SET reason = {literal(doubt.reason)}, statement = {statement}, "
                    f"held_at = NOW(6), resolution = NULL, replacement = NULL WHERE {self._own}"
                )
                continue
            names = ", ".join((*map(literal, self._names), literal(str(target))))
            writer.execute(
                "INSERT INTO migrate_meta.hold (migration, instance, target, position, reason, statement) VALUES "
                f"({names}, {json_literal(json.dumps(batch.start))}, {literal(doubt.reason)}, {statement}) "
                "ON DUPLICATE KEY UPDATE reason = reason"
            )
            within = [d and h for d, h in zip(done, had, strict=True)]
            places = [(batch.position, batch.inside) if w else (batch.start, batch.start_inside) for w in within]
            left = [
                _departed(batch, {str(target)} & departed[part] if had[part] else set()) for part in range(len(had))
            ]
            rows = [
                f"({names}, {part}, {int(within[part])}, {json_literal(json.dumps(position))}, {inside}, {left[part]}, "
                "0, NOW(6))"
                for part, (position, inside) in enumerate(places)
            ]
            writer.execute(
                "INSERT INTO migrate_meta.applied (migration, instance, target, part, seq, position, inside, departed, "
                f"source_time, committed_at) VALUES {', '.join(rows)} ON DUPLICATE KEY UPDATE seq = seq"
            )

    def release(self, session: Session) -> None:
        """Inside a transaction: the held table isn't held any more."""
        for table in ("hold", "applied"):
            session.execute(f"DELETE FROM migrate_meta.{table} WHERE {self._own}")

    def __str__(self) -> str:
        return ".".join(self._names) + (f", {self.held}" if self.held else "")


def _read(session: Session, where: str, how: str = "") -> list[Mark]:
    return [
        Mark(seq, json.loads(position), inside, float(at), departed and _parsed(departed))
        for seq, position, inside, at, departed in session.query(
            "SELECT seq, position, inside, source_time, departed FROM migrate_meta.applied WHERE "
            f"{where} ORDER BY part {how}"
        )
    ]


def _parsed(text: str) -> Departed:
    found = json.loads(text)
    return Departed(found["position"], found["inside"], frozenset(found["targets"]))


def _departed(batch: Batch, targets: Set[str]) -> str:
    """The literal that says so of tables in a batch."""
    if not targets:
        return "NULL"
    found = {"position": batch.position, "inside": batch.inside, "targets": sorted(targets)}
    return json_literal(json.dumps(found))


def json_literal(text: str) -> str:
    """JSON as a literal; a JSON column takes no bytes, and a hexadecimal literal counts as such."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
