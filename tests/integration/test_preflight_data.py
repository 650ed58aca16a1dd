"""Preflight of rows: what copy would refuse is found before it, by shard and column, and what it carries passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrate.preflight.report import Report
from tests import fidelity_cases as cases
from tests.fidelity import LAX
from tests.integration.scene import Scene, bad, scene_of, setting
from tests.integration.shards import Server, database, route
from tests.integration.test_fidelity_mysql97 import JSONS, OPAQUE

CHECKS = {"float": "float_value", "double": "float_value", "date": "date_value", "datetime": "date_value",
          "enum": "enum_value", "set": "set_value", "varchar": "text_value", "text": "text_value"}  # fmt: skip
SMILING = "ENUM('b','😀')"  # of the scene's charset, utf8mb4


@pytest.fixture(params=["5.6", "9.7"])
def scene(request: pytest.FixtureRequest, servers: Any, tmp_path: Path) -> Iterator[Scene]:
    first = request.getfixturevalue("mysql97") if request.param == "9.7" else servers.sources[0]
    with scene_of([first, servers.sources[1]], servers.target, tmp_path) as made:
        yield made


@pytest.fixture(params=["5.6", "9.7"])
def alone(request: pytest.FixtureRequest, servers: Any, tmp_path: Path) -> Iterator[Scene]:
    """One shard only, since the two versions have other default collations."""
    first = request.getfixturevalue("mysql97") if request.param == "9.7" else servers.sources[0]
    with scene_of([first], servers.target, tmp_path) as made:
        yield made


@pytest.fixture
def old(servers: Any, tmp_path: Path) -> Iterator[Scene]:
    with scene_of(list(servers.sources), servers.target, tmp_path) as made:
        yield made


@pytest.fixture
def new(servers: Any, mysql97: Server, tmp_path: Path) -> Iterator[Scene]:
    with database(mysql97, servers.target) as schema:
        yield Scene([mysql97], servers.target, schema, tmp_path)


def add(scene: Scene, kinds: dict[str, str]) -> None:
    """Columns for the shards, NULL in their rows."""
    for number in range(len(scene.sources)):
        columns = ", ".join(f"ADD COLUMN {name} {kind} NULL" for name, kind in kinds.items())
        scene.on(number, f"ALTER TABLE entry_{number} {columns}")


def put(scene: Scene, name: str, *literals: str) -> None:
    """Rows of entry_0 with these values, besides those it has."""
    before = scene.on(0, "SELECT MAX(id) FROM entry_0")[0][0]
    rows = (f"({before + 100 + n}, 1, 1, 'D', 1, 'CNY', '2026-01-01', {v})" for n, v in enumerate(literals))
    scene.on(0, f"SET sql_mode = '{LAX}'", f"INSERT INTO entry_0 (id, account_id, voucher_id, direction, amount, "
             f"currency, at, {name}) VALUES {', '.join(rows)}")  # fmt: skip


def failures(report: Report) -> list[tuple[str, str]]:
    return [(c.name, c.where) for c in report.checks if c.status == "failed"]


@pytest.mark.parametrize(("kind", "literal"), [(k, v) for k, v, _ in cases.REFUSED if k != SMILING], ids=str)
def test_what_copy_refuses_is_found(scene: Scene, kind: str, literal: str) -> None:
    add(scene, {"odd": kind})
    assert bad(scene.report()) == {}
    put(scene, "odd", literal)
    report = scene.report()
    name = CHECKS[kind.partition("(")[0].partition(" ")[0].lower()]
    assert failures(report) == [(name, f"m1.{scene.schema}.entry_0.odd")]
    assert bad(report)[name].startswith(f"m1.{scene.schema}.entry_0.odd: 1 rows hold ")


GOOD = [*cases.NUMBERS, *cases.FLOATS, *cases.TIMES, *cases.TEXTS, *cases.MEMBERS]


def test_what_copy_carries_passes(alone: Scene) -> None:
    add(alone, {f"c{n}": case.type for n, case in enumerate(GOOD)})
    for n, case in enumerate(GOOD):
        put(alone, f"c{n}", *case.literals)
    assert bad(alone.report()) == {}


def test_zero_dates_and_the_year_0_pass(scene: Scene) -> None:
    add(scene, {"d": "DATE", "t": "DATETIME(3)"})
    put(scene, "d, t", "'0000-00-00', '0000-00-00 01:02:03.004'", "'0000-05-31', '0000-01-01'", "'2024-02-29', NULL")
    assert bad(scene.report()) == {}
    put(scene, "d", "'2023-02-29'", "'1900-02-29'", "'2024-04-31'", "'0000-01-00'", "'0000-00-01'")
    assert bad(scene.report())["date_value"].startswith(f"m1.{scene.schema}.entry_0.d: 5 rows hold ")


def test_json_of_all_kinds_passes(new: Scene) -> None:
    add(new, {"j": "JSON"})
    put(new, "j", *cases.texts(*JSONS))
    assert bad(new.report()) == {}


@pytest.mark.parametrize("kind", OPAQUE)
def test_json_that_is_no_text(new: Scene, kind: str) -> None:
    add(new, {"j": "JSON"})
    put(new, "j", OPAQUE[kind])
    assert failures(new.report()) == [("json_value", f"m1.{new.schema}.entry_0.j")]
    new.on(0, "UPDATE entry_0 SET j = CAST(CAST(j AS CHAR) AS JSON)")  # what the remedy says
    assert bad(new.report()) == {}


@pytest.mark.parametrize("kind", ["ENUM", "SET"])
def test_members_that_information_schema_cannot_show(scene: Scene, kind: str) -> None:
    add(scene, {"odd": f"{kind}('a','😀')"})
    report = scene.report()
    assert failures(report) == [("members", f"{scene.schema}.entry.odd")]
    assert "no row has member 2, '?'" in bad(report)["members"]
    put(scene, "odd", "'😀'")
    report = scene.report()
    assert failures(report) == [("members", f"m1.{scene.schema}.entry_0.odd")]
    assert "1 rows have a member that isn't what information_schema shows" in bad(report)["members"]


@pytest.mark.parametrize("kind", ["ENUM", "SET"])
def test_a_member_with_a_question_mark_of_its_own(scene: Scene, kind: str) -> None:
    """One shard's row proves it, for those that have none."""
    add(scene, {"odd": f"{kind}('a','why?','b')", "narrow": f"{kind}('?') CHARACTER SET latin1"})
    assert "no row has member 2, 'why?'" in bad(scene.report())["members"]
    put(scene, "odd", "'a'", "'why?'")
    assert bad(scene.report()) == {}


