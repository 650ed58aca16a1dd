"""What a ledger must obey, from its roles: equations and conditions, which both sides check, and queries for the
merged tables, where at last all shards can be joined. Each names its offenders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from migrate.ledger import Equation as Declared
from migrate.ledger import Ledger, Severity
from migrate.model import literal, quote
from verify.documents import BY_DOCUMENTS
from verify.equations import Condition, Equation, Query, Term
from verify.phrases import alone, booked, exact, filter_sql, leg, net, sign, text

Part = Equation | Condition | Query


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: it holds if none of its parts finds anything."""

    name: str
    severity: Severity
    parts: tuple[Part, ...]


def rules(ledger: Ledger) -> list[Rule]:
    """The built-in rules that the roles allow, then the ledger's own."""
    found = [Rule(name, severity, tuple(_PARTS[name](ledger))) for name, severity in ledger.built_in.items()]
    found += [Rule(e.name, e.severity, (_declared(e),)) for e in ledger.equation]
    found += [Rule(i.name, i.severity, (Query(i.sql.rstrip().rstrip(";")),)) for i in ledger.invariant]
    return found


def _declared(equation: Declared) -> Equation:
    terms = []
    for side, way, addends in (("left", 1, equation.left), ("right", -1, equation.right)):
        for a in addends:
            amount = " - ".join((exact(a.sum), *(f"IFNULL({exact(c)}, 0)" for c in a.less)))
            terms.append(Term(a.table, a.by, side, way, amount, filter_sql(a.where), a.time))
    return Equation(equation.per, tuple(terms), equation.in_transit_s, equation.at_rest)


def _debit_equals_credit(ledger: Ledger) -> Iterator[Part]:
    e, v = ledger.role.entry, ledger.role.voucher
    key = (e.voucher, e.currency)
    sides = (("debit", 1, e.debit), ("credit", -1, e.credit))
    terms = tuple(Term(e.table, key, name, s, leg(ledger, side), "1", e.time) for name, s, side in sides)
    yield Equation(("voucher", "currency"), terms, v.in_transit_s if v else 0)
    known = f"({quote(e.direction)} IS NOT NULL AND {quote(e.direction)} IN ({text(e.debit)}, {text(e.credit)}))"
    yield Condition(
        e.table,
        f"NOT {known} OR {quote(e.amount)} < 0",
        (("entry", e.id), ("voucher", e.voucher), ("direction", e.direction), ("amount", e.amount),
         ("currency", e.currency)),
    )  # fmt: skip


def _trial_balance(ledger: Ledger) -> Iterator[Part]:
    a = ledger.role.account
    if a.nature:
        debit = f"{quote(a.nature)} = {text(ledger.role.entry.debit)}"
        terms = [
            Term(a.table, (a.currency,), "debit balances", 1, exact(a.balance), f"{booked(ledger)} AND {debit}"),
            Term(a.table, (a.currency,), "credit balances", -1, exact(a.balance), f"{booked(ledger)} AND NOT {debit}"),
        ]
    else:
        terms = [Term(a.table, (a.currency,), "balances", 1, exact(a.balance), booked(ledger))]
        if a.opening:
            terms.append(Term(a.table, (a.currency,), "openings", -1, exact(a.opening), booked(ledger)))
    yield Equation(("currency",), tuple(terms), grouped=True, net=1 if a.nature or sign(ledger) == "1" else -1)


def _balance_equals_entries(ledger: Ledger) -> Iterator[Part]:
    # never in transit: an entry and the balance of its account commit together
    a, e = ledger.role.account, ledger.role.entry
    key = (a.id, a.currency)
    # an entry can't see its account's nature, so the sign stands with the account, and debits count up
    mine, theirs, note = (sign(ledger), "", " (debit +)") if a.nature else ("1", f"{sign(ledger)} * ", "")
    terms = [Term(a.table, key, f"balance{note}", 1, f"{mine} * {exact(a.balance)}", booked(ledger))]
    if a.opening:
        terms.append(Term(a.table, key, f"opening{note}", -1, f"{mine} * {exact(a.opening)}", booked(ledger)))
    terms.append(Term(e.table, (e.account, e.currency), f"entries{note}", -1, f"{theirs}({net(ledger)})"))
    yield Equation(("account", "currency"), tuple(terms))


