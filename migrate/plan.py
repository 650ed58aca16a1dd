"""What a migration will do, before it does anything: shards, sizes, chunks, time, and what stands in its way."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from migrate.catalog import has_md5
from migrate.collisions import find_collisions
from migrate.config import Config
from migrate.db import connect
from migrate.misfits import find_misfits
from migrate.model import MergedTable, Shard, ShardTable
from migrate.schema import TargetSchema, shards_apart, target_ddl
from migrate.source import on_every_instance, read_routing

ROWS_PER_SECOND = 35_000  # of one worker: ledger entries of 120 bytes and 2 indexes, LOAD DATA into TiDB on 2 cores


@dataclass(frozen=True)
class PlannedTable:
    """A target table as it is planned. `rows` and `data_bytes` are the servers' estimates unless counted."""

    table: MergedTable
    schema: TargetSchema
    rows: dict[Shard, int]
    chunk_rows: int

    @property
    def row_count(self) -> int:
        return sum(self.rows.values())

    @property
    def data_bytes(self) -> int:
        return sum(t.data_bytes for t in self.table.shards)

    @property
    def chunks(self) -> int:
        """How many chunks its shards are cut into: one at least each, and only one without a key."""
        if self.table.definition.key is None:
            return len(self.table.shards)
        return sum(max(1, -(-rows // self.chunk_rows)) for rows in self.rows.values())

    def document(self) -> dict[str, Any]:
        """The table as the plan's JSON has it."""
        key = self.table.definition.key
        return {
            "target": str(self.table.target),
            "shards": [str(t.shard) for t in self.table.shards],
            "rows": self.row_count,
            "bytes": self.data_bytes,
            "chunks": self.chunks,
            "key": list(key.columns) if key else None,
            "key_collision": self.table.key_collision,
            "changes": list(self.schema.changes),
        }


@dataclass(frozen=True)
class Plan:
    """The plan. With `problems` (sentences) the migration must not begin: exit code 1."""

    tables: tuple[PlannedTable, ...]
    ignored: tuple[Shard, ...]
    hash: Literal["MD5", "SHA2"]
    exact: bool
    workers: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def rows(self) -> int:
        return sum(t.row_count for t in self.tables)

    @property
    def seconds(self) -> float:
        """How long a copy takes, by the measured rate."""
        return round(self.rows / (ROWS_PER_SECOND * self.workers), 1)

    def document(self) -> dict[str, Any]:
        """The plan as JSON has it."""
        return {
            "ok": self.ok,
            "tables": [t.document() for t in self.tables],
            "ignored": [str(s) for s in self.ignored],
            "rows": self.rows,
            "rows_exact": self.exact,
            "bytes": sum(t.data_bytes for t in self.tables),
            "chunks": sum(t.chunks for t in self.tables),
            "estimated_seconds": self.seconds,
            "hash": self.hash,
            "problems": list(self.problems),
        }

    def text(self) -> str:
        """The plan for people."""
        about = "" if self.exact else "~"
        lines = []
        for table in self.tables:
            key = table.table.definition.key
            lines.append(
                f"{table.table.target}: {len(table.table.shards)} shards, {about}{table.row_count:,} rows, "
                f"{table.data_bytes / 2**20:,.1f} MiB, {table.chunks} chunks, "
                f"key {', '.join(key.columns) if key else 'none'}"
            )
            lines += [f"  {t.shard}: {about}{table.rows[t.shard]:,} rows" for t in table.table.shards]
            lines += [f"  changes: {change}" for change in table.schema.changes]
        lines.append(f"ignored: {len(self.ignored)} tables")
        lines.append(
            f"a copy of {about}{self.rows:,} rows takes about {self.seconds:,.0f} s with {self.workers} workers"
        )
        lines.append(f"verification hashes with {self.hash}")
        if self.problems:
            lines += ["", f"{len(self.problems)} problems:", *(f"  {problem}" for problem in self.problems)]
        else:
            lines.append("every table of every instance is routed or ignored")
        return "\n".join(lines)


def make_plan(config: Config, *, exact: bool = False, scan: bool = True, workers: int | None = None) -> Plan:
    """Reads the sources, and nothing else but the target's functions.

    `exact`: count the rows instead of asking for estimates. `scan`: look for colliding keys, which reads all keys.
    Raises ServerError if a server can't be reached.
    """
    count = workers or config.run.workers
    routing = read_routing(config)
    schemas = [target_ddl(table) for table in routing.tables]
    problems = list(routing.problems)
    if not routing.tables:
        problems.append("no table is routed: there is nothing to migrate")
    for table, schema in zip(routing.tables, schemas, strict=True):
        problems += schema.refusals
        problems += shards_apart(table)
    if scan and not problems:  # keys of shards that aren't alike can't be compared
        problems += [str(m) for m in find_misfits(config, routing.tables, workers=count)]
        problems += [str(c) for c in find_collisions(config, routing.tables, workers=count)]
    rows = _rows(config, [t for table in routing.tables for t in table.shards], exact, count)
    tables = tuple(
        PlannedTable(table, schema, {t.shard: rows[t.shard] for t in table.shards}, config.run.chunk_rows)
        for table, schema in zip(routing.tables, schemas, strict=True)
    )
    return Plan(tables, routing.ignored, choose_hash(config), exact, count, tuple(problems))


def choose_hash(config: Config) -> Literal["MD5", "SHA2"]:
    """The hash that all servers of the migration compute: MD5, which TiDB pushes down, if none lacks it."""
    with connect(config.target, patience_s=config.run.patience_s) as session:
        everywhere = has_md5(session)
    everywhere = everywhere and all(on_every_instance(config, lambda s, _: has_md5(s)).values())
    return "MD5" if everywhere else "SHA2"


def _rows(config: Config, shards: Sequence[ShardTable], exact: bool, workers: int) -> dict[Shard, int]:
    if not exact:
        return {t.shard: t.rows for t in shards}

    def count(table: ShardTable) -> int:
        with connect(config.source(table.shard.instance), patience_s=config.run.patience_s) as session:
            return int(session.value(f"SELECT COUNT(*) FROM {table.shard.sql}"))

    with ThreadPoolExecutor(workers) as pool:
        return dict(zip((t.shard for t in shards), pool.map(count, shards), strict=True))
