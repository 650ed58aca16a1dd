"""The values of a mapped column, made of the source's by its server or here: exactly, or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, localcontext

from migrate.model import INTEGERS, TEXTS, Coded, Column, Constant, Renamed, Scaled, ShardTable, Split, literal, quote

Text = bytes | None
Convert = Callable[[Text], Text]

_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
_DIGITS = 200  # more than any DECIMAL has


def bounds(column: Column) -> tuple[int, int]:
    """The least and the greatest value of an integer column."""
    bits = _BITS[column.type]
    return (0, 2**bits - 1) if column.unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def digits(column: Column) -> tuple[int, int]:
    """(precision, scale) of a DECIMAL column, or of one that holds every value of an integer column."""
    if column.type in INTEGERS:
        return len(str(max(map(abs, bounds(column))))), 0
    numbers = [int(n) for n in re.findall(r"\d+", column.full_type)]
    return (numbers[0] if numbers else 10), (numbers[1] if len(numbers) > 1 else 0)


def length(column: Column) -> int:
    """The characters that a CHAR or VARCHAR column holds."""
    return int(re.findall(r"\d+", column.full_type)[0])


# -- in SQL, over the source's columns: nothing that MySQL 5.6 doesn't know ------------------------------------------


def value_sql(column: Column) -> str:
    """The value of a converted column; meaningless where `misfit_sql` holds."""
    name = column.sql
    match column.origin:
        case Coded(source, codes):
            cases = " ".join(f"WHEN {_bytes(old)} THEN {_literal(column, new)}" for old, new in codes)
            return f"(CASE {_text_sql(source)} {cases} END)"
        case Split(source, separator, part, _):
            text, mark = f"CONVERT({name} USING utf8mb4)", literal(separator)
            return f"SUBSTRING_INDEX(SUBSTRING_INDEX({text}, {mark}, {part}), {mark}, -1)"
    if column.type == "decimal":
        precision, scale = digits(column)
        return f"CAST({_exact_sql(column)} AS DECIMAL({precision},{scale}))"
    return name


def misfit_sql(column: Column) -> str:
    """The condition, never NULL, that a row's value can't be mapped exactly; empty where none can be."""
    conditions = [f"IFNULL({c}, FALSE)" for c in _misfits(column)]
    source = source_of(column)
    if source is not None and source.nullable and not column.nullable:
        conditions.append(f"{column.sql} IS NULL")
    return " OR ".join(conditions)


def _misfits(column: Column) -> list[str]:
    name = column.sql
    match column.origin:
        case Coded(source, codes):
            return [f"{_text_sql(source)} NOT IN ({', '.join(_bytes(old) for old, _ in codes)})"]
        case Split(source, separator, _, parts):
            text = f"CONVERT({name} USING utf8mb4)"
            count = f"CHAR_LENGTH({text}) - CHAR_LENGTH(REPLACE({text}, {literal(separator)}, ''))"
            back = f"CAST(CONVERT({text} USING {source.charset}) AS BINARY)"
            return [
                f"{count} <> {parts - 1}",
                f"CHAR_LENGTH({value_sql(column)}) > {length(column)}",
                f"{back} <> CAST({name} AS BINARY)",
            ]
        case Renamed(source, True) if column.type in INTEGERS:
            low, high = bounds(column)
            if bounds(source) == (low, high):
                return []
            # DECIMAL: MySQL 5.6 compares a BIGINT UNSIGNED with a negative number as if both had no sign
            return [f"CAST({name} AS DECIMAL(20,0)) NOT BETWEEN {low} AND {high}"]
        case Renamed(source, True) if column.type in ("char", "varchar"):
            return [f"CHAR_LENGTH({name}) > {length(column)}"] if length(column) < length(source) else []
        case Renamed(_, True) | Scaled() if column.type == "decimal":
            return [f"{_exact_sql(column)} <> {value_sql(column)}"]
    return []


def _exact_sql(column: Column) -> str:
    """The number with all its digits: a product of exact numbers is exact, a quotient may lack some."""
    scale = column.origin.scale if isinstance(column.origin, Scaled) else 0
    return f"({column.sql} * {Decimal(1).scaleb(-scale):f})" if scale else f"({column.sql} + 0)"


def _text_sql(source: Column) -> str:
    """The bytes of a value's text, which no collation compares."""
    number = source.type in INTEGERS | {"decimal"}  # without the zeros of ZEROFILL
    value = f"{quote(source.name)} + 0" if number else quote(source.name)
    return f"CAST(CONVERT({value} USING utf8mb4) AS BINARY)"


