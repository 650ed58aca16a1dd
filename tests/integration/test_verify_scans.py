"""How the sides are read: aggregated in TiKV, large shards in ranges that tile them, problems told by name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrate.catalog import read_catalog
from migrate.config import Verify, load_config
from migrate.db import Row, Session, connect
from migrate.errors import ConfigError, MigrateError, NoGo
from migrate.ledger import Control, load_ledger
from migrate.sandbox import Sandbox
from tests.integration.books import Books
from tests.verify_lab import Lab
from verify.controls import control_totals, measures
from verify.model import Totals
from verify.prove import plan
from verify.ranges import split
from verify.readers import Readers
from verify.run import verify_all, verify_checksum, verify_rows
from verify.scan import check_count
from verify.tables import Pair, load

LEDGER = """id BIGINT NOT NULL PRIMARY KEY, account BIGINT NOT NULL, amount DECIMAL(20,4) NOT NULL, kind ENUM('a','b'),
  memo VARCHAR(100) COLLATE utf8mb4_general_ci NULL, note TEXT, raw VARBINARY(9), flag BIT(1), at DATETIME(3) NOT NULL,
  done TIMESTAMP NULL, day DATE, took TIME"""


@pytest.fixture
def lab(servers: Sandbox, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(servers.sources, servers.target, tmp_path, "vs")
    yield lab
    lab.drop()


def heard(patch: pytest.MonkeyPatch, only: str = "") -> list[str]:
    """The queries that are sent from now on, to that server only if it is named."""
    sent: list[str] = []
    query = Session.query

    def hears(self: Session, sql: str, args: Sequence[Any] = ()) -> list[Row]:
        if only in ("", self.endpoint.name):
            sent.append(sql)
        return query(self, sql, args)

    patch.setattr(Session, "query", hears)
    return sent


def pair_of(lab: Lab) -> Pair:
    with Readers(lab.config()) as readers:
        return load(readers)[0]


@pytest.mark.parametrize("analyzed", [False, True])
def test_the_target_aggregates_in_tikv(lab: Lab, analyzed: bool) -> None:
    rows = [(n, n % 7, "1.5", "a", "m", "n", b"r", b"\1", "2026-01-01", None, None, None) for n in range(500)]
    lab.table("entry", LEDGER, rows)
    if analyzed:
        lab.on_target("ANALYZE TABLE $.entry")
    digest = pair_of(lab).on_target()
    with connect(load_config(lab.config().path).target) as session:
        for sql in (
            digest.totals_sql(),
            digest.totals_sql(strong=True),
            digest.buckets_sql(1024),
            digest.buckets_sql(1024, strong=True),
        ):
            plan = session.query(f"EXPLAIN {sql}")
            pushed = [row[4] for row in plan if "HashAgg" in row[0] and row[2] == "cop[tikv]"]
            pushed += [row[4] for row in plan if "StreamAgg" in row[0] and row[2] == "cop[tikv]"]
            assert len(pushed) == 1, "\n".join(map(str, plan))
            assert "sum(crc32(md5(concat_ws" in pushed[0]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("BIGINT", list(range(-50, 50))),
        ("BIGINT UNSIGNED", [0, 1, 2**64 - 1, *range(5, 90)]),
        ("VARCHAR(20)", [f"k{n}" for n in range(90)] + ["", "'", "柜"]),
        ("VARCHAR(20) CHARACTER SET latin1", [f"{c}{n}" for c in "aé" for n in range(40)]),
        ("VARCHAR(20) CHARACTER SET gbk", [f"{c}{n}" for c in "a快" for n in range(40)]),
        ("VARBINARY(4)", [bytes([n, 255 - n]) for n in range(90)] + [b""]),
        ("DECIMAL(20,4)", [f"{n}.0001" for n in range(-40, 40)]),
        ("DATETIME(3)", [f"2026-01-01 00:00:{n % 60:02d}.{n:03d}" for n in range(90)]),
        ("ENUM('a','b')", ["a", "b"]),
        ("DOUBLE", [0.1 * n for n in range(30)]),
    ],
)
@pytest.mark.parametrize("second", [False, True])
def test_ranges_tile_the_shard(lab: Lab, column: str, values: list[object], second: bool) -> None:
    """Each row is in one range, with a key of one column, and with one whose first column repeats."""
    key = f"k {column} NOT NULL, s INT NOT NULL, PRIMARY KEY (k, s)"
    lab.table("r", key, [(v, s) for v in values for s in range(1 + 2 * second)], shards=1)
    with connect(lab.config().sources[0]) as session:
        table = next(t for t in read_catalog(session, "m1", [lab.schema]))
        for size in (1, 3, 10, 1000):
            ranges = list(split(session, table, size))
            counts = [session.value(f"SELECT COUNT(*) FROM {table.shard.sql} WHERE {r.condition or 1}") for r in ranges]
            assert sum(counts) == len(values) * (1 + 2 * second)
            assert all(count >= size for count in counts[:-1])
            if size == 3 and column.partition("(")[0] not in ("ENUM", "DOUBLE"):
                assert len(ranges) > 5


def test_a_shard_read_in_ranges_has_the_totals_of_the_whole(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verify.scan.RANGE_ROWS", 2)
    monkeypatch.setattr("verify.ranges.RANGE_ROWS", 2)
    monkeypatch.setattr("verify.scan.split", lambda session, table: split(session, table, 40))
    rows = [(n, n % 9, "0.0001", None, f"m{n}", None, None, None, "2026-01-01", None, None, None) for n in range(500)]
    lab.table("entry", LEDGER, rows, shards=2)
    lab.on_shard(0, "ANALYZE TABLE $.entry_0")
    assert verify_checksum(lab.config(), strong=True).ok
    lab.on_target("UPDATE $.entry SET amount = amount + 1 WHERE id = 444")
    (found,) = verify_rows(lab.config()).mismatches
    assert found.key == {"id": "444"}


@pytest.mark.parametrize("strong", [False, True])
def test_rows_are_found_where_shards_are_added_up_by_their_server(
    lab: Lab, strong: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verify.rows._BUCKETS_READ", 256)
    rows = [(n, n % 9, "0.0001", None, f"m{n}", None, None, None, "2026-01-01", None, None, None) for n in range(500)]
    lab.table("entry", LEDGER, rows, shards=6)
    sent = heard(monkeypatch)
    lab.on_target("UPDATE $.entry SET amount = amount + 1 WHERE id IN (3, 444)")
    lab.on_target("DELETE FROM $.entry WHERE id = 77")
    lab.on_target("INSERT INTO $.entry (id, account, amount, at) VALUES (1000, 1, 1, NOW())")
    found = {m.key["id"]: m.kind for m in verify_rows(lab.config(), strong=strong).mismatches if m.key}
    assert found == {"3": "different", "444": "different", "77": "missing", "1000": "extra"}
    together = [sql for sql in sent if "one_by_one" in sql]
    assert len(together) == 2  # one of each instance
    assert all(sql.count("UNION ALL") == 3 for sql in together)


@pytest.mark.parametrize("mysql", ["5.6", "9.7"])
def test_a_table_is_cut_into_even_ranges_without_reading_it(
    servers: Sandbox, mysql: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By estimates; even where keys are dense, with gaps between, and negative."""
    monkeypatch.setattr("verify.prove._SHARD_ROWS", 1)
    sources = servers.sources if mysql == "5.6" else [request.getfixturevalue("mysql97")]
    lab = Lab(sources, servers.target, tmp_path, "vs")
    try:
        _even_ranges(lab, monkeypatch)
    finally:
        lab.drop()