def test_an_enum_without_a_member(scene: Scene) -> None:
    scene.on(0, "SET sql_mode = ''", "UPDATE entry_0 SET kind = 'no such'")
    failed = bad(scene.report())
    assert list(failed) == ["enum_value"] and failed["enum_value"].startswith(f"m1.{scene.schema}.entry_0.kind: 1 rows")


@pytest.mark.parametrize(
    ("charset", "data"),
    [("utf8mb4", "ff"), ("utf8mb4", "eda080"), ("utf8", "61c3"), ("utf8", "eda080"), ("gbk", "ff"), ("ascii", "ff")],
)
def test_bytes_that_are_not_of_their_charset(old: Scene, charset: str, data: str) -> None:
    """The tablespace of a latin1 table, taken for that of another one: what careless repairs leave behind."""
    files = old.sources[0].folder / "data" / old.schema  # type: ignore[attr-defined]
    for number in (0, 1):
        old.on(number, f"ALTER TABLE entry_{number} ADD COLUMN note VARCHAR(50) CHARACTER SET {charset} NULL")
    old.on(0, "CREATE TABLE other LIKE entry_0", "ALTER TABLE other MODIFY note VARCHAR(50) CHARACTER SET latin1 NULL",
           "INSERT INTO other SELECT id, account_id, voucher_id, direction, amount, currency, at, kind, memo, "
           f"X'{data}' FROM entry_0")  # fmt: skip
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


def test_a_row_that_tidb_does_not_take(new: Scene) -> None:
    add(new, {"big": "LONGBLOB"})
    new.on(0, "UPDATE entry_0 SET big = REPEAT('x', 7000000)")
    failed = bad(new.report())
    assert list(failed) == ["row_size"] and "7000000 bytes" in failed["row_size"]
    with setting(new.target, "tidb_txn_entry_size_limit", "14000000"):  # what the remedy says
        assert bad(new.report()) == {}


def test_a_row_that_is_too_long_only_as_utf8mb4(new: Scene) -> None:
    add(new, {"big": "LONGTEXT CHARACTER SET latin1"})
    new.on(0, "UPDATE entry_0 SET big = REPEAT('é', 3000000)")
    assert bad(new.report()) == {}
    new.on(0, "UPDATE entry_0 SET big = REPEAT('é', 3500000)")
    assert "7000000 bytes" in bad(new.report())["row_size"]