def _bytes(text: str) -> str:
    return f"X'{text.encode().hex()}'" if text else "''"


def _literal(column: Column, value: str) -> str:
    return value if column.type in INTEGERS else literal(value)


# -- in Python, over the texts of values as the target shows them ------------------------------------------------------


def forward(column: Column) -> Convert:
    """The function from the text of the source's value to the target's. It raises ValueError with the reason if the
    value can't be mapped exactly."""
    if isinstance(column.origin, Constant):
        constant = column.origin.value.encode()
        return lambda _: constant
    convert = _forward(column)

    def checked(text: Text) -> Text:
        if text is not None:
            return convert(text)
        if column.nullable:
            return None
        raise ValueError("it is NULL, and the target's column is NOT NULL")

    return checked


def _forward(column: Column) -> Callable[[bytes], bytes]:
    match column.origin:
        case Coded(_, codes):
            made = {old.encode(): new.encode() for old, new in codes}

            def coded(text: bytes) -> bytes:
                if text not in made:
                    raise ValueError(f"{text.decode()!r} is none of its codes; name it in codes")
                return made[text]

            return coded
        case Split(_, separator, part, parts):

            def split(text: bytes) -> bytes:
                found = text.split(separator.encode())
                if len(found) != parts:
                    raise ValueError(f"{text.decode()!r} has {len(found)} parts between {separator!r}, not {parts}")
                return _short(found[part - 1], length(column))

            return split
    if column.type == "decimal":
        scale = column.origin.scale if isinstance(column.origin, Scaled) else 0
        return lambda text: _decimal(text, -scale, *digits(column))
    if column.type in INTEGERS:
        low, high = bounds(column)
        return lambda text: _within(text, low, high, column.full_type)
    if column.type == "varchar":
        return lambda text: _short(text, length(column))
    return lambda text: text


def _decimal(text: bytes, shift: int, precision: int, scale: int) -> bytes:
    with localcontext(prec=_DIGITS):
        exact = Decimal(text.decode()).scaleb(shift)
        fitting = exact.quantize(Decimal(1).scaleb(-scale))
        if fitting != exact:
            raise ValueError(f"{exact:f} has more than {scale} digits behind the point, and isn't rounded")
        if abs(fitting) >= Decimal(10) ** (precision - scale):
            raise ValueError(f"{exact:f} is beyond DECIMAL({precision},{scale})")
        return f"{fitting if fitting else abs(fitting):f}".encode()


def _within(text: bytes, low: int, high: int, full_type: str) -> bytes:
    if not low <= int(text) <= high:
        raise ValueError(f"{text.decode()} is beyond {full_type}")
    return text


def _short(text: bytes, limit: int) -> bytes:
    if len(text.decode()) > limit:
        raise ValueError(f"{text.decode()!r} has more than {limit} characters")
    return text


# -- what is made of what ----------------------------------------------------------------------------------------------


def source_of(column: Column) -> Column | None:
    """The source column that a column is made of: itself where it isn't mapped, None for a constant."""
    if column.origin is None:
        return column
    return None if isinstance(column.origin, Constant) else column.origin.source


def as_it_stands(column: Column) -> bool:
    """Whether its values are the source's, though not every one may be carried: text, or of the same type."""
    origin = column.origin
    return isinstance(origin, Renamed) and (column.type in TEXTS or column.type == origin.source.type != "decimal")


def made_of(table: ShardTable) -> dict[str, list[Column]]:
    """By the name of each source column that is carried: the columns that are made of it, parts in their order."""
    found: dict[str, list[Column]] = {}
    for column in table.definition.stored_columns:
        source = source_of(column)
        if source is not None:
            found.setdefault(source.name, []).append(column)
    for columns in found.values():
        columns.sort(key=lambda c: c.origin.part if isinstance(c.origin, Split) else 0)
    return found
