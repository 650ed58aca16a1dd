"""How far an instance's changes are applied: rows of migrate_meta that change in the transactions of the changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from migrate.db import Session
from migrate.errors import MigrateError
from migrate.model import Target, literal
from migrate.position import Position
from migrate.sync.batch import Batch
from migrate.sync.writer import Writer

# Parts of an instance's changes that are written at once. A constant: their positions are kept one by one.
PARTS = 2


@dataclass(frozen=True)
class Mark:
    """A part's place: `seq` batches, up to `position`, and `inside` row events of the transaction after it."""

    seq: int
    position: Position
    inside: int
    source_time: float


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

    def read(self, session: Session) -> list[Mark]:
        """The marks, by part. MigrateError if they are gone."""
        rows = session.query(
            f"SELECT seq, position, inside, source_time FROM migrate_meta.applied WHERE {self._own} ORDER BY part"
        )
        if len(rows) != PARTS:
            raise MigrateError(
                f"migrate_meta.applied has {len(rows)} rows for {self}, expected {PARTS}: restore them, or copy anew"
            )
        return [Mark(seq, json.loads(position), inside, float(at)) for seq, position, inside, at in rows]

    def advance(self, writer: Writer, part: int, seq: int, batch: Batch) -> None:
        """Inside the part's transaction: it is at the batch's end. MigrateError if somebody else moved it."""
        changed = writer.execute(
            f"UPDATE migrate_meta.applied SET seq = {seq}, position = {json_literal(json.dumps(batch.position))}, "
            f"inside = {batch.inside}, source_time = {batch.source_time!r}, committed_at = NOW(6) "
            f"WHERE {self._own} AND part = {part} AND seq = {seq - 1}"
        )
        if changed != 1:
            raise MigrateError(
                f"the position of {self} was moved by another process: stopped, nothing of this batch is kept by this "
                "one"
            )

    def hold(self, writer: Writer, batch: Batch, done: Sequence[bool]) -> None:
        """Inside a transaction that comes before those of other parts: tables in doubt wait, each part of them where
        it is: behind the batch if it has it in (`done`), else before it. One that was held stays where it is."""
        for target, doubt in batch.doubts.items():
            statement = "NULL" if doubt.statement is None else literal(doubt.statement)
            if target == self.held:
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
            places = [(batch.position, batch.inside) if d else (batch.start, batch.start_inside) for d in done]
            rows = [
                f"({names}, {part}, {int(done[part])}, {json_literal(json.dumps(position))}, {inside}, 0, NOW(6))"
                for part, (position, inside) in enumerate(places)
            ]
            writer.execute(
                "INSERT INTO migrate_meta.applied (migration, instance, target, part, seq, position, inside, "
                f"source_time, committed_at) VALUES {', '.join(rows)} ON DUPLICATE KEY UPDATE seq = seq"
            )

    def release(self, session: Session) -> None:
        """Inside a transaction: the held table isn't held any more."""
        for table in ("hold", "applied"):
            session.execute(f"DELETE FROM migrate_meta.{table} WHERE {self._own}")

    def __str__(self) -> str:
        return ".".join(self._names) + (f", {self.held}" if self.held else "")


def json_literal(text: str) -> str:
    """JSON as a literal; a JSON column takes no bytes, and a hexadecimal literal counts as such."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
