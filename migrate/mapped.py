"""The shape of a shard's rows as they are merged, where the route maps its columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from migrate.columns import ColumnSpec
from migrate.config import Route
from migrate.conversion import bounds, digits, forward, length, source_of
from migrate.model import (
    INTEGERS,
    TEXTS,
    Coded,
    Column,
    Constant,
    Index,
    Origin,
    Renamed,
    Scaled,
    ShardTable,
    Split,
    TableDef,
)
from migrate.schema.collation import target_collation

_CHARSETS = frozenset({"utf8", "utf8mb3", "utf8mb4", "ascii", "latin1"})
_DEFAULT = (Renamed, Scaled, Coded)  # whose defaults become others as values do


class _Problem(Exception):
    """Why a column can't be what the route says."""


def mapped(table: ShardTable, route: Route) -> tuple[ShardTable, list[str]]:
    """The shard as the route maps it, and what is wrong with the mapping, a sentence each."""
    if not route.mapped:
        return table, []
    source = table.physical
    problems: list[str] = []
    columns = _columns(source, route, problems)
    key = source.key
    if key is None:
        problems.append("a mapped table needs a primary key, or a unique one without NULL")
    indexes = tuple(_indexes(source, columns, problems))
    if route.key and key is not None:
        indexes = tuple(_with_key(route.key, key, indexes, columns, problems))
    if problems:
        return table, problems
    definition = replace(source, columns=tuple(columns), indexes=indexes)
    return ShardTable(table.shard, definition, table.rows, table.data_bytes, source), []


def _columns(source: TableDef, route: Route, problems: list[str]) -> list[Column]:
    """The columns in the order of what they are made of, constants last."""
    there = {c.name.lower(): c for c in source.columns}
    specs = dict(route.columns)
    dropped = {name.lower() for name in route.drop}
    used = {s.from_.lower() for s in specs.values() if s.from_}
    problems += [f"drop: there is no column {name}" for name in route.drop if name.lower() not in there]
    problems += [f"column {name} is dropped and used" for name in route.drop if name.lower() in used]
    problems += [
        f"columns.{name}: there is no column {spec.from_}"
        for name, spec in specs.items()
        if spec.from_ and spec.from_.lower() not in there
    ]
    found: list[Column] = []
    for column in source.columns:
        name = column.name.lower()
        made = [(n, s) for n, s in specs.items() if s.from_ and s.from_.lower() == name]
        if not made and name not in dropped:
            made = [(column.name, ColumnSpec.model_validate(column.name))]
        for target, spec in made:
            try:
                found.append(_made(source, target, spec, column, specs))
            except _Problem as problem:
                problems.append(f"columns.{target}: {problem}")
    for target, spec in specs.items():
        if spec.value is not None:
            try:
                found.append(_made(source, target, spec, None, specs))
            except _Problem as problem:
                problems.append(f"columns.{target}: {problem}")
    names = [c.name.lower() for c in found]
    problems += [f"column {name} of the target is made twice" for name in sorted(set(names)) if names.count(name) > 1]
    return found


def _made(source: TableDef, name: str, spec: ColumnSpec, column: Column | None, specs: dict[str, ColumnSpec]) -> Column:
    if column is None:
        value = str(spec.value)
        whole = spec.type or ("int" if isinstance(spec.value, int) else f"varchar({max(1, len(value))})")
        made = _typed(Column(name, "", "", nullable=False), whole, "utf8mb4_bin")
        _fits(made, value)
        return replace(made, origin=Constant(value))
    if column.generated is not None:
        raise _Problem(f"{column.name} is a generated column: drop it by name")
    if spec.scale is None and spec.codes is None and spec.separator is None:
        return _renamed(name, spec, column)
    plain = replace(column, name=name, nullable=column.nullable and spec.null, auto_increment=False, on_update=None,
                    default_is_expression=False, invisible=False)  # fmt: skip
    origin, whole = _converted(source, spec, column, specs)
    collation = "utf8mb4_bin" if isinstance(origin, Coded) else source.collation
    made = replace(_typed(plain, spec.type or whole, collation), origin=origin)
    if isinstance(origin, Scaled) and made.type != "decimal":
        raise _Problem("with a scale its type is DECIMAL")
    if isinstance(origin, Split) and made.type != "varchar":
        raise _Problem("a part is VARCHAR")
    if isinstance(origin, Coded):
        for _, new in origin.codes:
            _fits(made, new)
    return _with_default(made, column)


