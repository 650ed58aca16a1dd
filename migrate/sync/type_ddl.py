"""A column's type as DDL writes it, and as the catalogue has it."""

from __future__ import annotations

from dataclasses import dataclass

from migrate.model import INTEGERS, SPATIAL
from migrate.sync.dialect import Dialect
from migrate.sync.lexer import Cursor, Unreadable

_SAME = {
    "INT": "int", "INTEGER": "int", "INT4": "int", "TINYINT": "tinyint", "INT1": "tinyint", "SMALLINT": "smallint",
    "INT2": "smallint", "MEDIUMINT": "mediumint", "INT3": "mediumint", "MIDDLEINT": "mediumint", "BIGINT": "bigint",
    "INT8": "bigint", "DECIMAL": "decimal", "DEC": "decimal", "NUMERIC": "decimal", "FIXED": "decimal",
    "FLOAT": "float", "FLOAT4": "float", "DOUBLE": "double", "FLOAT8": "double", "BIT": "bit", "DATE": "date",
    "TIME": "time", "DATETIME": "datetime", "TIMESTAMP": "timestamp", "YEAR": "year", "CHAR": "char",
    "VARCHAR": "varchar", "VARCHARACTER": "varchar", "BINARY": "binary", "VARBINARY": "varbinary",
    "TINYTEXT": "tinytext", "TEXT": "text", "MEDIUMTEXT": "mediumtext", "LONGTEXT": "longtext",
    "TINYBLOB": "tinyblob", "BLOB": "blob", "MEDIUMBLOB": "mediumblob", "LONGBLOB": "longblob", "ENUM": "enum",
    "SET": "set", "JSON": "json", "NCHAR": "char", "NVARCHAR": "varchar", "CHARACTER": "char",
}  # fmt: skip
_WIDTHS = {"tinyint": (4, 3), "smallint": (6, 5), "mediumint": (9, 8), "int": (11, 10), "bigint": (20, 20)}
_BLOB_BYTES = {"tiny": 255, "": 65535, "medium": 2**24 - 1, "long": 2**32 - 1}
_FRACTIONS = {"time", "datetime", "timestamp"}


@dataclass(frozen=True)
class WrittenType:
    """A type as written: `args` its numbers, `members` those of an ENUM or SET."""

    kind: str
    args: tuple[int, ...] = ()
    members: tuple[str, ...] = ()
    unsigned: bool = False
    zerofill: bool = False
    charset: str | None = None
    collation: str | None = None
    binary: bool = False
    serial: bool = False


def read_type(cursor: Cursor, dialect: Dialect) -> WrittenType:
    """Reads a type with what belongs to it (signs, charset). Unreadable if it isn't one that is known."""
    word = cursor.take()
    name = word.value.upper()
    if word.kind != "word":
        raise Unreadable(f"a type expected, not {word}")
    if name == "SERIAL":
        return WrittenType("bigint", unsigned=True, serial=True)
    if name in ("BOOL", "BOOLEAN"):
        return WrittenType("tinyint", (1,))
    charset = None
    if name == "NATIONAL":
        charset, name = "utf8", cursor.take().value.upper()
        if name not in ("CHAR", "CHARACTER", "VARCHAR", "VARCHARACTER"):
            raise Unreadable(f"near NATIONAL {name}")
    elif name in ("NCHAR", "NVARCHAR"):
        charset = "utf8"
    kind = _SAME.get(name)
    if name == "REAL":
        kind = "double"
    elif name == "LONG":
        kind = "mediumblob" if cursor.skip("VARBINARY") else "mediumtext"
        cursor.one_of("VARCHAR", "VARCHARACTER")
    elif name.lower() in SPATIAL:
        kind = name.lower()
        if cursor.skip("SRID") or cursor.skip("REF_SYSTEM_ID"):
            raise Unreadable("a geometry with its reference system")
    if kind is None:
        raise Unreadable(f"the type {word}")
    if name == "DOUBLE":
        cursor.skip("PRECISION")
    if kind == "char" and cursor.one_of("VARYING", "LARGE"):
        kind = "varchar"
    args: tuple[int, ...] = ()
    members: tuple[str, ...] = ()
    if kind in ("enum", "set"):
        members = _members(cursor, kind)
    elif cursor.sees("("):
        args = _numbers(cursor)
    return _attributes(cursor, WrittenType(kind, args, members, charset=charset))


