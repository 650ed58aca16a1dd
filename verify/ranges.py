"""Ranges of the key: of a target table and all of its shards together, proven one by one, or of one large shard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from migrate.db import Session
from migrate.model import BINARIES, INTEGERS, TEXTS, Column, Constant, Interleave, Shard, ShardTable, quote

RANGE_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Range:
    """The rows with lower < column <= upper; the bounds are SQL literals. None is open, so that ranges tile the key
    space, of a shard as of the merged table."""

    column: str | None = None
    lower: str | None = None
    upper: str | None = None

    @property
    def condition(self) -> str:
        """As SQL; empty for all rows."""
        bounds = [f"{self.column} > {self.lower}"] * (self.lower is not None)
        bounds += [f"{self.column} <= {self.upper}"] * (self.upper is not None)
        return " AND ".join(bounds)

    def on_shard(self, remap: Interleave | None) -> Range:
        """The same rows of a shard, by the key as it stands there: of a merged key, the old one."""
        if remap is None:
            return self
        old = [None if b is None else str((int(b) - remap.number) >> remap.bits) for b in (self.lower, self.upper)]
        return Range(self.column, *old)


EVERYTHING = Range()


@dataclass(frozen=True, slots=True)
class Keys:
    """Single rows: the values of the key's `columns` as SQL literals of the merged table, by the shard where a row of
    such a key is to be looked for."""

    columns: tuple[str, ...]
    rows: Mapping[Shard, Sequence[tuple[str, ...]]]

    @property
    def condition(self) -> str:
        """On the merged table."""
        return self._sql({row: None for rows in self.rows.values() for row in rows})

    def on(self, shard: Shard, remaps: Mapping[str, Interleave]) -> str:
        """On a shard, by the keys as they stand there; `remaps` by columns in lower case."""
        number = {i: remaps[name.lower()] for i, name in enumerate(self.columns) if name.lower() in remaps}

        def old(row: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(
                str((int(v) - number[i].number) >> number[i].bits) if i in number else v for i, v in enumerate(row)
            )

        return self._sql(map(old, self.rows.get(shard, ())))

    def everywhere(self, shards: Iterable[Shard]) -> Keys:
        """The same keys, each looked for on all of those shards."""
        every = tuple({row: None for rows in self.rows.values() for row in rows})
        return Keys(self.columns, dict.fromkeys(shards, every))

    def _sql(self, rows: Iterable[tuple[str, ...]]) -> str:
        names = [quote(name) for name in self.columns]
        if len(names) == 1:
            return f"{names[0]} IN ({','.join(value for (value,) in rows) or 'NULL'})"
        # not (a, b) IN (..), for which MySQL 5.6 scans the table
        each = (" AND ".join(f"{n} = {v}" for n, v in zip(names, row, strict=True)) for row in rows)
        return f"({' OR '.join(f'({one})' for one in each) or 'NULL'})"


def split(session: Session, table: ShardTable, rows: int = RANGE_ROWS) -> Iterator[Range]:
    """Ranges of about `rows` rows, by the first column of the shard's key, each as soon as its end is known.

    Rows that agree in that column stay together, so a range has at least `rows` rows, and a shard whose key begins
    with a column of few values has few ranges. The server compares both here and in the scan, by one collation.
    """
    column = splitting_column(table)
    if column is None:
        yield Range()
        return
    name = column.sql
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


def weigh(session: Session, table: ShardTable, remap: Interleave | None, step: int) -> list[tuple[str, int]]:
    """Keys of a shard in order, at most about `step` rows apart, as literals of the merged table, each with about how
    many rows there are up to it from the one before."""

    def merged(literal: str) -> str:
        return str((int(literal) << remap.bits) + remap.number) if remap else literal

    column = splitting_column(table)
    if column is not None and column.type in INTEGERS and not table.mapped:
        found = list(_estimated(session, table, column, step))
        total = sum(rows for _, rows in found)  # InnoDB doubles its estimates of more than a few pages
        return [(merged(str(key)), rows * table.rows // total) for key, rows in found if rows]
    return [(merged(r.upper), step) for r in split(session, table, step) if r.upper is not None]


def _estimated(session: Session, table: ShardTable, column: Column, step: int) -> Iterator[tuple[int, int]]:
    """By what the key's index estimates of ever smaller intervals, for which the server looks at a few of its pages. A
    walk along it would read the whole table, a second time."""
    name, index = quote(column.name), table.definition.key
    if index is None:
        return
    low, high = session.one(f"SELECT MIN({name}), MAX({name}) FROM {table.shard.sql}")
    todo = [] if low is None else [(int(low), int(high))]
    # Forced, the index is taken for any interval; another, or none, would tell the rows that it reads. Of a count: for
    # rows MySQL 8 and later don't look at an index that is forced, and tell 1.
    forced = f"{table.shard.sql} FORCE INDEX ({quote(index.name)})"
    count = f"EXPLAIN FORMAT=TRADITIONAL SELECT COUNT(*) FROM {forced} WHERE {name} BETWEEN"
    while todo:
        low, high = todo.pop()
        names: list[str] = []
        (plan,) = session.stream(f"{count} {low} AND {high}", names=names)
        rows = int(plan[names.index("rows")] or 0)
        if low < high and rows > step:
            middle = (low + high) // 2
            todo += [(middle + 1, high), (low, middle)]
        else:
            yield high, rows


def order_of(column: Column) -> Callable[[str], Decimal | str]:
    """By what a literal of the column is sorted as the servers sort its values."""
    if column.type in INTEGERS or column.type == "decimal":
        return Decimal
    return str  # times and bytes: their literals sort as they do


def overlap(column: Column, one: Range, other: Range) -> bool:
    """Whether two ranges of the column's values may share some."""
    order = order_of(column)

    def below(upper: str | None, lower: str | None) -> bool:
        return upper is not None and lower is not None and order(upper) <= order(lower)  # type: ignore[operator]

    return not below(one.upper, other.lower) and not below(other.upper, one.lower)


