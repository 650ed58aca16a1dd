"""The CSV of a row, made by the source server where that is safe, and here where it isn't.

Fields stand in double quotes unless their type can't hold a special character; a quote or a backslash inside is
escaped by a backslash; NULL is \\N without quotes. Dumpling writes the same, Lightning and IMPORT INTO read it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from migrate.model import FLOATS, INTEGERS, TIMES, Column, Interleave, TableDef, quote
from migrate.schema.column import members

_BARE = INTEGERS | FLOATS | TIMES | {"decimal"}
# Not FLOATS: MySQL 9.7 rounds a negative DOUBLE to fit 22 characters where it becomes a text inside an expression.
_FAST = (_BARE - FLOATS) | {"char", "varchar", "tinytext", "text", "enum", "set"}
_UTF8 = frozenset({"utf8", "utf8mb3", "utf8mb4", "ascii"})  # their bytes are those of utf8mb4
_WHOLE = frozenset({"latin1"})  # every byte is a character

_NEGATIVE_ZERO = b"negative zero"  # a float that TiDB would store as 0, and refuses in words


@dataclass(frozen=True)
class RowSelect:
    """How to select rows of a shard.

    columns: names, as the CSV's header has them; fast: one SQL expression that yields a whole line with its end, None
    where a column forbids it; quoted: how many fields of a fast line stand in quotes; exact: an expression a column;
    bare: per column, whether its text goes without quotes.
    """

    columns: tuple[str, ...]
    fast: str | None
    quoted: int
    exact: tuple[str, ...]
    bare: tuple[bool, ...]


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
        bare=tuple(c.type in _BARE for c in columns),
    )


def _value(column: Column, interleave: Interleave | None) -> str:
    """The expression whose text is the column's exact value; where the target has no such value, it is a text that
    the target refuses, and that says why."""
    name = quote(column.name)
    if interleave:
        return f"({name} * {1 << interleave.bits} + {interleave.number})"
    if column.type in FLOATS:  # FLOAT prints six digits; as a DOUBLE product it prints all, and -0 stays -0
        return f"{name} * 1e0"
    if column.type == "json":
        return _json(name)
    text = _text(name, column)
    if column.type in ("enum", "set") and "" in (names := members(column.full_type)):
        return f"IF({_unnamed(column, names)}, 'not to be told from its empty member', {text})"
    return text


def _text(name: str, column: Column) -> str:
    if column.charset is None or column.charset in _UTF8:
        return name
    wide = f"CONVERT({name} USING utf8mb4)"
    if column.charset in _WHOLE:
        return wide
    # What has no character of Unicode becomes a question mark: X'FE' is in no UTF-8, so that the target refuses it.
    lossy = f"CAST(CONVERT({wide} USING {column.charset}) AS BINARY) <> CAST({name} AS BINARY)"
    return f"IF({lossy}, CONCAT(X'FE', HEX(LEFT({name}, 99))), {wide})"


def _unnamed(column: Column, names: Sequence[str]) -> str:
    """Whether the value shows as the empty text, or as others show, but isn't that member: number 0 of an ENUM with
    an empty member; a SET with the empty member in it, which is no text."""
    name = quote(column.name)
    return f"{name} + 0 = 0" if column.type == "enum" else f"{name} & {1 << names.index('')}"


def _json(name: str) -> str:
    # The server's JSON may hold dates, bytes and exact decimals; their text is another value.
    text = f"CAST({name} AS CHAR)"
    changed = f"IFNULL({name} <> CAST({text} AS JSON), {name} IS NOT NULL)"
    return f"IF({changed}, 'dates, bytes or long decimals in it have no JSON text', {text})"


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
            arguments.append(f"IF({quote(column.name)} IS NULL, _binary X'5C4E', {whole})")
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


def escaped_line(bare: Sequence[bool]) -> Callable[[Sequence[bytes | None]], bytes]:
    """A function from a row's raw values to its line, without the line's end."""

    def field(value: bytes | None, is_bare: bool) -> bytes:
        if value is None:
            return b"\\N"
        if is_bare:
            return value if value != b"-0" else _NEGATIVE_ZERO
        return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'

    def line(row: Sequence[bytes | None]) -> bytes:
        return b",".join(map(field, row, bare))

    return line


def header(columns: Sequence[str]) -> bytes:
    """The CSV's first line, with its end."""
    return b",".join(b'"' + c.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"' for c in columns) + b"\n"
