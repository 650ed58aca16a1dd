"""What a mismatch is worth: the money at risk, per currency. Exact, and never netted: two errors don't cancel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation, localcontext
from typing import Any

from migrate.config import Config
from migrate.ledger import Ledger, Money, load_ledger
from verify.model import Mismatch, Values

DIGITS = 200  # of exact sums; the default of 28 would round
UNKNOWN = "?"  # a currency that no role tells

Prices = dict[str, Decimal]  # by currency


def total(prices: Prices, currency: str | None, amount: Decimal) -> None:
    """Adds an amount, without its sign."""
    with localcontext(prec=DIGITS):
        name = currency or UNKNOWN
        prices[name] = prices.get(name, Decimal(0)) + abs(amount)


def amount_of(text: str | None) -> Decimal | None:
    """An amount as the server wrote it; None for what isn't one."""
    try:
        amount = Decimal(text) if text is not None else None
    except InvalidOperation:
        return None
    return amount if amount is not None and amount.is_finite() else None


@dataclass(frozen=True, slots=True)
class AtRisk:
    """The money of a table's mismatches of one class in one currency."""

    target: str
    kind: str
    currency: str
    rows: int
    amount: Decimal

    def document(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "kind": self.kind,
            "currency": self.currency,
            "rows": self.rows,
            "amount": format(self.amount, "f"),
        }


def priced(config: Config, mismatches: Sequence[Mismatch]) -> tuple[Mismatch, ...]:
    """The mismatches with their money at risk; as they are without a pack that says where the money is."""
    if config.pack is None or not mismatches:
        return tuple(mismatches)
    ledger = load_ledger(config.pack)
    return tuple(_priced(mismatch, ledger) for mismatch in mismatches)


def _priced(mismatch: Mismatch, ledger: Ledger) -> Mismatch:
    """The mismatch of a row with its money at risk; sums of accounts have none of their own. Missing, extra and
    duplicate rows: their amount. Different ones: the difference of every amount; or the whole amount, where it went to
    another account, side or currency."""
    money = ledger.money.get(mismatch.target.lower())
    if money is None or mismatch.kind == "late" or not (mismatch.source_row or mismatch.target_row):
        return mismatch
    prices: Prices = {}
    one, other = mismatch.source_row, mismatch.target_row
    if mismatch.kind == "different" and one and other:
        moved = any(name in mismatch.columns for name in money.whose)
        for name in money.amounts:
            a, b = amount_of(one.get(name)), amount_of(other.get(name))
            if moved:
                _add(prices, money, one, a)
                if money.currency and one.get(money.currency) != other.get(money.currency):
                    _add(prices, money, other, b)
                elif a is not None and b is not None and abs(b) > abs(a):
                    with localcontext(prec=DIGITS):
                        _add(prices, money, one, abs(b) - abs(a))
            elif name in mismatch.columns and not (a is None and b is None):
                with localcontext(prec=DIGITS):
                    _add(prices, money, one, (a or Decimal(0)) - (b or Decimal(0)))
    else:
        for name in money.amounts:
            _add(prices, money, one or other or {}, amount_of((one or other or {}).get(name)))
    return replace(mismatch, at_risk=prices)


def _add(prices: Prices, money: Money, row: Values, amount: Decimal | None) -> None:
    if amount is not None:
        total(prices, row.get(money.currency) if money.currency else None, amount)


def at_risk(mismatches: Iterable[Mismatch]) -> tuple[AtRisk, ...]:
    """The money of all of them by table, class and currency."""
    sums: dict[tuple[str, str, str], tuple[int, Decimal]] = defaultdict(lambda: (0, Decimal(0)))
    for mismatch in mismatches:
        for currency, amount in mismatch.at_risk.items():
            rows, so_far = sums[mismatch.target, mismatch.kind, currency]
            with localcontext(prec=DIGITS):
                sums[mismatch.target, mismatch.kind, currency] = rows + 1, so_far + amount
    found = [AtRisk(*group, rows, amount) for group, (rows, amount) in sums.items()]
    return tuple(sorted(found, key=lambda r: (r.target, r.kind, -r.amount, r.currency)))
