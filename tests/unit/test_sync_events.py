"""Bodies of binlog events, made here by the rules of the format and read back."""

from __future__ import annotations

import struct
import zlib
from uuid import UUID

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from migrate.sync import events as e
from migrate.sync.query import query, xid_of
from migrate.sync.tablemap import TableMap, table_map_names

u64 = st.integers(0, 2**64 - 1)
SOME_UUID = UUID("3e11fa47-71ca-11e1-9e33-c80aa9429562")


def varlen(value: int) -> bytes:
    """By the format: as many low ones as bytes follow the first, a zero, and the value above it."""
    for more in range(8):
        if value < 1 << 7 * (more + 1):
            return (value << more + 1 | (1 << more) - 1).to_bytes(more + 1, "little")
    return b"\xff" + value.to_bytes(8, "little")


def lenenc(value: int) -> bytes:
    if value < 251:
        return bytes([value])
    if value < 1 << 16:
        return b"\xfc" + value.to_bytes(2, "little")
    return (b"\xfd" + value.to_bytes(3, "little")) if value < 1 << 24 else b"\xfe" + value.to_bytes(8, "little")


@given(u64, st.binary(max_size=3))
def test_length_encoded_integers(value: int, before: bytes) -> None:
    data = before + lenenc(value) + b"rest"
    assert e.lenenc(data, len(before)) == (value, len(data) - 4)


@given(st.uuids(), st.from_regex(r"[a-z_][a-z0-9_]{0,31}", fullmatch=True), st.integers(1, 2**63 - 1),
       st.integers(0, 2**55 - 1), st.integers(0, 2**62))  # fmt: skip
def test_tagged_gtids(uuid: UUID, tag: str, number: int, microseconds: int, sequence: int) -> None:
    fields = [
        varlen(0) + varlen(1), varlen(1) + b"".join(map(varlen, uuid.bytes)), varlen(2) + varlen(number << 1),
        varlen(3) + varlen(len(tag)) + tag.encode(), varlen(4) + varlen(sequence << 1),
        varlen(5) + varlen(sequence + 1 << 1), varlen(6) + varlen(microseconds), varlen(8) + varlen(300),
    ]  # fmt: skip
    body = b"".join(fields)
    data = varlen(1) + varlen(len(body)) + varlen(0) + body
    assert e.tagged_gtid(b"xx" + data, 2, 2 + len(data)) == (f"{uuid}:{tag}", number, microseconds / 1e6)


@given(st.integers(1, 2**63 - 1), st.integers(0, 2**55 - 1), st.booleans())
def test_gtids_of_all_versions(number: int, microseconds: int, replicated: bool) -> None:
    old = b"\x01" + SOME_UUID.bytes + struct.pack("<Q", number)
    assert e.gtid(old, 0, len(old)) == (SOME_UUID.bytes, number, None)
    of_57 = old + b"\x02" + bytes(16)
    assert e.gtid(of_57, 0, len(of_57)) == (SOME_UUID.bytes, number, None)
    of_80 = of_57 + (microseconds | replicated << 55).to_bytes(7, "little") + bytes(7 * replicated) + b"\x50"
    assert e.gtid(of_80, 0, len(of_80)) == (SOME_UUID.bytes, number, microseconds / 1e6)


def event(kind: int, body: bytes) -> bytes:
    return struct.pack("<IBIIIH", 77, kind, 1, 19 + len(body), 0, 8) + body


@given(st.lists(st.tuples(st.integers(1, 42), st.binary(max_size=60)), max_size=8), st.booleans(), st.integers(1, 40))
def test_payloads_give_their_events_however_they_are_framed(
    wanted: list[tuple[int, bytes]], compressed: bool, piece: int
) -> None:
    plain = b"".join(event(kind, body) for kind, body in wanted)
    packed = plain
    if compressed:  # in frames, which needn't end where an event does
        pieces = [plain[at : at + piece] for at in range(0, len(plain), piece)]
        packed = b"".join(zstandard.ZstdCompressor().compress(p) for p in pieces)
    kind = lenenc(0 if compressed else 255)
    header = b"\x02" + lenenc(len(kind)) + kind + b"\x03\x01\x07" + b"\x01\x01\x09" + b"\x00"
    data = b"....." + header + packed
    found = list(e.payload_events(data, 5, len(data), 12345))
    assert [(k, body[start:stop]) for k, _, _, _, body, start, stop in found] == wanted
    assert all((when, end, flags) == (77, 12345, 8) for _, when, end, flags, *_ in found)


