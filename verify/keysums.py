"""What the terms of an equation add up to for single keys, once its sum over all keys isn't zero."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from migrate.db import Row
from migrate.model import quote
from verify.encoding import Hash
from verify.equations import Equation, Term, Weighing
from verify.model import Values
from verify.offenders import text_of


@dataclass(slots=True)
class KeySum:
    """One key: the sum of each term by its name, all of them with their signs, the youngest row, and how much of it is
    young."""

    sums: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    signed: Decimal = Decimal(0)
    newest: str | None = None
    young: Decimal = Decimal(0)

    def take(self, terms: Sequence[Term], values: Row) -> None:
        """Adds what `keys_sql` gave for the key in one place."""
        *sums, newest, young = values
        for term, value in zip(terms, sums, strict=True):
            amount = Decimal(value or 0)
            self.sums[term.into] += amount
            self.signed += term.sign * amount
        self.newest = max((t for t in (self.newest, text_of(newest)) if t), default=None)
        self.young += Decimal(young or 0)

    def weighed(self, part: Equation, pieces: Sequence[str], hash_: Hash) -> Decimal:
        """What the key adds to the weighted sum over all keys."""
        if any(term.step for term in part.terms):
            return self.signed  # weighted on the server, step by step
        return self.signed * zlib.crc32(hash_.of(",".join(pieces)).encode())

    def shown(self, part: Equation) -> Values:
        return {name: format(_plain(self.sums[name]), "f") for name in part.shown}


def keys_sql(weighing: Weighing, key: tuple[str, ...], terms: Sequence[Term], where: str, since: str | None) -> str:
    """The statement that gives, by key, of the rows that `where` leaves: the key's pieces, the sum of each term, the
    youngest row, and how much of it all is younger than `since`."""
    sums = [weighing.weighted(term) if term.step else weighing.plain(term) for term in terms]
    clock = next((f"MAX({weighing.over(quote(term.time))})" for term in terms if term.time), "NULL")
    young = " + ".join(weighing.young(term, since) for term in terms)
    definition = weighing.pair.merged.definition
    tests = [f"{weighing.over(quote(c))} IS NOT NULL" for c in key if definition.column(c).nullable]
    tests += [where] if where else []
    columns = ", ".join((*weighing.pieces(key), *sums, clock, young))
    group = ", ".join(str(i + 1) for i in range(len(key)))
    only = f" WHERE {' AND '.join(tests)}" if tests else ""
    return f"SELECT {columns} FROM {weighing.table}{only} GROUP BY {group}"


def _plain(amount: Decimal) -> Decimal:
    """Without the zeros that computing added, but with those that people expect of money."""
    digits = amount.normalize()
    exponent = digits.as_tuple().exponent
    return digits if isinstance(exponent, int) and exponent < -2 else digits.quantize(Decimal("0.01"))
