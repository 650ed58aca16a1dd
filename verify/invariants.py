"""Whether a ledger obeys its rules: equations and conditions on both sides in one pass of every table, queries on the
target, where at last all shards can be joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from migrate.db import Session
from migrate.ledger import Ledger, Severity
from migrate.model import quote
from verify.controls import money, pair_of
from verify.equations import Condition, Equation, Query
from verify.model import Values
from verify.offenders import Nets, Offenders, seconds_between, text_of
from verify.phrases import text
from verify.price import amount_of
from verify.readers import Readers
from verify.rows import both_totals, bucketed, mismatches, mismatches_of
from verify.rules import rules
from verify.suspects import Suspects
from verify.sweep import Sweep
from verify.tables import Pair

_KEYS_ASKED = 1000  # of which details are read from the target


@dataclass(frozen=True, slots=True)
class InvariantResult:
    """The verdict on one rule: who offends it on the target, and on the source where it was evaluated there too."""

    name: str
    severity: Severity
    target: Offenders
    source: Offenders | None = None

    @property
    def offenders(self) -> int:
        """Of the target, or of the source if only that has some."""
        return self.target.count or (self.source.count if self.source else 0)

    @property
    def rows(self) -> tuple[Values, ...]:
        return tuple(self.target.rows or (self.source.rows if self.source else ()))

    @property
    def ok(self) -> bool:
        """A warning is told, but it doesn't fail."""
        return not self.offenders or self.severity == "warning"

    @property
    def where(self) -> str:
        """On which side it is broken, in words."""
        on = [name for name, side in (("source", self.source), ("target", self.target)) if side and side.count]
        return " and ".join(on)

    def document(self) -> dict[str, Any]:
        side = self.target if self.target.count or not self.source else self.source
        return {
            "name": self.name,
            "severity": self.severity,
            "ok": self.ok,
            "offenders": self.offenders,
            "source_offenders": self.source.count if self.source else None,
            "target_offenders": self.target.count,
            "rows": list(self.rows),
            "at_risk": {currency: format(amount, "f") for currency, amount in sorted(side.prices.items())},
            "in_transit": self.target.in_transit,
            "in_transit_amounts": {c: format(a, "f") for c, a in sorted(self.target.in_transit_prices.items())},
            "in_transit_oldest_s": self.target.oldest_s,
            "in_transit_rows": self.target.waiting,
        }


def check_invariants(
    readers: Readers, pairs: Sequence[Pair], ledger: Ledger, limit: int, live: bool, suspects: Suspects
) -> list[InvariantResult]:
    """Checks all rules; each result keeps the first `limit` offenders a side and counts the others. The keys of the
    suspects are looked at first where a rule is broken.

    `live`: money is moving. What may be under way for some time (a role's in_transit_s, counted back from the youngest
    row of the tables in question, not from a clock whose time zone we don't know) is told as in transit and offends
    nothing. Otherwise nothing may be under way but what waits for somebody else (a role's at_rest).
    """
    for table, columns in ledger.money.items():
        for column in columns.amounts:
            money(pair_of(pairs, table), column)
    listed = rules(ledger)
    swept = [part for rule in listed for part in rule.parts if not isinstance(part, Query)]
    sweep = Sweep(readers, pairs, swept, live, suspects)
    asked = [part for rule in listed for part in rule.parts if isinstance(part, Query)]
    newest = sweep.newest(source=False) if live or any(query.at_rest for query in asked) else None
    queries = {
        (rule.name, number): readers.submit(
            readers.config.target, partial(_ask, part, limit, newest if live or part.at_rest else None)
        )
        for rule in listed
        for number, part in enumerate(rule.parts)
        if isinstance(part, Query) and not _answered(part, pairs)
    }
    unique = "idempotency_unique" in ledger.built_in
    twice = _twice_on_the_source(readers, pairs, ledger, limit, suspects) if unique else ()
    moving: dict[bool, Nets] = {True: {}, False: {}}  # by side (is it the source), what legs under way come to
    found = []
    for rule in listed:
        target, source = Offenders(limit), Offenders(limit)
        evaluated = rule.name == "idempotency_unique"
        for number, part in enumerate(rule.parts):
            if isinstance(part, Query):
                if (rule.name, number) in queries:
                    target.merge(queries[rule.name, number].result())
                continue
            evaluated = True
            for is_source, offenders in ((True, source), (False, target)):
                if isinstance(part, Condition):
                    sweep.condition(part, is_source, offenders)
                else:
                    nets = sweep.equation(part, is_source, offenders, moving[is_source])
                    if rule.name == "debit_equals_credit":
                        moving[is_source] = nets
            if isinstance(part, Equation) and part.details and target.rows:
                _details(readers, part, target)
        for row in twice if rule.name == "idempotency_unique" else ():
            source.add(row, None)
        found.append(InvariantResult(rule.name, rule.severity, target, source if evaluated else None))
    return found


