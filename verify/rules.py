"""The built-in rules of a ledger as SQL for the merged table; each SELECT gives the offending rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from migrate.ledger import Entry, Ledger, Severity, Voucher
from migrate.model import literal, quote


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: a SELECT without rows if it holds. `columns` are its columns' names, empty for a rule of the user's."""

    name: str
    severity: Severity
    sql: str
    columns: tuple[str, ...] = ()


def rules(ledger: Ledger, live: bool = False) -> list[Rule]:
    """The built-in rules that the roles allow, then the ledger's own.

    `live`: money is moving, so a voucher may miss a leg for the role's `in_transit_s` seconds, counted back from the
    youngest entry, not from a clock whose time zone we don't know. Otherwise none may.
    """
    built_in = [Rule(name, severity, *_BUILT_IN[name](ledger, live)) for name, severity in ledger.built_in.items()]
    return built_in + [Rule(i.name, i.severity, i.sql.rstrip().rstrip(";")) for i in ledger.invariant]


_Sql = tuple[str, tuple[str, ...]]  # and the names of its columns


def _debit_equals_credit(ledger: Ledger, live: bool) -> _Sql:
    e = ledger.role.entry
    group = f"{quote(e.voucher)}, {quote(e.currency)}"
    debit, credit = (f"SUM({_leg(e, value)})" for value in (e.debit, e.credit))
    strange = f"SUM({quote(e.direction)} NOT IN ({literal(e.debit)}, {literal(e.credit)}))"
    settled = f" AND MAX({quote(e.time)}) < {_settled(ledger)}" if live else ""
    return (
        f"SELECT {group}, {debit}, {credit} FROM {e.target.sql} GROUP BY {group} "
        f"HAVING ({debit} <> {credit} OR {strange} > 0){settled}",
        ("voucher", "currency", "debit", "credit"),
    )


def _balance_equals_entries(ledger: Ledger, _: bool) -> _Sql:
    # never in transit: an entry and the balance of its account commit together
    a, e = ledger.role.account, ledger.role.entry
    balance, opening = f"a.{quote(a.balance)}", _opening(ledger)
    expected = f"{opening} + {_sign(ledger)} * IFNULL(e.net, 0)"
    return (
        f"SELECT a.{quote(a.id)}, a.{quote(a.currency)}, {balance}, {opening}, {expected} FROM {a.target.sql} a "
        f"LEFT JOIN (SELECT {quote(e.account)} account, {quote(e.currency)} currency, "
        f"SUM({_leg(e, e.debit)}) - SUM({_leg(e, e.credit)}) net FROM {e.target.sql} "
        f"GROUP BY {quote(e.account)}, {quote(e.currency)}) e "
        f"ON e.account = a.{quote(a.id)} AND e.currency = a.{quote(a.currency)} WHERE {balance} <> {expected}",
        ("account", "currency", "balance", "opening", "expected"),
    )


def _continuity(ledger: Ledger, _: bool) -> _Sql:
    a, e = ledger.role.account, ledger.role.entry
    seq, before, after = (quote(name or "") for name in (e.sequence, e.balance_before, e.balance_after))
    last = f"e.after_ <> a.{quote(a.balance)}"
    if a.sequence:
        last += f" OR e.seq_ <> a.{quote(a.sequence)}"
    return (
        "SELECT e.account_, e.entry_, e.seq_, e.last_after, e.before_, e.net_, e.after_ FROM ("
        f"SELECT {quote(e.account)} account_, {quote(e.id)} entry_, {seq} seq_, {before} before_, {after} after_, "
        f"{_leg(e, e.debit)} - {_leg(e, e.credit)} net_, "
        f"LAG({seq}) OVER w last_seq, LAG({after}) OVER w last_after, LEAD({seq}) OVER w next_seq "
        f"FROM {e.target.sql} WINDOW w AS (PARTITION BY {quote(e.account)} ORDER BY {seq}, {quote(e.id)})) e "
        f"LEFT JOIN {a.target.sql} a ON a.{quote(a.id)} = e.account_ "
        f"WHERE e.seq_ <> IFNULL(e.last_seq, 0) + 1 OR e.before_ <> IFNULL(e.last_after, {_opening(ledger)}) "
        f"OR e.after_ <> e.before_ + {_sign(ledger)} * e.net_ OR (e.next_seq IS NULL AND ({last}))",
        ("account", "entry", "sequence", "last balance after", "balance before", "debit - credit", "balance after"),
    )


def _orphans(ledger: Ledger, live: bool) -> _Sql:
    a, e, v = ledger.role.account, ledger.role.entry, ledger.role.voucher

    def alone(what: str, one: Entry | Voucher, column: str, other: str, referred: str, settled: str) -> str:
        return (
            f"SELECT {literal(what)}, t.{quote(one.id)}, t.{quote(column)} FROM {one.target.sql} t LEFT JOIN {other} o "
            f"ON o.{quote(referred)} = t.{quote(column)} WHERE o.{quote(referred)} IS NULL{settled}"
        )

    def settled(one: Entry | Voucher) -> str:
        return f" AND t.{quote(one.time)} < {_settled(ledger)}" if live else ""

    selects = [alone("entry without account", e, e.account, a.target.sql, a.id, "")]
    if v:
        selects.append(alone("entry without voucher", e, e.voucher, v.target.sql, v.id, settled(e)))
        selects.append(alone("voucher without entry", v, v.id, e.target.sql, e.voucher, settled(v)))
    return " UNION ALL ".join(selects), ("problem", "id", "refers to")


def _idempotency(ledger: Ledger, _: bool) -> _Sql:
    roles = [role for role in (ledger.role.entry, ledger.role.voucher) if role and role.idempotency]
    selects = []
    for role in roles:
        key = quote(role.idempotency or "")
        selects.append(
            f"SELECT {literal(role.table)}, {key}, COUNT(*), MIN({quote(role.id)}), MAX({quote(role.id)}) "
            f"FROM {role.target.sql} WHERE {key} IS NOT NULL GROUP BY {key} HAVING COUNT(*) > 1"
        )
    return " UNION ALL ".join(selects), ("table", "idempotency key", "times", "first id", "last id")


_BUILT_IN: dict[str, Callable[[Ledger, bool], _Sql]] = {
    "debit_equals_credit": _debit_equals_credit,
    "balance_equals_opening_plus_entries": _balance_equals_entries,
    "balance_continuity": _continuity,
    "no_orphan_entry": _orphans,
    "idempotency_unique": _idempotency,
}


def _leg(entry: Entry, direction: str) -> str:
    """The amount of an entry if it is on that side, else 0."""
    return f"CASE WHEN {quote(entry.direction)} = {literal(direction)} THEN {quote(entry.amount)} ELSE 0 END"


def _opening(ledger: Ledger) -> str:
    opening = ledger.role.account.opening
    return f"a.{quote(opening)}" if opening else "0"


def _sign(ledger: Ledger) -> str:
    """+1 for an account that debits raise, -1 for one that credits do."""
    account, debit = ledger.role.account, ledger.role.entry.debit
    if account.nature:
        return f"(CASE WHEN a.{quote(account.nature)} = {literal(debit)} THEN 1 ELSE -1 END)"
    return "1" if account.increases == debit else "-1"


def _settled(ledger: Ledger) -> str:
    """The time before which a voucher must be whole."""
    entry, voucher = ledger.role.entry, ledger.role.voucher
    seconds = voucher.in_transit_s if voucher else 0
    return f"(SELECT MAX({quote(entry.time)}) - INTERVAL {seconds} SECOND FROM {entry.target.sql})"
