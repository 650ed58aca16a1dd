"""Values in a row image: how wide each is, and the text that says it to the target."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any

from migrate.copy.rowformat import Kind
from migrate.model import BINARIES, INTEGERS, TEXTS, Column, literal
from migrate.sync import jsonb
from migrate.sync.charset import UTF8, to_utf8
from migrate.sync.decimals import decimal_text, groups
from migrate.sync.labels import Labels
from migrate.sync.temporal import adopt_datetime, adopt_time, date_text, datetime_text, time_text, timestamp_text

TINY, SHORT, LONG, FLOAT, DOUBLE, TIMESTAMP, LONGLONG, INT24 = 1, 2, 3, 4, 5, 7, 8, 9
DATE, TIME, DATETIME, YEAR, VARCHAR, BIT, TIMESTAMP2, DATETIME2, TIME2 = 10, 11, 12, 13, 15, 16, 17, 18, 19
VECTOR, JSON, NEWDECIMAL, ENUM, SET, BLOB, VAR_STRING, STRING, GEOMETRY = 242, 245, 246, 247, 248, 252, 253, 254, 255

_WIRE = {
    "tinyint": {TINY}, "smallint": {SHORT}, "mediumint": {INT24}, "int": {LONG}, "bigint": {LONGLONG},
    "decimal": {NEWDECIMAL}, "float": {FLOAT}, "double": {DOUBLE}, "bit": {BIT}, "date": {DATE},
    "time": {TIME, TIME2}, "datetime": {DATETIME, DATETIME2}, "timestamp": {TIMESTAMP, TIMESTAMP2}, "year": {YEAR},
    "char": {STRING}, "binary": {STRING}, "varchar": {VARCHAR}, "varbinary": {VARCHAR}, "enum": {ENUM}, "set": {SET},
    "json": {JSON}, **{t: {BLOB} for t in TEXTS | BINARIES if t.endswith(("text", "blob"))},
}  # fmt: skip
_SIGNED = {TINY: "b", SHORT: "h", LONG: "i", LONGLONG: "q"}
_BY_WIDTH = {1: "B", 2: "H", 4: "I", 8: "Q"}


@dataclass(frozen=True, slots=True)
class Codec:
    """How a column's values lie in a row image, and what they are on the target.

    cut: the struct code of a value of fixed width (little-endian); empty where `prefix` bytes of length come first.
    adopt: makes an element of an image of what was cut; None if that is one. Elements are hashable, and equal if and
    only if the values are. text: the element as the target shows it, ValueError with the reason if it can't be there;
    None where it is the text itself, or its number for the form %d. kind: as fields of a CSV. same: whether an element
    is the value that the target shows as that text, where texts alone don't tell. quoted: whether its SQL literal is.
    """

    cut: str
    prefix: int = 0
    adopt: Callable[[Any], Any] | None = None
    text: Callable[[Any], bytes] | None = None
    form: str = "%b"
    kind: Kind = "bare"
    same: Callable[[Any, bytes], bool] | None = None
    quoted: bool = False

    def literal(self, element: Any) -> str:
        """The value as an SQL literal. ValueError if the target can't hold it."""
        text = self.said(element)
        if self.kind == "bytes":
            return f"X'{text.hex()}'" if text else "''"
        if self.kind == "text":
            return literal(text.decode())
        return f"'{text.decode()}'" if self.quoted else text.decode()

    def said(self, element: Any) -> bytes:
        """The element's text. ValueError with the reason if the target can't hold it."""
        if self.text:
            return self.text(element)
        return b"%d" % element if self.form == "%d" else bytes(element)


def real_type(code: int, meta: int) -> tuple[int, int]:
    """(type code, length in bytes) of a STRING, which hides ENUM and SET in its metadata, and two bits of its length
    in the bits of the type."""
    kind, length = meta >> 8, meta & 0xFF
    if kind & 0x30 != 0x30:
        return kind | 0x30, length | ((kind & 0x30) ^ 0x30) << 4
    return kind or code, length


def wire(code: int, meta: int) -> Codec:
    """How values of a type lie in an image, whatever they mean. ValueError for types that aren't known."""
    if code in _SIGNED:
        return Codec(_SIGNED[code])
    width = {INT24: 3, FLOAT: 4, DOUBLE: 8, DATE: 3, TIME: 3, DATETIME: 8, TIMESTAMP: 4, YEAR: 1}.get(code)
    if code == NEWDECIMAL:
        width = sum(size for _, size in groups(meta >> 8, meta & 0xFF))
    elif code == BIT:
        width = (_bits(meta) + 7) // 8
    elif code in (TIMESTAMP2, DATETIME2, TIME2):
        width = {TIMESTAMP2: 4, DATETIME2: 5, TIME2: 3}[code] + (meta + 1) // 2
    elif code == VARCHAR:
        return Codec("", 1 if meta < 256 else 2)
    elif code in (BLOB, JSON, GEOMETRY, VECTOR):
        return Codec("", meta)
    elif code == STRING:
        real, length = real_type(code, meta)
        if real == STRING:
            return Codec("", 1 if length < 256 else 2)
        width = length
    if width is None:
        raise ValueError(f"there is no decoding of its type {code} of the binlog")
    return Codec(f"{width}s")


def _bits(meta: int) -> int:
    return (meta >> 8) * 8 + (meta & 0xFF)


