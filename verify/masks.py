"""What a report may show: amounts as they are, and of what names people and accounts only the end. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

from verify.model import Values

_HIDDEN = "•" * 4

# Labels of offenders whose values name nobody.
OPEN = frozenset({"currency", "direction", "problem", "table", "times", "sequence", "last sequence", "next sequence",
                  "day", "instalment", "reversals", "rows", "shard", "shards", "amount", "waiting since",
                  "age_s"})  # fmt: skip


def mask(value: str | None) -> str:
    """The value with all but its last characters hidden: at most the last four, and never more than a third."""
    if value is None:
        return "NULL"
    shown = min(4, len(value) // 3)
    return _HIDDEN + (value[-shown:] if shown else "")


def masked(values: Values | None, shown: Iterable[str] = OPEN) -> Values | None:
    """The values with all masked but those of the columns `shown` and NULL."""
    if values is None:
        return None
    open_ = {name.lower() for name in shown}
    return {n: v if v is None or n.lower() in open_ else mask(v) for n, v in values.items()}


def offender(row: Values) -> Values:
    """The row of an offender, first what names it and then what it amounts to: amounts (exact numbers with a point) and
    what names nobody are shown, the rest is masked."""
    told = {n: v if v is None or n.lower() in OPEN or _is_amount(v) else mask(v) for n, v in row.items()}
    return dict(sorted(told.items(), key=lambda item: (item[0] in OPEN, _is_amount(row[item[0]] or ""))))


def _is_amount(text: str) -> bool:
    try:
        return "." in text and Decimal(text).is_finite() and len(text) <= 40
    except InvalidOperation:
        return False
