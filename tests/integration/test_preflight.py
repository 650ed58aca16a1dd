"""Each check is shown its fault on real servers: it fails, alone, and says where and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrate.config import Config, Endpoint
from migrate.model import MergedTable, Shard, ShardTable, TableDef, Target
from migrate.preflight import Report, run_preflight
from migrate.preflight.privileges import may, parse_grants
from migrate.preflight.target import disk
from tests.integration.shards import Server, config_for, database, endpoint, route, run

LEDGER = """
[role.account]
table = "{s}.account"
id = "id"
balance = "balance"
currency = "currency"
increases = "C"
[role.entry]
table = "{s}.entry"
id = "id"
account = "account_id"
voucher = "voucher_id"
direction = "direction"
amount = "amount"
currency = "currency"
time = "at"
"""
ENTRY = (
    "id BIGINT NOT NULL PRIMARY KEY, account_id BIGINT NOT NULL, voucher_id BIGINT NOT NULL, "
    "direction CHAR(1) NOT NULL, amount DECIMAL(20,4) NOT NULL, currency CHAR(3) NOT NULL, at DATETIME(3) NOT NULL, "
    "kind ENUM('a','b') NULL, memo VARCHAR(100) NULL, KEY acc (account_id)"
)


class Scene:
    """Two instances with a shard each, and a target; all is well with them."""

    def __init__(self, sources: list[Server], target: Server, schema: str, folder: Path):
        self.sources, self.target, self.schema = sources, target, schema
        (folder / "ledger.toml").write_text(LEDGER.format(s=schema))
        self.config = config_for(
            sources, target, schema, route(schema, r"entry_\d+", f"{schema}.entry"), pack=str(folder)
        )
        for number, source in enumerate(sources):
            row = f"({number}, 1, 1, 'D', 1.5, 'CNY', '2026-01-01', 'a', '中文😀')"
            run(source, f"CREATE TABLE entry_{number} ({ENTRY}) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
                f"INSERT INTO entry_{number} VALUES {row}", database=schema)  # fmt: skip

    def on(self, number: int, *statements: str, **options: Any) -> list[tuple[Any, ...]]:
        return run(self.sources[number], *statements, database=self.schema, **options)

    def report(self, config: Config | None = None, **options: Any) -> Report:
        return run_preflight(config or self.config, **options)

    def with_target(self, target: Server | Endpoint) -> Config:
        return replace(self.config, target=endpoint(target, "target"))

    def with_source(self, source: Endpoint) -> Config:
        return replace(self.config, sources=(source, *self.config.sources[1:]))


@pytest.fixture(params=["5.6", "9.7"])
def scene(request: pytest.FixtureRequest, servers: Any, tmp_path: Path) -> Iterator[Scene]:
    sources = list(servers.sources)
    if request.param == "9.7":
        sources[0] = request.getfixturevalue("mysql97")
    with database(*sources, servers.target) as schema:
        yield Scene(sources, servers.target, schema, tmp_path)


@pytest.fixture
def old(servers: Any, tmp_path: Path) -> Iterator[Scene]:
    with database(*servers.sources, servers.target) as schema:
        yield Scene(list(servers.sources), servers.target, schema, tmp_path)


@contextmanager
def setting(server: Server, name: str, value: str) -> Iterator[None]:
    """A global variable, for a while."""
    before = run(server, f"SELECT @@GLOBAL.{name}")[0][0]
    run(server, f"SET GLOBAL {name} = {value}")
    try:
        yield
    finally:
        literal = str(before) if isinstance(before, int) else f"'{before}'"
        run(server, f"SET GLOBAL {name} = {literal}")


@contextmanager
def account(server: Server, *grants: str) -> Iterator[Endpoint]:
    """An account that has these grants and no others."""
    host = "localhost" if server.name != "tidb" else "%"
    run(server, f"DROP USER IF EXISTS 'little'@'{host}'") if host == "%" else None
    run(server, f"CREATE USER 'little'@'{host}' IDENTIFIED BY 'p@ss:/#%'")
    try:
        for grant in grants:
            run(server, f"{grant} TO 'little'@'{host}'")
        yield replace(endpoint(server, "m1"), user="little", password="p@ss:/#%")
    finally:
        run(server, f"DROP USER 'little'@'{host}'")


def bad(report: Report, status: str = "failed") -> dict[str, str]:
    """The checks of that status, each with its place and message; all of them say what to do."""
    found = [c for c in report.checks if c.status == status]
    assert all(c.remedy for c in found)
    assert report.ok == (not any(c.status == "failed" for c in report.checks))
    return {c.name: f"{c.where}: {c.message}" for c in found}


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


def test_an_enum_without_a_member(scene: Scene) -> None:
    scene.on(0, "SET sql_mode = ''", "UPDATE entry_0 SET kind = 'no such'")
    failed = bad(scene.report())
    assert list(failed) == ["enum_value"] and failed["enum_value"].startswith(f"m1.{scene.schema}.entry_0.kind: 1 rows")


@pytest.mark.parametrize("charset", ["utf8mb4", "utf8", "gbk", "ascii"])
def test_bytes_that_are_not_of_their_charset(old: Scene, charset: str) -> None:
    """The tablespace of a latin1 table, taken for that of another one: what careless repairs leave behind."""
    files = old.sources[0].folder / "data" / old.schema  # type: ignore[attr-defined]
    for number in (0, 1):
        old.on(number, f"ALTER TABLE entry_{number} ADD COLUMN note VARCHAR(50) CHARACTER SET {charset} NULL")
    old.on(0, "CREATE TABLE other LIKE entry_0", "ALTER TABLE other MODIFY note VARCHAR(50) CHARACTER SET latin1 NULL",
           "INSERT INTO other SELECT id, account_id, voucher_id, direction, amount, currency, at, kind, memo, X'ff' "
           "FROM entry_0")  # fmt: skip
    with old.sources[0].connect(database=old.schema) as connection, connection.cursor() as cursor:
        cursor.execute("FLUSH TABLES other FOR EXPORT")
        image = (files / "other.ibd").read_bytes()
        cursor.execute("UNLOCK TABLES")
    old.on(0, "ALTER TABLE entry_0 DISCARD TABLESPACE")
    (files / "entry_0.ibd").write_bytes(image)
    old.on(0, "ALTER TABLE entry_0 IMPORT TABLESPACE", "DROP TABLE other")
    failed = bad(old.report())
    assert list(failed) == ["text_value"]
    assert failed["text_value"].startswith(f"m1.{old.schema}.entry_0.note: 1 rows hold bytes that aren't {charset}")


def test_interleaved_keys_beyond_64_bits(scene: Scene) -> None:
    scene.on(0, f"UPDATE entry_0 SET id = {2**62}")
    interleave = route(scene.schema, r"entry_\d+", f"{scene.schema}.entry", key_collision="interleave")
    failed = bad(scene.report(replace(scene.config, routes=(interleave,))))
    assert list(failed) == ["interleave_range"]
    assert f"{2**62} becomes {2**63}" in failed["interleave_range"]


def test_a_row_that_tidb_does_not_take(servers: Any, mysql97: Server, tmp_path: Path) -> None:
    with database(mysql97, servers.target) as schema:
        scene = Scene([mysql97], servers.target, schema, tmp_path)
        scene.on(0, "ALTER TABLE entry_0 ADD COLUMN big LONGBLOB", "UPDATE entry_0 SET big = REPEAT('x', 7000000)")
        failed = bad(scene.report())
        assert list(failed) == ["row_size"] and "7000000 bytes" in failed["row_size"]
        with setting(scene.target, "tidb_txn_entry_size_limit", "14000000"):  # what the remedy says
            assert bad(scene.report()) == {}


def test_json_with_binary_parts(servers: Any, mysql97: Server, tmp_path: Path) -> None:
    with database(mysql97, servers.target) as schema:
        scene = Scene([mysql97], servers.target, schema, tmp_path)
        scene.on(0, "ALTER TABLE entry_0 ADD COLUMN j JSON", "UPDATE entry_0 SET j = JSON_OBJECT('a', X'00ff')")
        assert list(bad(scene.report())) == ["json_value"]


def test_several_failures_are_all_reported(scene: Scene) -> None:
    scene.on(0, "CREATE TABLE forgotten (id INT PRIMARY KEY)", "UPDATE entry_0 SET id = 1",
             "SET sql_mode = ''", "UPDATE entry_0 SET kind = 'no such'")  # fmt: skip
    with setting(scene.sources[1], "binlog_row_image", "'MINIMAL'"):
        assert set(bad(scene.report())) == {"routes", "key_collision", "enum_value", "binlog_row_image"}
