"""The statements that bring a merged table to a shard's new shape without narrowing it for the others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from migrate.model import Column, TableDef, Target, quote
from migrate.schema.ddl import column_sql, index_sql, text_sql
from migrate.sync.widen import alike, holds, implicit, widening

_NO_DEFAULT = ("tinytext", "text", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob", "json")


@dataclass
class Plan:
    """`statements` for the target, `notes` on what is left as it is, `problems` for which it can't be done."""

    statements: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def plan(name: Target, target: TableDef, before: TableDef, after: TableDef, *, settled: bool) -> Plan:
    """From `target`, as it is on TiDB, to one that takes rows of `after`; both shapes of the shard as `migrate schema`
    would make them. `settled`: all shards have that shape now, so that defaults, comments and order follow too."""
    made = Plan()
    table = f"ALTER TABLE {name.sql}"
    known = {c.name.lower() for c in before.columns}
    there = {c.name.lower(): c for c in target.columns}
    order = [c.name for c in target.columns]
    for place, column in enumerate(after.columns):
        current = there.get(column.name.lower())
        new = column.name.lower() not in known
        if current is not None:
            _adapt(made, table, current, column, new=new, settled=settled)
        elif new:
            previous = next((c.name for c in reversed(after.columns[:place]) if _in(c.name, order)), None)
            _add(made, table, column, previous, settled=settled)
            order.insert(0 if previous is None else _index(previous, order) + 1, column.name)
        else:
            made.notes.append(f"the target has no column {column.name}, as was decided before")
    _indexes(made, table, target, before, after)
    if settled:
        _order(made, table, order, after)
        if target.comment != after.comment:
            made.statements.append(f"{table} COMMENT = {text_sql(after.comment)}")
    return made


def _in(name: str, order: list[str]) -> bool:
    return name.lower() in (o.lower() for o in order)


def _index(name: str, order: list[str]) -> int:
    return [o.lower() for o in order].index(name.lower())


def _add(made: Plan, table: str, column: Column, previous: str | None, *, settled: bool) -> None:
    """A column that no shard had before. While others lack it, rows of theirs need a default."""
    added = column
    if not settled and not column.nullable and column.default is None:
        if column.type in _NO_DEFAULT:
            made.problems.append(
                f"column {column.name} is NOT NULL and can have no default on TiDB, which rows of the shards that "
                "don't have it yet need"
            )
            return
        added = replace(column, default=implicit(column))
    place = "FIRST" if previous is None else f"AFTER {quote(previous)}"
    made.statements.append(f"{table} ADD COLUMN {column_sql(added)} {place}")


def _adapt(made: Plan, table: str, current: Column, column: Column, *, new: bool, settled: bool) -> None:
    """A column that the target has: it becomes as wide as the shard's, or stays as wide as it is."""
    name = column.name
    if new and implicit(column) != implicit(current) and not _same_default(column, current):
        made.problems.append(
            f"column {name}: the rows that exist on the shard get {_shown(implicit(column))}, but the target has it "
            f"already and gave {_shown(implicit(current))} to them"
        )
        return
    wide = column if widening(current, column) is None else current if widening(column, current) is None else None
    if wide is None:
        made.problems.append(f"column {name}: on the target, {widening(current, column)}")
        return
    follows = column if settled else current
    meant = replace(
        current,
        full_type=wide.full_type,
        type=wide.type,
        nullable=current.nullable or column.nullable,
        default=follows.default,
        default_is_expression=follows.default_is_expression,
        on_update=follows.on_update,
        comment=follows.comment,
    )
    if not alike(current, meant) and current.generated is None:
        made.statements.append(f"{table} MODIFY COLUMN {column_sql(meant)}")
    elif not settled and not alike(current, replace(meant, default=column.default, comment=column.comment)):
        made.notes.append(f"column {name}: its default and its comment follow when all shards have them")
    if not holds(meant, column):
        made.problems.append(f"column {name}: the target doesn't hold what the shard's does")


def _same_default(one: Column, other: Column) -> bool:
    return alike(replace(other, default=implicit(one)), replace(other, default=implicit(other)))


def _shown(default: str | None) -> str:
    return "NULL" if default is None else repr(default)


def _indexes(made: Plan, table: str, target: TableDef, before: TableDef, after: TableDef) -> None:
    known = {(i.name.lower(), i.parts) for i in before.indexes}
    names = {i.name.lower() for i in target.indexes}
    parts = {tuple((str(c).lower(), p) for c, p in i.parts) for i in target.indexes}
    for index in after.indexes:
        if index.unique or (index.name.lower(), index.parts) in known:
            continue
        if tuple((str(c).lower(), p) for c, p in index.parts) in parts:
            continue
        if index.name.lower() in names:
            made.notes.append(f"the target keeps its own index {index.name}")
        else:
            made.statements.append(f"{table} ADD {index_sql(index)}")
    kept = {i.name.lower() for i in after.indexes}
    for index in before.indexes:
        if not index.unique and index.name.lower() not in kept and index.name.lower() in names:
            made.notes.append(f"the target keeps index {index.name}: others may still read by it, drop it by hand")


def _order(made: Plan, table: str, order: list[str], after: TableDef) -> None:
    """Columns move to the places that they have on all the shards."""
    if {o.lower() for o in order} != {c.name.lower() for c in after.columns}:
        return
    for place, column in enumerate(after.columns):
        if order[place].lower() == column.name.lower():
            continue
        at = _index(column.name, order)
        order.insert(place, order.pop(at))
        where = "FIRST" if place == 0 else f"AFTER {quote(order[place - 1])}"
        made.statements.append(f"{table} MODIFY COLUMN {column_sql(column)} {where}")
