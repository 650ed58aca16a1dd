"""MySQL's binary JSON, as row images hold it, read as the text of the same value.

A value is a type, and its bytes. Those of an object or array are the number of elements, its size, and tables of keys
and values, whose offsets count from its own start; small values lie in the table itself. Numbers in these have two
bytes, in a large one four.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from migrate.sync.decimals import decimal_text

_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY, _LITERAL = range(5)
_DOUBLE, _STRING, _OPAQUE = 11, 12, 15
_INTEGERS = {5: struct.Struct("<h"), 6: struct.Struct("<H"), 7: struct.Struct("<i"), 8: struct.Struct("<I"),
             9: struct.Struct("<q"), 10: struct.Struct("<Q")}  # fmt: skip
_IN_TABLE = frozenset({_LITERAL, 5, 6})
_IN_LARGE_TABLE = _IN_TABLE | {7, 8}
_LITERALS = ("null", "true", "false")
_NEWDECIMAL = 246
_U16, _U32, _F64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<d")


class _NoText(Exception):
    pass


@dataclass(frozen=True, slots=True)
class Unsayable:
    """A value that no JSON text says: it holds dates, bytes, or decimals of more digits than a double has."""

    raw: bytes


def element(data: bytes) -> bytes | Unsayable:
    """The text of a binary JSON: the same text only for the same value. ValueError, IndexError or struct.error if it
    is damaged."""
    if not data:
        return b"null"  # as the server reads what a conversion to NOT NULL left
    try:
        return _value(data, data[0], 1).encode()
    except _NoText:
        return Unsayable(data)


def text(value: bytes | Unsayable) -> bytes:
    """The text of an element. ValueError with the reason if it has none."""
    if isinstance(value, Unsayable):
        raise ValueError("dates, bytes or long decimals in it have no JSON text")
    return value


def same(value: bytes | Unsayable, shown: bytes) -> bool:
    """Whether the target shows that value. It writes the double 1.0 as 1: what can be told is the number."""
    return not isinstance(value, Unsayable) and _parsed(value) == _parsed(shown)


def _parsed(shown: bytes) -> Any:
    return json.loads(shown, parse_int=_number, parse_float=_number, strict=False)


def _number(digits: str) -> tuple[str, Decimal]:
    return "number", Decimal(digits)  # not the bare Decimal, which equals True


def _value(data: bytes, kind: int, at: int) -> str:
    if kind == _STRING:
        length, at = _length(data, at)
        return _string(_cut(data, at, length).decode())
    if kind in _INTEGERS:
        return str(_INTEGERS[kind].unpack_from(data, at)[0])
    if kind == _LITERAL:
        return _LITERALS[data[at]]
    if kind == _DOUBLE:
        return repr(_F64.unpack_from(data, at)[0])
    if kind <= _LARGE_ARRAY:
        return _container(data, kind, at)
    if kind == _OPAQUE:
        return _opaque(data, at)
    raise ValueError(f"binary JSON has no type {kind}")


def _container(data: bytes, kind: int, start: int) -> str:
    large = kind in (_LARGE_OBJECT, _LARGE_ARRAY)
    number, width = (_U32, 4) if large else (_U16, 2)
    in_table = _IN_LARGE_TABLE if large else _IN_TABLE
    (count,) = number.unpack_from(data, start)
    keys = start + 2 * width
    values = keys + count * (width + 2) if kind in (_SMALL_OBJECT, _LARGE_OBJECT) else keys
    found = []
    for entry in range(values, values + count * (width + 1), width + 1):
        inner = data[entry]
        at = entry + 1 if inner in in_table else start + number.unpack_from(data, entry + 1)[0]
        found.append(_value(data, inner, at))
    if values == keys and kind in (_SMALL_ARRAY, _LARGE_ARRAY):
        return f"[{', '.join(found)}]"
    names = []
    for entry in range(keys, values, width + 2):
        (offset,), (length,) = number.unpack_from(data, entry), _U16.unpack_from(data, entry + width)
        names.append(_string(_cut(data, start + offset, length).decode()))
    return "{" + ", ".join([f"{name}: {value}" for name, value in zip(names, found, strict=True)]) + "}"


def _cut(data: bytes, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise ValueError("binary JSON ends early")
    return data[at : at + length]


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A length in groups of seven bits, the least first, and where it ends."""
    length = shift = 0
    while True:
        byte = data[at]
        length |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return length, at


def _opaque(data: bytes, at: int) -> str:
    length, start = _length(data, at + 1)
    if data[at] != _NEWDECIMAL:
        raise _NoText
    precision, scale = data[start], data[start + 1]
    shown = decimal_text(precision, scale)(_cut(data, start + 2, length - 2)).decode()
    # The target reads an integer of 64 bits as it is, and everything else as a double.
    if (scale or not -(2**63) <= int(shown) < 2**64) and Decimal(repr(float(shown))) != Decimal(shown):
        raise _NoText
    return shown


def _string(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