def _continuity(ledger: Ledger) -> Iterator[Part]:
    """A chain as an equation: (seq + 1, balance after) of every entry, and (1, opening) of the account, are as many
    and the same as (seq, balance before) of every entry, and (last + 1, balance) of the account."""
    a, e = ledger.role.account, ledger.role.entry
    seq, before, after = (e.sequence or "", e.balance_before or "", e.balance_after or "")
    query = _chain_query(ledger)
    if a.sequence:
        # 1e-30 would do for any scale; what is added makes a missing link with a balance of 0 weigh something
        def link(column: str | None) -> str:
            return f"({exact(column) if column else '0.0'} + 0.00000000000000000001)"

        yield Equation(
            ("account",),
            (
                Term(e.table, (e.account,), "links", 1, link(after), "1", None, f"{quote(seq)} + 1"),
                Term(a.table, (a.id,), "links", 1, link(a.opening), booked(ledger), None, "1"),
                Term(e.table, (e.account,), "links", -1, link(before), "1", None, quote(seq)),
                Term(a.table, (a.id,), "links", -1, link(a.balance), booked(ledger), None, f"{quote(a.sequence)} + 1"),
            ),
            details=query,
        )
    else:
        yield query
    columns = (("account", e.account), ("entry", e.id), ("sequence", seq), ("balance before", before),
               ("amount", e.amount), ("balance after", after), ("currency", e.currency))  # fmt: skip
    if not a.nature:
        step = f"{exact(after)} <> {exact(before)} + {sign(ledger)} * ({net(ledger)})"
        yield Condition(e.table, step, columns)
    else:
        shown = ", ".join(f"e.{quote(column)} AS {quote(label)}" for label, column in columns)
        yield Query(
            f"SELECT {shown} FROM {e.target.sql} e JOIN {a.target.sql} a ON a.{quote(a.id)} = e.{quote(e.account)} "
            f"WHERE {exact(after, 'e.')} <> {exact(before, 'e.')} + {sign(ledger, 'a.')} * ({net(ledger, 'e.')})"
        )


def _chain_query(ledger: Ledger) -> Query:
    a, e = ledger.role.account, ledger.role.entry
    seq, before, after = (quote(name or "") for name in (e.sequence, e.balance_before, e.balance_after))
    opening = f"a.{quote(a.opening)}" if a.opening else "0"
    last = f"e.`balance after` <> a.{quote(a.balance)}"
    if a.sequence:
        last += f" OR e.`sequence` <> a.{quote(a.sequence)}"
    return Query(
        "SELECT e.* FROM ("
        f"SELECT {quote(e.account)} `account`, {quote(e.id)} `entry`, {seq} `sequence`, "
        f"LAG({seq}) OVER w `last sequence`, LAG({after}) OVER w `last balance after`, {before} `balance before`, "
        f"{after} `balance after`, {quote(e.currency)} `currency`, LEAD({seq}) OVER w `next sequence` "
        f"FROM {e.target.sql} WHERE {{}} "
        f"WINDOW w AS (PARTITION BY {quote(e.account)} ORDER BY {seq}, {quote(e.id)})) e "
        f"LEFT JOIN {a.target.sql} a ON a.{quote(a.id)} = e.`account` "
        "WHERE e.`sequence` <> IFNULL(e.`last sequence`, 0) + 1 "
        f"OR e.`balance before` <> IFNULL(e.`last balance after`, {opening}) "
        f"OR (e.`next sequence` IS NULL AND ({last}))",
        key=e.account,
    )


def _orphans(ledger: Ledger) -> Iterator[Part]:
    a, e, v = ledger.role.account, ledger.role.entry, ledger.role.voucher
    yield alone("entry without account", e.table, (e.id, e.account, e.amount, e.currency), a.table, a.id)
    if v:
        leg_ = (e.id, e.voucher, e.amount, e.currency)
        yield alone("entry without voucher", e.table, leg_, v.table, v.id, e.time, v.in_transit_s)
        whole = (v.id, v.id, v.amount, v.currency)
        yield alone("voucher without entry", v.table, whole, e.table, e.voucher, v.time, v.in_transit_s)


def _idempotency(ledger: Ledger) -> Iterator[Part]:
    for role in (ledger.role.entry, ledger.role.voucher):
        if role and role.idempotency:
            key = quote(role.idempotency)
            yield Query(
                f"SELECT {literal(role.table)} AS `table`, {key} AS `idempotency key`, COUNT(*) AS `times`, "
                f"MIN({quote(role.id)}) AS `first id`, MAX({quote(role.id)}) AS `last id`, "
                f"SUM({quote(role.amount)}) - MIN({quote(role.amount)}) AS `amount`, "
                f"MIN({quote(role.currency)}) AS `currency` "
                f"FROM {role.target.sql} WHERE {key} IS NOT NULL GROUP BY {key} HAVING COUNT(*) > 1",
                unless_unique=(role.table, role.idempotency),
            )


def _nature(ledger: Ledger) -> Iterator[Part]:
    a = ledger.role.account
    wanted = filter_sql(a.never_negative or {})
    columns = (("account", a.id), ("amount", a.balance), ("currency", a.currency))
    yield Condition(a.table, f"{wanted} AND {quote(a.balance)} < 0", columns)


_PARTS: dict[str, Callable[[Ledger], Iterable[Part]]] = {
    "debit_equals_credit": _debit_equals_credit,
    "trial_balance": _trial_balance,
    "balance_equals_opening_plus_entries": _balance_equals_entries,
    "balance_continuity": _continuity,
    "no_orphan_entry": _orphans,
    "idempotency_unique": _idempotency,
    "balance_nature": _nature,
    **BY_DOCUMENTS,
}
