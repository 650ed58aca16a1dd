"""What the statement at hand does to tables, one change after the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

from migrate.model import TableDef
from migrate.sync.actions import Actions
from migrate.sync.change import Change, Kind
from migrate.sync.dialect import Dialect
from migrate.sync.lexer import Unreadable
from migrate.sync.shadow import shadow_of
from migrate.sync.shape import altered, renamed

Name = tuple[str, str]


class Tables(Protocol):
    """What is known of the tables."""

    @property
    def dialect(self) -> Dialect: ...

    def definition(self, schema: str, table: str) -> TableDef | None: ...

    def names(self) -> Iterable[Name]: ...

    def collation(self, schema: str) -> str: ...

    def database(self, schema: str, collation: str | None) -> None: ...


@dataclass
class Effects:
    """The changes of one statement so far, which what follows in it sees."""

    tables: Tables
    sql: str
    changes: list[Change] = field(default_factory=list)
    _now: dict[Name, TableDef | None] = field(default_factory=dict)

    def definition(self, name: Name) -> TableDef | None:
        """The table's definition as it is now."""
        key = self.tables.dialect.name(*name)
        return self._now[key] if key in self._now else self.tables.definition(*name)

    def change(
        self,
        kind: Kind,
        name: Name,
        after: TableDef | None,
        *,
        renamed_to: Name | None = None,
        lost: tuple[str, ...] = (),
        reason: str = "",
    ) -> None:
        """Adds a change of the table as it is now."""
        before = self.definition(name)
        self.changes.append(Change(kind, *name, before, after, self.sql, renamed_to, lost, reason))
        key = self.tables.dialect.name
        if renamed_to:
            self._now[key(*name)] = None
        self._now[key(*(renamed_to or name))] = after

    def unknown(self, names: Iterable[Name], reason: str) -> None:
        """The tables may be anything from here on."""
        for name in names:
            self.change("unknown", name, None, reason=reason)

    def like(self, name: Name, model: Name) -> None:
        """A table is made in the shape of another."""
        definition = self.definition(model)
        if definition is None:
            raise Unreadable(f"it is made like {'.'.join(model)}, whose definition isn't known")
        checks = definition.checks
        if not self.tables.dialect.mariadb:
            checks = tuple(sorted(f"{name[1]}_chk_{n}" for n in range(1, len(checks) + 1)))
        self.change("create", name, replace(definition, foreign_keys=(), triggers=(), checks=checks))

    def act(self, name: Name, actions: Actions) -> None:
        """Carries out the actions of an ALTER TABLE."""
        before = self.definition(name)
        if before is None:
            raise Unreadable("the table's definition isn't known")
        database = self.tables.collation(name[0])
        after, lost = altered(before, actions, name[1], database, self.tables.dialect)
        there = {c.name.lower() for c in after.columns}
        if any(c.lower() in there for c in lost) and shadow_of(
            name[1], (n[1] for n in self.tables.names() if n[1] != name[1])
        ):
            raise Unreadable("an online schema change drops a column and adds one of its name: its values are lost")
        if actions.lossy:
            self.change("truncate", name, after, lost=lost, reason=actions.lossy)
        elif actions != Actions(rename_to=actions.rename_to) or not actions.rename_to:
            self.change("alter", name, after, lost=lost)
        if actions.rename_to:
            self.moves([(name, actions.rename_to)])

    def moves(self, moves: list[tuple[Name, Name]]) -> None:
        """Names change, one after the other. A shadow table that takes the place of the table that it was made for
        alters that table; the old one goes on under the name that it was moved to."""
        if len(moves) == 2 and moves[1][1] == moves[0][0] and moves[0][0][0] == moves[1][0][0]:
            (table, aside), (shadow, _) = moves
            before, after = self.definition(table), self.definition(shadow)
            if shadow_of(shadow[1], [table[1]]) and before is not None:
                if after is None:
                    raise Unreadable(f"{'.'.join(shadow)} takes its place, whose definition isn't known")
                there = {c.name.lower() for c in after.columns}
                lost = tuple(c.name for c in before.columns if c.name.lower() not in there)
                dialect = self.tables.dialect
                self.change("alter", table, renamed(after, shadow[1], table[1], dialect), lost=lost)
                self._now[dialect.name(*shadow)] = before
                self.change("rename", shadow, renamed(before, table[1], aside[1], dialect), renamed_to=aside)
                return
        for old, new in moves:
            definition = self.definition(old)
            after = definition and renamed(definition, old[1], new[1], self.tables.dialect)
            self.change("rename", old, after, renamed_to=new)
