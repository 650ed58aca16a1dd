"""Binlog events: their numbers, and the bodies that the stream reads. A body lies in data[start:stop], behind the
common header, its checksum cut off. All integers are little-endian, unless said otherwise."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any, NamedTuple
from uuid import UUID

import zstandard

from migrate.errors import MigrateError

QUERY, STOP, ROTATE, INTVAR, RAND, USER_VAR, FORMAT_DESCRIPTION, XID = 2, 3, 4, 5, 13, 14, 15, 16
APPEND_BLOCK, DELETE_FILE, BEGIN_LOAD_QUERY, EXECUTE_LOAD_QUERY = 9, 11, 17, 18
TABLE_MAP, INCIDENT, HEARTBEAT, IGNORABLE, ROWS_QUERY = 19, 26, 27, 28, 29
WRITE_V1, UPDATE_V1, DELETE_V1, WRITE, UPDATE, DELETE, PARTIAL_UPDATE = 23, 24, 25, 30, 31, 32, 39
GTID, ANONYMOUS_GTID, PREVIOUS_GTIDS, TRANSACTION_CONTEXT, VIEW_CHANGE, XA_PREPARE = 33, 34, 35, 36, 37, 38
TRANSACTION_PAYLOAD, HEARTBEAT_V2, TAGGED_GTID = 40, 41, 42
ANNOTATE_ROWS, BINLOG_CHECKPOINT, MARIADB_GTID, GTID_LIST, START_ENCRYPTION = 160, 161, 162, 163, 164
QUERY_COMPRESSED, WRITE_COMPRESSED_V1, UPDATE_COMPRESSED_V1, DELETE_COMPRESSED_V1 = 165, 166, 167, 168
WRITE_COMPRESSED, UPDATE_COMPRESSED, DELETE_COMPRESSED = 169, 170, 171

COMPRESSED_ROWS = {WRITE_COMPRESSED: WRITE, UPDATE_COMPRESSED: UPDATE, DELETE_COMPRESSED: DELETE,
                   WRITE_COMPRESSED_V1: WRITE_V1, UPDATE_COMPRESSED_V1: UPDATE_V1,
                   DELETE_COMPRESSED_V1: DELETE_V1}  # fmt: skip

ARTIFICIAL_FLAG, IGNORABLE_FLAG = 0x20, 0x80

Event = tuple[int, int, int, int, bytes, int, int]  # type, when (epoch s), end in its file, flags, data, start, stop

_HEADER = struct.Struct("<IBIIIH")  # when, type, server id, size, end in its file, flags
HEADER_SIZE = _HEADER.size
_CHUNK = 1 << 18


class EventError(MigrateError):
    """An event isn't what the protocol says; the stream adds the instance and the position."""


def lenenc(data: bytes, at: int) -> tuple[int, int]:
    """A length-encoded integer, and the offset behind it."""
    first = data[at]
    if first < 251:
        return first, at + 1
    size = {252: 2, 253: 3, 254: 8}[first]
    return int.from_bytes(data[at + 1 : at + 1 + size], "little"), at + 1 + size


class FormatDescription(NamedTuple):
    """The first event of a file. `checksums` tells whether the file's events end in a CRC32."""

    server_version: str
    checksums: bool


def format_description(data: bytes, start: int, stop: int) -> FormatDescription:
    """Reads a body with nothing cut off. A server that knows checksums always sends their kind, and one of its own."""
    binlog_version = int.from_bytes(data[start : start + 2], "little")
    version = data[start + 2 : start + 52].split(b"\0")[0].decode("ascii", "replace")
    if binlog_version != 4 or data[start + 56] != HEADER_SIZE:
        raise EventError(f"the binlog has version {binlog_version} of server {version}; only version 4 is understood")
    lengths = data[start + 57 : stop]
    digits = [int("".join(c for c in part if c.isdigit()) or 0) for part in version.split(".")[:3]]
    if digits < ([5, 3, 0] if "MariaDB" in version else [5, 6, 1]):
        return FormatDescription(version, False)
    kind = lengths[-5]
    if kind not in (0, 1, 255):
        raise EventError(f"the binlog has checksums of kind {kind}; only CRC32 is understood")
    return FormatDescription(version, kind == 1)


_COMMIT_TIME = (1 << 55) - 1


def gtid(data: bytes, start: int, stop: int) -> tuple[bytes, int, float | None]:
    """UUID, number and commit time of a GTID or ANONYMOUS_GTID; servers older than 8.0 tell no time."""
    number = int.from_bytes(data[start + 17 : start + 25], "little")
    committed = None
    if stop - start >= 49 and data[start + 25] == 2:
        committed = (int.from_bytes(data[start + 42 : start + 49], "little") & _COMMIT_TIME) / 1e6
    return data[start + 1 : start + 17], number, committed


