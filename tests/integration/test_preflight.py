"""Preflight of servers: each fault, planted on real ones, fails its check, alone, and says where and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrate.preflight.privileges import may, parse_grants
from tests.integration.scene import Scene, account, bad, scene_of, setting
from tests.integration.shards import Server, database, endpoint, run


@pytest.fixture(params=["5.6", "9.7"])
def scene(request: pytest.FixtureRequest, servers: Any, tmp_path: Path) -> Iterator[Scene]:
    first = request.getfixturevalue("mysql97") if request.param == "9.7" else servers.sources[0]
    with scene_of([first, servers.sources[1]], servers.target, tmp_path) as made:
        yield made


@pytest.fixture
def old(servers: Any, tmp_path: Path) -> Iterator[Scene]:
    with scene_of(list(servers.sources), servers.target, tmp_path) as made:
        yield made


def test_a_clean_pair_passes(scene: Scene, tmp_path: Path) -> None:
    report = scene.report(export_dir=tmp_path / "new")
    assert bad(report) == {}
    assert report.ok
    assert report.document()["ok"] is True
    names = {check["name"] for check in report.document()["checks"]}
    assert names >= {"version", "privileges", "server_id", "log_bin", "binlog_format", "routes", "shapes",
                     "primary_key", "schema", "target_table", "disk", "data", "key_collision", "clock"}  # fmt: skip
    assert "fit to migrate" in report.text().splitlines()[-1]


def test_an_unreachable_instance(old: Scene) -> None:
    gone = replace(old.config.sources[0], port=1)
    report = old.report(old.with_source(gone))
    assert set(bad(report)) == {"connection"}
    assert "m1" in bad(report)["connection"]
    skipped = [c for c in report.checks if c.status == "skipped"]
    assert "not checked" in skipped[0].message
    assert any(c.where == "m2" and c.status == "ok" for c in report.checks)  # the others are checked all the same


def test_an_unreachable_target(old: Scene) -> None:
    report = old.report(replace(old.config, target=replace(old.config.target, port=1)))
    assert set(bad(report)) == {"connection"}
    assert any(c.name == "key_collision" and c.status == "ok" for c in report.checks)


def test_a_wrong_password_is_told_without_it(old: Scene) -> None:
    report = old.report(old.with_source(replace(old.config.sources[0], password="hunter2-hunter2")))
    assert set(bad(report)) == {"connection"}
    assert "hunter2" not in report.text() + str(report.document())


def test_sides_mixed_up(old: Scene) -> None:
    config = replace(old.config, sources=(endpoint(old.target, "m1"),), target=endpoint(old.sources[0], "target"))
    failed = [c for c in old.report(config).checks if c.status == "failed" and c.name == "version"]
    assert [c.where for c in failed] == ["m1", "target"]


def test_server_ids(scene: Scene) -> None:
    other = run(scene.sources[1], "SELECT @@server_id")[0][0]
    with setting(scene.sources[0], "server_id", str(other)):
        assert set(bad(scene.report(scan=False))) == {"server_id"}
        assert [c.where for c in scene.report(scan=False).checks if c.status == "failed"] == ["m1", "m2"]


def test_a_server_id_of_zero(scene: Scene) -> None:
    with setting(scene.sources[0], "server_id", "0"):
        assert bad(scene.report(scan=False)) == {"server_id": "m1: is 0: it gives its binlog to nobody"}


@pytest.mark.parametrize(("name", "value"), [("binlog_format", "STATEMENT"), ("binlog_row_image", "MINIMAL")])
def test_binlog_settings(scene: Scene, name: str, value: str) -> None:
    with setting(scene.sources[0], name, f"'{value}'"):
        failed = bad(scene.report(scan=False))
    assert set(failed) == {name}
    assert failed[name].startswith(f"m1: is {value}")


def test_partial_json_in_the_binlog(servers: Any, mysql97: Server, tmp_path: Path) -> None:
    with database(mysql97, servers.target) as schema:
        scene = Scene([mysql97], servers.target, schema, tmp_path)
        with setting(mysql97, "binlog_row_value_options", "'PARTIAL_JSON'"):
            assert set(bad(scene.report(scan=False))) == {"binlog_row_value_options"}
        with setting(mysql97, "binlog_expire_logs_seconds", "3600"):
            assert "binlog_retention" in bad(scene.report(scan=False), "warning")
        with setting(mysql97, "binlog_transaction_compression", "ON"):
            assert "binlog_transaction_compression" in bad(scene.report(scan=False), "warning")


def test_gtid_modes_apart(servers: Any, mysql97: Server, tmp_path: Path) -> None:
    with database(mysql97, servers.sources[1], servers.target) as schema:
        scene = Scene([mysql97, servers.sources[1]], servers.target, schema, tmp_path)
        with setting(mysql97, "gtid_mode", "ON_PERMISSIVE"):
            assert "m2 ON" in next(c.message for c in scene.report(scan=False).checks if c.name == "gtid_mode")
            assert "gtid_mode" in bad(scene.report(scan=False), "warning")


def test_short_retention(old: Scene) -> None:
    with setting(old.sources[0], "expire_logs_days", "1"):
        assert "24 hours" in bad(old.report(scan=False), "warning")["binlog_retention"]


def test_padding_sql_mode(old: Scene) -> None:
    with setting(old.sources[0], "sql_mode", "'PAD_CHAR_TO_FULL_LENGTH'"):
        messages = [c.message for c in old.report(scan=False).checks if c.name == "sql_mode" and c.where == "m1"]
    assert "PAD_CHAR_TO_FULL_LENGTH" in messages[0]


def test_time_zones(scene: Scene) -> None:
    with setting(scene.sources[0], "time_zone", "'+08:00'"):
        assert "+08:00" in bad(scene.report(scan=False), "warning")["time_zone"]


def test_small_packets(old: Scene) -> None:
    with setting(old.sources[0], "max_allowed_packet", str(1 << 20)):
        assert "max_allowed_packet" in bad(old.report(scan=False), "warning")


def test_local_infile(old: Scene) -> None:
    with setting(old.target, "local_infile", "OFF"):
        assert set(bad(old.report(scan=False))) == {"local_infile"}


@pytest.mark.parametrize(("seconds", "status"), [(10, "warning"), (-3600, "failed")])
def test_clocks(old: Scene, seconds: int, status: str) -> None:
    """Sessions of an account without SUPER have the time that init_connect gives them."""
    with (
        account(old.sources[0], "GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.*") as little,
        setting(old.sources[0], "init_connect", f"'SET timestamp = UNIX_TIMESTAMP() + ({seconds})'"),
    ):
        found = bad(old.report(old.with_source(little), scan=False), status)
    assert "clock" in found


def test_source_privileges(scene: Scene) -> None:
    with account(scene.sources[0], f"GRANT SELECT ON `{scene.schema}`.*") as little:
        report = scene.report(scene.with_source(little), scan=False)
        assert "REPLICATION SLAVE, REPLICATION CLIENT" in bad(report)["privileges"]
        assert f"may read {scene.schema} only" in bad(report, "warning")["privileges"]
        assert "verification while sync runs" in bad(report, "warning")["lock_tables"]
    with account(scene.sources[0], "GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.*") as little:
        assert bad(scene.report(scene.with_source(little))) == {}


def test_privileges_by_a_role(servers: Any, mysql97: Server, tmp_path: Path) -> None:
    with database(mysql97, servers.target) as schema:
        scene = Scene([mysql97], servers.target, schema, tmp_path)
        run(
            mysql97,
            "CREATE ROLE IF NOT EXISTS movers",
            "GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO movers",
        )
        try:
            with account(mysql97, "GRANT movers") as little:
                assert "privileges" in bad(scene.report(scene.with_source(little), scan=False))  # not active
                run(mysql97, "SET DEFAULT ROLE ALL TO 'little'@'localhost'")
                assert bad(scene.report(scene.with_source(little), scan=False)) == {}
        finally:
            run(mysql97, "DROP ROLE movers")


def test_target_privileges(old: Scene) -> None:
    with account(
        old.target, f"GRANT SELECT, INSERT, CREATE ON `{old.schema}`.*", "GRANT ALL ON migrate_meta.*"
    ) as little:
        failed = bad(old.report(old.with_target(replace(little, name="target")), scan=False))
    assert failed == {"privileges": f"target: little lacks UPDATE, DELETE on {old.schema}"}


def test_grants_are_understood() -> None:
    grants = parse_grants(
        [
            "GRANT SELECT, INSERT (`a`, `b`), REPLICATION CLIENT ON *.* TO `x`@`%` IDENTIFIED BY PASSWORD '*0'",
            r"GRANT ALL PRIVILEGES ON `pay\_%`.* TO `x`@`%` WITH GRANT OPTION",
            "GRANT DELETE ON `s`.`t``1` TO 'x'@'%'",
            "GRANT `r`@`%` TO `x`@`%`",
        ]
    )
    assert may(grants, "SELECT")
    assert may(grants, "INSERT", "any")
    assert may(grants, "DROP", "pay_1") and not may(grants, "DROP", "payx1") and not may(grants, "DROP")
    assert may(grants, "DELETE", "s", "t`1") and not may(grants, "DELETE", "s")


def test_several_failures_are_all_reported(scene: Scene) -> None:
    scene.on(0, "CREATE TABLE forgotten (id INT PRIMARY KEY)", "UPDATE entry_0 SET id = 1",
             "SET sql_mode = ''", "UPDATE entry_0 SET kind = 'no such'")  # fmt: skip
    with setting(scene.sources[1], "binlog_row_image", "'MINIMAL'"):
        assert set(bad(scene.report())) == {"routes", "key_collision", "enum_value", "binlog_row_image"}