def in_order(column: Column, weighed: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Sorted as the servers sort the column."""
    order = order_of(column)
    return sorted(weighed, key=lambda w: order(w[0]))


def tile(column: Column, weighed: Sequence[tuple[str, int]], rows: int) -> list[Range]:
    """Ranges that tile the key space, with a bound after about `rows` rows each: `weighed` are keys, as literals of
    the merged table, in order, with the number of rows up to each from the one before."""
    name = quote(column.name)
    bounds: list[str] = []
    count = 0
    for value, weight in weighed:
        count += weight
        if count >= rows and (not bounds or bounds[-1] != value):
            bounds.append(value)
            count = 0
    return [Range(name, low, high) for low, high in zip([None, *bounds], [*bounds, None], strict=True)]


def tiling_column(definition_key: Sequence[Column]) -> Column | None:
    """The column by which both sides can be cut into the same ranges: the first of the key, if both servers order and
    write its values alike. Texts they may not, by their collations."""
    if not definition_key:
        return None
    column = definition_key[0]
    if isinstance(column.origin, Constant):
        return None
    alike = column.type in INTEGERS or column.type in ("decimal", "date", "datetime", "timestamp", "varbinary")
    return column if alike else None


def splitting_column(table: ShardTable) -> Column | None:
    """The first column of the shard's own key, if it has one and its values are exact as literals."""
    columns = [c for c in table.definition.key_columns if not isinstance(c.origin, Constant)]
    if not columns or columns[0].type in ("float", "double", "bit", "enum", "set", "json", "year"):
        return None
    return columns[0]


def _literal(column: Column, value: Any) -> str:
    if column.type in INTEGERS:
        return str(value)
    if column.type == "decimal":
        return format(value, "f")  # with an exponent it would be a double
    if column.type in BINARIES:
        return f"X'{value}'" if value else "''"
    if column.type in TEXTS:
        return f"_{column.charset} X'{value}'" if value else "''"
    return f"'{value}'"
