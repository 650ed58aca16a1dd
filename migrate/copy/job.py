"""What a worker needs to know of a shard, to copy, export or load it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from migrate.config import Config, Endpoint
from migrate.copy.keyset import KeyOfRow, key_of_row, key_order, predicate
from migrate.copy.reader import PART_BYTES
from migrate.copy.rowformat import RowSelect, row_select
from migrate.model import Chunk, Interleave, MergedTable, Shard, ShardTable, TableDef, Target, quote


@dataclass(frozen=True)
class ShardJob:
    """Everything that a worker needs to know of a shard."""

    migration: str
    source: Endpoint
    target: Endpoint
    patience_s: int
    table: ShardTable
    into: Target
    remap: dict[str, Interleave]
    select: RowSelect
    chunk_rows: int
    siblings: tuple[Shard, ...]  # all shards of the target table

    @property
    def rows_per_chunk(self) -> int:
        """The configured number of rows, less where the rows are large."""
        return self.few(self.chunk_rows)

    def few(self, rows: int) -> int:
        """That many rows, or fewer where so many would be too large, by the server's estimate."""
        average = self.table.data_bytes // max(self.table.rows, 1)
        return max(1, min(rows, PART_BYTES // max(average, 1)))

    @property
    def key(self) -> KeyOfRow | None:
        """How to tell a row's key from what was selected of it, if it can be told."""
        return key_of_row(self.table.definition, self.remap)

    def source_rows(self, chunk: Chunk, limit: int | None = None) -> str:
        """The FROM clause of a chunk, or of its first `limit` rows in the order of the key."""
        index = self.table.physical.key
        force = f" FORCE INDEX ({quote(index.name)})" if index and (chunk.lower or chunk.upper or limit) else ""
        where = predicate(self.table.definition, chunk)
        order = f" ORDER BY {key_order(self.table.definition)} LIMIT {limit}" if limit else ""
        return f"{self.table.shard.sql}{force}{' WHERE ' + where if where else ''}{order}"


def shard_jobs(config: Config, tables: Sequence[MergedTable]) -> dict[Shard, ShardJob]:
    """A job for every shard, the largest first, so that none is left to the end alone."""
    siblings = {table.target: tuple(member.shard for member in table.shards) for table in tables}
    jobs = [
        ShardJob(
            migration=config.name,
            source=config.source(member.shard.instance),
            target=config.target,
            patience_s=config.run.patience_s,
            table=member,
            into=table.target,
            remap=table.remap(member.shard),
            select=row_select(member.definition, table.remap(member.shard)),
            chunk_rows=config.run.chunk_rows,
            siblings=siblings[table.target],
        )
        for table in tables
        for member in table.shards
    ]
    return {j.table.shard: j for j in sorted(jobs, key=lambda j: -j.table.rows)}


def definitions_of(tables: Sequence[MergedTable]) -> dict[Shard, TableDef]:
    """The definition of each shard, as it stands there."""
    return {member.shard: member.physical for table in tables for member in table.shards}
