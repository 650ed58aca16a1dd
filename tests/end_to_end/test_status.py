"""`migrate status` beside a copy: it says what is there, and only that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from migrate.sandbox import Sandbox
from tests.faults.ledger import Ledger, Migration, query


@pytest.fixture
def migration(servers: Sandbox, tmp_path: Path) -> Iterator[Migration]:
    ledger = Ledger(servers, "status", 2000)
    ledger.fill()
    yield Migration(ledger, tmp_path).create()
    ledger.drop()


def status(migration: Migration) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(migration.run("status", "--json").ok().out)
    return document


def test_status_from_before_the_beginning_to_the_end(migration: Migration) -> None:
    assert status(migration)["way"] is None
    assert "not begun" in migration.run("status").ok().out
    with migration.client("copy", MIGRATE_FAULT="after_chunk_commit:stop:2") as client:
        client.until_stopped()
        during = status(migration)
        (table,) = during["tables"]
        assert during["way"] == "copy"
        assert during["run_by"]["lives"]
        assert f":{client.pid}:" in during["run_by"]["who"]
        assert 0 <= during["run_by"]["heartbeat_s"] < 30
        assert set(during["positions"]) == {"m1", "m2"}
        assert (table["target"], table["shards"]) == (migration.table, 4)
        assert table["chunks_in"] == migration.chunks() > 0
        assert table["rows"] == migration.rows() == 500 * table["chunks_in"]
        assert 0 < table["percent"] < 100
        assert table["rows_per_s"] > 0
        assert [e["event"] for e in during["journal"]] == ["begin"]
        assert f"process {client.pid}" in migration.run("status").ok().out
        with migration.client("status", "--watch") as watching:
            watching.until(lambda: True)
            client.kill()
            client.ended()
            dead = status(migration)
            assert not dead["run_by"]["lives"]
            assert "which is dead" in migration.run("status").ok().out
            migration.run("copy").ok()
            assert "100.0 %" in watching.ok().out
    after = status(migration)
    (table,) = after["tables"]
    assert after["finished_at"]
    assert after["run_by"] is None
    assert (table["rows"], table["percent"], table["seconds_left"]) == (8000, 100.0, 0)
    assert table["chunks"] == table["chunks_in"]
    assert [e["event"] for e in after["journal"]] == ["begin", "loaded"]


def test_status_writes_nothing(migration: Migration) -> None:
    before = query(migration.target, "SELECT COUNT(*) FROM information_schema.tables")
    status(migration)
    assert query(migration.target, "SELECT COUNT(*) FROM information_schema.tables") == before
