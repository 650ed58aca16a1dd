"""A table's indexes after actions on it, with those that the server makes or drops by itself."""

from __future__ import annotations

import re
from dataclasses import replace

from migrate.model import BINARIES, TEXTS, Column, Index, TableDef
from migrate.sync.actions import Actions
from migrate.sync.dialect import Dialect
from migrate.sync.index_ddl import Part, WrittenIndex
from migrate.sync.lexer import Unreadable

_BLOBS = ("tinytext", "text", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob")


def supersedes(new: WrittenIndex, old: Index) -> bool:
    """Whether a new index can stand for an old plain one, which goes then if it was a foreign key's own."""
    begins = [str(c).lower() for c, _ in new.parts[: len(old.parts)]]
    return not old.unique and begins == [str(c).lower() for c, _ in old.parts]


def kept_indexes(before: TableDef, actions: Actions, renames: dict[str, str], columns: list[Column]) -> list[Index]:
    """The indexes that stay, with the columns that they still have."""
    gone = {name.lower() for name, _ in actions.dropped_indexes}
    there = {i.name.lower() for i in before.indexes}
    for name, must in actions.dropped_indexes:
        if must and name.lower() not in there:
            raise Unreadable(f"there is no index {name}")
    for name, certain in actions.dropped_constraints:
        if not certain and name.lower() in there and name not in before.checks:
            gone.add(name.lower())
    by_name = {c.name.lower(): c for c in columns}
    found = []
    for index in before.indexes:
        if index.name.lower() in gone:
            continue
        parts = [p for p in index.parts if p[0] is None or p[0].lower() not in actions.dropped]
        if not parts:
            continue
        parts = [(renames.get(c.lower(), c) if c else None, p) for c, p in parts]
        name = actions.renamed_indexes.get(index.name.lower(), index.name)
        found.append(replace(index, name=name, parts=tuple(_part(p, by_name) for p in parts)))
    return found


def new_indexes(kept: list[Index], actions: Actions, columns: list[Column], dialect: Dialect) -> list[Index]:
    """The indexes of the table: those that stay, the columns' own, and those that come by themselves."""
    by_name = {c.name.lower(): c for c in columns}
    found = list(kept)
    for index in actions.indexes:
        names = {i.name.lower() for i in found}
        if index.missing_only and index.name and index.name.lower() in names:
            continue
        parts = tuple(_part(p, by_name) for p in index.parts)
        if index.foreign and _serves(parts, found, actions.indexes, index):
            continue
        name = index.name or _name(parts, names)
        if name.lower() in names:
            raise Unreadable(f"there is an index {name} already")
        _measure(parts, by_name, index, dialect)
        kind = "HASH" if index.hashed and dialect.mariadb else index.kind
        found.append(Index(name, index.unique, parts, kind))
    return found


def _serves(parts: tuple[Part, ...], found: list[Index], asked: list[WrittenIndex], own: WrittenIndex) -> bool:
    """Whether another index begins with a foreign key's columns, so that it gets none of its own."""
    names = [str(c).lower() for c, _ in parts]
    others = [i.parts for i in found] + [i.parts for i in asked if i is not own and not i.foreign]
    return any([str(c).lower() for c, _ in o[: len(names)]] == names for o in others)


def _name(parts: tuple[Part, ...], taken: set[str]) -> str:
    first = parts[0][0]
    if first is None:
        first = "functional_index"
    names = [first] if first.lower() != "primary" else []
    names += [f"{first}_{n}" for n in range(2, 100)]
    return next(n for n in names if n.lower() not in taken)


def _part(part: Part, columns: dict[str, Column]) -> Part:
    """A part with its column's own spelling, and no prefix that is the whole column."""
    name, prefix = part
    if name is None:
        return part
    if name.lower() not in columns:
        raise Unreadable(f"an index over {name}, which isn't there")
    column = columns[name.lower()]
    if prefix is not None and column.type not in _BLOBS:
        length = int((re.findall(r"\d+", column.full_type) or ["0"])[0])
        prefix = None if prefix >= length else prefix
    return column.name, prefix


def _measure(parts: tuple[Part, ...], columns: dict[str, Column], index: WrittenIndex, dialect: Dialect) -> None:
    """Stops at a part that is longer than some servers let it be: they cut it."""
    if index.kind != "BTREE":
        if index.kind == "SPATIAL":
            raise Unreadable("a SPATIAL index")
        return
    limit = 767 if dialect.version < 50707 else 3072
    for name, prefix in parts:
        column = columns.get(str(name).lower())
        if column is None or column.type in ("enum", "set") or column.type not in TEXTS | BINARIES:
            continue
        if column.type in _BLOBS and prefix is None:
            raise Unreadable(f"an index over all of {name}")
        length = prefix or int(re.findall(r"\d+", column.full_type)[0])
        if length * (dialect.charsets[column.charset][1] if column.charset else 1) > limit:
            raise Unreadable(f"an index over {name}, which is longer than {limit} bytes")
