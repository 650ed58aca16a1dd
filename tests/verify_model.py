"""The encoding of verification once more, in Python and from its description only: what each server's SQL must give."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence
from decimal import Decimal

from verify.encoding import Kind

Value = int | Decimal | str | bytes | float | None


def model_piece(kind: Kind, value: Value, hash_name: str = "MD5") -> str:
    """The piece of a value; texts are str, whatever character set they were stored in."""
    if value is None:
        return "N"
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    if kind in (Kind.TEXT, Kind.BYTES):
        assert isinstance(data, bytes)
        return data.hex().upper()
    if kind in (Kind.LARGE_TEXT, Kind.LARGE_BYTES):
        assert isinstance(data, bytes)
        return hashlib.new({"MD5": "md5", "SHA2": "sha256"}[hash_name], data).hexdigest()
    if kind is Kind.FLOAT:
        return struct.pack(">d", value).hex()
    return str(value)


def encode(kinds: Sequence[Kind], values: Sequence[Value], hash_name: str = "MD5") -> str:
    """The text of a row."""
    return ",".join(model_piece(kind, value, hash_name) for kind, value in zip(kinds, values, strict=True))


def digest(kinds: Sequence[Kind], values: Sequence[Value], hash_name: str = "MD5") -> int:
    """What a row adds to the first sum."""
    made = hashlib.new({"MD5": "md5", "SHA2": "sha256"}[hash_name])
    inline = [(k, v) for k, v in zip(kinds, values, strict=True) if not k.client]
    made.update(encode([k for k, _ in inline], [v for _, v in inline], hash_name).encode())
    finished = [model_piece(k, v, hash_name) for k, v in zip(kinds, values, strict=True) if k.client]
    if finished:
        whole = ",".join((made.hexdigest(), *finished))
        made = hashlib.new(made.name, whole.encode())
    return zlib.crc32(made.hexdigest().encode())
