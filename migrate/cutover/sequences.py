"""Brings the target's counters above every number that the shards gave out, of deleted rows too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from migrate.config import Config, Endpoint
from migrate.db import Session
from migrate.errors import NoGo
from migrate.model import MergedTable, Shard, quote
from migrate.source import on_every_instance

Counters = Mapping[Shard, int]  # the number that each shard would give out next


def counted(tables: Sequence[MergedTable]) -> list[tuple[MergedTable, str]]:
    """The target tables that number rows by themselves, each with its column."""
    return [(t, c.name) for t in tables for c in t.definition.columns if c.auto_increment]


def read_counters(config: Config, tables: Sequence[MergedTable]) -> dict[Shard, int]:
    """What the shards of those tables would give out next."""
    wanted = {t.shard for table, _ in counted(tables) for t in table.shards}

    def read(session: Session, endpoint: Endpoint) -> dict[Shard, int]:
        mine = [s for s in wanted if s.instance == endpoint.name]
        if not mine:
            return {}
        if session.query("SHOW VARIABLES LIKE 'information_schema_stats_expiry'"):
            session.execute("SET SESSION information_schema_stats_expiry = 0")  # MySQL 8 shows a cached value else
        rows = session.query(
            "SELECT TABLE_SCHEMA, TABLE_NAME, AUTO_INCREMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA IN %s "
            "AND AUTO_INCREMENT IS NOT NULL",
            [sorted({s.schema for s in mine})],
        )
        found = {Shard(endpoint.name, str(s), str(t)): int(n) for s, t, n in rows}
        return {shard: found.get(shard, 1) for shard in mine}

    return {shard: n for some in on_every_instance(config, read).values() for shard, n in some.items()}


def raise_counters(session: Session, tables: Sequence[MergedTable], counters: Counters) -> list[str]:
    """Brings every counter of the target above what was given out; says where each goes on.

    NoGo if one would still give out a number that a shard may have given.
    """
    said = []
    for table, column in counted(tables):
        greatest = session.value(f"SELECT MAX({quote(column)}) FROM {table.target.sql}")
        least = max([int(greatest or 0) + 1, *(_merged(table, column, shard, n) for shard, n in _of(table, counters))])
        # always: it is what makes every TiDB server forget the numbers that it has put aside for itself
        session.execute(f"ALTER TABLE {table.target.sql} AUTO_INCREMENT = {least}")
        following = _following(session, table)
        if following < least:
            raise NoGo(f"{table.target}.{column} would go on from {following}, and the shards gave out {least - 1}")
        said.append(f"{table.target}.{column} goes on from {following}")
    return said


def _of(table: MergedTable, counters: Counters) -> list[tuple[Shard, int]]:
    return [(t.shard, counters[t.shard]) for t in table.shards if t.shard in counters]


def _merged(table: MergedTable, column: str, shard: Shard, following: int) -> int:
    """What comes after the last number of a shard, as the merged table has it."""
    remap = {name.lower(): r for name, r in table.remap(shard).items()}.get(column.lower())
    return following if remap is None else ((following - 1) << remap.bits) + remap.number + 1


def _following(session: Session, table: MergedTable) -> int:
    """What the target would give out next: by one of two counters, the other of which stays at 1 (AUTO_ID_CACHE)."""
    return max((int(row[3]) for row in session.query(f"SHOW TABLE {table.target.sql} NEXT_ROW_ID")), default=0)
