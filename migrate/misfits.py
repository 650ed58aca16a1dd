"""Rows of the shards whose values a mapping can't carry exactly, found before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from migrate.config import Config
from migrate.conversion import misfit_sql, source_of
from migrate.db import Session, connect
from migrate.model import Column, MergedTable, Shard, ShardTable, quote

_SHOWN = 3  # rows of a column


@dataclass(frozen=True, slots=True)
class Misfit:
    """A column of a shard that some rows have values in that can't become the target's `column`."""

    shard: Shard
    source: str
    column: str
    full_type: str
    rows: int
    examples: tuple[str, ...]  # of those rows: key and value

    def __str__(self) -> str:
        more = f" and {self.rows - len(self.examples)} more" if self.rows > len(self.examples) else ""
        return (
            f"{self.shard}: {self.rows} values of column {self.source} can't become {self.column} {self.full_type} "
            f"exactly: {'; '.join(self.examples)}{more}"
        )


def find_misfits(config: Config, tables: Sequence[MergedTable], workers: int | None = None) -> list[Misfit]:
    """Every such column of every mapped shard; reads each of these once. ServerError if one can't be read."""

    def read(table: ShardTable) -> list[Misfit]:
        with connect(config.source(table.shard.instance), patience_s=config.run.patience_s) as session:
            return list(misfits_of(session, table))

    shards = [shard for table in tables for shard in table.shards if shard.mapped]
    with ThreadPoolExecutor(workers or config.run.workers) as pool:
        return [misfit for found in pool.map(read, shards) for misfit in found]


def misfits_of(session: Session, table: ShardTable) -> Iterator[Misfit]:
    """Those of one shard."""
    asked = [(column, sql) for column in table.definition.columns if column.converted and (sql := misfit_sql(column))]
    if not asked:
        return
    sums = ", ".join(f"SUM({sql})" for _, sql in asked)
    for (column, sql), rows in zip(asked, session.one(f"SELECT {sums} FROM {table.shard.sql}"), strict=True):
        if rows:
            yield _told(session, table, column, sql, int(rows))


def _told(session: Session, table: ShardTable, column: Column, condition: str, rows: int) -> Misfit:
    source = source_of(column)
    assert source is not None
    keys = [c.name for c in table.physical.key_columns]
    shown = ", ".join(map(quote, (*keys, source.name)))
    found = session.query(f"SELECT {shown} FROM {table.shard.sql} WHERE {condition} LIMIT {_SHOWN}")
    examples = tuple(
        ", ".join(f"{name} = {value}" for name, value in zip(keys, row, strict=False))
        + f" has {'NULL' if row[-1] is None else repr(str(row[-1]))}"
        for row in found
    )
    return Misfit(table.shard, source.name, column.name, column.full_type, rows, examples)
