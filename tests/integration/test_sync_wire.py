"""What comes over the wire to and from real servers: heartbeats, losses, TLS, large events, newer kinds of events."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from time import monotonic, sleep
from typing import Any

import pytest

from migrate import db
from migrate.config import Endpoint
from migrate.errors import ConnectionLost, Interrupted, NoGo
from migrate.position import Position
from migrate.sync.stream import COMMIT, HEARTBEAT, IDLE, ROWS, Stream
from tests.binlog_lab import LoneServer, endpoint_of, follow, lone_server, position_of
from tests.integration.shards import run
from tests.proxy import proxy

_numbers = count(1)


@pytest.fixture(scope="module", params=["5.6", "9.7"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneServer]:
    with lone_server(tmp_path_factory.mktemp("lone") / "m1", request.param) as server:
        yield server


@pytest.fixture
def schema(source: LoneServer) -> str:
    name = f"s{next(_numbers)}"
    run(source, f"CREATE DATABASE {name} DEFAULT CHARSET utf8mb4", f"CREATE TABLE {name}.t (id INT, v INT)",
        f"CREATE TABLE {name}.u (id INT, v INT)")  # fmt: skip
    return name


def new(source: LoneServer, schema: str) -> bool:
    return source.version() >= "8"


def stream_of(source: Any, start: Position, heartbeat_s: float = 1.0, server_id: int = 99) -> Stream:
    end = source if isinstance(source, Endpoint) else endpoint_of(source)
    return Stream(end, start, lambda s, t: True, server_id=server_id, heartbeat_s=heartbeat_s)


def test_it_idles_and_tells_where_the_server_stands(source: LoneServer, schema: str) -> None:
    start = position_of(source)
    with stream_of(source, start, heartbeat_s=0.2) as stream:
        items, begun = [], monotonic()
        for item in stream:
            items.append(item)
            if len([i for i in items if i[0] == HEARTBEAT]) == 3:
                break
    assert 0.3 < monotonic() - begun < 5
    assert {i for i in items if i[0] == HEARTBEAT} == {(HEARTBEAT, start["file"], int(start["offset"]))}
    assert items[0] == (IDLE,)
    assert stream.position() == start


def test_a_stall_is_noticed_and_named(source: LoneServer, schema: str) -> None:
    start = position_of(source)
    with proxy(source.port) as between:
        with stream_of(replace(endpoint_of(source), port=between.port), start, heartbeat_s=0.1) as stream:
            items = iter(stream)
            while next(items)[0] != HEARTBEAT:
                pass
            between.stall()
            begun = monotonic()
            with pytest.raises(
                ConnectionLost, match=rf"m1 .* at {start['file']}:{start['offset']}: .*nothing came for"
            ):
                while monotonic() - begun < 20:
                    next(items)
        between.flow()
        assert monotonic() - begun < 5


def test_time_that_the_reader_takes_is_no_stall(source: LoneServer, schema: str) -> None:
    start = position_of(source)
    with stream_of(source, start, heartbeat_s=0.05) as stream:
        for n, item in enumerate(stream):
            sleep(0.3)
            if item[0] == HEARTBEAT and n > 3:
                break


def test_lost_connections_and_a_killed_server(source: LoneServer, schema: str) -> None:
    start = position_of(source)
    run(source, "INSERT INTO t VALUES (1, 1)", database=schema)
    with proxy(source.port) as between, stream_of(replace(endpoint_of(source), port=between.port), start) as stream:
        items = iter(stream)
        while next(items)[0] != COMMIT:
            pass
        between.cut()
        with pytest.raises(ConnectionLost, match=r"m1 .*the binlog stream was lost"):
            for _ in range(1000):
                next(items)
    passed = stream.position()
    with stream_of(source, passed) as stream:
        items = iter(stream)
        next(items)
        source.kill()
        with pytest.raises(ConnectionLost):
            for _ in range(1000):
                next(items)
    with pytest.raises(ConnectionLost):
        stream_of(source, passed)
    source.start()
    source.wait_ready()
    run(source, "INSERT INTO t VALUES (2, 2)", database=schema)
    assert [t.rows for t in follow(source, passed)] == [[("insert", f"{schema}.t", (2, 2))]]


def test_a_request_to_stop_ends_the_wait(source: LoneServer, schema: str) -> None:
    with stream_of(source, position_of(source)) as stream:
        timer = threading.Timer(0.3, db.stop.set)
        timer.start()
        try:
            with pytest.raises(Interrupted):
                for _ in stream:
                    pass
        finally:
            timer.join()
            db.stop.clear()


def test_a_second_stream_of_ours_ends_the_first(source: LoneServer, schema: str) -> None:
    """Else one that a dead connection left behind would keep the server busy for long."""
    start = position_of(source)
    with stream_of(source, start, server_id=70) as first, stream_of(source, start, server_id=71) as other:
        ours, others = iter(first), iter(other)
        next(ours), next(others)
        with stream_of(source, start, server_id=70) as second:
            with pytest.raises(ConnectionLost, match="another stream with our server_id"):
                for _ in range(200):
                    next(ours)
            assert next(iter(second))
            assert next(others)


def test_checksums_switched_on_and_off(source: LoneServer, schema: str) -> None:
    start = position_of(source)
    try:
        for n, kind in enumerate(("NONE", "CRC32", "NONE")):
            run(source, f"SET GLOBAL binlog_checksum = '{kind}'", f"INSERT INTO t VALUES ({n}, 0)", database=schema)
            middle = position_of(source)
            run(source, f"INSERT INTO t VALUES ({n}, 1)", database=schema)
            assert [t.rows[0][2] for t in follow(source, middle)] == [(n, 1)]
    finally:
        run(source, "SET GLOBAL binlog_checksum = 'CRC32'")
    assert [t.rows[0][2] for t in follow(source, start)] == [(n, v) for n in range(3) for v in (0, 1)]


def test_xa(source: LoneServer, schema: str) -> None:
    start = position_of(source)
    run(source, "XA START 'one'", "INSERT INTO t VALUES (1, 1)", "XA END 'one'", "XA COMMIT 'one' ONE PHASE",
        "XA START 'two','b',3", "INSERT INTO u VALUES (2, 2)", "XA END 'two','b',3", "XA PREPARE 'two','b',3",
        database=schema)  # fmt: skip
    between = position_of(source)
    if not new(source, schema):  # it writes an XA transaction when it commits, as any other
        run(source, "XA RECOVER")
        found = follow(source, start, until=between)
        assert [f.rows for f in found] == [[("insert", f"{schema}.t", (1, 1))]]
        return
    run(source, "XA COMMIT 'two','b',3")
    found = follow(source, start, lambda s, t: t == "t")
    assert [f.rows for f in found] == [[("insert", f"{schema}.t", (1, 1))], [], []]
    assert found[1].after["prepared"] == "74776f.62.3" and "prepared" not in found[2].after
    assert follow(source, found[1].after, lambda s, t: t == "t") == found[2:]
    with pytest.raises(NoGo, match=r"the XA transaction X'74776f',X'62',3 is prepared after it changed routed tables"):
        follow(source, start, lambda s, t: t == "u")
    with pytest.raises(NoGo, match=r"X'74776f',X'62',3 is committed, but was prepared before the position of the copy"):
        follow(source, between, lambda s, t: t == "u")


def test_xa_prepared_and_committed_over_one_connection(source: LoneServer, schema: str) -> None:
    start = position_of(source)
    run(source, "XA START 'x'", "INSERT INTO t VALUES (1, 1)", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'",
        "XA START 'y'", "INSERT INTO t VALUES (2, 2)", "XA END 'y'", "XA PREPARE 'y'", "XA ROLLBACK 'y'",
        database=schema)  # fmt: skip
    if new(source, schema):
        with pytest.raises(NoGo, match="is prepared after it changed routed tables"):
            follow(source, start)
    else:
        assert [t.rows for t in follow(source, start)] == [[("insert", f"{schema}.t", (1, 1))]]


def test_tagged_gtids(source: LoneServer, schema: str) -> None:
    if not new(source, schema):
        pytest.skip("tags came with MySQL 8.3")
    start = position_of(source)
    run(source, "SET gtid_next = 'AUTOMATIC:bank'", "INSERT INTO t VALUES (1, 1)", "SET gtid_next = 'AUTOMATIC'",
        "INSERT INTO t VALUES (2, 2)", "SET gtid_next = 'AUTOMATIC:bank'", "INSERT INTO t VALUES (3, 3)",
        "CREATE TABLE tagged (i INT)", "SET gtid_next = 'AUTOMATIC'", "FLUSH BINARY LOGS",
        "INSERT INTO t VALUES (4, 4)", database=schema)  # fmt: skip
    end = position_of(source)
    whole = follow(source, start, until=end)
    uuid = start["server_uuid"]
    assert [t.gtid and t.gtid.removeprefix(uuid).rpartition(":")[0] for t in whole] == [
        ":bank",
        "",
        ":bank",
        ":bank",
        "",
    ]
    assert whole[-1].after["gtid_set"] == end["gtid_set"] and ":bank:1-3" in end["gtid_set"]
    for n, transaction in enumerate(whole):
        was = {**transaction.after, "server_uuid": "00000000-0000-0000-0000-000000000001"}
        assert [t.gtid for t in follow(source, was, until=end)] == [t.gtid for t in whole[n + 1 :]]


def test_the_times_of_commits_are_exact(source: LoneServer, schema: str) -> None:
    ((before,),) = run(source, "SELECT UNIX_TIMESTAMP(NOW(6))")
    start = position_of(source)
    run(source, "INSERT INTO t VALUES (1, 1)", database=schema)
    ((after,),) = run(source, "SELECT UNIX_TIMESTAMP(NOW(6))")
    with stream_of(source, start) as stream:
        when = next(item for item in stream if item[0] == COMMIT)[4]
    assert float(before) - (0 if new(source, schema) else 1) <= when <= float(after)


def test_partial_json_is_refused_where_it_is_wanted(source: LoneServer, schema: str) -> None:
    if not new(source, schema):
        pytest.skip("partial JSON came with MySQL 8.0")
    run(source, "CREATE TABLE j (id INT PRIMARY KEY, doc JSON)",
        "INSERT INTO j VALUES (1, JSON_OBJECT('a', REPEAT('x', 200), 'b', 1))", database=schema)  # fmt: skip
    start = position_of(source)
    run(source, "SET SESSION binlog_row_value_options = 'PARTIAL_JSON'", "UPDATE j SET doc = JSON_SET(doc, '$.b', 2)",
        database=schema)  # fmt: skip
    with pytest.raises(NoGo, match=rf"an update of {schema}\.j has only the changed parts of its JSON"):
        follow(source, start)
    assert [t.rows for t in follow(source, start, lambda s, t: False)] == [[]]


def test_tls(source: LoneServer, schema: str) -> None:
    if not new(source, schema):
        pytest.skip("this MySQL 5.6 has no certificates of its own")
    endpoint = endpoint_of(source, tls=(("ssl_ca", str(source.folder / "data" / "ca.pem")),))
    start = position_of(source)
    run(source, *[f"INSERT INTO t VALUES ({n}, 0)" for n in range(300)], "CREATE TABLE b (d LONGBLOB)",
        "INSERT INTO b VALUES (REPEAT('x', 20000000))", database=schema)  # fmt: skip
    with stream_of(endpoint, start) as stream:
        assert stream._wire._connection._sock.version().startswith("TLS")  # type: ignore[attr-defined]
    found = follow(source, start, endpoint=endpoint)
    assert found == follow(source, start)
    assert len(found[-1].rows[0][2]) == 20_000_000 + 5


def test_tls_is_used_where_it_is_offered(source: LoneServer, schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with servers elsewhere; nobody is verified, so that the system's authorities aren't read."""
    read: list[Any] = []
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda *args: read.append(args))
    for plain in (False, True):
        monkeypatch.setattr(Endpoint, "plain", plain)
        with db.connect(endpoint_of(source)) as session:
            assert bool(session.one("SHOW STATUS LIKE 'Ssl_cipher'")[1]) == (not plain and new(source, schema))
    assert not read


