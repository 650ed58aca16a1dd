"""Positions at which sync mustn't start, and binlogs that it mustn't pass over: each is recognised and explained."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from time import sleep
from uuid import uuid4

import pytest

from migrate.errors import MigrateError, NoGo
from migrate.position import Position
from tests.binlog_lab import LoneServer, follow, lone_server, position_of, purge_before
from tests.integration.shards import run


@pytest.fixture(scope="module", params=["5.6", "9.7", "5.6 without GTIDs"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneServer]:
    options = {"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"} if "without" in request.param else {}
    with lone_server(tmp_path_factory.mktemp("lone") / "m1", request.param[:3], **options) as server:
        yield server


@pytest.fixture
def source(server: LoneServer) -> LoneServer:
    """A server whose history a test may ruin: it has a table d.t and five transactions in two binlog files."""
    run(server, "DROP DATABASE IF EXISTS d")
    reset(server)
    run(server, "CREATE DATABASE d", "CREATE TABLE d.t (id INT, v INT)", "INSERT INTO d.t VALUES (1, 1)",
        "FLUSH BINARY LOGS", "INSERT INTO d.t VALUES (2, 2)", "INSERT INTO d.t VALUES (3, 3)")  # fmt: skip
    return server


def reset(server: LoneServer) -> None:
    run(server, "RESET BINARY LOGS AND GTIDS" if server.version() >= "8" else "RESET MASTER")


def purge(server: LoneServer) -> None:
    run(server, "FLUSH BINARY LOGS")
    purge_before(server, position_of(server)["file"])


def whole(server: LoneServer) -> Position:
    """The beginning of the first file."""
    return {"file": "bin.000001", "offset": "4", "gtid_set": "", "server_uuid": position_of(server)["server_uuid"]}


def refusal(server: LoneServer, start: Position) -> str:
    with pytest.raises(NoGo) as caught:
        follow(server, start)
    text = str(caught.value)
    assert "m1 (migrator@127.0.0.1" in text and f"{start['file']}:{start['offset']}" in text
    assert "start with an empty target" in text or "Point" in text or "gtid_mode" in text
    return text


def test_a_purged_binlog(source: LoneServer) -> None:
    start = follow(source, whole(source))[2].after
    purge(source)
    if start["gtid_set"]:
        assert re.search(r"has purged transactions that sync hasn't seen: \S+:4-5; it", refusal(source, start))
    else:
        assert f"has purged bin.000001, from which sync goes on at {start['file']}" in refusal(source, start)


def test_a_purged_binlog_of_which_nothing_is_lacking(source: LoneServer) -> None:
    start = position_of(source)
    purge(source)
    run(source, "INSERT INTO d.t VALUES (4, 4)")
    if start["gtid_set"]:
        assert [t.rows for t in follow(source, start)] == [[("insert", "d.t", (4, 4))]]
    else:
        refusal(source, start)


def test_a_reset(source: LoneServer) -> None:
    start = position_of(source)
    reset(source)
    text = refusal(source, start)
    assert "reset (RESET MASTER, RESET BINARY LOGS AND GTIDS)" in text


def test_a_reset_after_which_the_file_has_grown_past_the_position(source: LoneServer) -> None:
    start = follow(source, whole(source))[1].after
    assert start["file"] == "bin.000001"
    sleep(1.1)  # files are told apart by the second in which they were made
    reset(source)
    run(source, "DROP TABLE d.t", "DROP DATABASE d", "CREATE DATABASE d", "CREATE TABLE d.t (id INT, v INT)",
        *["INSERT INTO d.t VALUES (1, 1)"] * 20)  # fmt: skip
    assert position_of(source)["file"] == start["file"] and int(position_of(source)["offset"]) > int(start["offset"])
    same_boundary = {**start, "offset": follow(source, whole(source))[3].after["offset"]}
    assert "the file of that name is a newer one" in refusal(source, same_boundary)


def test_a_position_between_events_of_no_transaction(source: LoneServer) -> None:
    start = position_of(source)
    run(source, "INSERT INTO d.t VALUES (4, 4)")
    off = {**start, "offset": str(int(start["offset"]) + 7)}
    assert "no event begins there" in refusal(source, off)
    events = run(source, f"SHOW BINLOG EVENTS IN '{start['file']}' FROM {start['offset']}")
    (table_map,) = (event[1] for event in events if event[2] == "Table_map")
    inside = {**start, "offset": str(table_map)}
    with pytest.raises(MigrateError, match=r"m1 .*: the binlog at bin\.000002:\d+.*rows of d\.t outside a transaction"):
        follow(source, inside)
    with pytest.raises(MigrateError, match="a transaction ends whose beginning was not seen"):
        follow(source, inside, lambda s, t: False)


def test_a_position_beyond_the_end(source: LoneServer) -> None:
    start = position_of(source)
    assert "that file has" in refusal(source, {**start, "offset": str(int(start["offset"]) + 1000)})
    assert "its binlogs are bin.000001, bin.000002" in refusal(source, {**start, "file": "bin.000008"})


def test_another_server_under_the_same_address(source: LoneServer) -> None:
    start = follow(source, whole(source))[-2].after
    source.request_stop()
    source.wait_stopped()
    uuid = str(uuid4())
    (source.folder / "data" / "auto.cnf").write_text(f"[auto]\nserver-uuid={uuid}\n")
    source.start()
    source.wait_ready()
    if start["gtid_set"]:
        (rest,) = follow(source, start)
        assert rest.rows == [("insert", "d.t", (3, 3))]
        assert rest.after["server_uuid"] == uuid
        lost = {**start, "gtid_set": re.sub(r"-\d+$", "-9000", start["gtid_set"])}
        assert re.search(r"doesn't have transactions that sync has applied: \S+:6-9000; it", refusal(source, lost))
    else:
        text = refusal(source, start)
        assert f"is the server {uuid}" in text and start["server_uuid"] in text


def test_a_gap_between_ours_and_what_the_server_has_still(source: LoneServer) -> None:
    start = {**follow(source, whole(source))[0].after, "server_uuid": "00000000-0000-0000-0000-000000000001"}
    if start["gtid_set"]:
        purge(source)
        assert re.search(r"has purged transactions that sync hasn't seen: \S+:2-5; it", refusal(source, start))
    else:
        assert "has no GTIDs" in refusal(source, start)


def test_a_damaged_event(source: LoneServer) -> None:
    at, raw, path = closed_file(source)
    xid = find_event(raw, 30, at)
    raw[xid + 30] ^= 1
    path.write_bytes(raw)
    with pytest.raises(MigrateError, match=rf"at bin\.000002:{xid}: an event of type 30 .* doesn't fit its checksum"):
        follow(source, whole(source))


@pytest.mark.parametrize("kind, flags, told", [
    (26, 0, "the server lost events here"), (99, 0, "event type 99 isn't known"), (99, 0x80, None),
    (164, 0, "encrypted"),
])  # fmt: skip
def test_planted_events(source: LoneServer, kind: int, flags: int, told: str | None) -> None:
    """An event between two transactions becomes one of another type, its checksum made to fit."""
    _, raw, path = closed_file(source)
    offset = find_event(raw, 16, 4)  # the XID of a transaction that holds rows of d.t
    size = struct.unpack_from("<I", raw, offset + 9)[0]
    raw[offset + 4] = kind
    struct.pack_into("<H", raw, offset + 17, flags)
    struct.pack_into("<I", raw, offset + size - 4, zlib.crc32(raw[offset : offset + size - 4]))
    path.write_bytes(raw)
    with pytest.raises(MigrateError, match=told or "a transaction begins inside another") as caught:
        follow(source, whole(source))
    assert isinstance(caught.value, NoGo) == bool(told)
    assert "at bin.000002:" in str(caught.value)


def closed_file(source: LoneServer) -> tuple[int, bytearray, Path]:
    """Where d.t's first transaction may begin in the closed second file; its bytes; its path."""
    run(source, "FLUSH BINARY LOGS")
    path = source.folder / "binlog" / "bin.000002"
    return 4, bytearray(path.read_bytes()), path


def find_event(raw: bytearray, kind: int, at: int) -> int:
    """The offset of the first event of that type."""
    while raw[at + 4] != kind:
        at += struct.unpack_from("<I", raw, at + 9)[0]
    return at
