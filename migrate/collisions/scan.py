"""Reads the keys of a shard as 64-bit numbers, a batch a query: the server joins them, numpy takes them apart."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from migrate.collisions.canonical import integer_key
from migrate.collisions.duplicates import Keys
from migrate.db import Session, stop
from migrate.errors import Interrupted, MigrateError
from migrate.model import Column, Shard, ShardTable

BATCH = 40_000  # keys of at most 20 digits and a comma: below the 1 MB that a server joins and sends at least


def scan_integers(session: Session, shard: Shard, column: Column) -> Iterator[Keys]:
    """The values of a uniquely indexed integer column, but for NULLs; negative ones as two's complement."""
    name = column.sql
    yield from _batches(session, shard, name, name, f"{name} IS NOT NULL")


def scan_hashes(session: Session, table: ShardTable, key: str, condition: str) -> Iterator[Keys]:
    """The values of `key`, an expression of 64 bits without sign, of the rows that meet the condition."""
    primary = table.definition.primary
    walk = integer_key(primary, table.definition) if primary else None
    if walk is not None:
        yield from _batches(session, table.shard, walk.sql, key, condition)
        return
    rows = session.stream(f"SELECT {key} FROM {table.shard.sql} WHERE {condition}")
    while batch := list(itertools.islice(rows, BATCH)):
        _listen()
        yield np.array([int(value) for (value,) in batch], dtype=np.uint64)


def _batches(session: Session, shard: Shard, column: str, key: str, condition: str) -> Iterator[Keys]:
    """Goes through the table in the order of the integer column `column`, which is unique."""
    last, full = None, True
    while full:
        _listen()
        after = "" if last is None else f" AND {column} > {last}"
        count, last, joined = session.one(
            f"SELECT COUNT(*), MAX(w), GROUP_CONCAT(k) FROM (SELECT {column} AS w, {key} AS k FROM {shard.sql} "
            f"WHERE {condition}{after} ORDER BY {column} LIMIT {BATCH}) AS batch"
        )
        full = count == BATCH
        if count:
            text = joined if isinstance(joined, str) else joined.decode()
            numbers = np.fromstring(text, dtype=np.int64 if "-" in text else np.uint64, sep=",")
            if len(numbers) != count:
                raise MigrateError(f"{shard}: the server cut a batch of keys short: {len(numbers)} of {count} came")
            yield numbers.view(np.uint64)


def _listen() -> None:
    if stop.is_set():
        raise Interrupted("stopped on request")