def test_large_rows_and_transactions_in_flat_memory(source: LoneServer, schema: str) -> None:
    # an event of such a row is 41 bytes longer with its packet's status, and a packet has 16,777,215 at most
    sizes = (0, 1, 16_777_173, 16_777_174, 16_777_175, 33_554_389)
    one = new(source, schema)  # 5.6 takes a tenth of its redo log in one transaction at most
    run(source, f"CREATE TABLE b (d LONGBLOB) ENGINE = {'InnoDB' if one else 'MyISAM'}", database=schema)
    begin, commit = (["BEGIN"], ["COMMIT"]) if one else ([], [])
    start = position_of(source)
    run(source, *begin, *[f"INSERT INTO b VALUES (REPEAT('x', {size}))" for size in sizes], *commit,
        "INSERT INTO t VALUES (1, 1)", database=schema)  # fmt: skip
    *large, small = follow(source, start)
    rows = [row for transaction in large for row in transaction.rows]
    assert [len(image) - 5 for _, _, image in rows] == list(sizes)
    assert all(image[5:] == b"x" * size for (_, _, image), size in zip(rows, sizes, strict=True))
    assert small.rows == [("insert", f"{schema}.t", (1, 1))]
    start = position_of(source)
    run(source, *begin, *["INSERT INTO b VALUES (REPEAT('y', 30000000))"] * 6, *commit, database=schema)
    assert _growth_mib(source, start) < 30_000_000 * 3 / 2**20


