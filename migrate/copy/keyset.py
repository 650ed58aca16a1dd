"""Chunks: key ranges of a shard, walked along its key, with open outer bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from migrate.copy.rowformat import fields, is_utf8
from migrate.db import Session
from migrate.errors import MigrateError
from migrate.model import (
    BINARIES,
    INTEGERS,
    TEXTS,
    TIMES,
    Chunk,
    Column,
    Constant,
    Interleave,
    Key,
    ShardTable,
    TableDef,
    quote,
)

_BARE = INTEGERS | {"decimal", "year"}
_LOB = ("text", "blob")


def chunk_columns(definition: TableDef) -> tuple[Column, ...]:
    """The key columns by which the table is cut into chunks; empty where its rows can only be read in one piece.

    Keys whose order or exact value an SQL literal can't express (FLOAT, ENUM, BIT, prefixes) don't qualify.
    """
    index = definition.key
    if index is None or any(prefix is not None for _, prefix in index.parts):
        return ()
    columns = tuple(c for c in definition.key_columns if not isinstance(c.origin, Constant))
    usable = _BARE | TIMES | TEXTS | BINARIES
    if any(c.type not in usable or c.type in ("enum", "set") or c.type.endswith(_LOB) for c in columns):
        return ()
    return columns


def _select(column: Column) -> str:
    if column.type in TEXTS | BINARIES:
        return f"HEX({column.sql})"
    return f"CAST({column.sql} AS CHAR)"


def _literal(column: Column, text: str) -> str:
    if column.type in _BARE:
        return text
    if column.type in TEXTS:  # the column's own bytes, charset and collation: the server compares as its index does
        return f"_{column.charset} X'{text}' COLLATE {column.collation}"
    if column.type in BINARIES:
        return f"X'{text}'"
    return f"'{text}'"


def walk(session: Session, table: ShardTable, rows: int, after: Chunk | None = None) -> Iterator[Chunk]:
    """The chunks of a shard, about `rows` rows each, in key order; from behind `after` if that one is known already.

    The first lower and the last upper bound are open, so rows that come later belong to a chunk too.
    """
    shard, definition, index = table.shard, table.definition, table.physical.key
    columns = chunk_columns(definition)
    lower = after.upper if after else None
    number = after.number + 1 if after else 0
    if columns:
        assert index is not None
        keys = ", ".join(_select(c) for c in columns)
        order = key_order(definition)
        source = f"{shard.sql} FORCE INDEX ({quote(index.name)})"
        while True:
            where = f"WHERE {beyond(columns, lower)} " if lower else ""
            found = session.query(f"SELECT {keys} FROM {source} {where}ORDER BY {order} LIMIT 1 OFFSET {rows - 1}")
            if not found:
                break
            upper = tuple(_literal(c, str(v)) for c, v in zip(columns, found[0], strict=True))
            if upper == lower:
                raise MigrateError(f"{shard}: the key doesn't advance behind {lower}: is an index damaged?")
            yield Chunk(shard, number, lower, upper)
            lower, number = upper, number + 1
    yield Chunk(shard, number, lower, None)


@dataclass(frozen=True)
class KeyOfRow:
    """Finds the key of a row among the values that were selected of it. Places: of the key's columns in a row."""

    columns: tuple[Column, ...]
    places: tuple[int, ...]
    interleaves: tuple[Interleave | None, ...]

    def of(self, row: bytes | Sequence[bytes | None]) -> Key:
        """The key of a row: of its exact values, or of its line where that holds no escaped character."""
        values = [field.strip(b'"') for field in fields(row)] if isinstance(row, bytes) else row
        return tuple(
            _literal_of(column, values[place] or b"", interleave)
            for column, place, interleave in zip(self.columns, self.places, self.interleaves, strict=True)
        )


def key_of_row(definition: TableDef, remap: dict[str, Interleave]) -> KeyOfRow | None:
    """None where rows have no key to cut by, or a generated one, which isn't among the values."""
    columns, stored = chunk_columns(definition), [c.name for c in definition.stored_columns]
    if not columns or any(c.name not in stored for c in columns):
        return None
    places = tuple(stored.index(c.name) for c in columns)
    return KeyOfRow(columns, places, tuple(remap.get(c.name) for c in columns))


def _literal_of(column: Column, value: bytes, interleave: Interleave | None) -> str:
    if interleave:
        return str((int(value) - interleave.number) >> interleave.bits)
    if column.type not in TEXTS | BINARIES:
        return _literal(column, value.decode())
    if column.type in TEXTS and not is_utf8(column):
        return f"CONVERT(_utf8mb4 X'{value.hex().upper()}' USING {column.charset}) COLLATE {column.collation}"
    return _literal(column, value.hex().upper())


def beyond(columns: tuple[Column, ...], key: Key, *, to: bool = False) -> str:
    """The condition key columns > key; with `to`, <= key. Spelled out by column, which every server can use an index
    for, unlike a row comparison on MySQL 5.6."""
    strict, last = ("<", "<=") if to else (">", ">")
    alternatives = []
    for i in range(len(columns)):
        equal = [f"{columns[j].sql} = {key[j]}" for j in range(i)]
        operator = last if i == len(columns) - 1 else strict
        alternatives.append(" AND ".join([*equal, f"{columns[i].sql} {operator} {key[i]}"]))
    outer = f"{columns[0].sql} {'<=' if to else '>='} {key[0]}"
    return alternatives[0] if len(alternatives) == 1 else f"{outer} AND ({' OR '.join(f'({a})' for a in alternatives)})"


def key_order(definition: TableDef) -> str:
    """The key's columns, for ORDER BY."""
    return ", ".join(c.sql for c in chunk_columns(definition))


def predicate(definition: TableDef, chunk: Chunk) -> str:
    """The condition that selects a chunk's rows, or an empty string where it has no bounds."""
    columns = chunk_columns(definition)
    terms = [beyond(columns, chunk.lower)] if chunk.lower else []
    terms += [beyond(columns, chunk.upper, to=True)] if chunk.upper else []
    return " AND ".join(f"({t})" for t in terms)
