"""What is wrong on the sources is refused by `copy` itself, with names, before any row is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from migrate.config import Config
from migrate.copy.copier import copy
from migrate.copy.exporter import export
from migrate.db import connect
from migrate.errors import NoGo
from migrate.sandbox import Sandbox
from migrate.schema import create_schema
from migrate.source import read_routing
from tests.integration.shards import config_for, database, route, run

_SHAPE = (
    "id BIGINT NOT NULL, ref VARCHAR(20) NOT NULL, amount DECIMAL(10,2) NOT NULL, "
    "PRIMARY KEY (id), UNIQUE KEY ref (ref)"
)


@pytest.fixture
def good(servers: Sandbox) -> Iterator[Config]:
    """Two shards, one an instance, that may be merged, and their empty target."""
    one, two = servers.sources
    with database(one, two, servers.target, prefix="planted") as schema:
        run(
            one,
            f"CREATE TABLE {schema}.entry_0 ({_SHAPE})",
            f"INSERT INTO {schema}.entry_0 VALUES (1, 'a', 1), (2, 'b', 2)",
        )
        run(
            two,
            f"CREATE TABLE {schema}.entry_1 ({_SHAPE})",
            f"INSERT INTO {schema}.entry_1 VALUES (3, 'c', 3), (4, 'd', 4)",
        )
        config = config_for([one, two], servers.target, schema, route(schema, r"entry_\d+", f"{schema}.entry"))
        with connect(config.target) as session:
            create_schema(session, read_routing(config).checked(), execute=True)
        yield config


def _schema(config: Config) -> str:
    return config.routes[0].target.split(".")[0]


def _refused(servers: Sandbox, config: Config, *words: str) -> None:
    """Copy says no with all these words, and the target stays empty."""
    with pytest.raises(NoGo) as refusal:
        copy(config, 2)
    for word in words:
        assert word in str(refusal.value)
    assert run(servers.target, f"SELECT COUNT(*) FROM {_schema(config)}.entry") == [(0,)]


def test_what_is_well_is_copied(servers: Sandbox, good: Config) -> None:
    assert copy(good, 2).rows == 4


@pytest.mark.parametrize("row", ["(1, 'x', 9)", "(1, 'a', 1)"], ids=["different", "identical"])
def test_an_equal_primary_key(servers: Sandbox, good: Config, row: str) -> None:
    schema = _schema(good)
    run(servers.sources[1], f"INSERT INTO {schema}.entry_1 VALUES {row}")
    _refused(servers, good, "PRIMARY", "id = 1", f"m1.{schema}.entry_0", f"m2.{schema}.entry_1", "interleave")


def test_an_equal_secondary_unique_key(servers: Sandbox, good: Config) -> None:
    schema = _schema(good)
    run(servers.sources[1], f"INSERT INTO {schema}.entry_1 VALUES (5, 'b', 9)")
    _refused(servers, good, "ref (ref = ", f"m1.{schema}.entry_0", f"m2.{schema}.entry_1")


def test_keys_that_only_the_targets_collation_finds_equal(servers: Sandbox, good: Config) -> None:
    run(servers.sources[1], f"INSERT INTO {_schema(good)}.entry_1 VALUES (5, 'B ', 9)")
    _refused(servers, good, "ref (ref = ")


def test_another_column_order(servers: Sandbox, good: Config) -> None:
    schema = _schema(good)
    run(servers.sources[1], f"ALTER TABLE {schema}.entry_1 MODIFY amount DECIMAL(10,2) NOT NULL AFTER id")
    _refused(servers, good, f"m2.{schema}.entry_1", "another order: id, amount, ref")


def test_a_missing_index(servers: Sandbox, good: Config) -> None:
    schema = _schema(good)
    run(servers.sources[1], f"ALTER TABLE {schema}.entry_1 DROP KEY ref")
    _refused(servers, good, f"m2.{schema}.entry_1", "index ref (unique ref) is missing")


def test_a_shard_that_no_route_names(servers: Sandbox, good: Config) -> None:
    schema = _schema(good)
    run(servers.sources[1], f"CREATE TABLE {schema}.forgotten ({_SHAPE})")
    _refused(servers, good, f"m2.{schema}.forgotten is neither routed nor ignored", "[[route]]", "[[ignore]]")


def test_a_route_that_matches_nothing(servers: Sandbox, good: Config) -> None:
    schema = _schema(good)
    idle = replace(good, routes=(*good.routes, route(schema, r"refund_[0-63]", f"{schema}.refund")))
    _refused(servers, idle, "matches no table", "refund_[0-63]", "regular expressions")


def test_an_export_is_refused_too(servers: Sandbox, good: Config, tmp_path_factory: pytest.TempPathFactory) -> None:
    schema = _schema(good)
    run(servers.sources[1], f"ALTER TABLE {schema}.entry_1 DROP KEY ref")
    folder = tmp_path_factory.mktemp("export")
    with pytest.raises(NoGo, match="index ref"):
        export(good, folder, 2)
    assert not list(folder.glob("*.csv"))


def test_interleaved_keys_may_be_equal(servers: Sandbox, good: Config) -> None:
    """new = old * 2 + shard number, exactly; the unique key is still its own."""
    schema = _schema(good)
    run(servers.sources[1], f"INSERT INTO {schema}.entry_1 VALUES (1, 'x', 9)")
    mixed = replace(good, routes=(route(schema, r"entry_\d+", f"{schema}.entry", key_collision="interleave"),))
    assert copy(mixed, 2).rows == 5
    merged = run(servers.target, f"SELECT id, ref FROM {schema}.entry ORDER BY id")
    assert merged == [(2, "a"), (3, "x"), (4, "b"), (7, "c"), (9, "d")]
