"""Who breaks a rule on one side, and what only seems to: parts of a posting that are under way."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from verify.model import Values
from verify.price import Prices, total

AGE = "age_s"  # of what is under way, in seconds
Nets = dict[str, Decimal]  # by currency, with sign


@dataclass(slots=True)
class Offenders:
    """How many, the first `limit` of them, and the money; and how much is under way: the oldest `limit` of it, each
    with its age."""

    limit: int
    count: int = 0
    rows: list[Values] = field(default_factory=list)
    prices: Prices = field(default_factory=dict)
    in_transit: int = 0
    in_transit_prices: Prices = field(default_factory=dict)
    oldest_s: int | None = None
    waiting: list[Values] = field(default_factory=list)

    def add(self, row: Values, amount: Decimal | None) -> None:
        self.count += 1
        if amount is not None:
            total(self.prices, row.get("currency"), amount)
        if len(self.rows) < self.limit:
            self.rows.append(row)

    def judge(self, row: Values, amount: Decimal | None, age_s: int | None, tolerance_s: int) -> bool:
        """Adds an offender, or counts it as under way if it is younger than that. True if it is under way."""
        if age_s is None or age_s >= tolerance_s:
            self.add(row, amount)
            return False
        self.wait(1, row.get("currency"), amount)
        self.show(row, age_s)
        return True

    def wait(self, rows: int, currency: str | None, amount: Decimal | None) -> None:
        """Counts what is under way."""
        self.in_transit += rows
        if amount is not None:
            total(self.in_transit_prices, currency, amount)

    def show(self, row: Values, age_s: int | None) -> None:
        """Names something that is under way, and has been counted."""
        self.oldest_s = max(self.oldest_s or 0, age_s or 0)
        self._keep({**row, AGE: str(age_s or 0)})

    def _keep(self, row: Values) -> None:
        insort(self.waiting, row, key=lambda r: -_age(r))
        del self.waiting[self.limit :]

    def merge(self, other: Offenders) -> None:
        self.count += other.count
        self.rows = [*self.rows, *other.rows][: self.limit]
        self.in_transit += other.in_transit
        self.oldest_s = max((s for s in (self.oldest_s, other.oldest_s) if s is not None), default=None)
        for row in other.waiting:
            self._keep(row)
        for mine, theirs in ((self.prices, other.prices), (self.in_transit_prices, other.in_transit_prices)):
            for currency, amount in theirs.items():
                total(mine, currency, amount)


def _age(row: Values) -> int:
    return int(row[AGE] or 0)


def seconds_between(earlier: str | None, later: str | None) -> int | None:
    """Whole seconds from one server's time to another; None if one isn't a moment (NULL, a zero date)."""
    try:
        if earlier is None or later is None:
            return None
        return int((datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds())
    except ValueError:
        return None


def text_of(value: Any) -> str | None:
    """What a server gave, as text."""
    if value is None:
        return None
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
