"""What was understood of a statement: what it does, where its tables are named, and the parts that capture needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from migrate.doublewrite.errors import Refused
from migrate.model import quote

Kind = Literal["read", "insert", "replace", "upsert", "ignore", "update", "delete", "pass", "begin", "commit",
               "rollback", "savepoint", "rollback_to"]  # fmt: skip
Name = tuple[str, str]  # schema ("" if not given) and table
Rename = Callable[[Name], Name]

_REMEDY = "write it as single-row or single-table INSERT, UPDATE and DELETE, or run it with the double write off"


@dataclass(frozen=True)
class Slot:
    """A table's name in the text, from start to end. `qualifier`: before a column, where an alias would do."""

    start: int
    end: int
    name: Name
    part: Literal["schema", "table", "both"]
    qualifier: bool = False


@dataclass(frozen=True)
class Value:
    """A value of an INSERT: its text, and its parameters. Only a literal or one parameter is `simple`."""

    start: int
    end: int
    simple: bool
    default: bool  # NULL or DEFAULT


@dataclass(frozen=True)
class Plan:
    """A statement that was understood. Positions are offsets into `text`."""

    kind: Kind
    text: str
    slots: tuple[Slot, ...] = ()
    tables: tuple[Name, ...] = ()  # all that it names
    table: Name | None = None  # the one that it changes
    holders: tuple[tuple[int, str | None], ...] = ()  # where the parameters stand
    columns: tuple[str, ...] | None = None  # of an INSERT, or those that are set
    rows: tuple[tuple[Value, ...], ...] = ()
    where: tuple[int, int] | None = None  # the condition
    tail: int = 0  # where WHERE, ORDER BY or LIMIT begins
    limited: bool = False  # has ORDER BY or LIMIT
    equal: dict[str, int] = field(default_factory=dict, hash=False)  # column to parameter: the whole of WHERE
    savepoint: str = ""
    locks: bool = False  # a query that locks what it reads

    def render(self, rename: Rename, start: int = 0, end: int | None = None) -> str:
        """The text from start to end with its tables renamed."""
        end = len(self.text) if end is None else end
        pieces, at = [], start
        for slot in self.slots:
            if slot.start < start or slot.end > end:
                continue
            schema, table = rename(slot.name)
            if (schema, table) == slot.name:
                continue
            new = {"schema": quote(schema), "table": quote(table), "both": f"{quote(schema)}.{quote(table)}"}[slot.part]
            if slot.part == "both" and slot.qualifier:
                new = quote(table)
            pieces += [self.text[at : slot.start], new]
            at = slot.end
        return "".join([*pieces, self.text[at:end]])

    def parameters(self, args: Any, start: int, end: int) -> list[Any]:
        """The parameters between start and end, in order."""
        if isinstance(args, dict):
            return [args[name] for at, name in self.holders if start <= at < end]
        return [args[i] for i, (at, _) in enumerate(self.holders) if start <= at < end]


def refused(sql: str, why: str) -> Refused:
    return Refused(f"double-write refuses a statement: {why}; {_REMEDY}: {' '.join(sql.split())[:200]}")