@lru_cache(4096)
def codec(column: Column, code: int, meta: int) -> Codec:
    """How the column's values are decoded, from type code and metadata of the binlog's table map. ValueError if these
    don't fit the column, or TiDB has no such type."""
    if column.type not in _WIRE:
        raise ValueError(f"TiDB has no type like {column.full_type}")
    real, length = real_type(code, meta) if code == STRING else (code, meta)
    if real not in _WIRE[column.type]:
        raise ValueError(f"it is {column.full_type} by the definition, and of type {real} in the binlog")
    lies = wire(code, meta)
    made = partial(Codec, lies.cut, lies.prefix)
    if column.type in INTEGERS:
        return _integer(column, real)
    if column.type == "decimal":
        return made(text=decimal_text(*_agreed(column, (meta >> 8, meta & 0xFF))))
    if column.type in ("float", "double"):
        pack = struct.Struct("<f" if column.type == "float" else "<d")
        return made(text=partial(_float, pack), kind="float", same=partial(_same_float, pack))
    if column.type == "bit":
        _agreed(column, (_bits(meta),))
        return made(kind="bytes")
    if column.type == "year":
        return Codec("B", text=_year)
    if column.type in ("date", "time", "datetime", "timestamp"):
        return _temporal(column, real, meta)
    if column.type in ("enum", "set"):
        return _member(column, length)
    if column.type == "json":
        return made(adopt=jsonb.element, text=jsonb.text, kind="text", same=jsonb.same)
    if column.type == "binary":
        (width,) = _agreed(column, (length,))
        return made(text=lambda value: value.ljust(width, b"\0"), kind="bytes")
    if column.type in BINARIES:
        return made(kind="bytes")
    return made(text=None if column.charset in UTF8 else to_utf8(column.charset or ""), kind="text")


def _agreed(column: Column, meta: tuple[int, ...]) -> tuple[int, ...]:
    """The type's arguments. ValueError unless those of the definition are those of the binlog."""
    found = tuple(int(n) for n in re.findall(r"\d+", column.full_type))
    if found != meta:
        raise ValueError(f"it is {column.full_type} by the definition, and ({', '.join(map(str, meta))}) in the binlog")
    return meta


def _integer(column: Column, code: int) -> Codec:
    if code == INT24:
        return Codec("3s", adopt=partial(_int24, signed=not column.unsigned), form="%d")
    letter = _SIGNED[code]
    return Codec(letter.upper() if column.unsigned else letter, form="%d")


def _int24(value: bytes, signed: bool) -> int:
    return int.from_bytes(value, "little", signed=signed)


def _float(pack: struct.Struct, value: bytes) -> bytes:
    """As TiDB writes a double: all digits, with an exponent from 1e15 on, and below 1e-15."""
    (number,) = pack.unpack(value)
    if number == 0:
        if value[-1] & 0x80:
            raise ValueError("it is a negative zero, the target would store 0")
        return b"0"
    shown = repr(number)
    if not 1e-15 <= abs(number) < 1e15:
        digits = Decimal(shown).normalize()
        return f"{digits:e}".replace("e+", "e").encode()
    return (f"{Decimal(shown):f}" if "e" in shown else shown.removesuffix(".0")).encode()


def _same_float(pack: struct.Struct, value: bytes, text: bytes) -> bool:
    shown, (number,) = float(text), pack.unpack(value)
    # A FLOAT's own text has no more than six digits where it has an exponent.
    short = pack.size == 4 and b"e" in text and len(text.partition(b"e")[0]) <= len(b"-1.23456")
    return pack.pack(shown) == value or (short and f"{shown:.5e}" == f"{number:.5e}")


def _year(value: int) -> bytes:
    return b"%d" % (1900 + value) if value else b"0000"


def _temporal(column: Column, code: int, meta: int) -> Codec:
    found = re.findall(r"\d+", column.full_type)
    digits = int(found[0]) if found else 0
    if code in (TIME, DATETIME, TIMESTAMP) and digits:
        raise ValueError(f"{column.full_type} in a format of before MySQL 5.6, which has no fractions of a second; "
                         "ALTER TABLE .. FORCE on the source gives it the one of today")  # fmt: skip
    if code in (TIME2, DATETIME2, TIMESTAMP2) and digits != meta:
        raise ValueError(f"it is {column.full_type} by the definition, and has {meta} digits in the binlog")
    tail = (digits + 1) // 2
    if code == DATE:
        return Codec("3s", text=date_text, quoted=True)
    if code == TIME2:
        return Codec(f"{3 + tail}s", text=time_text(digits), quoted=True)
    if code == DATETIME2:
        return Codec(f"{5 + tail}s", text=datetime_text(digits), quoted=True)
    if code == TIMESTAMP2:
        return Codec(f"{4 + tail}s", text=timestamp_text(digits), quoted=True)
    # A table of before 5.6: its values are kept as those of today's, which they must be equal to.
    if code == TIME:
        return Codec("3s", adopt=adopt_time, text=time_text(0), quoted=True)
    if code == DATETIME:
        return Codec("Q", adopt=adopt_datetime, text=datetime_text(0), quoted=True)
    return Codec("4s", adopt=lambda value: value[::-1], text=timestamp_text(0), quoted=True)


def _member(column: Column, width: int) -> Codec:
    """An ENUM's number or a SET's bits; `width` bytes."""
    texts = Labels(column).__getitem__
    if width in _BY_WIDTH:
        return Codec(_BY_WIDTH[width], text=texts, kind="text")
    return Codec(f"{width}s", adopt=partial(_int24, signed=False), text=texts, kind="text")
