"""Odd names, shapes, sizes and server settings: the rows arrive all the same, or are refused by name."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from migrate.catalog import read_catalog
from migrate.config import load_config, parse_url
from migrate.copy.copier import copy
from migrate.copy.rowformat import RowRefused
from migrate.db import connect
from migrate.errors import MigrateError
from migrate.sandbox import Sandbox, Server
from tests import fidelity_cases as cases
from tests.fidelity import (
    Case,
    Way,
    assert_same,
    configured,
    create_target,
    differences,
    make_table,
    move,
    quoted,
    read,
    rows,
    run,
)

LONG = "n" * 64
NAMES = ["order", "a.b", "tick`s", '"quoted"', "back\\slash", "per%cent", "sp ace", "账目流水", LONG, "select from,x"]


@contextmanager
def global_settings(server: Server, **settings: str) -> Iterator[None]:
    """Sets global variables of a server for a while."""
    before = {name: rows(server, f"SELECT @@GLOBAL.{name}")[0][0] for name in settings}
    run(server, *(f"SET GLOBAL {name} = {value}" for name, value in settings.items()))
    try:
        yield
    finally:
        run(server, *(f"SET GLOBAL {n} = {v if isinstance(v, int) else repr(v)}" for n, v in before.items()))


@pytest.mark.parametrize("way", ["copy", "files", "zstd"])
def test_odd_names_of_schemas_tables_and_columns(servers: Sandbox, tmp_path: Path, way: Way) -> None:
    source, schema = servers.sources[0], f"odd.`名 {way}"
    columns = [n for n in NAMES if n != "a.b"] + ["new\nline", "x.y", "id\\"]
    texts = ", ".join(f"{quoted(c)} VARCHAR(9)" for c in columns)
    run(source, f"CREATE DATABASE {quoted(schema)}")
    for name in NAMES:
        table = f"{quoted(schema)}.{quoted(name)}"
        run(source, f"CREATE TABLE {table} (id INT PRIMARY KEY, {texts}, "
                    f"UNIQUE KEY `key ``中` ({quoted(columns[0])})) DEFAULT CHARSET utf8mb4",
            f"INSERT INTO {table} VALUES (1, {', '.join(['%s'] * len(columns))})".replace("%s", "'v'"))  # fmt: skip
    into = f"odd`名 {way}"
    renamed = {n: f"{into}.{n.replace('.', '_')}" for n in NAMES}
    config = configured(tmp_path, [source], servers.target, schema, name=f"odd_{way}", renamed=renamed)
    move(config, way, tmp_path)
    for name in NAMES:
        before, after = read(source, schema, name), read(servers.target, into, renamed[name].partition(".")[2])
        assert before and not differences(before, after), name


@pytest.mark.parametrize("way", ["copy", "files"])
def test_odd_shapes_of_tables(servers: Sandbox, tmp_path: Path, way: Way) -> None:
    source, schema = servers.sources[0], f"shapes_{way}"
    run(source, f"CREATE DATABASE {schema}",
        f"CREATE TABLE {schema}.keyless (a INT, b VARCHAR(9))",
        f"INSERT INTO {schema}.keyless VALUES (1, 'x'), (1, 'x'), (NULL, NULL), (2, '\\\\N')",
        f"CREATE TABLE {schema}.nothing (id INT PRIMARY KEY)",
        f"CREATE TABLE {schema}.keyless_nothing (a INT)",
        f"CREATE TABLE {schema}.one_column (v VARCHAR(9) NOT NULL PRIMARY KEY)",
        f"INSERT INTO {schema}.one_column VALUES (''), ('a'), ('\\n')",
        f"CREATE TABLE {schema}.one_null (v VARCHAR(9))",
        f"INSERT INTO {schema}.one_null VALUES (NULL), (''), ('N')",
        f"CREATE TABLE {schema}.uniques (id INT NULL, v VARCHAR(9) NULL, UNIQUE KEY (id, v))",
        f"INSERT INTO {schema}.uniques VALUES (NULL, 'a'), (NULL, 'a'), (1, NULL), (1, NULL), (1, 'a')",
        f"CREATE TABLE {schema}.stamps (id BIGINT AUTO_INCREMENT PRIMARY KEY, n INT NOT NULL DEFAULT 7, "
        "at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, d DATETIME(3) NULL "
        "DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3))",
        f"INSERT INTO {schema}.stamps VALUES (0, 0, '2001-01-01', NULL), (-3, 1, '2001-01-01', NOW(3))")  # fmt: skip
    config = configured(tmp_path, [source], servers.target, schema)
    move(config, way, tmp_path)
    for table in ("keyless", "one_column", "one_null", "uniques", "stamps"):
        assert_same(source, servers.target, schema, table, order=None)
    for table in ("nothing", "keyless_nothing"):
        assert read(servers.target, schema, table, None) == []


@pytest.mark.parametrize(
    "mode", ["ANSI_QUOTES,PIPES_AS_CONCAT", "PAD_CHAR_TO_FULL_LENGTH,NO_BACKSLASH_ESCAPES", "ANSI,TRADITIONAL"]
)
def test_global_modes_and_time_zones_change_nothing(
    servers: Sandbox, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, schema = servers.sources[0], servers.target, "modes_" + mode.partition(",")[0].lower()
    group = [Case("CHAR(9)", cases.texts("a", "", '"', "\\", "\\N")), *cases.TIMES, *cases.NUMBERS]
    make_table(source, schema, "t", group)
    run(
        source,
        f"CREATE TABLE {schema}.k (k CHAR(9) CHARACTER SET utf8mb4 PRIMARY KEY, id TIMESTAMP)",
        *(f"INSERT INTO {schema}.k VALUES ({v}, '2024-10-27 01:30:00')" for v in cases.texts("a", "", "\\", '"', "'")),
    )
    before = {table: read(source, schema, table) for table in ("t", "k")}
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    with (
        global_settings(source, sql_mode=f"'{mode}'", time_zone="'+05:30'"),
        global_settings(target, sql_mode=f"'{mode}'", time_zone="'-08:00'"),
    ):  # fmt: skip
        move(configured(tmp_path, [source], target, schema), "copy", tmp_path)
        for table, found in before.items():
            assert not differences(found, read(target, schema, table), group if table == "t" else ())
    monkeypatch.undo()
    time.tzset()


def test_rows_at_the_limits_of_size(servers: Sandbox, tmp_path: Path) -> None:
    source, schema = servers.sources[0], "sizes"
    with global_settings(source, max_allowed_packet="67108864"):
        run(source, f"CREATE DATABASE {schema}",
            f"CREATE TABLE {schema}.widest (id SMALLINT NOT NULL, v VARCHAR(65531) CHARACTER SET latin1 NOT NULL)",
            f"INSERT INTO {schema}.widest VALUES (1, REPEAT(_latin1 X'FF', 65531)), (2, ''), (3, REPEAT('\\\\', 9999))",
            f"CREATE TABLE {schema}.blobs (id INT PRIMARY KEY, b LONGBLOB)",
            f"INSERT INTO {schema}.blobs VALUES (1, REPEAT(X'5C22FF000A', 1000000)), (2, NULL), (3, '')",
            f"CREATE TABLE {schema}.too_large (id INT PRIMARY KEY, small VARCHAR(9), large LONGTEXT)",
            f"INSERT INTO {schema}.too_large VALUES (1, 'a', 'b'), (2, 'c', REPEAT('d', 7000000))")  # fmt: skip
    fitting = configured(tmp_path, [source], servers.target, schema, name="sizes_fit")
    create_target(fitting)
    with pytest.raises(RowRefused, match=r"(?s)sizes.too_large .*row 2 of it \(id = 2\).*column large = .*too large"):
        copy(fitting, 1)
    run(source, f"DELETE FROM {schema}.too_large WHERE id = 2")
    copy(fitting, 2)
    for table in ("widest", "blobs", "too_large"):
        assert_same(source, servers.target, schema, table)


def test_lines_over_max_allowed_packet(servers: Sandbox, tmp_path: Path) -> None:
    source, schema = servers.sources[0], "packets"
    group = [Case("TEXT CHARACTER SET latin1", ["REPEAT('x', 9000)", "'y'"]),
             Case("TEXT CHARACTER SET utf8", ["REPEAT('中', 9000)", "'y'", "REPEAT('z', 65000)"])]  # fmt: skip
    make_table(source, schema, "t", group)
    with global_settings(source, max_allowed_packet="8192"):
        move(configured(tmp_path, [source], servers.target, schema), "copy", tmp_path)
    assert_same(source, servers.target, schema, "t")


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("data", ["61C3", "EDA080", "FF", "C080"])
def test_bytes_that_are_no_utf8_in_a_utf8_column_are_refused(
    servers: Sandbox, tmp_path: Path, data: str, plain: bool
) -> None:
    """As MySQL 4 and careless replication left them: here, a latin1 table with the definition of a utf8 one."""
    source, schema = servers.sources[0], f"invalid_{data.lower()}_{int(plain)}"
    other = "" if plain else '\\\\"'  # a backslash elsewhere, so that the reader must escape
    run(source, f"CREATE DATABASE {schema}",
        *(f"CREATE TABLE {schema}.{table} (id INT PRIMARY KEY, v VARCHAR({length}) CHARACTER SET {charset}, "
          "w VARCHAR(9)) ENGINE=MyISAM"
          for table, length, charset in (("t", 90, "latin1"), ("model", 30, "utf8"))),
        f"INSERT INTO {schema}.t VALUES (1, 'good', '{other}'), (2, X'{data}', NULL)", "FLUSH TABLES")  # fmt: skip
    folder = Path(rows(source, "SELECT @@datadir")[0][0]) / schema
    shutil.copy(folder / "model.frm", folder / "t.frm")
    run(source, "FLUSH TABLES", f"DROP TABLE {schema}.model")
    assert rows(source, f"SELECT HEX(v) FROM {schema}.t WHERE id = 2") == [(data,)]
    words = rf"(?s)row 2 of it \(id = 2\).*column v: it is no valid UTF-8: X'{data}'"
    # the target's own check may be off
    with global_settings(servers.target, tidb_skip_utf8_check="1"), pytest.raises(RowRefused, match=words):
        move(configured(tmp_path, [source], servers.target, schema), "copy", tmp_path)
    assert not rows(servers.target, f"SELECT 1 FROM {schema}.t")


@pytest.mark.parametrize("way", ["copy", "files"])
def test_interleaved_keys_and_what_refers_to_them(servers: Sandbox, tmp_path: Path, way: Way) -> None:
    schema = f"interleave_{way}"
    for number, source in enumerate(servers.sources):
        run(source, f"CREATE DATABASE {schema}",
            f"CREATE TABLE {schema}.entry (id INT PRIMARY KEY, v VARCHAR(9))",
            f"CREATE TABLE {schema}.refund (id VARCHAR(9) PRIMARY KEY, entry_id INT)",
            f"INSERT INTO {schema}.entry VALUES (-7, 'a'), (0, 'b'), (2147483647, '\\\\')",
            f"INSERT INTO {schema}.refund VALUES ('r{number}', 2147483647), ('n{number}', NULL)")  # fmt: skip
    config = configured(tmp_path, servers.sources, servers.target, schema, tables=["entry"],
                        extra=f'key_collision = "interleave"\nreferences = ["{schema}.refund.entry_id"]')  # fmt: skip
    more = f"\n[[route]]\nschema = '{schema}'\ntable = 'refund'\ntarget = '{schema}.refund'\n"
    config.path.write_text(config.path.read_text() + more)
    move(load_config(config.path), way, tmp_path)
    moved = sorted((2 * old + n, v) for n in (0, 1) for old, v in ((-7, "a"), (0, "b"), (2147483647, "\\")))
    assert rows(servers.target, f"SELECT id, v FROM {schema}.entry ORDER BY id") == moved
    assert rows(servers.target, f"SELECT id, entry_id FROM {schema}.refund ORDER BY id") == [
        ("n0", None), ("n1", None), ("r0", 4294967294), ("r1", 4294967295)]  # fmt: skip


def test_an_interleaved_key_beyond_64_bits_is_refused(servers: Sandbox, tmp_path: Path) -> None:
    schema = "interleave_far"
    for source in servers.sources:
        run(source, f"CREATE DATABASE {schema}", f"CREATE TABLE {schema}.t (id BIGINT PRIMARY KEY)",
            f"INSERT INTO {schema}.t VALUES (9223372036854775807)")  # fmt: skip
    config = configured(tmp_path, servers.sources, servers.target, schema, extra='key_collision = "interleave"')
    with pytest.raises(MigrateError, match=r"id.*(beyond|out of range)|(beyond|out of range).*id"):
        move(config, "copy", tmp_path)


def test_defaults_give_the_same_values(servers: Sandbox, tmp_path: Path) -> None:
    source, schema = servers.sources[0], "defaults"
    defaults = {
        "INT": "-7", "INT(5) ZEROFILL": "'7'", "BIGINT UNSIGNED": "18446744073709551615", "DECIMAL(20,4)": "'-0.0100'",
        "FLOAT": "'0.1'", "DOUBLE": "'-1.5e300'", "BIT(5)": "b'101'", "CHAR(9)": "'a'", "VARCHAR(9)": "'it''s \\\\ \"'",
        "VARCHAR(9) CHARACTER SET latin1": "'é'", "VARCHAR(9) CHARACTER SET gbk": "'中'", "BINARY(3)": "'ab'",
        "VARBINARY(3)": "''", "ENUM('b','a','')": "'a'", "SET('b','a')": "'b,a'", "DATE": "'0000-00-00'",
        "DATETIME(3)": "'2024-01-01 00:00:00.125'", "TIME": "'-01:00:00'", "YEAR": "'2155'",
        "TIMESTAMP": "'2024-10-27 01:30:00'", "VARCHAR(30)": "'😀 it''s \\\\ ? é'", "CHAR(2)": "'?'",
    }  # fmt: skip
    columns = ", ".join(f"c{i} {kind} NOT NULL DEFAULT {value}" for i, (kind, value) in enumerate(defaults.items()))
    run(source, f"CREATE DATABASE {schema}",
        f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, {columns}) DEFAULT CHARSET utf8mb4",
        f"INSERT INTO {schema}.t (id) VALUES (1)")  # fmt: skip
    move(configured(tmp_path, [source], servers.target, schema), "copy", tmp_path)
    for server in (source, servers.target):
        run(server, f"INSERT INTO {schema}.t (id) VALUES (2)")
    assert_same(source, servers.target, schema, "t")


def test_a_default_of_four_bytes_on_mysql_9_7(mysql97: Server) -> None:
    """information_schema has a question mark in its place."""
    schema, last = "defaults", "a NULL one"
    columns = (
        "`c``?` VARCHAR(9) NOT NULL DEFAULT '😀?', u CHAR(9) CHARACTER SET utf16 DEFAULT '?中😀', "
        f"l CHAR(9) CHARACTER SET latin1 DEFAULT 'é?', e ENUM('b', '😀') NOT NULL DEFAULT '😀', `{last}` CHAR(9) NULL"
    )
    run(mysql97, f"CREATE DATABASE {schema}", f"CREATE TABLE {schema}.`t?` ({columns}) DEFAULT CHARSET utf8mb4")
    with connect(parse_url(mysql97.url, "m1")) as session:
        (table,) = read_catalog(session, "m1", [schema])
    assert [c.default for c in table.definition.columns] == ["😀?", "?中😀", "é?", "😀", None]


def test_the_reader_of_these_tests_sees_a_change(servers: Sandbox, tmp_path: Path) -> None:
    source, schema = servers.sources[0], "witness"
    group = [
        Case("DOUBLE", ["0.1"]),
        Case("VARBINARY(3)", ["X'61'"]),
        Case("VARCHAR(9)", ["'a'"]),
        Case("TIME(6)", ["'1:00'"]),
    ]
    make_table(source, schema, "t", group)
    move(configured(tmp_path, [source], servers.target, schema), "copy", tmp_path)
    run(servers.target, f"UPDATE {schema}.t SET c0_null = 0.1 + 2e-17, c1_null = X'6100', c2_full = 'a ', "
                        "c3_full = '01:00:00.000001' WHERE id = 0")  # fmt: skip
    found = differences(read(source, schema, "t"), read(servers.target, schema, "t"), group)
    assert [f.split(":")[0] for f in found] == ["DOUBLE 0.1", "VARBINARY(3) X'61'", "VARCHAR(9) 'a'", "TIME(6) '1"]
