"""The CSV of a row, made by the source server where that is safe, and here where it isn't.

Fields stand in double quotes unless their type can't hold a special character; a quote or a backslash inside is
escaped by a backslash; NULL is \\N without quotes. Dumpling writes the same, Lightning and IMPORT INTO read it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from migrate.conversion import as_it_stands, misfit_sql, source_of, value_sql
from migrate.errors import MigrateError
from migrate.model import (
    BINARIES,
    FLOATS,
    INTEGERS,
    TIMES,
    Column,
    Constant,
    Interleave,
    TableDef,
    quote,
)
from migrate.schema.column import members

_BARE = INTEGERS | FLOATS | TIMES | {"decimal"}
# Not FLOATS: MySQL 9.7 rounds a negative DOUBLE to fit 22 characters where it becomes a text inside an expression.
_FAST = (_BARE - FLOATS) | {"char", "varchar", "tinytext", "text", "enum", "set"}
_UTF8 = frozenset({"utf8", "utf8mb3", "utf8mb4", "ascii"})  # their bytes are those of utf8mb4
_WHOLE = frozenset({"latin1"})  # every byte is a character

FIELD = rb'"(?:[^"\\]|\\.)*"|[^",\n]*'
_EACH_FIELD = re.compile(rb"(%b)[,\n]" % FIELD, re.DOTALL)

Kind = Literal["bare", "float", "text", "bytes", "number"]  # number: a mapped one, which may be a reason instead

# Starts what the server sends for a value that can't be carried, followed by the reason: no UTF-8 holds such bytes.
_REFUSED = "FE00FE"


class RowRefused(MigrateError):
    """A row can't be carried as it is: the target would change it, skip it, or replace another by it."""


@dataclass(frozen=True)
class RowSelect:
    """How to select rows of a shard.

    columns: names, as the CSV's header has them; fast: one SQL expression that yields a whole line with its end, None
    where a column forbids it; quoted: how many fields of a fast line stand in quotes; exact: an expression a column;
    kinds: per column, how its text becomes a field.
    """

    columns: tuple[str, ...]
    fast: str | None
    quoted: int
    exact: tuple[str, ...]
    kinds: tuple[Kind, ...]


def row_select(definition: TableDef, remap: dict[str, Interleave]) -> RowSelect:
    """The selection for a table of that shape, key columns interleaved as `remap` says."""
    columns = definition.stored_columns
    exact = tuple(_value(c, remap.get(c.name)) for c in columns)
    fast = None
    if all(c.type in _FAST for c in columns):
        fast = _line(columns, exact)
    return RowSelect(
        columns=tuple(c.name for c in columns),
        fast=fast,
        quoted=sum(c.nullable or c.type not in _BARE for c in columns),
        exact=exact,
        kinds=tuple(map(_kind, columns)),
    )


def _kind(column: Column) -> Kind:
    if column.type in FLOATS:
        return "float"
    if column.type in _BARE:
        return "number" if column.converted else "bare"
    return "bytes" if column.type in BINARIES or column.type == "bit" else "text"


def _value(column: Column, interleave: Interleave | None) -> str:
    """The expression whose text is the column's exact value, or the reason why it can't be carried."""
    if not column.converted:
        return _plain(column, interleave)
    source = source_of(column)
    assert source is not None
    value = _plain(column, None) if as_it_stands(column) else value_sql(column)
    unfit = misfit_sql(column)
    if not unfit:
        return value
    shown = f"IFNULL(LEFT(CONVERT({quote(source.name)} USING utf8mb4), 99), 'NULL')"
    reason = _reason(f"{source.name} can't be mapped exactly: ")
    return f"IF({unfit}, CONCAT({reason}, {shown}), {value})"


def _plain(column: Column, interleave: Interleave | None) -> str:
    name = column.sql
    if isinstance(column.origin, Constant):
        return name
    if interleave:
        return f"({name} * {1 << interleave.bits} + {interleave.number})"
    if column.type in FLOATS:  # FLOAT prints six digits; as a DOUBLE product it prints all, and -0 stays -0
        return f"{name} * 1e0"
    if column.type == "json":
        return _json(name)
    text = _text(name, column)
    if unnamed := no_text(column):
        return f"IF({unnamed}, {_reason('it is not to be told from its empty member')}, {text})"
    return text


def _text(name: str, column: Column) -> str:
    if column.charset is None or is_utf8(column):
        return name
    wide = f"CONVERT({name} USING utf8mb4)"
    if column.charset in _WHOLE:
        return wide
    # what has no character of Unicode becomes a question mark; in 9.7 the whole text NULL, after half a surrogate pair
    reason = _reason(f"it does not come back from Unicode to {column.charset}: ")
    back = f"CAST(CONVERT({wide} USING {column.charset}) AS BINARY)"
    lossy = f"IFNULL({back} <> CAST({name} AS BINARY), {name} IS NOT NULL)"
    return f"IF({lossy}, CONCAT({reason}, HEX(LEFT({name}, 99))), {wide})"