def _answered(query: Query, pairs: Sequence[Pair]) -> bool:
    """Whether a unique index of the target makes sure already that the query finds nothing."""
    if query.unless_unique is None:
        return False
    table, column = query.unless_unique
    indexes = pair_of(pairs, table).definition.unique_indexes
    return any([(str(c).lower(), p) for c, p in i.parts] == [(column.lower(), None)] for i in indexes)


def _ask(query: Query, limit: int, newest: str | None, session: Session) -> Offenders:
    """The offenders that a query of the target gives."""
    found = Offenders(limit)
    for row in _named(session, query.sql.replace("{}", "1") if query.key else query.sql):
        time = row.pop(query.time, None) if query.time else None
        amount = amount_of(row.get("amount")) if "currency" in row else None
        found.judge(row, amount, seconds_between(time, newest), query.tolerance_s)
    return found


def _named(session: Session, sql: str) -> Iterator[Values]:
    names: list[str] = []
    for row in session.stream(sql, names=names):
        yield {name: text_of(value) for name, value in zip(names, row, strict=True)}


def _details(readers: Readers, equation: Equation, found: Offenders) -> None:
    """Puts the places in their keys where those offend in the keys' stead; a key of which the query shows nothing
    stands for itself."""
    query = equation.details
    assert query is not None and query.key is not None
    label = equation.labels[0]
    values = [value for row in found.rows[:_KEYS_ASKED] if (value := row[label]) is not None]
    listed = ", ".join(text(value) for value in values) or "NULL"
    with readers.session(readers.config.target) as session:
        rows = list(_named(session, query.sql.replace("{}", f"{quote(query.key)} IN ({listed})")))
    told = {row[label] for row in rows}
    found.count += len(rows) - len(told)
    found.rows = ([row for row in found.rows if row[label] not in told] + rows)[: found.limit]


def _twice_on_the_source(
    readers: Readers, pairs: Sequence[Pair], ledger: Ledger, limit: int, suspects: Suspects
) -> list[Values]:
    """Idempotency keys that stand on two rows of the shards and not on the target, whose unique key let one in.

    They show as keys in which the two sides differ: of the suspects, if these explain all the difference, or in bad
    buckets. Where both sides have the key twice, the rule's own SELECT names it.
    """
    found: list[Values] = []
    for role in (ledger.role.entry, ledger.role.voucher):
        if role is None or role.idempotency is None:
            continue
        pair = pair_of(pairs, role.table).narrowed((role.idempotency,), (role.idempotency,))
        source, target = both_totals(readers, pair)
        if source == target:
            continue
        keys = suspects.values(pair, pair.key)
        if keys is not None and suspects.explain(pair, source, target):
            differing = mismatches_of(readers, pair, keys)
        else:
            differing = mismatches(readers, pair, bucketed(readers, pair, max(source.rows, target.rows)))
        duplicates = (m for m in differing if m.kind == "duplicate" and m.shard)
        for mismatch in islice(duplicates, limit):
            key = (mismatch.key or {}).get(role.idempotency)
            if key is not None:
                found.append({"table": role.table, "idempotency key": key, "shards": mismatch.shard})
    return found