def _even_ranges(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [*range(-100, 9900), *(10**18 + 1000 * n for n in range(10_000)), 2**63 - 1]
    rows, shards = [(key, "x") for key in keys], 8  # which lie alike
    lab.table("t", "id BIGINT NOT NULL PRIMARY KEY, v CHAR(50) NOT NULL", rows, shards=shards)
    for number in range(shards):
        lab.on_shard(number, f"ANALYZE TABLE $.t_{number}")
    with Readers(lab.config()) as readers:
        pairs = load(readers)
        with monkeypatch.context() as patch:
            sent = heard(patch)
            parts = plan(readers, pairs, rows=2000)
        assert not any("ORDER BY" in sql for sql in sent)
        with readers.session(readers.config.target) as session:
            counts = (f"SELECT COUNT(*) FROM {lab.schema}.t WHERE {part.pair.range.condition}" for part in parts)
            held = [int(session.value(sql)) for sql in counts]
    assert sum(held) == len(keys)
    assert 8 <= len(held) <= 12
    assert max(held) <= 3500


def test_ranges_that_miss_rows_are_an_error(lab: Lab) -> None:
    lab.table("t", "id INT NOT NULL PRIMARY KEY", [(n,) for n in range(10)])
    with Readers(lab.config()) as readers:
        shard = load(readers)[0].merged.shards[0]
        check_count(readers, shard, 5)
        with pytest.raises(MigrateError, match="gave 4 rows in ranges and has 5: its ranges don't tile it"):
            check_count(readers, shard, 4)


def test_bucket_totals_add_up_to_the_table(lab: Lab) -> None:
    lab.table("t", "id INT NOT NULL PRIMARY KEY, f DOUBLE, b INT", [(n, n / 3, n) for n in range(300)])
    digest = pair_of(lab).on_target()
    with connect(lab.config().target) as session:
        for strong in (False, True):
            buckets = digest.buckets(session, 64, strong)
            assert sum(buckets.values(), Totals()) == digest.totals(session, strong)
            assert len(buckets) > 32


def test_missing_and_additional_columns_and_tables_are_named(lab: Lab) -> None:
    lab.table("a", "id INT NOT NULL PRIMARY KEY, gone INT", target_columns="id INT NOT NULL PRIMARY KEY, more INT")
    lab.table("b", "id INT NOT NULL PRIMARY KEY, V INT", target_columns="ID INT NOT NULL PRIMARY KEY, v INT")
    lab.table("c", "id INT NOT NULL PRIMARY KEY")
    lab.on_target("DROP TABLE $.c")
    with pytest.raises(NoGo) as caught:
        verify_checksum(lab.config())
    text = str(caught.value)
    assert f"{lab.schema}.a: column gone of m1.{lab.schema}.a_0 is missing on the target" in text
    assert f"{lab.schema}.a: column more of the target is on no shard" in text
    assert f"{lab.schema}.c: there is no such table on the target" in text
    assert f"{lab.schema}.b" not in text


def test_shards_that_differ_in_shape_are_named(lab: Lab) -> None:
    lab.table("a", "id INT NOT NULL PRIMARY KEY")
    lab.on_shard(1, "ALTER TABLE $.a_1 ADD late INT")
    with pytest.raises(NoGo, match=r"m2\.\w+\.a_1 and m1\.\w+\.a_0 don't both have column late"):
        verify_checksum(lab.config())


def test_no_tables_are_an_error(lab: Lab) -> None:
    config = lab.config()
    config.path.write_text(config.path.read_text() + f"[[ignore]]\nschema = '{lab.schema}'\n")
    with pytest.raises(ConfigError, match="0 tables matched"):
        verify_checksum(load_config(config.path))


def test_digest_counts_and_control_totals_leave_tikv_added_up(
    servers: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statements that `verify all` really sends, of 32 and 64 bits, of whole tables and of ranges."""
    monkeypatch.setattr("verify.prove._SHARD_ROWS", 1)
    lab = Lab(servers.sources, servers.target, tmp_path, "vs")
    try:
        config = Books(lab).config(tmp_path)
        for number, source in enumerate(lab.sources):
            lab.run(source, f"ANALYZE TABLE $.entry_{number}")
        controlled = {c.table for c in load_ledger(str(config.pack)).controls}
        assert len(controlled) > 1
        with connect(config.target) as session:
            for strong, rows in ((False, 500_000), (True, 500_000), (True, 60)):
                with monkeypatch.context() as patch:
                    sent = heard(patch, only="target")
                    assert verify_all(replace(config, verify=Verify(range_rows=rows)), strong=strong).ok
                combined = {sql for sql in sent if "SUM(CRC32(MD5(" in sql and "GROUP BY" in sql and "MIN(" in sql}
                assert {
                    f"{lab.schema}.{re.findall(r'FROM `[^`]+`.`([^`]+)`', sql)[0]}" for sql in combined
                } == controlled
                assert any(" WHERE " in sql for sql in combined) == (rows == 60)
                for name in controlled:  # that a table has six rows is known by now, or isn't yet
                    lab.on_target(f"DROP STATS $.{name.rpartition('.')[2]}")
                for sql in combined:
                    _all_added_up(session.query(f"EXPLAIN {sql}"), strong)
            lab.on_target("ANALYZE TABLE $.entry")
            for sql in combined:
                _all_added_up(session.query(f"EXPLAIN {sql}"), strong)
    finally:
        lab.drop()


@pytest.mark.parametrize("column", ["CHAR(3) COLLATE utf8mb4_bin", "CHAR(3)", "VARCHAR(3) COLLATE utf8mb4_bin"])
def test_groups_are_told_apart_byte_by_byte(lab: Lab, column: str) -> None:
    values = ["a", "A", "e", "é", "", None, "N", "a", None]
    if column.startswith("VARCHAR"):
        values += ["a ", " "]
    lab.table(
        "t",
        f"id INT NOT NULL PRIMARY KEY, c {column}, v INT NOT NULL",
        [(n, value, n) for n, value in enumerate(values)],
    )
    with Readers(lab.config()) as readers:
        measured = measures(load(readers), [Control(table=f"{lab.schema}.t", by=("c",), sums=("v",))])
        totals = [t for t in control_totals(readers, measured) if t.shard is None]
    expected: dict[str | None, int] = defaultdict(int)
    for number, value in enumerate(values):
        expected[value] += number
    for side in ("source", "target"):
        assert {t.by["c"]: int(getattr(t, side).sums[0]) for t in totals} == expected


def _all_added_up(plan: Sequence[Row], strong: bool) -> None:
    """One aggregation in TiKV does all, and what reads rows is below it."""
    shown = "\n".join(map(str, plan))
    (pushed,) = (row[4] for row in plan if "Agg" in row[0] and row[2] == "cop[tikv]")
    assert pushed.count("sum(crc32(md5(") == 1 + strong, shown
    assert pushed.count("count(1)") == 1, shown
    assert pushed.count("sum(") > 1 + strong, shown  # the control totals
    assert "min(" in pushed, shown
    assert "max(" in pushed, shown
    above = [row[0] for row in plan if row[2] == "root"]
    assert all("Agg" in name or "Reader" in name or "Projection" in name for name in above), shown
