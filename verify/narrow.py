"""From ranges whose two sides differ to the rows that do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

from migrate.db import wait
from verify.checksum import Checksum
from verify.cuts import Cuts
from verify.model import Mismatch, TableResult
from verify.prove import Proven
from verify.result import Result
from verify.rows import Buckets, mismatches, mismatches_of, start_buckets
from verify.tables import Pair

_LATE_S = 2.0  # from a cut that isn't exact to the one at which what differed is read again


def rows_of(
    cuts: Cuts, pairs: Sequence[Pair], found: Sequence[Checksum], full: bool, strong: bool, limit: int
) -> Result:
    """Those tables, with the rows that differ of the ranges whose two sides do; with `full`, of all ranges."""
    tables: list[TableResult] = []
    named: list[Mismatch] = []
    notes: list[str] = []
    for checksum, rows in zip(found, differing(cuts, found, full, strong, limit), strict=True):
        result = verdict(checksum)
        if full or not result.ok:
            if not rows and not result.ok:
                notes.append(unseen(result.target))
            result = counted(result, rows[:limit], more=len(rows) > limit)
            named += rows[:limit]
        tables.append(result)
    return Result("rows", tuple(tables), tuple(named), digest=digest_name(pairs, strong), notes=tuple(notes))


def differing(cuts: Cuts, found: Sequence[Checksum], full: bool, strong: bool, limit: int) -> list[list[Mismatch]]:
    """Of each of those, the rows that differ of the ranges whose two sides do (with `full`, of all ranges), one more
    than the limit at most.

    The rows are read at a cut of their own if the range's is gone. Where no exact cut can be had, what differs is read
    again at a cut that is some moments younger: what is equal then is `late`, and no difference.
    """
    rows: list[list[Mismatch]] = []
    loose: list[int] = []
    for number, checksum in enumerate(found):
        rows.append(_fetched(cuts, checksum.parts if full else checksum.bad, strong, limit))
        if rows[-1] and not cuts.exact:
            loose.append(number)
    if loose:
        wait(max(0.0, _LATE_S - cuts.age_s))
        cuts.renew()
    for number in loose:
        rows[number] = _read_again(cuts, found[number], rows[number], full, strong, limit)
    return rows


def unseen(target: str) -> str:
    """What is told of a table of which no row was found to differ, though a digest was."""
    return (
        f"{target}: the digests of a range differed, and no row of it did when it was fetched at a later cut: it was "
        "mended meanwhile, or it is written beside sync; verify it again"
    )


def verdict(checksum: Checksum) -> TableResult:
    """The table, equal if its digests and its control totals are."""
    result = checksum.result()
    return replace(result, ok=result.ok and all(t.ok for t in checksum.control_totals()))


def digest_name(pairs: Sequence[Pair], strong: bool) -> str:
    """What the rows are hashed with."""
    return f"CRC32 of {pairs[0].hash.name}, {64 if strong else 32} bits"


def _fetched(cuts: Cuts, parts: Sequence[Proven], strong: bool, limit: int) -> list[Mismatch]:
    """The rows of those parts that differ, one more than the limit at most."""
    readers, found = cuts.readers, list[Mismatch]()

    def start(proven: Proven) -> Callable[[], Buckets]:
        rows = max(side.totals.rows for side in (proven.proof.source, proven.proof.target))
        return start_buckets(readers, proven.part.pair, rows, strong)

    def fetch(some: Sequence[Proven]) -> list[Mismatch]:
        running = [(proven.part.pair, start(proven)) for proven in some]
        rows = (row for pair, ended in running for row in mismatches(readers, pair, ended()))
        return list(islice(rows, limit + 1 - len(found)))

    for begin in range(0, len(parts), readers.threads):
        if len(found) <= limit:
            found += cuts.at_one(partial(fetch, parts[begin : begin + readers.threads]))
    return found


def _read_again(
    cuts: Cuts, checksum: Checksum, rows: Sequence[Mismatch], full: bool, strong: bool, limit: int
) -> list[Mismatch]:
    """Those rows, as they differ now, or as `late` if they don't any more."""
    pair = checksum.pair
    if pair.key and all(map(pair.finds, pair.key)):
        keys = [tuple(pair.literal(name, str(value)) for name, value in (m.key or {}).items()) for m in rows]
        now = cuts.at_one(lambda: list(mismatches_of(cuts.readers, pair, keys)))
    else:
        now = _fetched(cuts, checksum.parts if full else checksum.bad, strong, limit)
    again = {_key(m): m for m in now}
    return [again.get(_key(m)) or replace(m, kind="late") for m in rows]


def _key(mismatch: Mismatch) -> str:
    return repr(mismatch.key or (mismatch.kind, mismatch.source, mismatch.target_values))


def counted(result: TableResult, rows: Sequence[Mismatch], more: bool) -> TableResult:
    """The verdict on a table, those rows of it being all that differ (or, with `more`, the first of them)."""
    kinds = Counter(m.kind for m in rows)
    late = bool(rows) and kinds["late"] == len(rows) and not more
    return replace(
        result,
        ok=(result.ok and not rows) or late,
        missing=kinds["missing"],
        extra=kinds["extra"],
        different=kinds["different"],
        duplicate=kinds["duplicate"],
        more=more,
    )
