"""Finds, before anything is loaded, the keys that would be equal in the merged table."""

from __future__ import annotations

import logging
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from migrate.catalog import has_md5
from migrate.collisions.canonical import Hash, canonical, hashed, integer_key, never_null
from migrate.collisions.duplicates import MEMORY_KEYS, Duplicates
from migrate.collisions.scan import scan_hashes, scan_integers
from migrate.config import Config
from migrate.db import Session, connect
from migrate.model import TEXTS, Column, Index, MergedTable, Shard, ShardTable, TableDef, Target
from migrate.schema import target_ddl
from migrate.schema.collation import compares_alike

log = logging.getLogger("migrate")


@dataclass(frozen=True, slots=True)
class Collision:
    """One key of the target table that several rows would have. `places` and `values` go together: a row each,
    with its shard and its own values of the index's columns (they may differ in case, say)."""

    target: Target
    index: str
    columns: tuple[str, ...]
    places: tuple[Shard, ...]
    values: tuple[tuple[str, ...], ...]

    @property
    def key(self) -> str:
        return ", ".join(f"{c} = {v}" for c, v in zip(self.columns, self.values[0], strict=True))

    def __str__(self) -> str:
        return f"{self.target}: {self.index} ({self.key}) is on {' and on '.join(str(p) for p in self.places)}"


def find_collisions(
    config: Config,
    tables: Sequence[MergedTable],
    *,
    workers: int | None = None,
    limit: int = 100,
    memory_keys: int = MEMORY_KEYS,
) -> list[Collision]:
    """The equal keys of every unique index of the tables, at most `limit` of each index, each confirmed by its rows.

    Reads the sources only. A table's hash is what all its instances can compute. Raises ServerError, or OSError if
    there is no room for the files of more than `memory_keys` keys.
    """
    found: list[Collision] = []
    with _Sessions(config) as sessions, ThreadPoolExecutor(workers or config.run.workers) as pool:
        for table in tables:
            target = target_ddl(table).definition
            for index in target.unique_indexes:
                if _may_collide(index, table, target):
                    found += _Search(sessions, pool, table, target, index).run(limit, memory_keys)
    return found


class _Sessions:
    """Sessions to the sources that threads borrow and give back, so that each opens one only."""

    def __init__(self, config: Config):
        self._config = config
        self._idle: dict[str, list[Session]] = defaultdict(list)

    @contextmanager
    def borrow(self, instance: str) -> Iterator[Session]:
        idle = self._idle[instance]
        session = idle.pop() if idle else connect(self._config.source(instance), patience_s=self._config.run.patience_s)
        try:
            yield session
        except BaseException:
            session.close()
            raise
        idle.append(session)

    def __enter__(self) -> _Sessions:
        return self

    def __exit__(self, *exc: object) -> None:
        for idle in self._idle.values():
            for session in idle:
                session.close()


def _may_collide(index: Index, table: MergedTable, target: TableDef) -> bool:
    """Whether two rows can get the same key at all: the source's own unique index rules it out inside one shard
    as long as comparisons stay what they were, interleaving rules it out between shards."""
    for name in index.columns:
        before, after = table.definition.column(name), target.column(name)
        is_text = before.type in TEXTS - {"enum", "set"}
        if is_text and not compares_alike(before.collation or "", after.collation or ""):
            return True
    if len(table.shards) == 1:
        return False
    for name in index.columns:
        steps = [table.remap(t.shard).get(name) for t in table.shards]
        if None not in steps and len(set(steps)) == len(steps):
            return False
    return True


