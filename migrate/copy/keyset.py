"""Chunks: key ranges of a shard, walked along its key, with open outer bounds."""

from __future__ import annotations

from collections.abc import Iterator

from migrate.db import Session
from migrate.errors import MigrateError
from migrate.model import BINARIES, INTEGERS, TEXTS, TIMES, Chunk, Column, Key, Shard, TableDef, quote

_BARE = INTEGERS | {"decimal", "year"}
_LOB = ("text", "blob")


def chunk_columns(definition: TableDef) -> tuple[Column, ...]:
    """The key columns by which the table is cut into chunks; empty where its rows can only be read in one piece.

    Keys whose order or exact value an SQL literal can't express (FLOAT, ENUM, BIT, prefixes) don't qualify.
    """
    index = definition.key
    if index is None or any(prefix is not None for _, prefix in index.parts):
        return ()
    columns = definition.key_columns
    usable = _BARE | TIMES | TEXTS | BINARIES
    if any(c.type not in usable or c.type in ("enum", "set") or c.type.endswith(_LOB) for c in columns):
        return ()
    return columns


def _select(column: Column) -> str:
    name = quote(column.name)
    if column.type in TEXTS | BINARIES:
        return f"HEX({name})"
    return f"CAST({name} AS CHAR)"


def _literal(column: Column, text: str) -> str:
    if column.type in _BARE:
        return text
    if column.type in TEXTS:  # the column's own bytes, charset and collation: the server compares as its index does
        return f"_{column.charset} X'{text}' COLLATE {column.collation}"
    if column.type in BINARIES:
        return f"X'{text}'"
    return f"'{text}'"


def walk(
    session: Session, shard: Shard, definition: TableDef, rows: int, after: Chunk | None = None
) -> Iterator[Chunk]:
    """The chunks of a shard, about `rows` rows each, in key order; from behind `after` if that one is known already.

    The first lower and the last upper bound are open, so rows that come later belong to a chunk too.
    """
    columns = chunk_columns(definition)
    lower = after.upper if after else None
    number = after.number + 1 if after else 0
    if columns:
        assert definition.key is not None
        keys = ", ".join(_select(c) for c in columns)
        order = ", ".join(quote(c.name) for c in columns)
        table = f"{shard.sql} FORCE INDEX ({quote(definition.key.name)})"
        while True:
            where = f"WHERE {beyond(columns, lower)} " if lower else ""
            found = session.query(f"SELECT {keys} FROM {table} {where}ORDER BY {order} LIMIT 1 OFFSET {rows - 1}")
            if not found:
                break
            upper = tuple(_literal(c, str(v)) for c, v in zip(columns, found[0], strict=True))
            if upper == lower:
                raise MigrateError(f"{shard}: the key doesn't advance behind {lower}: is an index damaged?")
            yield Chunk(shard, number, lower, upper)
            lower, number = upper, number + 1
    yield Chunk(shard, number, lower, None)


def beyond(columns: tuple[Column, ...], key: Key, *, to: bool = False) -> str:
    """The condition key columns > key; with `to`, <= key. Spelled out by column, which every server can use an index
    for, unlike a row comparison on MySQL 5.6."""
    strict, last = ("<", "<=") if to else (">", ">")
    alternatives = []
    for i in range(len(columns)):
        equal = [f"{quote(columns[j].name)} = {key[j]}" for j in range(i)]
        operator = last if i == len(columns) - 1 else strict
        alternatives.append(" AND ".join([*equal, f"{quote(columns[i].name)} {operator} {key[i]}"]))
    outer = f"{quote(columns[0].name)} {'<=' if to else '>='} {key[0]}"
    return alternatives[0] if len(alternatives) == 1 else f"{outer} AND ({' OR '.join(f'({a})' for a in alternatives)})"


def predicate(definition: TableDef, chunk: Chunk) -> str:
    """The condition that selects a chunk's rows, or an empty string where it has no bounds."""
    columns = chunk_columns(definition)
    terms = [beyond(columns, chunk.lower)] if chunk.lower else []
    terms += [beyond(columns, chunk.upper, to=True)] if chunk.upper else []
    return " AND ".join(f"({t})" for t in terms)