def _numbers(cursor: Cursor) -> tuple[int, ...]:
    cursor.expect("(")
    found = [cursor.integer()]
    while cursor.skip(","):
        found.append(cursor.integer())
    cursor.expect(")")
    return tuple(found)


def _members(cursor: Cursor, kind: str) -> tuple[str, ...]:
    cursor.expect("(")
    found = [cursor.text()]
    while cursor.skip(","):
        found.append(cursor.text())
    cursor.expect(")")
    return tuple(m.rstrip(" ") for m in found)


def _attributes(cursor: Cursor, given: WrittenType) -> WrittenType:
    unsigned = zerofill = binary = False
    charset, collation = given.charset, given.collation
    while True:
        if cursor.skip("UNSIGNED"):
            unsigned = True
        elif cursor.skip("ZEROFILL"):
            unsigned = zerofill = True
        elif cursor.skip("SIGNED"):
            pass
        elif cursor.skip("BINARY"):
            binary = True
        elif cursor.skip("CHARACTER", "SET") or cursor.skip("CHARSET") or cursor.skip("CHAR", "SET"):
            charset = cursor.take().value
        elif cursor.skip("ASCII"):
            charset = "latin1"
        elif cursor.skip("UNICODE"):
            charset = "ucs2"
        elif cursor.skip("BYTE"):
            charset = "binary"
        elif cursor.skip("COLLATE"):
            collation = cursor.take().value
        else:
            return WrittenType(given.kind, given.args, given.members, unsigned, zerofill, charset, collation, binary)


def full_type(given: WrittenType, width: int, dialect: Dialect) -> str:
    """COLUMN_TYPE of the catalogue; `width`: the bytes of the charset's longest character."""
    kind, args = given.kind, given.args
    sign = (" unsigned" if given.unsigned else "") + (" zerofill" if given.zerofill else "")
    widths_shown = dialect.mariadb or dialect.version < 80019
    if kind in INTEGERS:
        signed, unsigned = _WIDTHS[kind]
        digits = args[0] if args else unsigned if given.unsigned else signed
        if not widths_shown and not given.zerofill and (kind, digits, given.unsigned) != ("tinyint", 1, False):
            return kind + sign
        return f"{kind}({digits}){sign}"
    if kind == "decimal":
        digits, scale = (*args, *(10, 0)[len(args) :])
        return f"decimal({digits or 10},{scale}){sign}"
    if kind in ("float", "double"):
        if kind == "float" and len(args) == 1:
            return ("float" if args[0] <= 24 else "double") + sign
        return f"{kind}({args[0]},{args[1]}){sign}" if args else kind + sign
    if kind in ("bit", "char", "binary"):
        if args and (args[0] > 255 or (kind == "bit" and not args[0])):
            raise Unreadable(f"a {kind} of that length")
        return f"{kind}({args[0] if args else 1})"
    if kind in ("varchar", "varbinary"):
        if len(args) != 1 or args[0] * width > 65535:
            raise Unreadable(f"a {kind} of that length")
        return f"{kind}({args[0]})"
    if kind in _FRACTIONS:
        return f"{kind}({args[0]})" if args and args[0] else kind
    if kind == "year":
        if args == (2,):
            raise Unreadable("a YEAR(2), which some versions make a YEAR(4)")
        return "year(4)" if widths_shown else "year"
    if kind in ("enum", "set"):
        return f"{kind}({','.join(map(_member, given.members))})"
    if args and args[0] and kind in ("text", "blob"):
        size = next(s for s, limit in _BLOB_BYTES.items() if args[0] * (width if kind == "text" else 1) <= limit)
        return f"{size}{kind}"
    if args:
        raise Unreadable(f"a {kind} with a length")
    return "geomcollection" if kind == "geometrycollection" and dialect.version >= 80000 else kind


def _member(text: str) -> str:
    """A member as the catalogue quotes it."""
    names = {"\\": "\\\\", "\0": "\\0", "\n": "\\n", "\r": "\\r", "'": "''"}
    return "'" + "".join(names.get(c, c) for c in text) + "'"
