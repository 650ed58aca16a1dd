"""Verification of a MariaDB 10.11, whose server tells the position of a snapshot, so that nothing is locked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrate.config import parse_url
from migrate.db import connect
from migrate.model import Shard
from migrate.sandbox import Sandbox
from migrate.sandbox.errors import SandboxError
from tests.mariadb import MariaDBServer, lone_mariadb, mariadb_folder
from tests.verify_lab import Lab
from verify.changes import Order
from verify.evidence import keep
from verify.prove import plan
from verify.readers import Readers
from verify.repair import repair
from verify.run import verify_all, verify_rows
from verify.snapshot import open_exactly, read_position
from verify.tables import load

COLUMNS = """id BIGINT NOT NULL PRIMARY KEY, amount DECIMAL(20,4) NOT NULL, name VARCHAR(20) NULL, note TEXT NULL,
 raw VARBINARY(9) NULL, kind ENUM('a','ü') NULL, at DATETIME(6) NULL, ratio DOUBLE NULL"""
ROWS = [(n, f"{n}.0001", f"Ké{n}", None if n % 3 else "x" * n, bytes([n, 0]), "ü", "2026-01-02 03:04:05.000006", 0.1)
        for n in range(100)]  # fmt: skip


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDBServer]:
    try:
        mariadb_folder()
    except SandboxError as error:
        pytest.skip(f"Debian's archive gives no MariaDB: {error}")
    with lone_mariadb(tmp_path_factory.mktemp("lone") / "m1") as server:
        yield server


@pytest.fixture
def lab(mariadb: MariaDBServer, servers: Sandbox, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab([mariadb], servers.target, tmp_path, "vmaria")
    lab.table("t", COLUMNS, ROWS)
    yield lab
    lab.drop()


def test_a_static_source_is_verified_and_repaired(lab: Lab) -> None:
    config = lab.config()
    result = verify_all(config, strong=True)
    assert result.ok, result.text()
    (cut,) = result.cuts
    assert cut.positions["m1"]["file"]
    assert int(cut.positions["m1"]["offset"])
    assert not any("written" in note or "position" in note for note in result.notes), result.notes
    lab.on_target(
        "UPDATE $.t SET amount = amount + 0.0001 WHERE id = 7",
        "DELETE FROM $.t WHERE id = 8",
        "INSERT INTO $.t (id, amount) VALUES (-5, 1)",
    )
    result = verify_rows(config)
    assert {(m.kind, m.key["id"]) for m in result.mismatches if m.key} == {
        ("different", "7"), ("missing", "8"), ("extra", "-5")
    }  # fmt: skip
    mended = repair(config, Order(True, "a test", "T-1"), run=keep(config, result).run)
    assert mended.ok, mended.text()
    assert verify_all(config, strong=True).ok


def test_a_snapshot_stands_at_its_position_without_a_lock(lab: Lab) -> None:
    """While transactions commit all the time, and beside one that is open."""
    server = lab.sources[0]
    endpoint = parse_url(server.url, "m1")
    lab.run(server, "CREATE TABLE $.n (id INT PRIMARY KEY AUTO_INCREMENT)")
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            lab.run(server, "INSERT INTO $.n VALUES (NULL)")

    shards = [Shard("m1", lab.schema, "n")]
    with server.connect(autocommit=False) as writer, writer.cursor() as cursor:
        cursor.execute(f"UPDATE {lab.schema}.t_0 SET amount = 0 WHERE id = 0")
        writing = threading.Thread(target=write)
        writing.start()
        try:
            for _ in range(20):
                sessions = [connect(endpoint) for _ in range(3)]
                position, count = open_exactly(endpoint, sessions, shards, 1)
                sql = f"SELECT COUNT(*) FROM {lab.schema}.n"
                seen = {session.value(sql) for session in sessions[:count]}
                assert len(seen) == 1
                with connect(endpoint) as session:
                    events = session.query(f"SHOW BINLOG EVENTS IN '{position['file']}'")
                before = sum(
                    kind == "Table_map" and f"({lab.schema}.n)" in info and int(end) <= int(position["offset"])
                    for _, _, kind, _, end, info in events
                )
                assert seen == {before}, position
                for session in sessions:
                    session.close()
        finally:
            ended.set()
            writing.join()
    with connect(endpoint) as session:
        assert read_position(session)["file"]


def test_a_large_table_is_cut_by_estimates(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verify.prove._SHARD_ROWS", 1)
    rows = [(n, "x") for n in range(10_000)]
    lab.table("many", "id BIGINT NOT NULL PRIMARY KEY, v CHAR(50) NOT NULL", rows, shards=1)
    lab.on_shard(0, "ANALYZE TABLE $.many_0")
    with Readers(lab.config()) as readers:
        parts = plan(readers, load(readers, [f"{lab.schema}.many"]), rows=1000)
    assert 8 <= len(parts) <= 12
