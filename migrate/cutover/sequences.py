"""Brings the target's counters above every key that the shards gave out."""

from __future__ import annotations

from collections.abc import Sequence

from migrate.db import Session
from migrate.model import MergedTable, quote


def counted(tables: Sequence[MergedTable]) -> list[tuple[MergedTable, str]]:
    """The target tables that number rows by themselves, each with its column."""
    return [(t, c.name) for t in tables for c in t.definition.columns if c.auto_increment]


def raise_counters(session: Session, tables: Sequence[MergedTable]) -> list[str]:
    """Sets every AUTO_INCREMENT counter of the target above the greatest value in its table; says what it did.

    The table holds all shards' rows by now, interleaved ones as they were merged, so its own maximum is theirs.
    """
    said = []
    for table, column in counted(tables):
        greatest = session.value(f"SELECT MAX({quote(column)}) FROM {table.target.sql}")
        following = max(int(greatest or 0), 0) + 1
        session.execute(f"ALTER TABLE {table.target.sql} AUTO_INCREMENT = {following}")
        said.append(f"{table.target}.{column} goes on from {following}")
    return said
