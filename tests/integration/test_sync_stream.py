"""The stream of real binlogs: what was done to the source, and nothing else, from every position on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from migrate.position import Position
from migrate.sync.stream import BEGIN, COMMIT, ROWS, UNDONE, Stream
from tests.binlog_lab import LoneServer, endpoint_of, follow, lone_server, position_of
from tests.integration.shards import run

KINDS = {
    "5.6": ("5.6", {}),
    "5.6 without GTIDs": ("5.6", {"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"}),
    "5.6 without checksums": ("5.6", {"binlog_checksum": "NONE"}),
    "9.7": ("9.7", {}),
    "9.7 compressed": ("9.7", {"binlog_transaction_compression": "ON"}),
}
_numbers = count(1)


@pytest.fixture(scope="module", params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneServer]:
    version, options = KINDS[request.param]
    with lone_server(tmp_path_factory.mktemp("lone") / "m1", version, **options) as server:
        yield server


@pytest.fixture
def schema(source: LoneServer) -> str:
    name = f"s{next(_numbers)}"
    run(source, f"CREATE DATABASE {name} DEFAULT CHARSET utf8mb4", f"CREATE TABLE {name}.t (id INT, v INT)",
        f"CREATE TABLE {name}.u (id INT, v INT)")  # fmt: skip
    return name


def test_transactions_come_whole_and_in_order(source: LoneServer, schema: str) -> None:
    start = position_of(source)
    run(source, "INSERT INTO t VALUES (1, 10), (2, NULL)", "BEGIN", "UPDATE t SET v = 11 WHERE id = 1",
        "INSERT INTO u VALUES (9, 9)", "DELETE FROM t WHERE id = 2", "COMMIT", "ALTER TABLE t ADD COLUMN w INT",
        "BEGIN", "INSERT INTO t VALUES (3, 3, 3)", "ROLLBACK", "INSERT INTO u VALUES (8, 8)", "TRUNCATE TABLE t",
        database=schema)  # fmt: skip
    t, u = f"{schema}.t", f"{schema}.u"
    found = follow(source, start)
    assert [f.rows for f in found] == [
        [("insert", t, (1, 10)), ("insert", t, (2, None))],
        [("update", t, ((1, 10), (1, 11))), ("insert", u, (9, 9)), ("delete", t, (2, None))],
        [], [("insert", u, (8, 8))], [],
    ]  # fmt: skip
    assert [f.statements for f in found] == [
        [], [], [(schema, "ALTER TABLE t ADD COLUMN w INT")], [], [(schema, "TRUNCATE TABLE t")]
    ]  # fmt: skip
    assert found[-1].after == position_of(source)
    assert [f.gtid for f in found] == _gtids_between(start, found[-1].after)


def _gtids_between(start: Position, end: Position) -> list[str | None]:
    """Of a server whose GTIDs are all of its own."""
    if not end["gtid_set"]:
        return [None] * 5
    first, last = (int(p["gtid_set"].rpartition(":")[2].rpartition("-")[2]) for p in (start, end))
    return [f"{end['server_uuid']}:{n}" for n in range(first + 1, last + 1)]


def test_only_wanted_tables_give_rows_but_all_transactions_are_there(source: LoneServer, schema: str) -> None:
    start = position_of(source)
    run(source, "INSERT INTO u VALUES (1, 1)", "BEGIN", "INSERT INTO u VALUES (2, 2)", "INSERT INTO t VALUES (3, 3)",
        "COMMIT", database=schema)  # fmt: skip
    found = follow(source, start, lambda s, t: (s, t) == (schema, "t"))
    assert [f.rows for f in found] == [[], [("insert", f"{schema}.t", (3, 3))]]


def test_it_goes_on_from_every_commit_with_exactly_the_rest(source: LoneServer, schema: str) -> None:
    start = position_of(source)
    for n in range(6):
        run(source, f"INSERT INTO t VALUES ({n}, 0), ({n + 100}, 0)", "BEGIN", f"UPDATE t SET v = {n}",
            "SAVEPOINT a", f"INSERT INTO u VALUES ({n}, 1)", "COMMIT", f"CREATE TABLE d{n} (i INT)",
            *(["FLUSH BINARY LOGS"] if n in (1, 4) else []), database=schema)  # fmt: skip
    end = position_of(source)
    whole = follow(source, start, until=end)
    assert len(whole) == 18
    assert whole[-1].after["file"] != start["file"]
    for n, transaction in enumerate(whole):
        assert follow(source, transaction.after, until=end) == whole[n + 1 :]


def test_by_gtids_it_goes_on_from_every_commit_too(source: LoneServer, schema: str) -> None:
    start = position_of(source)
    if not start["gtid_set"]:
        pytest.skip("this source has no GTIDs; that it is refused then is tested elsewhere")
    for n in range(4):
        run(source, f"INSERT INTO t VALUES ({n}, 0)", f"ALTER TABLE u ADD COLUMN c{n} INT",
            *(["FLUSH BINARY LOGS"] if n == 1 else []), database=schema)  # fmt: skip
    end = position_of(source)
    whole = follow(source, start, until=end)
    elsewhere = {"file": "other.000009", "offset": "77", "server_uuid": "00000000-0000-0000-0000-000000000001"}
    for n, transaction in enumerate([None, *whole]):
        was = {**(transaction.after if transaction else start), **elsewhere}
        rest = follow(source, was, until=end)
        assert [(t.gtid, t.rows, t.statements) for t in rest] == [(t.gtid, t.rows, t.statements) for t in whole[n:]]
        assert all(t.after["server_uuid"] == start["server_uuid"] for t in rest)
        if len(rest) > 1:  # and what it stands at there is a place of that server
            assert follow(source, rest[0].after, until=end) == rest[1:]


def test_savepoints(source: LoneServer, schema: str) -> None:
    start = position_of(source)
    run(source, "BEGIN", "INSERT INTO t VALUES (1, 1)", "SAVEPOINT a", "INSERT INTO t VALUES (2, 2)",
        "SAVEPOINT b", "INSERT INTO t VALUES (3, 3)", "ROLLBACK TO b", "RELEASE SAVEPOINT a",
        "INSERT INTO t VALUES (4, 4)", "COMMIT", database=schema)  # fmt: skip
    (found,) = follow(source, start)
    assert [image for _, _, image in found.rows] == [(1, 1), (2, 2), (4, 4)]


def test_statements_keep_their_text_in_every_charset(source: LoneServer, schema: str) -> None:
    start = position_of(source)
    texts = {"gbk": "账户余额", "latin1": "Übertrag €\x81", "utf8mb4": "🏦 账", "utf8": "ледж"}
    for charset, text in texts.items():
        encoding = {"latin1": "cp1252", "gbk": "gbk"}.get(charset, "utf-8")
        raw = b"".join(b"\x81" if c == "\x81" else c.encode(encoding) for c in text)
        with source.connect(database=schema) as connection:
            connection.query(f"SET NAMES {charset}")
            connection.query(b"ALTER TABLE t COMMENT '" + raw + b"'")  # type: ignore[arg-type]
    statements = [s for t in follow(source, start) for s in t.statements]
    assert statements == [(schema, f"ALTER TABLE t COMMENT '{text}'") for text in texts.values()]


def test_dml_logged_as_statements_is_told_as_statements(source: LoneServer, schema: str) -> None:
    start = position_of(source)
    run(source, "SET SESSION binlog_format = 'STATEMENT'", "SET @x = 5", "INSERT INTO t VALUES (@x, 1)",
        "UPDATE t SET v = RAND() * 0", database=schema)  # fmt: skip
    first, second = follow(source, start)
    assert (first.rows, second.rows) == ([], [])
    assert first.statements == [(schema, "INSERT INTO t VALUES (@x, 1)")]
    assert second.statements == [(schema, "UPDATE t SET v = RAND() * 0")]


def test_images_without_all_columns_say_which_they_have(source: LoneServer, schema: str) -> None:
    run(source, "CREATE TABLE m (id INT PRIMARY KEY, a INT, b INT)", "INSERT INTO m VALUES (1, 2, 3)", database=schema)
    start = position_of(source)
    run(source, "SET SESSION binlog_row_image = 'MINIMAL'", "UPDATE m SET b = 4", database=schema)
    with Stream(endpoint_of(source), start, lambda s, t: True, server_id=5) as stream:
        row = next(item for item in stream if item[0] == ROWS)
    assert [bitmap and bitmap[0] & 7 for bitmap in row[6:]] == [0b001, 0b100]


def test_rows_that_are_undone_in_the_binlog_are_told(source: LoneServer, schema: str) -> None:
    """A rollback stands in the binlog if a temporary table was dropped in the transaction."""
    if position_of(source)["gtid_set"]:
        pytest.skip("GTIDs don't let a transaction create or drop temporary tables")
    for undo, range_ in (("ROLLBACK TO `A b`", (1, 3)), ("ROLLBACK", (0, 3))):
        start = position_of(source)
        run(source, "BEGIN", "INSERT INTO t VALUES (1, 1)", "SAVEPOINT `a B`", "INSERT INTO t VALUES (2, 2)",
            "SAVEPOINT b", "INSERT INTO t VALUES (3, 3)", "DROP TEMPORARY TABLE IF EXISTS z", undo, "COMMIT",
            database=schema)  # fmt: skip
        with Stream(endpoint_of(source), start, lambda s, t: True, server_id=5) as stream:
            kinds = []
            for item in stream:
                kinds.append(item[1:] if item[0] == UNDONE else item[0])
                if item[0] == COMMIT:
                    break
        assert [k for k in kinds if k in (BEGIN, ROWS, COMMIT) or isinstance(k, tuple)] == [
            BEGIN, ROWS, ROWS, ROWS, range_, COMMIT
        ]  # fmt: skip
        (unrelated,) = follow(source, start, lambda s, t: t == "u")
        assert unrelated.rows == []
