"""From ranges whose two sides differ to the rows that do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

from migrate.db import wait
from verify.checksum import Checksum
from verify.cuts import Cuts
from verify.model import Mismatch, TableResult
from verify.prove import Proven
from verify.result import Result
from verify.rows import bucketed, mismatches
from verify.tables import Pair

_LATE_S = 2.0  # until what differs without a cut is read again


def rows_of(
    cuts: Cuts, pairs: Sequence[Pair], found: Sequence[Checksum], full: bool, strong: bool, limit: int
) -> Result:
    """Those tables, with the rows that differ of the ranges whose two sides do; with `full`, of all ranges.

    The rows are read at a cut of their own if the range's is gone. Where no exact cut can be had, what differs is read
    again after a moment: what is equal then is `late`, and no difference.
    """
    tables: list[TableResult] = []
    named: list[Mismatch] = []
    notes: list[str] = []
    for checksum in found:
        result = verdict(checksum)
        if full or not result.ok:
            parts = checksum.parts if full else checksum.bad
            rows = _fetched(cuts, parts, strong, limit)
            if not rows and not result.ok:
                notes.append(
                    f"{result.target}: the digests of a range differed, and no row of it did when it was fetched at a "
                    "later cut: it was mended meanwhile, or it is written beside sync; verify it again"
                )
            if rows and not cuts.exact:
                rows = _read_again(cuts, parts, rows, strong, limit)
            result = counted(result, rows[:limit], more=len(rows) > limit)
            named += rows[:limit]
        tables.append(result)
    return Result("rows", tuple(tables), tuple(named), digest=digest_name(pairs, strong), notes=tuple(notes))


def verdict(checksum: Checksum) -> TableResult:
    """The table, equal if its digests and its control totals are."""
    result = checksum.result()
    return replace(result, ok=result.ok and all(t.ok for t in checksum.control_totals()))


def digest_name(pairs: Sequence[Pair], strong: bool) -> str:
    """What the rows are hashed with."""
    return f"CRC32 of {pairs[0].hash.name}, {64 if strong else 32} bits"


def _fetched(cuts: Cuts, parts: Sequence[Proven], strong: bool, limit: int) -> list[Mismatch]:
    """The rows of those parts that differ, one more than the limit at most."""
    found: list[Mismatch] = []

    def fetch(proven: Proven) -> list[Mismatch]:
        pair, rows = proven.part.pair, proven.proof.source.totals.rows
        buckets = bucketed(cuts.readers, pair, rows, strong)
        return list(islice(mismatches(cuts.readers, pair, buckets), limit + 1 - len(found)))

    for part in parts:
        if len(found) <= limit:
            found += cuts.at_one(partial(fetch, part))
    return found


def _read_again(
    cuts: Cuts, parts: Sequence[Proven], rows: Sequence[Mismatch], strong: bool, limit: int
) -> list[Mismatch]:
    """Those rows, as they differ now, or as `late` if they don't any more."""
    wait(_LATE_S)
    cuts.renew()
    again = {_key(m): m for m in _fetched(cuts, parts, strong, limit)}
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
