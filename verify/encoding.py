"""The text of a row that is hashed: unambiguous, and the same from either server.

The text is the columns' pieces joined by commas. No piece holds a comma, and each says all of its value: numbers and
times are their own text, strings the HEX of their UTF-8 or bytes, large ones their hash, and NULL is N, which none of
those can be. So two rows have one text only if they are the same row; `('a,b','c')` is not `('a','b,c')`. HEX also
frees the text from collations, which TiDB and MySQL refuse to mix, and from character sets.

What the servers don't write alike stays out of the text and is finished here: FLOAT and DOUBLE to the last bit, JSON.

The text can't be NULL, which SUM would skip: a row is at most 65,535 bytes outside its blobs, a byte gives at most
8 characters, and `tables.load` checks that every server's max_allowed_packet is above that.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from decimal import Context, Decimal
from enum import Enum
from typing import Any, Literal

from migrate.errors import NoGo
from migrate.model import BINARIES, FLOATS, INTEGERS, TEXTS, Column, Interleave, quote
from verify.mapped import text_of

Side = Literal["source", "target"]


class Kind(Enum):
    """How a column enters the text."""

    NUMBER = "number"
    BITS = "bits"
    CLOCK = "clock"
    TEXT = "text"
    BYTES = "bytes"
    LARGE_TEXT = "large text"
    LARGE_BYTES = "large bytes"
    FLOAT = "float"
    JSON = "json"

    @property
    def client(self) -> bool:
        """Finished here, since the servers have no common text for it."""
        return self in (Kind.FLOAT, Kind.JSON)


@dataclass(frozen=True, slots=True)
class Hash:
    """The hash of a migration. MD5 where every server has it: TiDB doesn't push SHA2 down to TiKV, and MySQL from 9.6
    on has no MD5 of its own."""

    name: Literal["MD5", "SHA2"]

    def sql(self, expression: str) -> str:
        return f"MD5({expression})" if self.name == "MD5" else f"SHA2({expression},256)"

    def of(self, text: str) -> str:
        if self.name == "MD5":
            return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        return hashlib.sha256(text.encode()).hexdigest()


# Character sets whose bytes are UTF-8 as they are. TiDB keeps latin1 as UTF-8, too.
UTF8: dict[Side, frozenset[str]] = {
    "source": frozenset({"utf8mb4", "utf8", "utf8mb3", "ascii"}),
    "target": frozenset({"utf8mb4", "utf8", "utf8mb3", "ascii", "latin1"}),
}


def kind_of(column: Column) -> Kind:
    """How that column of the source is digested, on both sides. NoGo for a type that TiDB doesn't have."""
    if column.type in INTEGERS or column.type in ("decimal", "year"):
        return Kind.NUMBER
    if column.type == "bit":
        return Kind.BITS
    if column.type in ("date", "datetime", "timestamp", "time"):
        return Kind.CLOCK
    if column.type in TEXTS:
        return Kind.LARGE_TEXT if column.type.endswith("text") else Kind.TEXT
    if column.type in BINARIES:
        return Kind.LARGE_BYTES if column.type.endswith("blob") else Kind.BYTES
    if column.type in FLOATS:
        return Kind.FLOAT
    if column.type == "json":
        return Kind.JSON
    raise NoGo(f"column {column.name} is {column.full_type}: there is no digest for that type")


def piece(column: Column, kind: Kind, side: Side, hash_: Hash, remap: Interleave | None = None) -> str:
    """The SQL of a column's piece on that side; of a client-finished one, the SQL of what it is finished from."""
    value = text_of(column) if side == "source" and column.origin else quote(column.name)
    if remap:  # DECIMAL: the product may be beyond BIGINT
        value = f"CAST({value} AS DECIMAL(20,0))*{1 << remap.bits}+{remap.number}"
    elif kind is Kind.BITS or column.type == "year" or "zerofill" in column.full_type:
        value = f"{value}+0"
    if kind in (Kind.TEXT, Kind.LARGE_TEXT) and column.charset and column.charset not in UTF8[side]:
        value = f"CONVERT({value} USING utf8mb4)"
    if kind in (Kind.TEXT, Kind.BYTES):
        value = f"HEX({value})"
    elif kind in (Kind.LARGE_TEXT, Kind.LARGE_BYTES):
        value = hash_.sql(value)
    elif kind is Kind.FLOAT:
        return f"{value}*1e0"  # in double precision: a FLOAT's own text is rounded to 6 digits
    elif kind is Kind.JSON:
        return value
    return f"IFNULL({value},'N')" if column.nullable or column.origin else value


def told_apart(column: Column, side: Side) -> bool:
    """Whether a server that groups by that column tells all its values apart: a CHAR by a binary collation. Comparing
    passes over trailing blanks, which only a VARCHAR can have."""
    binary = column.collation is not None and column.collation.endswith("_bin")
    return column.type == "char" and binary and column.charset in UTF8[side] and not column.origin


def show(kind: Kind, text: str) -> str | None:
    """The value that a piece stands for, as people and JSON see it."""
    if text == "N":
        return None
    if kind is Kind.TEXT or kind is Kind.JSON:
        return bytes.fromhex(text).decode("utf-8", "backslashreplace")
    if kind is Kind.BYTES:
        return f"0x{text}"
    if kind in (Kind.LARGE_TEXT, Kind.LARGE_BYTES):
        return f"hash {text}"
    if kind is Kind.FLOAT:
        return repr(struct.unpack(">d", bytes.fromhex(text))[0])
    return text


def piece_of(kind: Kind, value: str | None) -> str:
    """The piece that shows as that value; not of a client-finished one."""
    if value is None:
        return "N"
    if kind is Kind.TEXT:
        return value.encode().hex().upper()
    return value.removeprefix("0x" if kind is Kind.BYTES else "hash ")


def finish(kind: Kind, value: str | bytes | None) -> str:
    """The piece of a FLOAT, DOUBLE or JSON from the text that a server gives for it."""
    if value is None:
        return "N"
    text = value.decode() if isinstance(value, bytes) else str(value)
    if kind is Kind.FLOAT:
        return struct.pack(">d", float(text)).hex()
    return _canonical_json(text).encode("utf-8", "surrogatepass").hex()


class _Number(str):
    """A JSON number in canonical form."""


_EXACT = Context(prec=1000)  # digits; a double has at most 309 before the point, a DECIMAL 65


def _number(text: str) -> _Number:
    # TiDB writes the double 1.0 as 1 and 1e20 as 100000000000000000000, MySQL 1.0 and 1e20. What both tell is the
    # decimal that is written, and it names a double exactly, since both write the shortest that does.
    return _Number(_EXACT.normalize(Decimal(text)))


def _canonical_json(text: str) -> str:
    """The document with its keys sorted, no blanks, and every number in its one form."""

    def write(value: Any) -> str:
        if isinstance(value, _Number):
            return str(value)
        if isinstance(value, dict):
            return "{" + ",".join(f"{_string(k)}:{write(v)}" for k, v in sorted(value.items())) + "}"
        if isinstance(value, list):
            return "[" + ",".join(map(write, value)) + "]"
        return _string(value)

    return write(json.loads(text, parse_int=_number, parse_float=_number, strict=False))


def _string(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
