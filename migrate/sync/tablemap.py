"""Table maps: what the binlog tells of a table before its rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from migrate.sync.events import EventError, lenenc


class TableMap:
    """What a table map tells of a table. One object stands for all equal table maps of a stream.

    `types` are the type codes as sent, one a column. `metas` has one integer a column: of FLOAT, DOUBLE, BLOB, JSON,
    GEOMETRY, VECTOR and the fractional times the byte sent; of VARCHAR and BIT the two bytes as little-endian number
    (BIT: whole bytes * 256 + bits over); of DECIMAL, STRING, VAR_STRING, ENUM and SET as big-endian number (DECIMAL:
    precision * 256 + scale; STRING: real type, with length bits, * 256 + length); 0 of all others. `nullable` is a
    bitmap, least bit first. `unsigned` has a boolean a column, `names` a name, each None if the server sent none.
    """

    __slots__ = ("complete", "decoder", "metas", "names", "nullable", "schema", "table", "types", "unsigned")

    def __init__(self, schema: str, table: str, data: bytes, at: int, stop: int):
        """Reads the body from its column count on, which stands at `at`."""
        self.schema, self.table = schema, table
        count, at = lenenc(data, at)
        self.types = data[at : at + count]
        length, at = lenenc(data, at + count)
        self.metas = tuple(_metas(self.types, data, at, at + length, f"{schema}.{table}"))
        at += length
        self.nullable = data[at : at + (count + 7) // 8]
        self.unsigned: tuple[bool, ...] | None = None
        self.names: tuple[str, ...] | None = None
        self._read_optional(data, at + (count + 7) // 8, stop)
        self.complete = b"\xff" * ((count + 7) // 8)  # a bitmap of columns that is known to name all
        self.decoder: Any = None

    def _read_optional(self, data: bytes, at: int, stop: int) -> None:
        while at < stop:
            kind = data[at]
            length, at = lenenc(data, at + 1)
            if kind == 1:
                bits = iter(range(at * 8, (at + length) * 8))  # of the numeric columns only, highest bit first
                self.unsigned = tuple(
                    t in _NUMERIC and bool(data[(b := next(bits)) >> 3] & 0x80 >> (b & 7)) for t in self.types
                )
            elif kind == 4:
                names, end = [], at + length
                while at < end:
                    size, at = lenenc(data, at)
                    names.append(data[at : at + size].decode())
                    at += size
                self.names = tuple(names)
                continue
            at += length

    def names_all(self, bitmap: bytes) -> bool:
        """Whether a bitmap of columns names all of them; what stands in its spare bits doesn't matter."""
        mask = (1 << len(self.types)) - 1
        if int.from_bytes(bitmap, "little") & mask != mask:
            return False
        self.complete = bitmap
        return True


_NUMERIC = frozenset({1, 2, 3, 4, 5, 8, 9, 13, 246})  # YEAR too
_ONE_BYTE = frozenset({4, 5, 17, 18, 19, 242, 245, 249, 250, 251, 252, 255})
_LITTLE = frozenset({15, 16})
_BIG = frozenset({246, 247, 248, 253, 254})
_PLAIN = frozenset({1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13, 14})


def _metas(types: bytes, data: bytes, at: int, stop: int, table: str) -> Iterator[int]:
    for code in types:
        if code in _PLAIN:
            yield 0
        elif code in _ONE_BYTE:
            yield data[at]
            at += 1
        elif code in _LITTLE:
            yield data[at] | data[at + 1] << 8
            at += 2
        elif code in _BIG:
            yield data[at] << 8 | data[at + 1]
            at += 2
        else:
            raise EventError(f"a column of {table} has the type {code}, which isn't known")
    if at != stop:
        raise EventError(f"the table map of {table} has {stop - at} bytes of metadata too many")


def table_map_names(data: bytes, start: int) -> tuple[str, str, int]:
    """Schema and table of a table map's body, and where its column count stands."""
    size = data[start + 8]
    at = start + 9 + size
    schema = data[at - size : at].decode()
    size = data[at + 1]
    at += 2 + size
    return schema, data[at - size : at].decode(), at + 1
