"""Where a copy begins and ends: definitions and positions that belong together, and what later steps read of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from migrate.config import Config
from migrate.copy import anchor as anchor_module
from migrate.copy.anchor import anchor
from migrate.copy.copier import copy, load
from migrate.copy.exporter import export
from migrate.db import Session, connect
from migrate.model import Shard
from migrate.position import Position, capture, owned_gtids
from migrate.sandbox import Sandbox
from migrate.schema import create_schema
from migrate.source import read_routing
from migrate.state import State
from tests.integration.shards import config_for, database, route, run

OWNED_UUID = "11111111-2222-3333-4444-555555555555"
OTHER_UUID = "99999999-2222-3333-4444-555555555555"


@pytest.fixture
def place(servers: Sandbox) -> Iterator[tuple[Config, str]]:
    """Two instances with two shards each of one table, and its empty target."""
    with database(*servers.sources, servers.target, prefix="anchor") as schema:
        for number, source in enumerate(servers.sources):
            for shard in (0, 1):
                first = 10 * number + 5 * shard
                table = f"CREATE TABLE t_{shard} (id BIGINT PRIMARY KEY, memo VARCHAR(9) NOT NULL DEFAULT '中')"
                run(source, table, f"INSERT INTO t_{shard} (id) VALUES ({first}), ({first + 1})", database=schema)
        config = config_for(servers.sources, servers.target, schema, route(schema, r"t_\d", f"{schema}.t"))
        yield config, schema


def create(config: Config) -> None:
    with connect(config.target) as session:
        create_schema(session, read_routing(config).checked(), execute=True)


def saved(config: Config) -> tuple[dict[Shard, Any], dict[str, Position], dict[str, Position]]:
    with State.open(config) as state:
        return state.definitions(), state.positions(), state.consistent()


def defined(config: Config) -> dict[Shard, Any]:
    return {s.shard: s.definition for t in read_routing(config).checked() for s in t.shards}


def offsets(positions: dict[str, Position]) -> dict[str, tuple[str, int]]:
    return {instance: (p["file"], int(p["offset"])) for instance, p in positions.items()}


def now(config: Config) -> dict[str, Position]:
    found = {}
    for source in config.sources:
        with connect(source) as session:
            found[source.name] = capture(session, source.name)
    return found


def write(servers: Sandbox, schema: str) -> None:
    """Moves every instance's binlog on."""
    for number, source in enumerate(servers.sources):
        run(source, f"UPDATE t_0 SET memo = CONCAT(memo, 'x') WHERE id = {10 * number}", database=schema)


def test_copy_saves_definitions_and_both_positions(servers: Sandbox, place: tuple[Config, str]) -> None:
    config, schema = place
    create(config)
    before = now(config)
    copy(config, 2)
    after = now(config)
    definitions, positions, consistent = saved(config)
    assert definitions == defined(config)
    assert len(definitions) == 4
    assert positions == before
    assert consistent == after
    write(servers, schema)
    copy(config, 2)  # finished before: the first positions stay
    assert saved(config) == (definitions, positions, consistent)


def test_an_export_carries_them_to_the_load(servers: Sandbox, place: tuple[Config, str], tmp_path: Path) -> None:
    config, schema = place
    before = now(config)
    export(config, tmp_path / "out", 2)
    after = now(config)
    write(servers, schema)
    create(config)
    load(config, tmp_path / "out", 2)
    assert saved(config) == (defined(config), before, after)


def test_a_definition_that_changes_meanwhile(
    servers: Sandbox, place: tuple[Config, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement between the catalogue and the position: both are read again."""
    config, schema = place
    tables = read_routing(config).checked()
    changes = iter(["ADD COLUMN more INT NULL", "DROP COLUMN more, ADD COLUMN other INT NULL"])
    captures = []

    def captured(session: Session, instance: str) -> Position:
        captures.append(instance)
        if instance == "m1" and (change := next(changes, None)):
            for number, source in enumerate(servers.sources):
                for shard in (0, 1):
                    run(source, f"ALTER TABLE t_{shard} {change}", database=schema)
                    assert number < 2
        return capture(session, instance)

    monkeypatch.setattr(anchor_module, "capture", captured)
    anchored, positions = anchor(config, tables)
    assert captures.count("m1") == 3
    assert anchored == read_routing(config).checked() != tables
    assert positions == now(config)


@pytest.mark.parametrize("outcome", ["COMMIT", "ROLLBACK"])
def test_a_transaction_that_is_being_committed_is_waited_for(
    servers: Sandbox, place: tuple[Config, str], outcome: str
) -> None:
    """It may stand in the binlog before the position, and in no table yet."""
    config, schema = place
    tables = read_routing(config).checked()
    ended = threading.Event()
    number = 1 if outcome == "COMMIT" else 2
    with servers.sources[0].connect(database=schema) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET gtid_next = '{OWNED_UUID}:{number}'")
        cursor.execute("BEGIN")
        cursor.execute("UPDATE t_0 SET memo = 'late' WHERE id = 0")
        waiter = threading.Thread(target=lambda: (anchor(config, tables), ended.set()))
        waiter.start()
        assert not ended.wait(1)
        cursor.execute(outcome)
        assert ended.wait(10)
        waiter.join()
        cursor.execute("SET gtid_next = 'AUTOMATIC'")


@pytest.mark.parametrize(
    ("owned", "found"),
    [
        ("", set()),
        (f"{OWNED_UUID}:7#12", {f"{OWNED_UUID}:7"}),
        (
            f"{OWNED_UUID}:7#12:8#13#14,\n{OWNED_UUID[::-1]}:1#2",
            {f"{OWNED_UUID}:7", f"{OWNED_UUID}:8", f"{OWNED_UUID[::-1]}:1"},
        ),
        (f"{OWNED_UUID}:7#12:tag_1:7#13", {f"{OWNED_UUID}:7", f"{OWNED_UUID}:tag_1:7"}),
    ],
)
def test_how_owned_gtids_are_read(owned: str, found: set[str]) -> None:
    assert owned_gtids(owned) == found
