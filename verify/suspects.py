"""Rows that are known to differ, and so where to look first for what a wrong sum comes from.

Nothing rests on them: whoever looks there checks that they explain all of what is wrong, and looks everywhere if not.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence

from verify.encoding import piece_of
from verify.model import Mismatch, Totals, Values
from verify.tables import Pair

_AT_ONCE = 10_000  # values of one statement, which scans once for all of them where no index helps
_BY_INDEX = 1_000  # where one does: TiDB scans the table for many more, and compares each row with each of them
_BYTES = 500_000  # of them

Literals = Sequence[tuple[str, ...]]


class Suspects:
    """The rows of some mismatches, as both sides have them."""

    def __init__(self, mismatches: Iterable[Mismatch] = ()):
        self._source: dict[str, list[Values]] = {}
        self._target: dict[str, list[Values]] = {}
        for mismatch in mismatches:
            for rows, row in ((self._source, mismatch.source_row), (self._target, mismatch.target_row)):
                if row is not None:
                    rows.setdefault(mismatch.target, []).append(row)

    def values(self, pair: Pair, columns: Sequence[str]) -> list[tuple[str, ...]] | None:
        """What the rows of that table have in those columns, as SQL literals of the merged table; NULLs are left out.
        None if there are no such rows, or no such values can be looked for."""
        rows = [*self._source.get(pair.name, ()), *self._target.get(pair.name, ())]
        names = [_name(pair, column) for column in columns]
        found = {tuple(row[name] for name in names) for row in rows}
        if not rows or not all(map(pair.finds, columns)):
            return None
        return sorted(
            tuple(pair.literal(column, str(value)) for column, value in zip(columns, values, strict=True))
            for values in found
            if None not in values
        )

    def explain(self, pair: Pair, source: Totals, target: Totals) -> bool:
        """Whether these rows alone make the digests differ that both sides of the pair add up to, by its columns."""
        if any(kind.client for _, kind in pair.columns):
            return False
        one, other = (self._totals(pair, side.get(pair.name, [])) for side in (self._source, self._target))
        return source + other == target + one

    @staticmethod
    def _totals(pair: Pair, rows: Iterable[Values]) -> Totals:
        columns = [(_name(pair, name), kind) for name, kind in pair.columns]
        texts = [",".join(piece_of(kind, row[name]) for name, kind in columns) for row in rows]
        return Totals(len(texts), sum(zlib.crc32(pair.hash.of(text).encode()) for text in texts))


def _name(pair: Pair, column: str) -> str:
    """The column's name as the table has it, whatever the case that a ledger.toml names it in."""
    return pair.merged.definition.column(column).name


def batches(values: Literals, *, indexed: bool) -> Iterator[Literals]:
    """The values in parts that one statement takes each; `indexed`: the target has an index to find them by."""
    longest = max((sum(map(len, value)) for value in values), default=1)
    at_once = max(1, min(_BY_INDEX if indexed else _AT_ONCE, _BYTES // (longest + 4)))
    for begin in range(0, len(values), at_once):
        yield values[begin : begin + at_once]
