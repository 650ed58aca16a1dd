"""Rows of the target that may be ahead of an instance's binlog, since another follower put them there as its shard has
them now: their own follower writes them over instead of taking them for a drift, until it is where the instance stood
then."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable

from migrate.config import Config
from migrate.db import Session
from migrate.model import Target, literal
from migrate.position import Position, reached
from migrate.sync.marks import Marks, json_literal
from migrate.sync.writer import Writer


def fingerprint(key: Hashable) -> str:
    """A key of a row, as the target shows it, in one length."""
    return hashlib.sha256(repr(key).encode()).hexdigest()


def lend(
    config: Config, writer: Writer, instance: str, target: Target, keys: Iterable[Hashable], until: Position
) -> None:
    """Inside the transaction that writes the rows of those keys: they are ahead of the instance's binlog until then."""
    names = ", ".join(map(literal, (config.name, instance, str(target))))
    position = json_literal(json.dumps(until))
    values = [f"({names}, '{fingerprint(key)}', {position})" for key in keys]
    writer.execute(
        "REPLACE INTO migrate_meta.lent (migration, instance, target, row_key, position) VALUES " + ", ".join(values)
    )


def lent(config: Config, writer: Writer, instance: str, target: Target, at: Position) -> frozenset[str]:
    """The keys (by fingerprint) of rows that may be ahead of an instance's binlog at a position."""
    names = ", ".join(map(literal, (config.name, instance, str(target))))
    rows = writer.rows(
        f"SELECT row_key, position FROM migrate_meta.lent WHERE (migration, instance, target) = ({names})"
    )
    return frozenset(str(key, "ascii") for key, until in rows if key and until and not reached(at, json.loads(until)))


def forget_passed(session: Session, migration: str, instance: str) -> int:
    """Forgets what was lent to an instance, and where it was overtaken, whose follower is there by now; gives how many
    rows.

    A batch asks for what was lent behind the place where it begins, and none begins before the least of the marks; nor
    does one of a table that is held from here on. The marks are read as of one moment, and a row that is lent anew
    meanwhile has another position, or makes this transaction fail (TryAgain).
    """
    return sum(_forget(session, table, migration, instance) for table in ("lent", "overtaken"))


def _forget(session: Session, table: str, migration: str, instance: str) -> int:
    count = 0
    with session.transaction("BEGIN PESSIMISTIC"):
        held = session.query(
            f"SELECT DISTINCT target, CAST(position AS CHAR) FROM migrate_meta.{table} WHERE (migration, instance) = "
            "(%s, %s)",
            (migration, instance),
        )
        for target, until in held:
            marks = Marks(migration, instance).of(session, Target(*target.split(".", 1)))
            if all(reached(mark.position, json.loads(until)) for mark in marks):
                count += session.execute(
                    f"DELETE FROM migrate_meta.{table} WHERE (migration, instance, target) = (%s, %s, %s) AND "
                    "position = CAST(%s AS JSON)",
                    (migration, instance, target, until),
                )
    return count
