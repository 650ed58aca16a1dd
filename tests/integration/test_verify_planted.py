"""What is planted on the target is found and named exactly; the untouched pair is clean."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from migrate.sandbox import Sandbox
from tests.verify_lab import Lab
from verify.cli import main
from verify.run import verify_all, verify_checksum, verify_counts, verify_rows

COLUMNS = """id BIGINT NOT NULL, account BIGINT NOT NULL, balance DECIMAL(20,4) NOT NULL,
  a VARCHAR(20) NULL, b VARCHAR(20) NULL, n INT NULL, memo VARCHAR(20) COLLATE utf8mb4_general_ci NOT NULL,
  at DATETIME(3) NOT NULL, PRIMARY KEY (id)"""
ROWS = 400


def row(number: int) -> tuple[Any, ...]:
    special = {7: ("a,b", "c"), 8: ("", "x"), 9: (None, "N")}
    one, other = special.get(number, (f"a{number}", "快递柜"))
    n = {10: 0, 11: None}.get(number, number)
    return number, number % 50, f"{number * 17}.{number:04d}", one, other, n, "Memo", "2026-01-02 03:04:05.678"


@pytest.fixture(scope="module")
def lab(servers: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(servers.sources, servers.target, tmp_path_factory.mktemp("lab"))
    lab.table("t", COLUMNS, [row(n) for n in range(ROWS)], shards=4)
    yield lab
    lab.drop()


@pytest.fixture
def mended(lab: Lab) -> Iterator[Lab]:
    """The pair, whose target is put right again after the test."""
    yield lab
    lab.on_target("DELETE FROM $.t")
    lab.insert(lab.target, "t", [row(n) for n in range(ROWS)])


def test_the_untouched_pair_is_clean(lab: Lab) -> None:
    config = lab.config()
    for result in (
        verify_counts(config),
        verify_checksum(config),
        verify_checksum(config, strong=True),
        verify_rows(config, full=True),
        verify_all(config),
    ):
        assert result.ok, result.text()
        table = result.document()["tables"][0]
        assert (table["source_rows"], table["target_rows"], table["missing"], table["extra"]) == (ROWS, ROWS, 0, 0)


CHANGED: dict[str, tuple[str, dict[int, tuple[dict[str, Any], dict[str, Any]]]]] = {
    "a ten-thousandth": (
        "UPDATE $.t SET balance = balance + 0.0001 WHERE id = 5",
        {5: ({"balance": "85.0005"}, {"balance": "85.0006"})},
    ),
    "two balances swapped": (
        "UPDATE $.t SET balance = CASE id WHEN 20 THEN 357.0021 ELSE 340.0020 END WHERE id IN (20, 21)",
        {
            20: ({"balance": "340.0020"}, {"balance": "357.0021"}),
            21: ({"balance": "357.0021"}, {"balance": "340.0020"}),
        },
    ),
    "a comma moved": (
        "UPDATE $.t SET a = 'a', b = 'b,c' WHERE id = 7",
        {7: ({"a": "a,b", "b": "c"}, {"a": "a", "b": "b,c"})},
    ),
    "NULL for empty": ("UPDATE $.t SET a = NULL WHERE id = 8", {8: ({"a": ""}, {"a": None})}),
    "empty for NULL": ("UPDATE $.t SET a = '' WHERE id = 9", {9: ({"a": None}, {"a": ""})}),
    "N for NULL": ("UPDATE $.t SET a = 'N' WHERE id = 9", {9: ({"a": None}, {"a": "N"})}),
    "NULL for N": ("UPDATE $.t SET b = NULL WHERE id = 9", {9: ({"b": "N"}, {"b": None})}),
    "NULL for 0": ("UPDATE $.t SET n = NULL WHERE id = 10", {10: ({"n": "0"}, {"n": None})}),
    "0 for NULL": ("UPDATE $.t SET n = 0 WHERE id = 11", {11: ({"n": None}, {"n": "0"})}),
    "a trailing space": ("UPDATE $.t SET memo = 'Memo ' WHERE id = 12", {12: ({"memo": "Memo"}, {"memo": "Memo "})}),
    "case": ("UPDATE $.t SET memo = 'memo' WHERE id = 13", {13: ({"memo": "Memo"}, {"memo": "memo"})}),
    "a millisecond": (
        "UPDATE $.t SET at = '2026-01-02 03:04:05.679' WHERE id = 14",
        {14: ({"at": "2026-01-02 03:04:05.678"}, {"at": "2026-01-02 03:04:05.679"})},
    ),
    **{
        f"one edit in {count} rows": (
            f"UPDATE $.t SET n = n + 1000000 WHERE id BETWEEN 100 AND {99 + count}",
            {i: ({"n": str(i)}, {"n": str(i + 1000000)}) for i in range(100, 100 + count)},
        )
        for count in (2, 4, 100)
    },
}


@pytest.mark.parametrize("planted", CHANGED)
def test_a_changed_value_is_named(mended: Lab, planted: str) -> None:
    sql, expected = CHANGED[planted]
    mended.on_target(sql)
    config = mended.config()
    assert verify_counts(config).ok
    assert not verify_checksum(config).ok
    result = verify_rows(config)
    assert not result.ok
    found = {int(str(m.key and m.key["id"])): (m.source, m.target_values) for m in result.mismatches}
    assert found == expected
    assert {m.kind for m in result.mismatches} == {"different"}
    for mismatch in result.mismatches:
        number = int(str(mismatch.key and mismatch.key["id"]))
        assert mismatch.shard == f"m{number % 4 % 2 + 1}.{mended.schema}.t_{number % 4}"
        assert mismatch.columns == tuple(mismatch.source or ())
    assert result.tables[0].different == len(expected)


def test_lost_and_extra_rows_are_named(mended: Lab) -> None:
    mended.on_target("DELETE FROM $.t WHERE id = 33")
    config = mended.config()
    counted = verify_counts(config).tables[0]
    assert (counted.ok, counted.missing, counted.extra) == (False, 1, 0)
    summed = verify_checksum(config).tables[0]
    assert (summed.ok, summed.missing) == (False, 1)
    mended.insert(mended.target, "t", [(1000, *row(33)[1:])])
    assert verify_counts(config).ok  # which is why counts alone prove little
    result = verify_rows(config)
    assert [(m.kind, m.key) for m in sorted(result.mismatches, key=lambda m: m.kind)] == [
        ("extra", {"id": "1000"}),
        ("missing", {"id": "33"}),
    ]
    missing = next(m for m in result.mismatches if m.kind == "missing")
    assert missing.source is not None
    assert missing.source["balance"] == "561.0033"
    assert missing.target_values is None
    assert (result.tables[0].missing, result.tables[0].extra, result.tables[0].different) == (1, 1, 0)


def test_the_limit_ends_the_list_and_says_so(mended: Lab) -> None:
    mended.on_target("UPDATE $.t SET account = account + 1")
    result = verify_rows(mended.config(), limit=30)
    assert len(result.mismatches) == 30
    assert result.more
    assert "more than these" in result.text()
    whole = verify_rows(mended.config(), limit=ROWS)
    assert (len(whole.mismatches), whole.more) == (ROWS, False)


def test_an_empty_target_misses_every_row(mended: Lab) -> None:
    mended.on_target("DELETE FROM $.t")
    table = verify_rows(mended.config()).tables[0]
    assert (table.source_rows, table.target_rows, table.missing, table.extra) == (ROWS, 0, ROWS, 0)


def test_the_command_line_keeps_its_contract(mended: Lab) -> None:
    mended.on_target("UPDATE $.t SET balance = balance + 0.0001 WHERE id = 5")
    path = str(mended.config().path)
    document = run(["-c", path, "rows", "--json"], 1)
    assert document["ok"] is False
    assert document["mismatches"] == [
        {
            "target": f"{mended.schema}.t",
            "key": {"id": "5"},
            "kind": "different",
            "columns": ["balance"],
            "source": {"balance": "85.0005"},
            "target_values": {"balance": "85.0006"},
            "shard": f"m2.{mended.schema}.t_1",
            "at_risk": {},
        }
    ]
    assert run(["-c", path, "counts", "--json"], 0)["ok"] is True
    assert run(["-c", path, "all", "--json"], 1)["notes"] == ["the config has no pack, so balances were not verified"]
    assert "balances need a pack" in run(["-c", path, "balances"], 2)
    assert "no route leads to no.such" in run(["-c", path, "checksum", "--table", "no.such"], 2)


def run(args: list[str], code: int) -> Any:
    done = CliRunner().invoke(main, args)
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if "--json" in args else done.output


@pytest.fixture
def own(servers: Sandbox, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(servers.sources, servers.target, tmp_path)
    yield lab
    lab.drop()


def test_a_table_without_a_key_is_compared_as_a_multiset(own: Lab) -> None:
    rows = [(f"name {n // 2}", f"{n // 2}.5000") for n in range(60)]  # every row twice
    own.table("log", "name VARCHAR(40) NULL, amount DECIMAL(20,4) NULL", rows)
    config = own.config()
    assert verify_all(config).ok
    own.on_target("DELETE FROM $.log WHERE name = 'name 3' LIMIT 1", "INSERT INTO $.log VALUES ('name 4', 4.5)")
    assert verify_counts(config).ok
    result = verify_rows(config)
    found = sorted((m.kind, m.key, m.source, m.target_values) for m in result.mismatches)
    four, three = ({"name": f"name {n}", "amount": f"{n}.5000"} for n in (4, 3))
    assert found == [("extra", None, None, four), ("missing", None, three, None)]


def test_keys_that_a_collation_takes_for_equal_are_told_apart(own: Lab) -> None:
    columns = "code VARCHAR(20) COLLATE utf8mb4_bin NOT NULL PRIMARY KEY, v INT"
    own.table("ci", columns.replace("_bin", "_general_ci"), [("Key", 1), ("other", 2)], target_columns=columns)
    own.on_target("UPDATE $.ci SET code = 'KEY' WHERE code = 'Key'")
    found = verify_rows(own.config()).mismatches
    assert sorted((m.kind, str(m.key)) for m in found) == [("extra", "{'code': 'KEY'}"), ("missing", "{'code': 'Key'}")]


def test_a_key_on_two_shards_is_a_duplicate(own: Lab) -> None:
    own.table("d", "id INT NOT NULL PRIMARY KEY, v INT", [(n, n) for n in range(10)])
    own.on_shard(0, "INSERT INTO $.d_0 VALUES (3, 33)")
    result = verify_rows(own.config())
    assert [(m.kind, m.key, m.shard) for m in result.mismatches] == [
        ("duplicate", {"id": "3"}, f"m1.{own.schema}.d_0, m2.{own.schema}.d_1")
    ]
    assert result.tables[0].duplicate == 1


def test_interleaved_keys_are_compared_as_they_must_be(own: Lab) -> None:
    biggest = 2**62
    key, reference = "id BIGINT{} NOT NULL PRIMARY KEY, v INT", "id INT NOT NULL PRIMARY KEY, e BIGINT{} NULL"
    for name, columns in (("e", key), ("r", reference)):
        own.table(name, columns.format(""), target_columns=columns.format(" UNSIGNED"), shards=3)
    for shard in range(3):
        server = own.sources[shard % 2]
        own.insert(server, f"e_{shard}", [(1, shard), (biggest - 1, 7)])
        own.insert(server, f"r_{shard}", [(shard * 10, 1), (shard * 10 + 1, None), (shard * 10 + 2, biggest - 1)])
    # shards are numbered as the catalogue lists them: m1's first
    for number, shard in enumerate((0, 2, 1)):
        own.insert(own.target, "e", [(1 * 4 + number, shard), ((biggest - 1) * 4 + number, 7)])
        own.insert(
            own.target,
            "r",
            [(shard * 10, 4 + number), (shard * 10 + 1, None), (shard * 10 + 2, (biggest - 1) * 4 + number)],
        )
    config = own.config(extra=f'key_collision = "interleave"\nreferences = ["{own.schema}.r.e"]')
    assert verify_all(config).ok, verify_rows(config).text()
    own.on_target("UPDATE $.r SET e = e + 1 WHERE id = 10")
    found = verify_rows(config).mismatches
    assert [(m.kind, m.key, m.source, m.target_values) for m in found] == [
        ("different", {"id": "10"}, {"e": "6"}, {"e": "7"})
    ]
