"""The pieces of SQL that rules are made of, in the words of a ledger's roles."""

from __future__ import annotations

import re

from migrate.ledger import Filter, Ledger
from migrate.model import literal, quote
from verify.equations import Query


def filter_sql(wanted: Filter, alias: str = "") -> str:
    """The condition on a table's columns; never NULL."""

    def test(column: str, values: str | int | tuple[str | int, ...]) -> str:
        listed = values if isinstance(values, tuple) else (values,)
        texts = ", ".join(text(v) if isinstance(v, str) else str(int(v)) for v in listed)
        name = alias + quote(column)
        return f"({name} IS NOT NULL AND {name} IN ({texts}))"

    return " AND ".join(test(c, v) for c, v in wanted.items()) or "1"


def text(value: str) -> str:
    """A string as a literal. In quotes where they do: TiDB compares a number with what X'..' stands for as a number."""
    return f"'{value}'" if re.fullmatch(r"[\w .:+-]*", value, re.ASCII) else literal(value)


def exact(column: str, alias: str = "") -> str:
    """A column of money as a signed DECIMAL, whether its type is one, an integer or unsigned."""
    return f"({alias}{quote(column)} + 0.0)"


def leg(ledger: Ledger, direction: str, alias: str = "") -> str:
    """The amount of an entry if it is on that side, else 0."""
    e = ledger.role.entry
    side = f"{alias}{quote(e.direction)} = {text(direction)}"
    return f"CASE WHEN {side} THEN {exact(e.amount, alias)} ELSE 0 END"


def net(ledger: Ledger, alias: str = "") -> str:
    """Debit - credit of an entry."""
    e = ledger.role.entry
    name, amount = f"{alias}{quote(e.direction)}", exact(e.amount, alias)
    return (
        f"CASE WHEN {name} = {text(e.debit)} THEN {amount} WHEN {name} = {text(e.credit)} "
        f"THEN 0.0 - {amount} ELSE 0 END"
    )


def sign(ledger: Ledger, alias: str = "") -> str:
    """+1 for an account that debits raise, -1 for one that credits do."""
    account, debit = ledger.role.account, ledger.role.entry.debit
    if account.nature:
        return f"(CASE WHEN {alias}{quote(account.nature)} = {text(debit)} THEN 1 ELSE -1 END)"
    return "1" if account.increases == debit else "-1"


def booked(ledger: Ledger, alias: str = "") -> str:
    """Which accounts have entries: all but those that only add up others."""
    summary: Filter = ledger.role.account.summary
    return f"NOT ({filter_sql(summary, alias)})" if summary else "1"


def alone(
    what: str,
    table: str,
    columns: tuple[str, ...],
    other: str,
    referred: str,
    time: str | None = None,
    wait_s: int = 0,
    where: str = "1",
    at_rest: bool = False,
) -> Query:
    """Rows whose second column is no `referred` of the other table."""
    id_, column, *money = columns
    one, two = table_sql(table), table_sql(other)
    shown = f"{literal(what)} AS `problem`, t.{quote(id_)} AS `id`, t.{quote(column)} AS `refers to`"
    shown += "".join(f", t.{quote(c)} AS `{label}`" for c, label in zip(money, ("amount", "currency"), strict=False))
    timed = f", t.{quote(time)} AS `time`" if time else ""
    return Query(
        f"SELECT {shown}{timed} FROM {one} t "
        f"WHERE {where} AND NOT EXISTS (SELECT 1 FROM {two} o WHERE o.{quote(referred)} = t.{quote(column)})",
        time="time" if time else None,
        tolerance_s=wait_s,
        at_rest=at_rest,
    )


def table_sql(name: str) -> str:
    """A role's table as SQL."""
    return ".".join(quote(part) for part in name.split("."))
