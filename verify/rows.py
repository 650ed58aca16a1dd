"""The rows that differ: buckets of the key's hash whose totals differ, then the rows of only those, merged by hash. Or
those of given keys.

The servers sort by the hash, both sides stream, and this process holds one hash's rows at a time: its memory grows
with nothing. What the servers must sort is bounded by taking the bad buckets in passes.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter

from migrate.config import Endpoint
from migrate.db import Row, Session
from migrate.model import ShardTable
from verify.digest import Digest, by_bucket
from verify.encoding import show
from verify.meta import as_text
from verify.model import Mismatch, Totals, Values
from verify.readers import Readers
from verify.scan import scan, statements, whole
from verify.tables import Pair

_BUCKET_ROWS = 64  # what is fetched and compared here costs more than what is added up there
_MOST_BUCKETS = 1 << 16
_BUCKETS_READ = 1 << 19
_PASS_ROWS = 1_000_000
_UNION_SHARDS = 200
_STATEMENT_BYTES = 3_000_000  # MySQL 5.6 takes 4 MiB
_BUCKET_BYTES = 6  # of a bucket's number in a list
_KEYS = 1000  # of one statement

Pieces = tuple[str, ...]
Found = tuple[int, Pieces]  # the shard's number (-1 is the target), and the row


@dataclass(frozen=True, slots=True)
class Buckets:
    """The totals of both sides by bucket."""

    number: int
    source: dict[int, Totals]
    target: dict[int, Totals]

    @property
    def bad(self) -> list[int]:
        every = self.source.keys() | self.target.keys()
        return sorted(b for b in every if self.source.get(b) != self.target.get(b))

    def passes(self, most: int = _PASS_ROWS, buckets: int = 1024) -> Iterator[list[int]]:
        """The bad buckets in groups of at most `most` rows, or of one bucket, and of at most `buckets`."""
        group: list[int] = []
        rows = 0
        for bucket in self.bad:
            here = max(self.source.get(bucket, Totals()).rows, self.target.get(bucket, Totals()).rows)
            if group and (rows + here > most or len(group) == buckets):
                yield group
                group, rows = [], 0
            group.append(bucket)
            rows += here
        if group:
            yield group


def both_totals(readers: Readers, pair: Pair) -> tuple[Totals, Totals]:
    """What the source and the target add up to."""

    def read(session: Session, shard: ShardTable | None, condition: str) -> Totals:
        digest = pair.on_source(shard) if shard else pair.on_target()
        return digest.totals(session, condition=condition)

    scanned = scan(readers, pair, read)
    source = sum((part for _, parts in scanned.parts() for part in parts), Totals())
    return source, scanned.target.result()


def bucket_count(rows: int, statements: int) -> int:
    """Into how many buckets to put so many rows: few rows in each, and of all the statements that read them together
    not more results than this process adds up in some seconds."""
    most = min(_MOST_BUCKETS, max(256, _BUCKETS_READ // statements))
    return 1 << min((rows // _BUCKET_ROWS).bit_length(), most.bit_length() - 1)


def bucketed(readers: Readers, pair: Pair, rows: int, strong: bool = False) -> Buckets:
    """The totals by bucket of a table of about that many rows."""
    return start_buckets(readers, pair, rows, strong)()


def start_buckets(readers: Readers, pair: Pair, rows: int, strong: bool) -> Callable[[], Buckets]:
    """Starts the pass; what is given waits for its end. Shards that one statement reads each are added up by their
    server, so many together that all their results aren't more than those of a few shards."""
    shards = pair.merged.shards
    if pair.on_target().finished or not all(whole(pair, table) for table in shards):
        return _buckets_by_range(readers, pair, rows, strong)
    number = max(256, bucket_count(rows, 1))
    target = readers.submit(readers.config.target, lambda session: pair.on_target().buckets(session, number, strong))
    running = []
    for instance, some in _together(shards, min(_UNION_SHARDS, -(-len(shards) * number // _BUCKETS_READ))):
        sql = Digest.buckets_together_sql([pair.on_source(table) for table in some], number, strong)
        running.append(readers.submit(readers.config.source(instance), partial(by_bucket, sql=sql)))
    return lambda: _added(number, (future.result() for future in running), target.result())


def _buckets_by_range(readers: Readers, pair: Pair, rows: int, strong: bool) -> Callable[[], Buckets]:
    number = max(256, bucket_count(rows, statements(pair)))

    def read(session: Session, shard: ShardTable | None, condition: str) -> dict[int, Totals]:
        digest = pair.on_source(shard) if shard else pair.on_target()
        return digest.buckets(session, number, strong, condition)

    scanned = scan(readers, pair, read)
    return lambda: _added(number, (p for _, parts in scanned.parts() for p in parts), scanned.target.result())


def _added(number: int, parts: Iterable[dict[int, Totals]], target: dict[int, Totals]) -> Buckets:
    source: dict[int, Totals] = defaultdict(Totals)
    for part in parts:
        for bucket, totals in part.items():
            source[bucket] += totals
    return Buckets(number, dict(source), target)


def _together(shards: Sequence[ShardTable], most: int) -> Iterator[tuple[str, Sequence[ShardTable]]]:
    """The shards by their instance, at most so many at a time."""
    by_instance: dict[str, list[ShardTable]] = defaultdict(list)
    for table in shards:
        by_instance[table.shard.instance].append(table)
    for instance, tables in by_instance.items():
        for begin in range(0, len(tables), most):
            yield instance, tables[begin : begin + most]


def mismatches(readers: Readers, pair: Pair, buckets: Buckets) -> Iterator[Mismatch]:
    """Every row that differs, by the hash of its key within a pass. The caller stops when it has enough."""
    for chosen in buckets.passes(buckets=max(256, _room(pair) // _BUCKET_BYTES)):
        yield from _compared(readers, pair, partial(Digest.inside, buckets=buckets.number, chosen=chosen))


def mismatches_of(readers: Readers, pair: Pair, keys: Sequence[tuple[str, ...]]) -> Iterator[Mismatch]:
    """The rows of those keys (SQL literals of the merged table) that differ, wherever they are, by index where the key
    has one. Some rows of other keys may be among them, which a collation takes for equal."""
    longest = max(keys, key=lambda key: sum(map(len, key)), default=())
    one = max(len(pair.having(pair.key, [longest]).condition(table)) for table in pair.merged.shards[:1])
    at_once = max(1, min(_KEYS, _room(pair) // (one + 8)))
    for begin in range(0, len(keys), at_once):
        yield from _compared(readers, pair.having(pair.key, keys[begin : begin + at_once]))


def _room(pair: Pair) -> int:
    """How many bytes of conditions a statement has room for, for each of the shards that it reads."""
    shards = min(_UNION_SHARDS, max(Counter(t.shard.instance for t in pair.merged.shards).values()))
    return _STATEMENT_BYTES // shards - len(pair.on_source(pair.merged.shards[0]).rows_sql(0)) - 100


def _compared(readers: Readers, pair: Pair, condition: Callable[[Digest], str] = lambda _: "") -> Iterator[Mismatch]:
    """The rows of the pair that differ, of those that the condition leaves on each side."""
    digest = pair.on_target()  # finishes both sides' rows alike
    with ExitStack() as stack:
        streams = [_stream(readers, stack, *source) for source in _statements(readers, pair, condition)]
        rows = heapq.merge(*streams, key=itemgetter(0))
        for _, same_hash in groupby(rows, key=itemgetter(0)):
            found = ((int(row[1]), _pieces(pair, digest, row)) for row in same_hash)
            yield from _by_key(pair, found) if pair.key else _by_row(pair, found)


def _statements(readers: Readers, pair: Pair, condition: Callable[[Digest], str]) -> Iterator[tuple[Endpoint, str]]:
    """The statements that give those rows, sorted by the hash of the key: one for the target, and one for the shards of
    an instance together, so that hundreds of shards don't need hundreds of connections."""
    target = pair.on_target()
    yield readers.config.target, f"{target.rows_sql(-1, condition(target))} ORDER BY 1"
    numbers = {table.shard: number for number, table in enumerate(pair.merged.shards)}
    for instance, tables in _together(pair.merged.shards, _UNION_SHARDS):
        selects = []
        for table in tables:
            digest = pair.on_source(table)
            selects.append(f"({digest.rows_sql(numbers[table.shard], condition(digest))})")
        yield readers.config.source(instance), f"{' UNION ALL '.join(selects)} ORDER BY 1"


def _stream(readers: Readers, stack: ExitStack, endpoint: Endpoint, sql: str) -> Iterator[Row]:
    """The rows of a statement, which its server begins to work on at once."""
    session = stack.enter_context(readers.session(endpoint))
    stream = session.stream(sql)
    first = readers.start(lambda: next(stream, None))

    def rows() -> Iterator[Row]:
        row = first.result()
        if row is not None:
            yield row
            yield from stream

    # not closed by itself: leaving early closes the session first, and nothing is fetched to the end for nothing
    return rows()


def _pieces(pair: Pair, digest: Digest, row: Row) -> Pieces:
    """All pieces of a fetched row, in the order of `pair.columns`."""
    _, _, text, *values = row
    inline = iter(as_text(text).split(","))
    finished = digest.pieces(values)
    return tuple(next(finished if kind.client else inline) for _, kind in pair.columns)


def _by_key(pair: Pair, rows: Iterable[Found]) -> Iterator[Mismatch]:
    """Compares the rows of one hash key by key: by its exact bytes, whatever the column's collation says."""
    keys: dict[Pieces, tuple[list[Found], list[Found]]] = defaultdict(lambda: ([], []))
    for number, row in rows:
        keys[row[: len(pair.key)]][number < 0].append((number, row))
    for source, target in keys.values():
        if len(source) > 1 or len(target) > 1:
            yield _mismatch(pair, "duplicate", source, target)
        elif not target:
            yield _mismatch(pair, "missing", source, target)
        elif not source:
            yield _mismatch(pair, "extra", source, target)
        elif source[0][1] != target[0][1]:
            yield _mismatch(pair, "different", source, target)


def _by_row(pair: Pair, rows: Iterable[Found]) -> Iterator[Mismatch]:
    """Compares how often each row occurs. Which of equal rows is one too many, nobody can say: the last it is."""
    surplus: Counter[Pieces] = Counter()
    where: dict[Pieces, int] = {}
    for number, row in rows:
        surplus[row] += 1 if number >= 0 else -1
        if number >= 0:
            where[row] = number
    for row, count in surplus.items():
        for _ in range(abs(count)):
            if count > 0:
                yield _mismatch(pair, "missing", [(where[row], row)], [])
            else:
                yield _mismatch(pair, "extra", [], [(-1, row)])


def _mismatch(pair: Pair, kind: str, source: list[Found], target: list[Found]) -> Mismatch:
    source, target = sorted(source), sorted(target)  # they come as the servers sorted them
    one = source[0][1] if source else None
    other = target[0][1] if target else None
    names = [
        name
        for i, (name, _) in enumerate(pair.columns)
        if kind != "different" or (one is not None and other is not None and one[i] != other[i])
    ]
    some = one or other or ()
    source_row, target_row = (_values(pair, row) if row else None for row in (one, other))
    return Mismatch(
        pair.name,
        {name: value for name, value in _values(pair, some).items() if name in pair.key} if pair.key else None,
        kind,  # type: ignore[arg-type]
        tuple(names),
        {n: v for n, v in source_row.items() if n in names} if source_row else None,
        {n: v for n, v in target_row.items() if n in names} if target_row else None,
        ", ".join(str(pair.merged.shards[number].shard) for number, _ in source) or None,
        source_row,
        target_row,
    )


def _values(pair: Pair, row: Pieces) -> Values:
    return {name: show(kind, text) for (name, kind), text in zip(pair.columns, row, strict=True)}
