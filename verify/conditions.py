"""The rows of one table that a rule of single rows finds: those that offend, and what only waits."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from migrate.db import Row
from migrate.model import quote
from verify.equations import Condition, Weighing
from verify.model import Values
from verify.offenders import Offenders, seconds_between, text_of
from verify.suspects import Literals

_WAITING = 100  # rows of a shard that are named of what is under way, the oldest


def judge_rows(
    part: Condition, place: Weighing, keys: Literals | None, ask: Callable[[str], list[Row]], found: Offenders,
    newest: str | None, since: str | None,
) -> None:  # fmt: skip
    """Adds what `ask` reads of the table in that place: every offender, with its shard; of rows whose keys begin with
    one of those, if any are given. Rows younger than `since` are under way, and their age counts back from `newest`.
    They may be most of a day's business: only their sums and the oldest of them leave the server."""
    own, table = place.over, place.table
    shard: Values = {"shard": str(place.shard.shard)} if place.shard else {}
    columns, time = dict(part.columns), own(quote(part.time)) if part.time else "NULL"
    shown, offends = ", ".join(own(quote(column)) for column in columns.values()), own(part.where)
    if keys is not None:
        offends = f"{place.beginning(place.pair.key, keys)} AND ({offends})"
    young = f"({time} IS NOT NULL AND {time} > '{since}')" if since else "0"
    for row in ask(f"SELECT {shown} FROM {table} WHERE ({offends}) AND NOT {young}"):
        values: Values = {name: text_of(value) for name, value in zip(columns, row, strict=True)}
        found.add(values | shard, _decimal(values.get("amount")))
    if since is None:
        return
    money, currency = (own(quote(columns[name])) if name in columns else "NULL" for name in ("amount", "currency"))
    where = f"FROM {table} WHERE ({offends}) AND {young}"
    for name, rows, amount in ask(f"SELECT {currency}, COUNT(*), SUM(ABS({money})) {where} GROUP BY 1"):
        found.wait(int(rows), text_of(name), _decimal(text_of(amount)))
    for row in ask(f"SELECT {shown}, {time} {where} ORDER BY {time} LIMIT {min(found.limit, _WAITING)}"):
        values = {name: text_of(value) for name, value in zip(columns, row, strict=False)}
        found.show(values | shard, seconds_between(text_of(row[-1]), newest))


def _decimal(text: str | None) -> Decimal | None:
    return Decimal(text) if text is not None else None
