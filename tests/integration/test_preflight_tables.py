"""Preflight of tables: each fault, planted on real servers, fails its check, alone, and says where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrate.model import MergedTable, Shard, ShardTable, TableDef, Target
from migrate.preflight.target import disk
from tests.integration.scene import Scene, bad, scene_of
from tests.integration.shards import Server, database, route, run


@pytest.fixture(params=["5.6", "9.7"])
def scene(request: pytest.FixtureRequest, servers: Any, tmp_path: Path) -> Iterator[Scene]:
    first = request.getfixturevalue("mysql97") if request.param == "9.7" else servers.sources[0]
    with scene_of([first, servers.sources[1]], servers.target, tmp_path) as made:
        yield made


@pytest.fixture
def old(servers: Any, tmp_path: Path) -> Iterator[Scene]:
    with scene_of(list(servers.sources), servers.target, tmp_path) as made:
        yield made


def test_a_table_that_nobody_named(scene: Scene) -> None:
    scene.on(0, "CREATE TABLE forgotten (id INT PRIMARY KEY)")
    failed = bad(scene.report(scan=False))
    assert set(failed) == {"routes"}
    assert f"m1.{scene.schema}.forgotten is neither routed nor ignored" in failed["routes"]


def test_no_table_at_all(old: Scene) -> None:
    config = replace(old.config, routes=(route(old.schema, "nothing", "a.b"),))
    assert set(bad(old.report(config, scan=False))) == {"routes"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("DROP KEY acc", "index acc (account_id) is missing"),
        ("MODIFY memo VARCHAR(100) NULL AFTER id", "another order"),
        ("MODIFY memo VARCHAR(100) CHARACTER SET latin1", "collation is latin1_swedish_ci"),
        ("MODIFY kind ENUM('b','a') NULL", "type is enum('b', 'a'), not enum('a', 'b')"),
        ("MODIFY amount DECIMAL(20,2) NOT NULL", "type is decimal(20,2), not decimal(20,4)"),
        ("ADD COLUMN extra INT", "column extra is there in addition"),
        ("MODIFY account_id INT NOT NULL", "type is int, not bigint"),
    ],
)
def test_shards_of_other_shapes(old: Scene, change: str, told: str) -> None:
    old.on(1, "UPDATE entry_1 SET memo = 'x'", f"ALTER TABLE entry_1 {change}")
    failed = bad(old.report(scan=False))
    assert set(failed) == {"shapes"}
    assert f"m2.{old.schema}.entry_1 differ from m1.{old.schema}.entry_0" in failed["shapes"]
    assert told in failed["shapes"]


def test_display_widths_are_no_difference(servers: Any, mysql97: Server, tmp_path: Path) -> None:
    """5.6 writes bigint(20), year(4) and utf8_bin, 9.7 bigint, year and utf8mb3_bin."""
    with database(mysql97, servers.sources[1], servers.target) as schema:
        scene = Scene([mysql97, servers.sources[1]], servers.target, schema, tmp_path)
        for number in (0, 1):
            added = "y YEAR, ADD COLUMN n INT(7) NULL, ADD COLUMN u VARCHAR(9) CHARACTER SET utf8 COLLATE utf8_bin"
            scene.on(number, f"ALTER TABLE entry_{number} ADD COLUMN {added}")
        assert bad(scene.report(scan=False)) == {}


def test_money_in_a_float(old: Scene) -> None:
    for number in (0, 1):
        old.on(number, f"ALTER TABLE entry_{number} MODIFY amount DOUBLE NOT NULL, ADD COLUMN rate FLOAT NULL")
    report = old.report(scan=False)
    assert list(bad(report)) == ["float"] and ".entry.amount" in bad(report)["float"]
    assert ".entry.rate" in bad(report, "warning")["float"]


def test_no_key(old: Scene) -> None:
    for number in (0, 1):
        old.on(number, f"ALTER TABLE entry_{number} DROP PRIMARY KEY")
    assert "copied in one piece" in bad(old.report(), "warning")["primary_key"]


def test_an_engine_without_snapshots(old: Scene) -> None:
    old.on(0, "ALTER TABLE entry_0 ENGINE = MyISAM")
    assert set(bad(old.report(scan=False))) == {"engine"}


def test_cascades(old: Scene) -> None:
    for number in (0, 1):
        old.on(number, "CREATE TABLE parent (id BIGINT PRIMARY KEY)", "INSERT INTO parent VALUES (1)",
               f"ALTER TABLE entry_{number} ADD CONSTRAINT up_{number} FOREIGN KEY (account_id) REFERENCES parent (id) "
               "ON DELETE CASCADE")  # fmt: skip
    config = replace(old.config, routes=(*old.config.routes, route(old.schema, "parent", f"{old.schema}.parent")))
    failed = bad(old.report(config, scan=False))
    assert set(failed) == {"cascades"}
    assert "ON DELETE CASCADE" in failed["cascades"]


def test_a_trigger(old: Scene) -> None:
    old.on(0, "CREATE TRIGGER tr BEFORE INSERT ON entry_0 FOR EACH ROW SET NEW.memo = 'x'")
    assert "trigger tr" in bad(old.report(scan=False), "warning")["triggers"]


def test_what_tidb_cannot_hold(old: Scene) -> None:
    for number in (0, 1):
        old.on(number, f"ALTER TABLE entry_{number} ADD COLUMN place POINT NULL")
    failed = bad(old.report(scan=False))
    assert set(failed) == {"schema"} and failed["schema"].startswith(f"{old.schema}.entry.place: TiDB has no type")


def test_a_target_with_rows(old: Scene) -> None:
    from migrate.catalog import read_catalog
    from migrate.db import connect
    from migrate.routes import resolve
    from migrate.schema import create_schema

    with connect(old.config.sources[0]) as source, connect(old.config.target) as target:
        tables = resolve(old.config, read_catalog(source, "m1")).checked()
        create_schema(target, tables, execute=True)
    assert bad(old.report(scan=False)) == {}
    run(old.target, "INSERT INTO entry VALUES (9, 1, 1, 'D', 1, 'CNY', '2026-01-01', 'a', NULL)", database=old.schema)
    failed = bad(old.report(scan=False))
    assert failed == {"target_empty": f"{old.schema}.entry: has rows that this migration didn't bring"}
    assert bad(old.report(scan=False, resuming=True)) == {}
    run(old.target, "ALTER TABLE entry DROP KEY acc", database=old.schema)
    assert set(bad(old.report(scan=False, resuming=True))) == {"target_shape"}


def test_too_small_a_disk(tmp_path: Path) -> None:
    shard = ShardTable(Shard("m1", "s", "t"), TableDef((), (), "utf8mb4", "utf8mb4_bin"), 1, 10**18)
    (check,) = disk([MergedTable(Target("s", "t"), (shard,))], tmp_path / "not" / "yet")
    assert check.status == "failed" and check.remedy


def test_colliding_keys(scene: Scene) -> None:
    scene.on(1, "UPDATE entry_1 SET id = 0")
    failed = bad(scene.report())
    assert set(failed) == {"key_collision"}
    assert f"id = 0) is on m1.{scene.schema}.entry_0 and on m2.{scene.schema}.entry_1" in failed["key_collision"]