def test_a_payload_that_is_cut_is_refused() -> None:
    packed = zstandard.ZstdCompressor().compress(event(2, b"x" * 50)[:-1])
    with pytest.raises(e.EventError, match="ends inside an event"):
        list(e.payload_events(b"\x00" + packed, 0, 1 + len(packed), 0))
    with pytest.raises(e.EventError, match="only zstd"):
        list(e.payload_events(b"\x02\x01\x01\x00" + packed, 0, 4 + len(packed), 0))


@given(st.binary(min_size=1, max_size=70000))
def test_inflate(plain: bytes) -> None:
    size = len(plain).to_bytes((len(plain).bit_length() + 7) // 8, "big")
    data = b"." + bytes([0x80 | len(size)]) + size + zlib.compress(plain)
    assert e.inflate(data, 1, len(data)) == plain
    with pytest.raises(e.EventError, match="length"):
        e.inflate(b"\x81\x00" + zlib.compress(plain), 0, 2 + len(zlib.compress(plain)))


@pytest.mark.parametrize("collation, raw, text", [
    (28, "账户".encode("gbk"), "账户"), (8, b"\xfc\x80\x81", "ü€\x81"), (33, "ü".encode(), "ü"),
    (255, "🏦".encode(), "🏦"), (63, b"plain", "plain"), (13, "残高".encode("shift_jis"), "残高"),
    (2304, "ü".encode(), "ü"), (45, b"a\xffb", "a\udcffb"),
])  # fmt: skip
def test_statements_are_read_in_their_charset(collation: int, raw: bytes, text: str) -> None:
    variables = b"\x00" + bytes(4) + b"\x01" + bytes(8) + b"\x06\x03std" + b"\x03" + bytes(4)
    variables += b"\x04" + struct.pack("<HHH", collation, 1, 1) + b"\x7fwhat follows isn't read"
    body = struct.pack("<IIBHH", 1, 0, 2, 1317, len(variables)) + variables + b"db\0" + raw
    found = query(b"??" + body, 2, 2 + len(body))
    assert (found.schema, found.text, found.error, found.sql) == ("db", text, 1317, raw)


def test_the_id_of_an_xa_transaction() -> None:
    assert xid_of(b"XA COMMIT X'74776F',X'62',3") == "74776f.62.3"
    prepared = b"\x00" + struct.pack("<III", 3, 3, 1) + b"twob"
    assert e.xa_prepare(b"..." + prepared, 3) == (False, "74776f.62.3")
    with pytest.raises(e.EventError):
        xid_of(b"XA COMMIT 'a'")


def table_map(types: bytes, metas: bytes, optional: bytes = b"") -> bytes:
    count = lenenc(len(types))
    nulls = bytes((len(types) + 7) // 8)
    return b"\x07\0\0\0\0\0\x01\0\x02db\0\x01t\0" + count + types + lenenc(len(metas)) + metas + nulls + optional


def read(body: bytes) -> TableMap:
    schema, table, at = table_map_names(body, 0)
    return TableMap(schema, table, body, at, len(body))


@given(st.integers(1, 300), st.data())
def test_bitmaps_of_columns_whatever_their_spare_bits_hold(count: int, data: st.DataObject) -> None:
    table = read(table_map(b"\x03" * count, b""))
    assert (table.schema, table.table, len(table.types)) == ("db", "t", count)
    spare = data.draw(st.integers(0, 255)) << count & (1 << (count + 7) // 8 * 8) - 1
    everything = (1 << count) - 1
    lacking = everything & ~(1 << data.draw(st.integers(0, count - 1)))
    size = (count + 7) // 8
    assert not table.names_all((lacking | spare).to_bytes(size, "little"))
    assert table.names_all((everything | spare).to_bytes(size, "little"))
    assert table.complete == (everything | spare).to_bytes(size, "little")


def test_signs_count_numeric_columns_only() -> None:
    optional = b"\x01\x01\xa0" + b"\x04\x06\x01a\x01b\x01c"
    table = read(table_map(b"\x03\x0f\x08", b"\x0a\x00", optional))
    assert table.unsigned == (True, False, False) and table.names == ("a", "b", "c")
    assert table.metas == (0, 10, 0)


def test_types_that_aren_t_known_and_metadata_that_doesn_t_fit_are_refused() -> None:
    with pytest.raises(e.EventError, match=r"db\.t has the type 20"):
        read(table_map(b"\x14", b"\x03"))
    with pytest.raises(e.EventError, match="1 bytes of metadata too many"):
        read(table_map(b"\x03", b"\x03"))


def test_heartbeats_of_both_versions() -> None:
    assert e.heartbeat(e.HEARTBEAT, 120, b"bin.000001", 0, 10) == ("bin.000001", 120)
    body = b"\x01\x0abin.000001" + b"\x02\x09" + lenenc(1 << 40) + b"\x00"
    assert e.heartbeat(e.HEARTBEAT_V2, 5, body, 0, len(body)) == ("bin.000001", 1 << 40)