_MEASURED = """
import json, resource, sys
from migrate.config import parse_url
from migrate.sync.stream import Stream
url, start = sys.argv[1], json.loads(sys.argv[2])
with Stream(parse_url(url, "m1", {}), start, lambda s, t: True, server_id=7) as stream:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for item in stream:
        if stream.position()["offset"] == sys.argv[3]:
            break
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def _growth_mib(source: LoneServer, start: Position) -> int:
    """By how much a process grows that reads the next transaction."""
    arguments = [source.url, json.dumps(start), position_of(source)["offset"]]
    done = subprocess.run([sys.executable, "-c", _MEASURED, *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout)


def test_a_large_compressed_transaction_is_unpacked_bit_by_bit(source: LoneServer, schema: str) -> None:
    if not new(source, schema):
        pytest.skip("compression came with MySQL 8.0")
    run(source, "CREATE TABLE b (d LONGBLOB)", database=schema)
    start = position_of(source)
    run(source, "SET SESSION binlog_transaction_compression = ON", "BEGIN",
        *["INSERT INTO b VALUES (REPEAT('z', 20000000))"] * 6, "INSERT INTO t VALUES (1, 1)", "COMMIT",
        database=schema)  # fmt: skip
    events = run(source, f"SHOW BINLOG EVENTS IN '{start['file']}' FROM {start['offset']}")
    assert "Transaction_payload" in {event[2] for event in events}
    (found,) = follow(source, start)
    assert [len(image) for _, table, image in found.rows if table == f"{schema}.b"] == [20_000_005] * 6
    assert found.rows[-1] == ("insert", f"{schema}.t", (1, 1))
    assert _growth_mib(source, start) < 20_000_000 * 3 / 2**20


def test_table_maps_tell_types_signs_and_names(source: LoneServer, schema: str) -> None:
    columns = {
        "a": "TINYINT UNSIGNED NOT NULL", "b": "BIGINT", "c": "FLOAT", "d": "DOUBLE UNSIGNED", "e": "DECIMAL(20,4)",
        "f": "VARCHAR(300) CHARACTER SET utf8", "g": "CHAR(80) CHARACTER SET utf8mb4", "h": "BINARY(7)",
        "i": "ENUM('x','y')", "j": "SET('x','y')", "k": "BIT(11)", "l": "TEXT", "m": "LONGBLOB", "n": "DATETIME(3)",
        "o": "TIMESTAMP(6) NULL", "p": "TIME", "q": "DATE", "r": "YEAR", "s": "INT UNSIGNED", "t": "POINT",
        **({"u": "JSON", "v": "VECTOR(3)"} if new(source, schema) else {}),
    }  # fmt: skip
    run(source, f"CREATE TABLE w ({', '.join(f'{n} {t}' for n, t in columns.items())})", database=schema)
    start = position_of(source)
    if new(source, schema):
        run(source, "SET GLOBAL binlog_row_metadata = 'FULL'")
    run(source, "INSERT INTO w (a) VALUES (1)", database=schema)
    if new(source, schema):
        run(source, "SET GLOBAL binlog_row_metadata = 'MINIMAL'")
    with stream_of(source, start) as stream:
        table = next(item for item in stream if item[0] == ROWS)[2]
    expected: dict[str, Any] = {
        "a": (1, 0), "b": (8, 0), "c": (4, 4), "d": (5, 8), "e": (246, 20 << 8 | 4), "f": (15, 900),
        "g": (254, 0xEE40), "h": (254, 0xFE07), "i": (254, 0xF701), "j": (254, 0xF801), "k": (16, 1 << 8 | 3),
        "l": (252, 2), "m": (252, 4), "n": (18, 3), "o": (17, 6), "p": (19, 0), "q": (10, 0), "r": (13, 0),
        "s": (3, 0), "t": (255, 4), "u": (245, 4), "v": (242, 4),
    }  # fmt: skip
    assert list(zip(table.types, table.metas, strict=True)) == [expected[name] for name in columns]
    assert table.nullable[0] & 0b111 == 0b110
    if new(source, schema):
        assert table.names == tuple(columns)
        assert [n for n, u in zip(columns, table.unsigned, strict=True) if u] == ["a", "d", "r", "s"]
    else:
        assert table.names is None and table.unsigned is None
    assert table.decoder is None


@pytest.mark.parametrize("size", [1, 3, 24, 57])
def test_packets_are_put_together_wherever_they_are_cut(
    source: LoneServer, schema: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = position_of(source)
    run(source, "INSERT INTO t VALUES (1, 1)", "BEGIN", "UPDATE t SET v = 2", "INSERT INTO u VALUES (3, 3)", "COMMIT",
        "CREATE TABLE c (i INT)", "FLUSH BINARY LOGS", "DELETE FROM u", database=schema)  # fmt: skip
    whole = follow(source, start)
    assert len(whole) == 4
    monkeypatch.setattr("migrate.sync.wire._RECEIVE", size)
    assert follow(source, start) == whole