def _converted(source: TableDef, spec: ColumnSpec, column: Column, specs: dict[str, ColumnSpec]) -> tuple[Origin, str]:
    """The origin of a column, and the type that holds all of its values."""
    if spec.scale is not None:
        if column.type not in INTEGERS | {"decimal"}:
            raise _Problem(f"scale: {column.name} is {column.full_type}, not an integer of minor units")
        precision, scale = digits(column)
        if max(precision, spec.scale + 1) > 40 or scale + spec.scale > 20:
            raise _Problem(f"scale: {column.full_type} has more digits than can be moved exactly")
        return Scaled(column, spec.scale), f"decimal({max(precision, spec.scale + 1)},{scale + spec.scale})"
    if column.type not in TEXTS | INTEGERS | {"decimal"} or column.charset not in (None, *_CHARSETS):
        raise _Problem(f"{column.name} is {column.full_type} {column.charset or ''}: no text that can be compared")
    if spec.codes is not None:
        news = list(spec.codes.values())
        whole = "int" if all(isinstance(n, int) for n in news) else f"varchar({max(1, *(len(str(n)) for n in news))})"
        return Coded(column, tuple((old, str(new)) for old, new in spec.codes.items())), whole
    if column.type not in ("char", "varchar"):
        raise _Problem(f"separator: {column.name} is {column.full_type}, not CHAR or VARCHAR")
    assert spec.separator is not None and spec.part is not None
    siblings = [s for s in specs.values() if s.from_ and s.from_.lower() == column.name.lower()]
    parts = sorted(s.part or 0 for s in siblings)
    if (
        any(s.separator != spec.separator for s in siblings)
        or parts != list(range(1, len(parts) + 1))
        or len(parts) < 2
    ):
        raise _Problem(
            f"{column.name} must be split by one separator, each part carried once, from 1 on; there are {parts}"
        )
    return Split(column, spec.separator, spec.part, len(parts)), f"varchar({length(column)})"


def _renamed(name: str, spec: ColumnSpec, column: Column) -> Column:
    tightened = column.nullable and not spec.null
    if spec.type is None and not tightened:
        return column if name == column.name else replace(column, name=name, origin=Renamed(column))
    made = replace(column, name=name, nullable=column.nullable and spec.null, auto_increment=False)
    if spec.type is not None:
        family = INTEGERS, INTEGERS | {"decimal"}, frozenset({"char", "varchar"})
        made = _typed(made, spec.type, column.collation or "")
        allowed = family[0] if made.type in INTEGERS else family[1] if made.type == "decimal" else family[2]
        if column.type not in allowed:
            raise _Problem(f"type: {column.full_type} doesn't become {spec.type} exactly")
    return _with_default(replace(made, origin=Renamed(column, checked=True)), column)


def _typed(column: Column, full_type: str, collation: str) -> Column:
    kind = full_type.partition("(")[0].partition(" ")[0]
    text = kind in TEXTS
    same = text and column.charset is not None and column.type in ("char", "varchar") and column.collation == collation
    return replace(
        column,
        type=kind,
        full_type=full_type,
        charset=(column.charset if same else "utf8mb4") if text else None,
        collation=(column.collation if same else target_collation(collation)) if text else None,
    )


def _fits(column: Column, value: str) -> None:
    if column.type in INTEGERS:
        low, high = bounds(column)
        if not value.lstrip("-").isdigit() or not low <= int(value) <= high:
            raise _Problem(f"{value!r} is no {column.full_type}")
    elif column.type != "varchar":
        raise _Problem(f"a constant or a code is an integer or VARCHAR, not {column.full_type}")
    elif len(value) > length(column):
        raise _Problem(f"{value!r} is longer than {column.full_type}")


def _with_default(made: Column, column: Column) -> Column:
    """The column with the default that the source's becomes, if it becomes one."""
    default = None
    if column.default is not None and not column.default_is_expression and isinstance(made.origin, _DEFAULT):
        try:
            text = forward(made)(str(column.default).encode())
            default = None if text is None else text.decode()
        except (ValueError, ArithmeticError):
            default = None
    return replace(made, default=default, default_is_expression=False)


def _indexes(source: TableDef, columns: list[Column], problems: list[str]) -> Iterator[Index]:
    """The indexes of which every column is carried as it is. What makes a key must be."""
    plain: dict[str, Column] = {}
    for column in columns:
        origin = source_of(column)
        if origin is not None and not column.converted:
            plain.setdefault(origin.name.lower(), column)
    for index in source.indexes:
        missing = [str(c) for c in index.columns if c.lower() not in plain]
        if not missing and len(index.columns) == len(index.parts):
            yield replace(index, parts=tuple((plain[str(c).lower()].name, p) for c, p in index.parts))
        elif index == source.key:
            problems.append(
                f"the key {index.name} has {', '.join(missing)}: a key's columns may be renamed, not dropped and not "
                "converted; a constant may join them"
            )


def _with_key(
    names: tuple[str, ...], key: Index, indexes: tuple[Index, ...], columns: list[Column], problems: list[str]
) -> Iterator[Index]:
    """The indexes with a primary key of those names: constants, and the columns of the source's key in their order."""
    there = {c.name.lower(): c for c in columns}
    problems += [f"key: there is no column {name}" for name in names if name.lower() not in there]
    chosen = [there[name.lower()] for name in names if name.lower() in there]
    own = [c.name for c in chosen if not isinstance(c.origin, Constant)]
    old = next((i for i in indexes if i.name == key.name), None)
    if old is not None and (own != list(old.columns) or any(p for _, p in old.parts)):
        problems.append(f"key: expected {', '.join(old.columns)}, in that order, and constants among them")
    yield Index("PRIMARY", True, tuple((c.name, None) for c in chosen))
    yield from (i for i in indexes if not i.primary)
