"""One pass over both sides of a table at once: the shards in ranges, the target whole."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from migrate.db import Session
from migrate.errors import MigrateError
from migrate.model import Shard, ShardTable
from verify.ranges import RANGE_ROWS, split
from verify.readers import Readers
from verify.tables import Pair

T = TypeVar("T")
Read = Callable[[Session, ShardTable | None, str], T]  # session, shard or None for the target, a condition or nothing


@dataclass(frozen=True, slots=True)
class Scan(Generic[T]):
    """A pass that is running. Its parts are the reader's results: per shard one for each range, one for the target."""

    target: Future[T]
    shards: tuple[tuple[Shard, Future[list[Future[T]]]], ...]

    def parts(self) -> list[tuple[Shard, list[T]]]:
        """The source's results by shard; waits for them."""
        return [(shard, [part.result() for part in parts.result()]) for shard, parts in self.shards]


def scan(readers: Readers, pair: Pair, read: Read[T]) -> Scan[T]:
    """Starts `read` on every range of every shard and on the target; nothing is waited for."""
    target = readers.submit(readers.config.target, lambda session: read(session, None, ""))
    largest_first = sorted(pair.merged.shards, key=lambda t: -t.rows)
    return Scan(target, tuple((table.shard, _shard(readers, pair, table, read)) for table in largest_first))


def _shard(readers: Readers, pair: Pair, table: ShardTable, read: Read[T]) -> Future[list[Future[T]]]:
    endpoint = readers.config.source(table.shard.instance)

    def part(condition: str) -> Future[T]:
        return readers.submit(endpoint, lambda session: read(session, table, condition))

    if whole(pair, table):
        one: Future[list[Future[T]]] = Future()
        one.set_result([part("")])
        return one
    # A retry of the split may submit a range twice; only the futures of the last try are in the result.
    return readers.submit(endpoint, lambda session: [part(r.condition) for r in split(session, table)])


def statements(pair: Pair) -> int:
    """About how many statements a pass over all the shards takes."""
    return sum(1 if whole(pair, table) else -(-table.rows // RANGE_ROWS) for table in pair.merged.shards)


def whole(pair: Pair, table: ShardTable) -> bool:
    """Whether one statement reads the shard: by the server's estimate; if it is wrong, that does it all the same."""
    return bool(pair.condition()) or table.rows < RANGE_ROWS // 2


def check_count(readers: Readers, table: ShardTable, rows: int) -> None:
    """MigrateError if the ranges of a shard didn't give as many rows as it has."""
    with readers.session(readers.config.source(table.shard.instance)) as session:
        counted = int(session.value(f"SELECT COUNT(*) FROM {table.shard.sql}"))
    if counted != rows:
        raise MigrateError(f"{table.shard} gave {rows} rows in ranges and has {counted}: its ranges don't tile it")
