"""Members of ENUM and SET as they are, not as information_schema shows them: to it, 4-byte characters are all '?'.

Nothing but a row that uses a member tells which text it has. So the rows are asked, where there is a '?' at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from migrate.db import Session
from migrate.model import Column, MergedTable, ShardTable, literal
from migrate.preflight.report import Check, failed
from migrate.schema.column import members

_NARROW = frozenset({"ascii", "latin1", "utf8", "utf8mb3", "binary"})  # have no character that would be shown as '?'
_REMEDY = "ALTER the column so that its members have no 4-byte characters, or make it VARCHAR"

Open = Callable[[str], AbstractContextManager[Session]]


def shown_members(table: MergedTable, connect: Open) -> Iterator[Check]:
    """A failed check for each shard whose rows have another member than the one shown, and for each member with a '?'
    that no row of any shard proves. `connect`: a session to the instance of that name. ServerError if a shard can't be
    read."""
    for column in table.definition.stored_columns:
        doubtful = _doubtful(column)
        if not doubtful:
            continue
        proven: set[int] = set()
        refuted = False
        for shard in table.shards:
            with connect(shard.shard.instance) as session:
                others, seen = _ask(session, shard, column, doubtful)
            proven |= seen
            if others:
                refuted = True
                what = f"{others} rows have a member that isn't what information_schema shows, which has a '?' in it"
                yield failed("members", f"{shard.shard}.{column.name}", what, _REMEDY)
        for number in sorted(doubtful.keys() - proven) if not refuted else ():
            what = (
                f"no row has member {number}, '{doubtful[number]}': whether its '?' is one, or a 4-byte character that "
                "information_schema can't show, nothing tells"
            )
            yield failed("members", f"{table.target}.{column.name}", what, f"{_REMEDY}, and no '?'")


def _doubtful(column: Column) -> dict[int, str]:
    """The members with a '?', by their numbers from 1, that may be others."""
    if column.type not in ("enum", "set") or column.charset in _NARROW:
        return {}
    return {number: text for number, text in enumerate(members(column.full_type), 1) if "?" in text}


def _ask(session: Session, shard: ShardTable, column: Column, doubtful: dict[int, str]) -> tuple[int, set[int]]:
    """How many rows have another text than the catalogue's members make; the doubtful members that rows prove."""
    name = column.sql
    texts = ", ".join(literal(text) for text in members(column.full_type))
    shown = f"ELT({name} + 0, {texts})" if column.type == "enum" else f"MAKE_SET({name} + 0, {texts})"
    same = f"BINARY {shown} = BINARY CONVERT({name} USING utf8mb4)"
    used = [f"{name} + 0 = {n}" if column.type == "enum" else f"{name} & {1 << (n - 1)} <> 0" for n in doubtful]
    sums = ", ".join(f"SUM({u} AND {same})" for u in used)
    others, *counts = session.one(f"SELECT SUM(({' OR '.join(used)}) AND NOT ({same})), {sums} FROM {shard.shard.sql}")
    return int(others or 0), {number for number, count in zip(doubtful, counts, strict=True) if count}
