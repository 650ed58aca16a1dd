"""Actions carried out on a definition, as the server carries them out."""

from __future__ import annotations

import re
from dataclasses import replace

from migrate.model import TEXTS, Column, Index, TableDef
from migrate.sync.actions import FIRST, Actions
from migrate.sync.column_ddl import Written, column_collation, implicit_default, made_column
from migrate.sync.default_ddl import Default, default_value
from migrate.sync.dialect import Dialect
from migrate.sync.index_shape import kept_indexes, new_indexes, supersedes
from migrate.sync.lexer import Unreadable

_ZERO = Default("number", "0")
_TEXT_LIMITS = {"tinytext": 255, "text": 65535, "mediumtext": 2**24 - 1, "longtext": 2**32 - 1}


def empty(dialect: Dialect, collation: str) -> TableDef:
    """A table without anything, in a database of that default collation."""
    return TableDef((), (), collation.split("_", maxsplit=1)[0], collation, engine=dialect.engine)


def altered(
    before: TableDef, actions: Actions, table: str, database_collation: str, dialect: Dialect
) -> tuple[TableDef, tuple[str, ...]]:
    """(the definition after the actions, the columns that are lost: see Change). Unreadable if it can't be told."""
    collation = before.collation
    if actions.charset or actions.collation:
        asked = actions.charset if actions.charset and actions.charset.upper() != "DEFAULT" else None
        collation = column_collation(asked, actions.collation, database_collation, dialect)[1]
    _careful(before, actions, dialect)
    columns, lost = _columns(before, actions, collation, dialect)
    if actions.convert:
        columns = [_converted(c, collation, dialect) for c in columns]
    renames = {old.lower(): w.name for w, old, _ in actions.columns if old} | actions.renamed
    kept = kept_indexes(before, actions, renames, columns)
    written = {w.name.lower(): w for w, _, _ in actions.columns}
    indexes = new_indexes(kept, actions, columns, dialect)
    primary = next((i for i in indexes if i.primary), None)
    if primary:
        columns = [_in_primary(c, written.get(c.name.lower()), primary, before, dialect) for c in columns]
    after = replace(
        before,
        columns=tuple(columns),
        indexes=tuple(sorted(indexes, key=lambda i: (not i.primary, not i.unique, i.name))),
        charset=collation.split("_", maxsplit=1)[0],
        collation=collation,
        comment=before.comment if actions.comment is None else actions.comment,
        engine=actions.engine or before.engine,
        partitioned=before.partitioned if actions.partitioned is None else actions.partitioned,
        foreign_keys=_foreign_keys(before, actions, table),
        checks=_checks(before, actions, table, dialect),
    )
    if not after.columns or len({c.name.lower() for c in columns}) < len(columns):
        raise Unreadable("the columns that it leaves aren't ones that a table can have")
    return after, lost


def renamed(definition: TableDef, old: str, new: str, dialect: Dialect) -> TableDef:
    """The definition under another name of the table: names that the server made of the old one follow."""

    def key(text: str) -> str:
        name, _, referenced = text.partition(" -> ")
        name = re.sub(rf"^{re.escape(old)}(?=_ibfk_\d+$)", lambda _: new, name)
        return f"{name} -> {new if referenced == old else referenced}"

    checks = definition.checks
    if not dialect.mariadb:
        checks = tuple(re.sub(rf"^{re.escape(old)}(?=_chk_\d+$)", lambda _: new, c) for c in checks)
    return replace(
        definition, foreign_keys=tuple(sorted(map(key, definition.foreign_keys))), checks=tuple(sorted(checks))
    )


def _careful(before: TableDef, actions: Actions, dialect: Dialect) -> None:
    """Stops at what depends on expressions that the definition doesn't hold."""
    touched = bool(actions.dropped or actions.renamed or any(old and old != w.name for w, old, _ in actions.columns))
    if touched and any(c.generated for c in before.columns):
        raise Unreadable("columns go or get new names, and the table has generated ones")
    if actions.dropped and before.checks:
        raise Unreadable("columns go, and the table has CHECK constraints that may go with them")
    anew = actions.dropped & {w.name.lower() for w, old, _ in actions.columns if old is None}
    if anew & {str(c).lower() for i in before.indexes for c, _ in i.parts}:
        raise Unreadable(f"column {min(anew)} is dropped and added anew, and is in an index")
    if before.foreign_keys and any(supersedes(new, old) for new in actions.indexes for old in before.indexes):
        raise Unreadable("an index that a foreign key has of its own may go")
    if touched and any(None in (c for c, _ in i.parts) for i in before.indexes):
        raise Unreadable("columns go or get new names, and the table has an index over an expression")