def tagged_gtid(data: bytes, start: int, stop: int) -> tuple[str, int, float]:
    """`uuid:tag`, number and commit time of a TAGGED_GTID: a message of numbered fields of variable length."""
    at = start
    for _ in range(3):  # version, size, and the last field that mustn't be skipped
        _, at = _varlen(data, at)
    uuid, tag, number, when = bytearray(), "", 0, 0.0
    while at < stop:
        field, at = _varlen(data, at)
        if field == 1:
            for _ in range(16):
                byte, at = _varlen(data, at)
                uuid.append(byte)
        elif field == 3:
            size, at = _varlen(data, at)
            tag = data[at : at + size].decode("ascii")
            at += size
        else:
            value, at = _varlen(data, at)
            if field == 2:
                number = value >> 1  # its sign is the lowest bit
            elif field == 6:
                when = value / 1e6
                break
    if len(uuid) != 16 or not number:
        raise EventError("a tagged GTID event has no GTID")
    return f"{UUID(bytes=bytes(uuid))}{':' if tag else ''}{tag}", number, when


def _varlen(data: bytes, at: int) -> tuple[int, int]:
    """An integer whose first byte ends in as many ones as bytes follow, and the offset behind it."""
    first = data[at]
    more = (~first & (first + 1)).bit_length() - 1
    end = at + 1 + more
    return int.from_bytes(data[at:end], "little") >> min(more + 1, 8), end


def inflate(data: bytes, at: int, stop: int) -> bytes:
    """What MariaDB compressed into data[at:stop]."""
    if data[at] & 0xF0 != 0x80:
        raise EventError(f"a compressed event has the format {data[at]:#x}, which isn't known")
    size_end = at + 1 + (data[at] & 0x0F)
    plain = zlib.decompress(memoryview(data)[size_end:stop])
    if len(plain) != int.from_bytes(data[at + 1 : size_end], "big"):
        raise EventError("a compressed event doesn't have the length that it tells")
    return plain


def plain_rows(event: Event) -> Event:
    """An event of MariaDB's compressed rows as the plain one. It is compressed behind its bitmaps of columns."""
    kind, when, end, flags, data, start, stop = event
    plain_kind = COMPRESSED_ROWS[kind]
    at = start + 8
    if plain_kind in (WRITE, UPDATE, DELETE):
        at += int.from_bytes(data[at : at + 2], "little")
    count, at = lenenc(data, at)
    at += (count + 7) // 8 * (2 if plain_kind in (UPDATE, UPDATE_V1) else 1)
    plain = data[start:at] + inflate(data, at, stop)
    return plain_kind, when, end, flags, plain, 0, len(plain)


def payload_events(data: bytes, start: int, stop: int, end: int) -> Iterator[Event]:
    """The events inside a TRANSACTION_PAYLOAD, decompressed as they are asked for. All end at `end`, as it does."""
    compressed = True
    at = start
    while kind := data[at]:
        size, at = lenenc(data, at + 1)
        if kind == 2:
            value, _ = lenenc(data, at)
            if value not in (0, 255):
                raise EventError(f"a transaction is compressed in the way {value}; only zstd is understood")
            compressed = value == 0
        at += size
    body = memoryview(data)[at + 1 : stop]
    reader: Any = BytesIO(body)
    if compressed:
        reader = zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True)
    have, at = b"", 0
    need = HEADER_SIZE
    while piece := reader.read(max(_CHUNK, need)):
        have, at = have[at:] + piece, 0
        need = HEADER_SIZE
        while len(have) - at >= HEADER_SIZE:
            when, kind, _, size, _, flags = _HEADER.unpack_from(have, at)
            if len(have) - at < size:
                need = size - (len(have) - at)
                break
            yield kind, when, end, flags, have, at + HEADER_SIZE, at + size
            at += size
    if at != len(have):
        raise EventError("a compressed transaction ends inside an event")


def heartbeat(kind: int, end: int, data: bytes, start: int, stop: int) -> tuple[str, int]:
    """File and offset at which the server stands."""
    if kind == HEARTBEAT:
        return data[start:stop].decode(), end
    file = ""
    while start < stop and (field := data[start]):
        size, at = lenenc(data, start + 1)
        if field == 1:
            file = data[at : at + size].decode()
        elif field == 2:
            end, _ = lenenc(data, at)
        start = at + size
    return file, end


_XA = struct.Struct("<?III")


def xa_prepare(data: bytes, start: int) -> tuple[bool, str]:
    """Whether an XA_PREPARE commits at once (in one phase), and the XA transaction's id as `xid_of` gives it."""
    one_phase, form, size, branch_size = _XA.unpack_from(data, start)
    at = start + _XA.size
    return one_phase, f"{data[at : at + size].hex()}.{data[at + size : at + size + branch_size].hex()}.{form}"


_MARIADB_GTID = struct.Struct("<QIB")


def mariadb_gtid(data: bytes, start: int) -> tuple[str, bool]:
    """`domain-server-number` of a MARIADB_GTID, and whether one statement follows, without a COMMIT."""
    number, domain, flags = _MARIADB_GTID.unpack_from(data, start)
    server_id = int.from_bytes(data[start - 14 : start - 10], "little")  # of the common header
    return f"{domain}-{server_id}-{number}", bool(flags & 1)