def is_utf8(column: Column) -> bool:
    """Whether the bytes of the column's text are those of utf8mb4."""
    return column.charset in _UTF8


def no_text(column: Column) -> str | None:
    """The condition that the value shows as the empty text, or as others show, but isn't that member: number 0 of an
    ENUM with an empty member; a SET with the empty member in it. None where there is no such value."""
    if column.type not in ("enum", "set") or "" not in (names := members(column.full_type)):
        return None
    name = column.sql
    return f"{name} + 0 = 0" if column.type == "enum" else f"{name} & {1 << names.index('')} <> 0"


def no_json_text(name: str) -> str:
    """The condition that a JSON holds dates, bytes or exact decimals whose text is another value."""
    return f"IFNULL({name} <> CAST(CAST({name} AS CHAR) AS JSON), {name} IS NOT NULL)"


def _json(name: str) -> str:
    reason = _reason("dates, bytes or long decimals in it have no JSON text")
    return f"IF({no_json_text(name)}, {reason}, CAST({name} AS CHAR))"


def _reason(words: str) -> str:
    return f"CAST(X'{_REFUSED}{words.encode().hex()}' AS BINARY)"  # not a literal, which would be converted


def _line(columns: Sequence[Column], values: Sequence[str]) -> str:
    # CAST makes bytes of the whole line. With a mere _binary'' the server converts it to the charset of a column,
    # and what isn't valid in that to question marks.
    arguments: list[str] = ["CAST('' AS BINARY)"]
    text = ""
    for i, (column, value) in enumerate(zip(columns, values, strict=True)):
        text += "," if i else ""
        if column.nullable:
            arguments += [f"'{text}'"] * bool(text)
            # not IFNULL(CONCAT ..): a CONCAT over max_allowed_packet is NULL too, and must make the line NULL
            whole = f"CONCAT(CAST('\"' AS BINARY), {value}, '\"')"
            arguments.append(f"IF({column.sql} IS NULL, _binary X'5C4E', {whole})")
            text = ""
        elif column.type in _BARE:
            arguments += [f"'{text}'"] * bool(text)
            arguments.append(value)
            text = ""
        else:
            arguments += [f"'{text}\"'", value]
            text = '"'
    end = f"{text}\n".encode().hex()
    arguments.append(f"_binary X'{end}'")
    return f"CONCAT({', '.join(arguments)})"


def is_plain(block: bytes, rows: int, quoted: int) -> bool:
    """Whether a block of fast lines is CSV as it stands, that is, no field holds a quote or a backslash.

    Every quoted field brings two quotes, every NULL one backslash in their place. A stray quote makes one quote too
    many, a stray backslash two expected ones too few: both shift the equation in the same direction, so it holds
    only where there is neither.
    """
    return block.count(b'"') == 2 * (rows * quoted - block.count(b"\\"))


def escaped_line(kinds: Sequence[Kind]) -> Callable[[Sequence[bytes | None]], bytes]:
    """A function from a row's raw values to its line, without the line's end. It raises ValueError, with the column's
    number and the reason, for a value that can't be carried."""
    fields = [_FIELDS[kind] for kind in kinds]

    def line(row: Sequence[bytes | None]) -> bytes:
        try:
            return b",".join([b"\\N" if v is None else field(v) for field, v in zip(fields, row, strict=True)])
        except ValueError:
            raise _first_refusal(fields, row) from None

    return line


def _bare(value: bytes) -> bytes:
    return value


def _number(value: bytes) -> bytes:
    _checked(value)
    return value


def _float(value: bytes) -> bytes:
    if value == b"-0":
        raise ValueError("it is a negative zero, the target would store 0")
    return value


def _quoted(value: bytes) -> bytes:
    return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _checked(value: bytes) -> bytes:
    try:
        value.decode()
    except UnicodeDecodeError:
        if value.startswith(bytes.fromhex(_REFUSED)):
            raise ValueError(value[3:].decode(errors="backslashreplace")) from None
        raise ValueError(f"it is no valid UTF-8: X'{value[:99].hex().upper()}'") from None
    return _quoted(value)


_FIELDS: dict[Kind, Callable[[bytes], bytes]] = {
    "bare": _bare,
    "float": _float,
    "text": _checked,
    "bytes": _quoted,
    "number": _number,
}


def _first_refusal(fields: Sequence[Callable[[bytes], bytes]], row: Sequence[bytes | None]) -> ValueError:
    for number, (field, value) in enumerate(zip(fields, row, strict=False)):
        try:
            field(value or b"")
        except ValueError as error:
            return ValueError(number, str(error))
    return ValueError(0, f"expected {len(fields)} columns, got {len(row)}")


def fields(line: bytes) -> list[bytes]:
    """The fields of a line, as they stand there."""
    return _EACH_FIELD.findall(line)


def header(columns: Sequence[str]) -> bytes:
    """The CSV's first line, with its end."""
    return b",".join(b'"' + c.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"' for c in columns) + b"\n"
