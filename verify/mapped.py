"""Mapped columns as verification reads them of a shard: by its own SQL, not by what copies them.

What can't be mapped exactly stays as it is here, or says so: it is no value that the target could have.
"""

from __future__ import annotations

import re

from migrate.model import INTEGERS, Coded, Column, Constant, Renamed, Scaled, ShardTable, Split, literal, quote

_NAME = re.compile(r"`((?:[^`]|``)+)`")


def value_of(column: Column) -> str:
    """The SQL of a column's value over the shard's own columns."""
    match column.origin:
        case None:
            return quote(column.name)
        case Renamed(source):
            return quote(source.name)
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


def _scale(column: Column) -> int:
    numbers = re.findall(r"\d+", column.full_type)
    return int(numbers[1]) if column.type == "decimal" and len(numbers) > 1 else 0


def _coded(column: Column, source: Column, codes: tuple[tuple[str, str], ...]) -> str:
    name = quote(source.name)
    hexed = f"HEX(CONVERT({name}{' + 0' if source.type in INTEGERS else ''} USING utf8mb4))"
    known = ", ".join(f"'{old.encode().hex().upper()}'" for old, _ in codes)
    values = ", ".join(f"'{new}'" if column.type in INTEGERS else literal(new) for _, new in codes)
    unknown = (
        f"CONCAT('x', {hexed})" if column.type in INTEGERS else f"CONCAT('no code: ', CONVERT({name} USING utf8mb4))"
    )
    return f"IF({name} IS NULL, NULL, IFNULL(ELT(FIELD({hexed}, {known}), {values}), {unknown}))"
