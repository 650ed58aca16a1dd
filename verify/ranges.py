"""Splitting a large shard into ranges of its key, so that all workers may read one skewed shard together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from migrate.db import Session
from migrate.model import BINARIES, INTEGERS, TEXTS, Column, ShardTable, quote

RANGE_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Range:
    """The rows with lower < column <= upper; None is open, so that the ranges of a shard tile its key space."""

    column: str | None = None
    lower: str | None = None
    upper: str | None = None

    @property
    def where(self) -> str:
        bounds = [f"{self.column} > {self.lower}"] * (self.lower is not None)
        bounds += [f"{self.column} <= {self.upper}"] * (self.upper is not None)
        return " WHERE " + " AND ".join(bounds) if bounds else ""


def split(session: Session, table: ShardTable, rows: int = RANGE_ROWS) -> Iterator[Range]:
    """Ranges of about `rows` rows, by the first column of the shard's key, each as soon as its end is known.

    Rows that agree in that column stay together, so a range has at least `rows` rows, and a shard whose key begins
    with a column of few values has few ranges. The server compares both here and in the scan, by one collation.
    """
    column = splitting_column(table)
    if column is None:
        yield Range()
        return
    name = quote(column.name)
    fetched = f"HEX({name})" if column.type in TEXTS | BINARIES else name
    lower: str | None = None
    while True:
        where = f" WHERE {name} > {lower}" if lower is not None else ""
        value = session.value(f"SELECT {fetched} FROM {table.shard.sql}{where} ORDER BY {name} LIMIT {rows - 1}, 1")
        if value is None:
            yield Range(name, lower)
            return
        upper = _literal(column, value)
        yield Range(name, lower, upper)
        lower = upper


def splitting_column(table: ShardTable) -> Column | None:
    """The first column of the shard's key, if it has one and its values are exact as literals."""
    columns = table.definition.key_columns
    if not columns or columns[0].type in ("float", "double", "bit", "enum", "set", "json", "year"):
        return None
    return columns[0]


def _literal(column: Column, value: Any) -> str:
    if column.type in INTEGERS or column.type == "decimal":
        return str(value)
    if column.type in BINARIES:
        return f"X'{value}'" if value else "''"
    if column.type in TEXTS:
        return f"_{column.charset} X'{value}'" if value else "''"
    return f"'{value}'"