@dataclass(frozen=True)
class _Search:
    sessions: _Sessions
    pool: ThreadPoolExecutor
    table: MergedTable
    target: TableDef
    index: Index

    @cached_property
    def function(self) -> Hash:
        """The hash that all the table's instances compute."""
        for instance in sorted({t.shard.instance for t in self.table.shards}):
            with self.sessions.borrow(instance) as session:
                if not has_md5(session):
                    return "SHA2"
        return "MD5"

    @cached_property
    def number(self) -> Column | None:
        """The index's column if its keys are integers that stay as they are."""
        column = integer_key(self.index, self.target)
        moved = column and any(column.name in self.table.remap(t.shard) for t in self.table.shards)
        return None if moved else column

    def run(self, limit: int, memory_keys: int) -> list[Collision]:
        with tempfile.TemporaryDirectory(prefix="migrate-keys-") as folder:
            duplicates = Duplicates(Path(folder), memory_keys)
            for _ in self.pool.map(lambda t: self._read(t, duplicates), self._overlapping()):
                pass
            suspects = [int(key) for key in duplicates.find()[:limit]]
        return self._confirm(suspects) if suspects else []

    def _read(self, table: ShardTable, duplicates: Duplicates) -> None:
        with self.sessions.borrow(table.shard.instance) as session:
            if self.number is not None:
                batches = scan_integers(session, table.shard, table.definition.column(self.number.name))
            else:
                key = canonical(self.index, self.target, table.definition, self.table.remap(table.shard))
                condition = never_null(self.index, table.definition)
                batches = scan_hashes(session, table, hashed(key, self.function), condition)
            for keys in batches:
                duplicates.add(keys)

    def _overlapping(self) -> list[ShardTable]:
        """The shards to read: all, but for integer keys only those whose range of keys meets another's."""
        if self.number is None:
            return list(self.table.shards)
        number = self.number.name

        def bounds(table: ShardTable) -> tuple[int, int] | None:
            column = table.definition.column(number).sql
            with self.sessions.borrow(table.shard.instance) as session:
                low, high = session.one(f"SELECT MIN({column}), MAX({column}) FROM {table.shard.sql}")
            return None if low is None else (int(low), int(high))

        ranges = zip(self.pool.map(bounds, self.table.shards), self.table.shards, strict=True)
        groups: list[list[ShardTable]] = []
        reach: int | None = None
        for (low, high), table in sorted(((r, t) for r, t in ranges if r), key=lambda pair: pair[0]):
            if reach is None or low > reach:
                groups.append([])
            groups[-1].append(table)
            reach = high if reach is None else max(reach, high)
        return [table for group in groups if len(group) > 1 for table in group]

    def _confirm(self, suspects: list[int]) -> list[Collision]:
        """The rows behind suspected keys, grouped by the whole key: a hash alone convicts nobody."""
        rows: dict[str, list[tuple[Shard, tuple[str, ...]]]] = defaultdict(list)
        columns = self.index.columns
        for table in self.table.shards:
            key = canonical(self.index, self.target, table.definition, self.table.remap(table.shard))
            if self.number is not None:
                signed = not self.number.unsigned
                wanted = ", ".join(str(s - (1 << 64) if signed and s >> 63 else s) for s in suspects)
                condition = f"{table.definition.column(self.number.name).sql} IN ({wanted})"
            else:
                wanted = ", ".join(map(str, suspects))
                condition = f"{never_null(self.index, table.definition)} AND {hashed(key, self.function)} IN ({wanted})"
            shown = ", ".join(table.definition.column(c).sql for c in columns)
            with self.sessions.borrow(table.shard.instance) as session:
                for whole, *values in session.query(f"SELECT {key}, {shown} FROM {table.shard.sql} WHERE {condition}"):
                    rows[_shown(whole)].append((table.shard, tuple(_shown(v) for v in values)))
        found = []
        for places in rows.values():
            if len(places) > 1:
                shards, keys = zip(*places, strict=True)
                found.append(Collision(self.table.target, self.index.name, columns, shards, keys))
        if len(found) < len(suspects):
            log.warning(
                "%s: %s: %d of %d suspected keys were no longer equal when their rows were read again",
                *(self.table.target, self.index.name, len(suspects) - len(found), len(suspects)),
            )
        return found


def _shown(value: object) -> str:
    return f"X'{value.hex()}'" if isinstance(value, bytes) else str(value)
