"""Mapped columns as verification reads them of a shard: by its own SQL, not by what copies them.

What can't be mapped exactly stays as it is here, or says so: it is no value that the target could have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, localcontext

from migrate.errors import NoGo
from migrate.model import INTEGERS, Coded, Column, Constant, Renamed, Scaled, ShardTable, Split, literal, quote

_NAME = re.compile(r"`((?:[^`]|``)+)`")


def value_of(column: Column) -> str:
    """The SQL of a column's value over the shard's own columns."""
    match column.origin:
        case None:
            return quote(column.name)
        case Renamed(source, checked):
            number = checked and source.type in INTEGERS | {"decimal"}  # without the zeros of ZEROFILL
            return f"({quote(source.name)} + 0)" if number else quote(source.name)
        case Constant(value):
            return value if column.type in INTEGERS else literal(value)
        case Scaled(source, scale):
            return f"(CAST({quote(source.name)} AS DECIMAL(60,{_scale(source) + scale})) / {10**scale})"
        case Coded(source, codes):
            return _coded(column, source, codes)
        case Split(source, separator, part, parts):
            text, mark = f"CONVERT({quote(source.name)} USING utf8mb4)", literal(separator)
            counted = f"LENGTH({text}) - LENGTH(REPLACE({text}, {mark}, '')) = {parts - 1}"
            own = f"SUBSTRING_INDEX(SUBSTRING_INDEX({text}, {mark}, {part - parts - 1}), {mark}, 1)"
            return f"IF({counted}, {own}, CONCAT('not {parts} parts: ', {text}))"


def text_of(column: Column) -> str:
    """The SQL of a number's text as the target writes it; where the target can't have the number, all its digits."""
    value = value_of(column)
    if column.type != "decimal" or not column.converted:
        return value
    fitting = f"CAST({value} AS DECIMAL(65,{_scale(column)}))"
    return f"IF({value} = {fitting}, CONCAT({fitting}), CONCAT({value}))"


def over(shard: ShardTable | None, sql: str) -> str:
    """SQL over the columns of the merged table as SQL over the shard's; names stand in backticks, and nothing else
    does. None: the target, where it stays as it is."""
    if shard is None or not shard.mapped:
        return sql
    own = {c.name.lower(): value_of(c) for c in shard.definition.columns}

    def replaced(match: re.Match[str]) -> str:
        return own.get(match[1].replace("``", "`").lower(), match[0])

    return _NAME.sub(replaced, sql)


def written_back(
    shard: ShardTable, values: Mapping[str, str | None], literal_of: Callable[[str], str]
) -> dict[str, str]:
    """A row of the merged table as SQL by the shard's own columns, of those that are carried. `literal_of` gives the
    literal of a column that is as it stands there. NoGo names the column that the shard can't have so."""
    found: dict[str, str] = {}
    parts: dict[str, list[str | None]] = {}
    for column in sorted(shard.definition.stored_columns, key=_part):
        value, origin = values[column.name], column.origin
        try:
            match origin:
                case None:
                    found[column.name] = literal_of(column.name)
                case Renamed(source):
                    found[source.name] = literal_of(column.name)
                case Constant(constant) if value != constant:
                    raise ValueError(f"is {value!r}, and {constant!r} for each row of {shard.shard}")
                case Scaled(source, scale):
                    found[source.name] = "NULL" if value is None else _minor(value, scale, _scale(source))
                case Coded(source, codes):
                    found[source.name] = "NULL" if value is None else literal(_code(value, codes))
                case Split(source, separator, _, count):
                    parts.setdefault(source.name, []).append(value)
                    if len(parts[source.name]) == count:
                        found[source.name] = _joined(parts[source.name], separator)
        except ValueError as error:
            raise NoGo(f"{shard.shard}: the target's {column.name} {error}") from None
    return found


def not_carried(shard: ShardTable) -> list[str]:
    """The shard's own columns that the merged table knows nothing of."""
    if not shard.mapped:
        return []
    sources = (c.origin for c in shard.definition.columns if not isinstance(c.origin, Constant))
    carried = {o.source.name for o in sources if o is not None} | {
        c.name for c in shard.definition.columns if c.origin is None
    }
    return [c.name for c in shard.physical.columns if c.name not in carried]


def _part(column: Column) -> int:
    return column.origin.part if isinstance(column.origin, Split) else 0


def _minor(value: str, scale: int, digits: int) -> str:
    with localcontext(prec=100):
        units = Decimal(value).scaleb(scale)
        if units != units.quantize(Decimal(1).scaleb(-digits)):
            raise ValueError(f"is {value}, which has more than {scale} digits")
        return f"{units.quantize(Decimal(1).scaleb(-digits)):f}"


def _code(value: str, codes: tuple[tuple[str, str], ...]) -> str:
    olds = [old for old, new in codes if new == value]
    if len(olds) != 1:
        raise ValueError(f"is {value!r}, which {'no code' if not olds else 'more than one code'} becomes")
    return olds[0]


def _joined(values: list[str | None], separator: str) -> str:
    if values.count(None) == len(values):
        return "NULL"
    if None in values or any(separator in str(v) for v in values):
        raise ValueError(f"can't be joined to one text by {separator!r}: {values}")
    return literal(separator.join(map(str, values)))


def _scale(column: Column) -> int:
    numbers = re.findall(r"\d+", column.full_type)
    return int(numbers[1]) if column.type == "decimal" and len(numbers) > 1 else 0


def _coded(column: Column, source: Column, codes: tuple[tuple[str, str], ...]) -> str:
    name = quote(source.name)
    number = source.type in INTEGERS | {"decimal"}
    hexed = f"HEX(CONVERT({name}{' + 0' if number else ''} USING utf8mb4))"
    known = ", ".join(f"'{old.encode().hex().upper()}'" for old, _ in codes)
    values = ", ".join(f"'{new}'" if column.type in INTEGERS else literal(new) for _, new in codes)
    unknown = (
        f"CONCAT('x', {hexed})" if column.type in INTEGERS else f"CONCAT('no code: ', CONVERT({name} USING utf8mb4))"
    )
    return f"IF({name} IS NULL, NULL, IFNULL(ELT(FIELD({hexed}, {known}), {values}), {unknown}))"
