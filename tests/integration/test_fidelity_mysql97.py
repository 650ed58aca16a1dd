"""What MySQL 9.7 has and 5.6 has not: JSON, generated and invisible columns, newer collations and defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrate.copy.copier import copy
from migrate.copy.rowformat import RowRefused
from migrate.errors import NoGo
from migrate.sandbox import Sandbox, Server
from tests import fidelity_cases as cases
from tests.fidelity import Case, Way, assert_same, configured, make_keys, make_table, move, read, run, text
from tests.integration.test_fidelity_types import KEYS

GROUPS = {
    "numbers": cases.NUMBERS,
    "floats": cases.FLOATS,
    "bits": cases.BITS,
    "binaries": cases.BINARIES,
    "times": cases.TIMES,
    "texts": [*cases.TEXTS, Case("VARCHAR(80) COLLATE utf8mb4_0900_ai_ci", cases.texts(*cases.TRICKY, "😀"))],
    "members": cases.MEMBERS,
}
JSONS = [
    "null", "true", "false", "0", "1", "-1", "1.0", "1.5", "-0.5", "0.1", "1e100", "-1e-100", "1e2",
    "1.7976931348623157e308",
    "5e-324", "9007199254740993", "9223372036854775807", "-9223372036854775808", "9223372036854775808",
    "18446744073709551615", "18446744073709551616", "123456789012345678901234567890", '""', '"a"', '"\\u0000"', '"\\""',
    '"\\\\"', '"\\n\\t\\r"', '"\\\\N"', '"中文😀"', '"\\ud83d\\ude00"', '"null"', '"base64:type252:AQI="', "[]", "{}",
    "[[[[]]]]",
    '{"a": 1, "b": [1, 2.0, {"c": null}], "": ""}', '{"a": 1, "a": 2}', '{"bb": 1, "a": 2, "中": 3, "A": 4}',
    '"2024-01-01"',
    '{"k\\"ey": "v\\\\", "k,": ",", "k\\n": "\\n"}', "[" * 90 + "]" * 90, '"' + "x" * 70000 + '"', '{"amount": 12.34}',
]  # fmt: skip
OPAQUE = {
    "date": "JSON_ARRAY(DATE '2024-01-01')",
    "time": "JSON_OBJECT('at', TIMESTAMP '2024-01-01 01:01:01.5')",
    "bytes": "JSON_ARRAY(X'0102')",
    "bits": "JSON_OBJECT('b', b'101')",
    "decimal": "CAST(12345678901234567890.123456 AS JSON)",
    "nested": "JSON_ARRAY(1, JSON_OBJECT('d', CAST(9007199254740993.5 AS DECIMAL(30,2))))",
}

pytestmark = pytest.mark.soak  # much like the same on MySQL 5.6


@pytest.mark.parametrize("way", ["copy", "files"])
def test_every_value_arrives(sandbox97: Sandbox, mysql97: Server, tmp_path: Path, way: Way) -> None:
    schema = f"types_{way}"
    for table, group in GROUPS.items():
        make_table(mysql97, schema, table, group)
    move(configured(tmp_path, [mysql97], sandbox97.target, schema), way, tmp_path)
    for table, group in GROUPS.items():
        assert_same(mysql97, sandbox97.target, schema, table, group)


def test_every_type_arrives_as_a_key(sandbox97: Sandbox, mysql97: Server, tmp_path: Path) -> None:
    make_keys(mysql97, "keys", KEYS)
    move(configured(tmp_path, [mysql97], sandbox97.target, "keys"), "copy", tmp_path)
    for table in KEYS:
        assert_same(mysql97, sandbox97.target, "keys", table)


@pytest.mark.parametrize("way", ["copy", "zstd"])
def test_json_arrives_with_its_types(sandbox97: Sandbox, mysql97: Server, tmp_path: Path, way: Way) -> None:
    schema = f"json_{way}"
    run(mysql97, f"CREATE DATABASE {schema}", f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, j JSON, n JSON NOT NULL)",
        *(f"INSERT INTO {schema}.t VALUES ({i}, {text(j)}, {text(j)})" for i, j in enumerate(JSONS)),
        f"INSERT INTO {schema}.t VALUES (1000, NULL, '[1.0]'), (1001, NULL, CAST(12.34 AS JSON))")  # fmt: skip
    move(configured(tmp_path, [mysql97], sandbox97.target, schema), way, tmp_path)
    assert_same(mysql97, sandbox97.target, schema, "t")


@pytest.mark.parametrize("kind", OPAQUE)
def test_what_json_text_cannot_say_is_refused(sandbox97: Sandbox, mysql97: Server, tmp_path: Path, kind: str) -> None:
    schema = f"opaque_{kind}"
    run(mysql97, f"CREATE DATABASE {schema}", f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, j JSON)",
        f"INSERT INTO {schema}.t VALUES (1, '{{}}'), (2, {OPAQUE[kind]})")  # fmt: skip
    config = configured(tmp_path, [mysql97], sandbox97.target, schema)
    with pytest.raises(RowRefused, match=r"(?s)row 2 of it \(id = 2\).*column j: dates, bytes or long decimals"):
        move(config, "copy", tmp_path)
    # the remedy
    run(mysql97, f"UPDATE {schema}.t SET j = CAST(CAST(j AS CHAR) AS JSON)")
    copy(config, 1)
    assert_same(mysql97, sandbox97.target, schema, "t")


@pytest.mark.parametrize("null", ["NULL", "NOT NULL"])
def test_half_a_surrogate_pair_is_refused(sandbox97: Sandbox, mysql97: Server, tmp_path: Path, null: str) -> None:
    """It has no Unicode: 9.7 makes NULL of the whole text."""
    schema = f"surrogate_{null.lower().replace(' ', '_')}"
    run(mysql97, f"CREATE DATABASE {schema}",
        f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET ucs2 {null})",
        f"INSERT INTO {schema}.t VALUES (1, 'a'), (2, _ucs2 X'0061D800')")  # fmt: skip
    words = r"(?s)row 2 of it \(id = 2\).*column v: it does not come back from Unicode to ucs2: 0061D800"
    with pytest.raises(RowRefused, match=words):
        move(configured(tmp_path, [mysql97], sandbox97.target, schema), "copy", tmp_path)


@pytest.mark.parametrize("way", ["copy", "files"])
def test_generated_and_invisible_columns_and_defaults(
    sandbox97: Sandbox, mysql97: Server, tmp_path: Path, way: Way
) -> None:
    schema = f"columns_{way}"
    run(mysql97, f"CREATE DATABASE {schema}",
        f"CREATE TABLE {schema}.t (id BIGINT AUTO_INCREMENT PRIMARY KEY, hidden VARCHAR(9) INVISIBLE, "
        "a INT NOT NULL DEFAULT 5, twice BIGINT AS (a * 2) VIRTUAL, thrice BIGINT AS (a * 3) STORED, "
        "at DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6), u VARCHAR(36) DEFAULT (UUID()), "
        "j JSON DEFAULT (JSON_ARRAY()), name VARCHAR(20) AS (CONCAT('n', a)) STORED, UNIQUE KEY (name))",
        f"INSERT INTO {schema}.t (id, hidden, a, at, u, j) VALUES (0, 'h', 1, '2001-01-01', 'u', '[]'), "
        "(-1, NULL, 2, NULL, NULL, NULL), (9, '\\\\', 3, '2001-01-01 00:00:00.5', '', '{}')")  # fmt: skip
    move(configured(tmp_path, [mysql97], sandbox97.target, schema), way, tmp_path)
    assert_same(mysql97, sandbox97.target, schema, "t")
    assert read(sandbox97.target, schema, "t")[1]["hidden"] == "h"


def test_a_hidden_primary_key_arrives(sandbox97: Sandbox, mysql97: Server, tmp_path: Path) -> None:
    run(mysql97, "CREATE DATABASE hidden_key", "SET SESSION sql_generate_invisible_primary_key = 1",
        "CREATE TABLE hidden_key.t (v VARCHAR(9))", "INSERT INTO hidden_key.t (v) VALUES ('a'), ('a')")  # fmt: skip
    move(configured(tmp_path, [mysql97], sandbox97.target, "hidden_key"), "copy", tmp_path)
    assert_same(mysql97, sandbox97.target, "hidden_key", "t", order="my_row_id")


def test_a_type_that_the_target_lacks_is_refused_by_name(sandbox97: Sandbox, mysql97: Server, tmp_path: Path) -> None:
    run(mysql97, "CREATE DATABASE lacking", "CREATE TABLE lacking.t (id INT PRIMARY KEY, place POINT, v VECTOR(3))")
    with pytest.raises(NoGo, match=r"(?s)lacking\.t\.place: .*lacking\.t\.v: "):
        move(configured(tmp_path, [mysql97], sandbox97.target, "lacking"), "copy", tmp_path)
