"""The stream of a real MariaDB 10.11: by file and offset, compressed or not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from migrate.errors import NoGo
from migrate.sandbox.errors import SandboxError
from migrate.sync.stream import ROWS, Stream
from tests.binlog_lab import endpoint_of, follow, position_of, purge_before
from tests.integration.shards import run
from tests.mariadb import MariaDBServer, lone_mariadb, mariadb_folder

_numbers = count(1)


@pytest.fixture(scope="module", params=["plain", "compressed"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDBServer]:
    try:
        mariadb_folder()
    except SandboxError as error:
        pytest.skip(f"Debian's archive gives no MariaDB: {error}")
    options = {"log_bin_compress": "ON", "log_bin_compress_min_len": 10} if request.param == "compressed" else {}
    with lone_mariadb(tmp_path_factory.mktemp("lone") / "m1", **options) as server:
        yield server


@pytest.fixture
def schema(source: MariaDBServer) -> str:
    name = f"s{next(_numbers)}"
    run(source, f"CREATE DATABASE {name} DEFAULT CHARSET utf8mb4", f"CREATE TABLE {name}.t (id INT, v INT)",
        f"CREATE TABLE {name}.u (id INT, v INT)")  # fmt: skip
    return name


def test_transactions_and_every_commit_to_go_on_from(source: MariaDBServer, schema: str) -> None:
    start = position_of(source)
    run(source, "INSERT INTO t VALUES (1, 10), (2, NULL)", "BEGIN", "UPDATE t SET v = 11 WHERE id = 1",
        "SAVEPOINT a", "INSERT INTO t VALUES (5, 5)", "ROLLBACK TO a", "INSERT INTO u VALUES (9, 9)",
        "DELETE FROM t WHERE id = 2", "COMMIT", "ALTER TABLE t ADD COLUMN w INT COMMENT 'ä'", "FLUSH BINARY LOGS",
        "SET SESSION binlog_format = 'STATEMENT'", "INSERT INTO u VALUES (8, 8)", database=schema)  # fmt: skip
    t, u = f"{schema}.t", f"{schema}.u"
    end = position_of(source)
    assert end["file"] != start["file"] and end["server_uuid"]
    found = follow(source, start, until=end)
    assert [f.rows for f in found] == [
        [("insert", t, (1, 10)), ("insert", t, (2, None))],
        [("update", t, ((1, 10), (1, 11))), ("insert", u, (9, 9)), ("delete", t, (2, None))],
        [], [],
    ]  # fmt: skip
    assert [f.statements for f in found] == [
        [], [], [(schema, "ALTER TABLE t ADD COLUMN w INT COMMENT 'ä'")], [(schema, "INSERT INTO u VALUES (8, 8)")]
    ]  # fmt: skip
    assert all(f.gtid and f.gtid.startswith("0-7-") and f.after["gtid_set"] == "" for f in found)
    for n, transaction in enumerate(found):
        assert follow(source, transaction.after, until=end) == found[n + 1 :]


def test_xa(source: MariaDBServer, schema: str) -> None:
    start = position_of(source)
    run(source, "XA START 'one'", "INSERT INTO t VALUES (1, 1)", "XA END 'one'", "XA COMMIT 'one' ONE PHASE",
        "XA START 'two','b',3", "INSERT INTO u VALUES (2, 2)", "XA END 'two','b',3", "XA PREPARE 'two','b',3",
        database=schema)  # fmt: skip
    between = position_of(source)
    run(source, "XA COMMIT 'two','b',3")
    found = follow(source, start, lambda s, t: t == "t")
    assert [f.rows for f in found] == [[("insert", f"{schema}.t", (1, 1))], [], []]
    assert found[1].after["prepared"] == "74776f.62.3" and "prepared" not in found[2].after
    assert follow(source, found[1].after, lambda s, t: t == "t") == found[2:]
    with pytest.raises(NoGo, match=r"the XA transaction X'74776f',X'62',3 is prepared after it changed routed tables"):
        follow(source, start, lambda s, t: t == "u")
    with pytest.raises(NoGo, match=r"X'74776f',X'62',3 is committed, but was prepared before the position of the copy"):
        follow(source, between, lambda s, t: t == "u")


def test_a_purged_and_a_reset_binlog(source: MariaDBServer, schema: str) -> None:
    start = position_of(source)
    run(source, "INSERT INTO t VALUES (1, 1)", "FLUSH BINARY LOGS", database=schema)
    purge_before(source, position_of(source)["file"])
    with pytest.raises(NoGo, match=f"has purged {start['file']}"):
        follow(source, start)
    start = position_of(source)
    run(source, "RESET MASTER")
    with pytest.raises(NoGo, match="doesn't have the position"):
        follow(source, start)


def test_table_maps_tell_signs_and_names(source: MariaDBServer, schema: str) -> None:
    run(source, "CREATE TABLE w (a INT UNSIGNED, b YEAR, c INT, d DATE, e BIGINT UNSIGNED, f TIME(2))", database=schema)
    start = position_of(source)
    run(source, "SET GLOBAL binlog_row_metadata = 'FULL'", "INSERT INTO w (a) VALUES (1)",
        "SET GLOBAL binlog_row_metadata = 'NO_LOG'", database=schema)  # fmt: skip
    with Stream(endpoint_of(source), start, lambda s, t: True, server_id=3) as stream:
        table = next(item for item in stream if item[0] == ROWS)[2]
    assert table.names == tuple("abcdef")
    assert [name for name, unsigned in zip("abcdef", table.unsigned, strict=True) if unsigned] == ["a", "b", "e"]
    assert (table.types[5], table.metas[5]) == (19, 2)