def _columns(
    before: TableDef, actions: Actions, collation: str, dialect: Dialect
) -> tuple[list[Column], tuple[str, ...]]:
    """The server's way: what is there, without the dropped, with the changed in their place; then, one after the
    other, what is new is added and what is to move moves."""
    instead = {old.lower(): (w, after) for w, old, after in actions.columns if old}
    known = {c.name.lower() for c in before.columns}
    absent = (instead.keys() | actions.dropped | actions.renamed.keys() | actions.defaults.keys()) - known
    if absent:
        raise Unreadable(f"there is no column {min(absent)}")
    made = {id(w): made_column(w, collation, dialect) for w, _, _ in actions.columns}
    found: list[Column] = []
    lost: list[str] = []
    for column in before.columns:
        name = column.name.lower()
        if name in actions.dropped:
            lost.append(column.name)
            continue
        if name in instead:
            written, _ = instead[name]
            if written.name.lower() != name:
                lost.append(column.name)
            found.append(made[id(written)])
            continue
        if name in actions.defaults:
            column = _defaulted(column, actions.defaults[name], dialect)  # noqa: PLW2901
        if name in actions.renamed:
            lost.append(column.name)
            column = replace(column, name=actions.renamed[name])  # noqa: PLW2901
        found.append(column)
    for written, old, after in actions.columns:
        if old and after is None:
            continue
        if old:
            found = [c for c in found if c is not made[id(written)]]
        place = len(found)
        if after is not None:
            names = [c.name.lower() for c in found]
            if after != FIRST and after.lower() not in names:
                raise Unreadable(f"there is no column {after}")
            place = 0 if after == FIRST else names.index(after.lower()) + 1
        found.insert(place, made[id(written)])
    return _stamped(found, actions, dialect), tuple(lost)


def _stamped(columns: list[Column], actions: Actions, dialect: Dialect) -> list[Column]:
    """The columns with what a TIMESTAMP gets by itself where explicit_defaults_for_timestamp is off: the table's first
    one follows the clock, if it is written bare."""
    if dialect.explicit_timestamps:
        return columns
    written = {w.name.lower(): w for w, _, _ in actions.columns}
    found = []
    first = True
    for column in columns:
        given = written.get(column.name.lower())
        made = column
        if column.type == "timestamp":
            if given is not None and not column.nullable and given.default is None:
                digits = "".join(re.findall(r"\((\d)\)", column.full_type))
                follows = first and not given.on_update
                default, is_now = default_value(column, Default("now", digits) if follows else _ZERO, dialect)
                update = f"CURRENT_TIMESTAMP({digits})" if digits or dialect.mariadb else "CURRENT_TIMESTAMP"
                on_update = update if follows else column.on_update
                made = replace(column, default=default, default_is_expression=is_now, on_update=on_update)
            first = False
        found.append(made)
    return found


def _defaulted(column: Column, given: Default | None, dialect: Dialect) -> Column:
    default, is_expression = default_value(column, given, dialect)
    return replace(column, default=default, default_is_expression=is_expression)


def _converted(column: Column, collation: str, dialect: Dialect) -> Column:
    if column.collation is None or column.type not in TEXTS:
        return column
    charset = dialect.collations[collation]
    if charset == "binary":
        raise Unreadable("texts become binary")
    full = column.full_type
    grows = dialect.charsets[charset][1] > dialect.charsets[str(column.charset)][1]
    if column.type in _TEXT_LIMITS and grows and column.type != "longtext":
        room = _TEXT_LIMITS[column.type] * dialect.charsets[charset][1]
        full = next(kind for kind, limit in _TEXT_LIMITS.items() if room <= limit)
    return replace(column, charset=charset, collation=collation, type=full.partition("(")[0], full_type=full)


def _in_primary(column: Column, written: Written | None, primary: Index, before: TableDef, dialect: Dialect) -> Column:
    """A column of the primary key is NOT NULL; old servers gave it a default if it wasn't written so."""
    if not column.nullable or column.name not in primary.columns:
        return column
    default = column.default
    if default is None and dialect.version < 50700 and not dialect.mariadb and not (written and written.key):
        default = implicit_default(column, dialect)
    return replace(column, nullable=False, default=default)


def _foreign_keys(before: TableDef, actions: Actions, table: str) -> tuple[str, ...]:
    gone = {n.lower() for n in actions.dropped_foreign} | {
        n.lower() for n, sure in actions.dropped_constraints if not sure
    }
    kept = [f for f in before.foreign_keys if f.partition(" -> ")[0].lower() not in gone]
    number = max(
        [int(m[1]) for f in before.foreign_keys if (m := re.match(rf"{re.escape(table)}_ibfk_(\d+) -> ", f))] or [0]
    )
    for name, referenced in actions.foreign:
        given = name
        if given is None:
            number += 1
            given = f"{table}_ibfk_{number}"
        kept.append(f"{given} -> {referenced}")
    return tuple(sorted(kept))


def _checks(before: TableDef, actions: Actions, table: str, dialect: Dialect) -> tuple[str, ...]:
    asked = [n for w, _, _ in actions.columns for n in w.checks] + actions.checks
    if not dialect.mariadb and dialect.version < 80016:
        return before.checks
    gone = {n.lower() for n, _ in actions.dropped_constraints}
    kept = [c for c in before.checks if c.lower() not in gone]
    if dialect.mariadb and None in asked:
        raise Unreadable("a CHECK without a name")
    numbers = [int(m[1]) for c in before.checks if (m := re.fullmatch(rf"{re.escape(table)}_chk_(\d+)", c))]
    number = max(numbers, default=0)
    for name in asked:
        given = name
        if given is None:
            number += 1
            given = f"{table}_chk_{number}"
        kept.append(given)
    return tuple(sorted(kept))
