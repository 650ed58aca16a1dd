"""One pass over every table of a ledger, on both sides, for all its equations and conditions; and a closer look, at
those that don't hold: at keys of rows that are known to differ, and if they don't explain it, by bucket and by key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from functools import partial
from typing import Any

from migrate.db import Row, Session
from migrate.model import ShardTable, quote
from verify.conditions import judge_rows
from verify.controls import DIGITS, pair_of
from verify.encoding import show
from verify.equations import Condition, Equation, Term, Weighing
from verify.keysums import KeySum, keys_sql
from verify.model import Values
from verify.offenders import Nets, Offenders, seconds_between, text_of
from verify.readers import Readers
from verify.rows import bucket_count
from verify.suspects import Literals, Suspects, batches
from verify.tables import Pair

_PASS_ROWS = 200_000  # whose keys are in memory at a time
_PASS_BUCKETS = 4096

Part = Equation | Condition
Place = tuple[ShardTable | None, list[Term]]  # a shard, or None for the target, and what is added up there


@dataclass(slots=True)
class _Seen:
    """What the pass found on one side."""

    sums: dict[int, Decimal] = field(default_factory=lambda: defaultdict(Decimal))  # by number of the part
    rows: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # by table
    newest: str | None = None


class Sweep:
    """Starts the pass at once; what is asked of it waits for it. `live` and `suspects`: see `check_invariants`."""

    def __init__(self, readers: Readers, pairs: Sequence[Pair], parts: Sequence[Part], live: bool, suspects: Suspects):
        self._readers, self._pairs, self._parts, self._live = readers, pairs, list(parts), live
        self._suspects = suspects
        for part in self._parts:
            if isinstance(part, Equation):
                part.kinds(pairs)
        self._running: dict[bool, list[Future[_Seen]]] = {True: [], False: []}
        for table in dict.fromkeys(t for part in self._parts for t in _tables(part)):
            for is_source, shard in self._sides(table):
                self._running[is_source].append(self._submit(shard, self._pass(table, shard)))
        self._done: dict[bool, _Seen] = {}

    def _waits(self, part: Part) -> bool:
        """Whether parts of it may be under way."""
        return self._live or part.at_rest

    def newest(self, source: bool) -> str | None:
        """The time of the youngest row of any table that has one."""
        return self._seen(source).newest

    def _sides(self, table: str, source: bool | None = None) -> Iterator[tuple[bool, ShardTable | None]]:
        if not source:
            yield False, None
        if source is not False:
            yield from ((True, shard) for shard in pair_of(self._pairs, table).merged.shards)

    def _submit(self, shard: ShardTable | None, work: Callable[[Session], Any]) -> Future[Any]:
        config = self._readers.config
        return self._readers.submit(config.source(shard.shard.instance) if shard else config.target, work)

    def sql(self, table: str, shard: ShardTable | None) -> tuple[str, list[int], int]:
        """The statement of the pass over one table; for each sum the number of its part; and how many times it has."""
        weighing = Weighing(pair_of(self._pairs, table), shard)
        columns, numbers, times = [], [], set()
        for number, part in enumerate(self._parts):
            if isinstance(part, Condition):
                if part.table == table:
                    columns.append(f"SUM(CASE WHEN {weighing.over(part.where)} THEN 1 ELSE 0 END)")
                    numbers.append(number)
                    times |= {part.time}
                continue
            terms = [term for term in part.terms if term.table == table]
            times |= {term.time for term in terms}
            if terms and not part.grouped:
                columns.append(_signed(terms, weighing.weighted))
                numbers.append(number)
        clocks = [f"MAX({weighing.over(quote(time))})" for time in sorted(t for t in times if t)]
        return f"SELECT {', '.join(('COUNT(*)', *columns, *clocks))} FROM {weighing.table}", numbers, len(clocks)

    def _pass(self, table: str, shard: ShardTable | None) -> Callable[[Session], _Seen]:
        sql, numbers, _ = self.sql(table, shard)

        def read(session: Session) -> _Seen:
            rows, *values = session.one(sql)
            seen = _Seen()
            seen.rows[table] = int(rows)
            for number, value in zip(numbers, values, strict=False):
                seen.sums[number] = Decimal(value or 0)  # not added to a 0: this thread's context would round it
            seen.newest = max((t for v in values[len(numbers) :] if (t := text_of(v))), default=None)
            return seen

        return read

    def _seen(self, source: bool) -> _Seen:
        if source not in self._done:
            done = _Seen()
            with localcontext(prec=DIGITS):
                for future in self._running[source]:
                    here = future.result()
                    for number, value in here.sums.items():
                        done.sums[number] += value
                    for table, rows in here.rows.items():
                        done.rows[table] += rows
                    done.newest = max((t for t in (done.newest, here.newest) if t), default=None)
            self._done[source] = done
        return self._done[source]

    def condition(self, part: Condition, source: bool, found: Offenders) -> None:
        """Adds the rows of that side that the condition finds."""
        seen = self._seen(source)
        offend = seen.sums[self._parts.index(part)]
        if not offend:
            return
        pair = pair_of(self._pairs, part.table)
        if suspects := self._suspects.values(pair, pair.key[:1]) if pair.key else None:
            among = Offenders(found.limit)
            for some in batches(suspects, indexed=not source and pair.indexed(pair.key[0])):
                self._judge(part, source, among, some)
            if among.count + among.in_transit == offend:
                found.merge(among)
                return
        self._judge(part, source, found)

    def _judge(self, part: Condition, source: bool, found: Offenders, keys: Literals | None = None) -> None:
        """Adds the rows of that side that the condition finds, on all places at once; only of `keys`, if given."""
        seen = self._seen(source)
        since = _before(seen.newest, part.tolerance_s) if part.time and self._waits(part) else None

        def judged(place: Weighing, session: Session) -> Offenders:
            here = Offenders(found.limit)
            judge_rows(part, place, keys, session.query, here, seen.newest, since)
            return here

        pair = pair_of(self._pairs, part.table)
        running = [
            self._submit(shard, partial(judged, Weighing(pair, shard))) for _, shard in self._sides(part.table, source)
        ]
        for future in running:
            found.merge(future.result())

    def equation(self, part: Equation, source: bool, found: Offenders, moving: Nets) -> Nets:
        """Adds the keys of that side whose sums differ. `moving`: what legs under way come to, for an equation that
        they show in. Gives what is under way of this equation itself."""
        nets: Nets = defaultdict(Decimal)
        seen = self._seen(source)
        with localcontext(prec=DIGITS):
            if part.grouped:
                for _, labels, key in self._keys(part, self.key_statements(part, source)):
                    signed = key.signed - part.net * moving.get(labels["currency"] or "", Decimal(0))
                    if signed:
                        found.add(labels | key.shown(part), signed)
                return nets
            if not seen.sums[self._parts.index(part)]:
                return nets
            stepped = any(term.step for term in part.terms)
            for labels, key in self._wrong(part, source):
                under_way = self._waits(part) and abs(key.signed) <= key.young
                age = seconds_between(key.newest, seen.newest) if under_way else None
                row = labels if stepped else labels | key.shown(part)
                priced = key.signed if part.money and not stepped else None
                if found.judge(row, priced, age, part.tolerance_s):
                    nets[labels.get("currency") or ""] += key.signed
        return nets

    def _wrong(self, part: Equation, source: bool) -> Iterator[tuple[Values, KeySum]]:
        """The keys of that side whose sums differ."""
        seen, hash_ = self._seen(source), self._pairs[0].hash
        if suspects := self._suspected(part):
            wrong = list(self._keys(part, self.suspect_statements(part, source, suspects)))
            if sum(key.weighed(part, pieces, hash_) for pieces, _, key in wrong) == seen.sums[self._parts.index(part)]:
                yield from ((labels, key) for _, labels, key in wrong if key.signed)
                return
        rows = max(seen.rows[term.table] for term in part.terms)
        places = sum(1 for table, _ in part.places() for _ in self._sides(table, source))
        number = max(64, bucket_count(rows, places))
        for chosen in self._bad(part, source, number):
            for _, labels, key in self._keys(part, self.key_statements(part, source, number, chosen)):
                if key.signed:
                    yield labels, key

    def _suspected(self, part: Equation) -> list[tuple[str, ...]]:
        """The first columns of the keys that the suspects have in any of the part's tables; none if they can't be
        looked for in each."""
        found: set[tuple[str, ...]] = set()
        for table, key in part.places():
            pair = pair_of(self._pairs, table)
            if not pair.finds(key[0]):
                return []
            found.update(self._suspects.values(pair, key[:1]) or ())
        return sorted(found)

    def bucket_statements(self, part: Equation, source: bool, number: int) -> Iterator[tuple[ShardTable | None, str]]:
        """The statements that give, by bucket of the key: how many rows, and what the terms sum to."""
        for (table, key), terms in part.places().items():
            for _, shard in self._sides(table, source):
                weighing = Weighing(pair_of(self._pairs, table), shard)
                signed = _signed(terms, weighing.weighted)
                yield (
                    shard,
                    f"SELECT {weighing.bucket(key, number)}, COUNT(*), {signed} FROM {weighing.table} GROUP BY 1",
                )

    def _bad(self, part: Equation, source: bool, number: int) -> Iterator[list[int]]:
        """The buckets of keys whose sums differ, in groups that fit in memory."""
        rows: dict[int, int] = defaultdict(int)
        sums: dict[int, Decimal] = defaultdict(Decimal)
        running = [
            self._submit(shard, partial(_query, sql)) for shard, sql in self.bucket_statements(part, source, number)
        ]
        for future in running:
            for bucket, count, value in future.result():
                rows[int(bucket)] += int(count)
                sums[int(bucket)] += Decimal(value or 0)
        group: list[int] = []
        held = 0
        for bucket in sorted(b for b, value in sums.items() if value):
            if group and (held + rows[bucket] > _PASS_ROWS or len(group) == _PASS_BUCKETS):
                yield group
                group, held = [], 0
            group.append(bucket)
            held += rows[bucket]
        if group:
            yield group

    def key_statements(
        self, part: Equation, source: bool, number: int = 1, chosen: Sequence[int] = ()
    ) -> Iterator[tuple[Place, str]]:
        """The statements that give what every key of those buckets (all if there is one) adds up to."""
        return self._by_key(part, source, partial(Weighing.inside, number=number, chosen=chosen))

    def suspect_statements(self, part: Equation, source: bool, suspects: Literals) -> Iterator[tuple[Place, str]]:
        """The same for keys whose first columns have such values."""
        places = part.places()
        indexed = not source and all(pair_of(self._pairs, table).indexed(key[0]) for table, key in places)
        for some in batches(suspects, indexed=indexed):
            yield from self._by_key(part, source, partial(Weighing.beginning, values=some))

    def _by_key(
        self, part: Equation, source: bool, where: Callable[[Weighing, tuple[str, ...]], str]
    ) -> Iterator[tuple[Place, str]]:
        newest = self._seen(source).newest if self._waits(part) and part.tolerance_s else None
        since = _before(newest, part.tolerance_s)
        for (table, key), terms in part.places().items():
            for _, shard in self._sides(table, source):
                weighing = Weighing(pair_of(self._pairs, table), shard)
                yield (shard, terms), keys_sql(weighing, key, terms, where(weighing, key), since)

    def _keys(
        self, part: Equation, statements: Iterable[tuple[Place, str]]
    ) -> Iterator[tuple[tuple[str, ...], Values, KeySum]]:
        """What every key that the statements give adds up to: its pieces, its labels, its sums."""
        kinds, width = part.kinds(self._pairs), len(part.labels)
        running = [(terms, self._submit(shard, partial(_query, sql))) for (shard, terms), sql in statements]
        found: dict[tuple[str, ...], KeySum] = defaultdict(KeySum)
        for terms, future in running:
            for row in future.result():
                found[tuple(text_of(p) or "" for p in row[:width])].take(terms, row[width:])
        for pieces in sorted(found):
            values = (show(kind, piece) for kind, piece in zip(kinds, pieces, strict=True))
            yield pieces, dict(zip(part.labels, values, strict=True)), found[pieces]


def _query(sql: str, session: Session) -> list[Row]:
    return session.query(sql)


def _signed(terms: Sequence[Term], sql: Callable[[Term], str]) -> str:
    return "".join(f"{' + ' if term.sign > 0 else ' - '}{sql(term)}" for term in terms).removeprefix(" + ").strip()


def _before(newest: str | None, seconds: int) -> str | None:
    """The moment that many seconds before; None if there is none."""
    try:
        return str(datetime.fromisoformat(newest) - timedelta(seconds=seconds)) if newest else None
    except ValueError:
        return None


def _tables(part: Part) -> list[str]:
    return [part.table] if isinstance(part, Condition) else [term.table for term in part.terms]
