"""Row images as MySQL's documentation tells them: an encoder that shares nothing with the decoder under test."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from migrate.model import Column, Index, TableDef
from migrate.sync.tablemap import TableMap


@dataclass(frozen=True)
class Field:
    """A column with its type code and the bytes of its metadata."""

    column: Column
    code: int
    meta: bytes = b""


def column(name: str, full_type: str, *, nullable: bool = False, charset: str | None = None,
           generated: str | None = None) -> Column:  # fmt: skip
    kind = full_type.partition("(")[0].partition(" ")[0]
    return Column(name, kind, full_type, nullable, charset, generated=generated)


def table(fields: Sequence[Field], key: Sequence[str] = ()) -> TableDef:
    indexes = (Index("PRIMARY", True, tuple((k, None) for k in key)),) if key else ()
    return TableDef(tuple(f.column for f in fields), indexes, "utf8mb4", "utf8mb4_bin")


def table_map(fields: Sequence[Field], optional: bytes = b"") -> TableMap:
    """As the stream reads it from an event."""
    metas = b"".join(f.meta for f in fields)
    nullable = _bits([f.column.nullable for f in fields])
    body = bytes([len(fields)]) + bytes(f.code for f in fields) + _lenenc(len(metas)) + metas + nullable + optional
    return TableMap("s", "t", body, 0, len(body))


def _lenenc(number: int) -> bytes:
    return bytes([number]) if number < 251 else b"\xfc" + number.to_bytes(2, "little")


def _bits(flags: Sequence[bool]) -> bytes:
    return sum(flag << i for i, flag in enumerate(flags)).to_bytes((len(flags) + 7) // 8, "little")


def row(values: Sequence[bytes | None], spare: bool = False) -> bytes:
    """One image: which values are NULL, then the others. `spare`: the bits that stand for no column are set, too."""
    nulls = int.from_bytes(_bits([v is None for v in values]), "little")
    width = (len(values) + 7) // 8
    nulls |= ((1 << 8 * width) - (1 << len(values))) if spare else 0
    return nulls.to_bytes(width, "little") + b"".join(v for v in values if v is not None)


def counted(value: bytes, width: int) -> bytes:
    return len(value).to_bytes(width, "little") + value


def decimal(value: Decimal, precision: int, scale: int) -> bytes:
    """Groups of nine digits in four bytes, from the point outwards; the rest in as many as it needs."""
    sizes = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
    digits = f"{value.copy_abs():.{scale}f}".replace(".", "").rjust(precision, "0")[-precision:]
    whole, fraction = digits[: precision - scale], digits[precision - scale :]
    first = len(whole) % 9
    groups = [whole[:first], *(whole[i : i + 9] for i in range(first, len(whole), 9))]
    groups += [fraction[i : i + 9] for i in range(0, len(fraction), 9)]
    made = bytearray(b"".join(int(g).to_bytes(sizes[len(g)], "big") for g in groups if g))
    if value < 0:
        made = bytearray(b ^ 0xFF for b in made)
    made[0] ^= 0x80
    return bytes(made)


def fraction(micros: int, digits: int) -> bytes:
    width = (digits + 1) // 2
    return (micros // 100 ** (3 - width)).to_bytes(width, "big")


def datetime2(year: int, month: int, day: int, hour: int, minute: int, second: int, micros: int, digits: int) -> bytes:
    packed = ((year * 13 + month) << 5 | day) << 17 | hour << 12 | minute << 6 | second
    return (0x8000000000 + packed).to_bytes(5, "big") + fraction(micros, digits)


def timestamp2(seconds: int, micros: int, digits: int) -> bytes:
    return seconds.to_bytes(4, "big") + fraction(micros, digits)


def time2(negative: bool, hour: int, minute: int, second: int, micros: int, digits: int) -> bytes:
    """The whole number and its fraction together, negated as one, from the middle of the range."""
    width = (digits + 1) // 2
    packed = int.from_bytes((hour << 12 | minute << 6 | second).to_bytes(3, "big") + fraction(micros, digits), "big")
    return ((0x800000 << 8 * width) + (-packed if negative else packed)).to_bytes(3 + width, "big")


def date(year: int, month: int, day: int) -> bytes:
    return (year << 9 | month << 5 | day).to_bytes(3, "little")


# -- binary JSON ---------------------------------------------------------------------------------------------------


_INTEGERS = (
    (5, "<h", -(2**15), 2**15),
    (6, "<H", 0, 2**16),
    (7, "<i", -(2**31), 2**31),
    (8, "<I", 0, 2**32),
    (9, "<q", -(2**63), 2**63),
    (10, "<Q", 0, 2**64),
)


class Opaque(bytes):
    """A value of another type in a JSON: its type code and its bytes."""


def json_document(value: Any, large: bool = False) -> bytes:
    """The document; with `large`, containers have four-byte offsets even where two would do."""
    kind, body = _json(value, large)
    return bytes([kind]) + body


def _json(value: Any, large: bool) -> tuple[int, bytes]:
    if value is None or value is True or value is False:
        return 4, bytes([{None: 0, True: 1, False: 2}[value]])
    if isinstance(value, Opaque):
        return 15, value[:1] + _varlen(len(value) - 1) + value[1:]
    if isinstance(value, int):
        for kind, code, low, high in _INTEGERS:
            if low <= value < high:
                return kind, struct.pack(code, value)
    if isinstance(value, float):
        return 11, struct.pack("<d", value)
    if isinstance(value, str):
        return 12, _varlen(len(value.encode())) + value.encode()
    return _container(value, large)


def _container(value: Any, large: bool) -> tuple[int, bytes]:
    number = "<I" if large else "<H"
    width = 4 if large else 2
    keys = [k.encode() for k in value] if isinstance(value, dict) else []
    items = [_json(v, large) for v in (value.values() if isinstance(value, dict) else value)]
    at = 2 * width + len(keys) * (width + 2) + len(items) * (width + 1)
    key_table, value_table, tail = b"", b"", b""
    for key in keys:
        key_table += struct.pack(number, at + len(tail)) + struct.pack("<H", len(key))
        tail += key
    for kind, body in items:
        if kind in ((4, 5, 6, 7, 8) if large else (4, 5, 6)):
            value_table += bytes([kind]) + body.ljust(width, b"\xff" if kind == 5 and body[-1] & 0x80 else b"\0")
        else:
            value_table += bytes([kind]) + struct.pack(number, at + len(tail))
            tail += body
    size = at + len(tail)
    body = struct.pack(number, len(items)) + struct.pack(number, size) + key_table + value_table + tail
    return (0 if isinstance(value, dict) else 2) + large, body


def _varlen(length: int) -> bytes:
    found = b""
    while length >= 0x80:
        found, length = found + bytes([length & 0x7F | 0x80]), length >> 7
    return found + bytes([length])
