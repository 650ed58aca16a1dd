"""The nouns of verification: totals, mismatches and the verdict on one table. Immutable, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

Values = dict[str, str | None]  # by column; exact text, never a float
MismatchKind = Literal["missing", "extra", "different", "duplicate", "late"]  # late: equal when read again


@dataclass(frozen=True, slots=True)
class Totals:
    """What a set of rows adds up to: how many, and the sum of their digests (`second` only where strong).

    `+` is associative and commutative and Totals() is neutral, so that each side may split its rows as it likes.
    Sums and counts, never XOR: equal rows must not cancel each other.
    """

    rows: int = 0
    first: int = 0
    second: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(self.rows + other.rows, self.first + other.first, self.second + other.second)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing that the two sides don't agree on.

    `key` is None for a row of a table without a key. `columns` are those that differ, and the only ones in the
    values of kind different; the other kinds show the row that is there. `shard` is where the source's row lies.
    `source_row` and `target_row` are the whole rows as they were compared, for those who price and mend them;
    `at_risk` is the money by currency.
    """

    target: str
    key: Values | None
    kind: MismatchKind
    columns: tuple[str, ...]
    source: Values | None
    target_values: Values | None
    shard: str | None = None
    source_row: Values | None = None
    target_row: Values | None = None
    at_risk: dict[str, Decimal] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "key": self.key,
            "kind": self.kind,
            "columns": list(self.columns),
            "source": self.source,
            "target_values": self.target_values,
            "shard": self.shard,
            "at_risk": {currency: format(amount, "f") for currency, amount in sorted(self.at_risk.items())},
        }


@dataclass(frozen=True, slots=True)
class TableResult:
    """The verdict on one target table. None stands for what the command didn't look at.

    `more`: the limit ended the comparison of rows, so that missing, extra, different and duplicate are at least that.
    """

    target: str
    source_rows: int
    target_rows: int
    ok: bool
    missing: int | None = None
    extra: int | None = None
    different: int | None = None
    duplicate: int | None = None
    more: bool = False
    shards: tuple[tuple[str, int], ...] = ()

    def document(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "source_rows": self.source_rows,
            "target_rows": self.target_rows,
            "missing": self.missing,
            "extra": self.extra,
            "different": self.different,
            "duplicate": self.duplicate,
            "ok": self.ok,
            "more": self.more,
            "shards": [{"shard": shard, "rows": rows} for shard, rows in self.shards],
        }
