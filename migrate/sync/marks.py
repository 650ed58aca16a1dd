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
        self.parts = PARTS if held is None else 1
        self._table = "migrate_meta.applied" if held is None else "migrate_meta.hold"
        self._names = (migration, instance)
        self._where = f"migration = {literal(migration)} AND instance = {literal(instance)}"
        if held is not None:
            self._where += f" AND target = {literal(str(held))}"

    def begin(self, session: Session, position: Position) -> None:
        """Makes the marks of an instance at its captured position, where there are none."""
        session.executemany(
            "INSERT IGNORE INTO migrate_meta.applied (migration, instance, part, seq, position, inside, source_time, "
            "committed_at) VALUES (%s, %s, %s, 0, %s, 0, 0, NOW(6))",
            [(*self._names, part, json.dumps(position)) for part in range(PARTS)],
        )

    def read(self, session: Session) -> list[Mark]:
        """The marks, by part. MigrateError if they are gone."""
        order = "ORDER BY part" if self.held is None else ""
        time = "source_time" if self.held is None else "0"
        rows = session.query(f"SELECT seq, position, inside, {time} FROM {self._table} WHERE {self._where} {order}")
        if len(rows) != self.parts:
            raise MigrateError(f"{self._table} has {len(rows)} rows for {'.'.join(self._names)}, expected {self.parts}")
        return [Mark(seq, json.loads(position), inside, float(at)) for seq, position, inside, at in rows]

    def advance(self, writer: Writer, part: int, seq: int, batch: Batch) -> None:
        """Inside the part's transaction: it is at the batch's end. MigrateError if somebody else moved it."""
        changes = f"seq = {seq}, position = {json_literal(json.dumps(batch.position))}, inside = {batch.inside}"
        where = self._where
        if self.held is None:
            changes += f", source_time = {batch.source_time!r}, committed_at = NOW(6)"
            where += f" AND part = {part}"
        if writer.execute(f"UPDATE {self._table} SET {changes} WHERE {where} AND seq = {seq - 1}") != 1:
            raise MigrateError(
                f"the position of {'.'.join(self._names)} was moved by another process: stopped, nothing of this batch "
                "is kept by this one"
            )

    def hold(self, writer: Writer, batch: Batch) -> None:
        """Inside the first part's transaction: tables in doubt wait, from where the batch began."""
        for target, doubt in batch.doubts.items():
            values: Sequence[str] = (
                *map(literal, self._names),
                literal(str(target)),
                json_literal(json.dumps(batch.start)),
                str(batch.start_inside),
                literal(doubt.reason),
                "NULL" if doubt.statement is None else literal(doubt.statement),
            )
            writer.execute(
                "INSERT INTO migrate_meta.hold (migration, instance, target, position, inside, reason, statement, seq) "
                f"VALUES ({', '.join(values)}, 0) ON DUPLICATE KEY UPDATE reason = VALUES(reason), "
                "statement = VALUES(statement), held_at = NOW(6), resolution = NULL, replacement = NULL"
            )


def json_literal(text: str) -> str:
    """JSON as a literal; a JSON column takes no bytes, and a hexadecimal literal counts as such."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
