"""Which rows were written, by the binlog, and whether exactly those are equal: keys of several columns, texts, bytes,
interleaved ones, rows that have moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

import migrate.cutover.changed
import migrate.cutover.narrow
from migrate.config import Config, Route
from migrate.cutover.changed import Changed, Keys, how_many, merged
from migrate.cutover.narrow import Narrowed
from migrate.cutover.proof import nobody_wrote
from migrate.cutover.readiness import Clean
from migrate.errors import NoGo
from migrate.sandbox import Sandbox
from migrate.source import capture_positions
from migrate.state import State
from tests.integration.doublewrite_scene import until
from tests.integration.shards import run
from tests.integration.syncing import Lab, Table, lab
from verify.controls import Measure, pair_of
from verify.freeze import Freeze
from verify.readers import Readers
from verify.tables import load
from verify.totals import time_within

TABLES = {
    "plain": Table("id BIGINT NOT NULL PRIMARY KEY, v VARCHAR(20)", (0, 1),
                   ("(1, 'a'), (3, 'b')", "(2, 'c'), (4, 'd')")),
    "pair": Table("a VARCHAR(10) NOT NULL, b DECIMAL(6,2) NOT NULL, v INT, PRIMARY KEY (a, b)", (0, 1),
                  ("('x''y', 1.50, 1), ('ü', 2, 2)", "('x', 1.50, 1)")),
    "raw": Table("k VARBINARY(8) NOT NULL PRIMARY KEY, v INT", (0, 0), ("(x'00ff27', 1)", "(x'0a', 1)")),
    "day": Table("at DATETIME(3) NOT NULL PRIMARY KEY, v INT", (1, 1), ("('2026-01-01 00:00:00.125', 1)", "")),
}  # fmt: skip


@pytest.fixture
def made(servers: Sandbox) -> Iterator[Lab]:
    with lab(servers.sources, servers.target, TABLES) as found:
        yield found.copied().start()


def judge(made: Lab, changed: Changed) -> tuple[int, bool, set[tuple[str, str]]]:
    """Rows written since the last look, whether all is equal now, and what isn't: its kind and table."""
    made.settle()
    keys = changed.read_to(capture_positions(made.config))
    freeze = Freeze(replace(made.config, pack=None))
    try:
        result = freeze.frozen(keys)
    finally:
        freeze.close()
    return how_many(keys), result.ok, {(m.kind, m.target.split(".")[1]) for m in result.mismatches}


def test_rows_that_were_written_are_compared(made: Lab) -> None:
    changed = Changed(made.config, capture_positions(made.config))
    assert judge(made, changed) == (0, True, set())
    made.on(
        "plain_0",
        "UPDATE {t} SET v = 'z' WHERE id = 1",
        "INSERT INTO {t} VALUES (9, 'n')",
        "DELETE FROM {t} WHERE id = 3",
    )
    made.on("pair_0", "UPDATE {t} SET v = 7", "UPDATE {t} SET b = 3 WHERE a = 'ü'")
    made.on("raw_0", "UPDATE {t} SET v = 7")
    made.on("day_0", "UPDATE {t} SET v = 7")
    assert judge(made, changed) == (3 + 3 + 1 + 1, True, set())
    assert judge(made, changed) == (0, True, set())
    for target, plant in (
        ("plain", "UPDATE {t} SET v = 'y' WHERE id = 1"), ("plain", "DELETE FROM {t} WHERE id = 9"),
        ("plain", "INSERT INTO {t} VALUES (3, 'b')"), ("pair", "UPDATE {t} SET v = 8 WHERE a = 'x''y'"),
        ("raw", "UPDATE {t} SET v = 8 WHERE k = x'00ff27'"), ("day", "UPDATE {t} SET v = 8"),
    ):  # fmt: skip
        made.at_target(plant.replace("{t}", target))
    # Not written again, they aren't looked at, and as many are gone as have come.
    assert judge(made, changed) == (0, True, set())
    keys = Changed(made.config, _begun(made)).read_to(capture_positions(made.config))
    freeze = Freeze(replace(made.config, pack=None))
    result = freeze.frozen(keys)
    named = sorted((m.kind, m.target.split(".")[1]) for m in result.mismatches)
    left = freeze.unequal(keys)
    freeze.close()
    assert not result.ok
    assert named == [("different", "day"), ("different", "pair"), ("different", "plain"), ("different", "raw"),
                     ("extra", "plain"), ("missing", "plain")]  # fmt: skip
    assert set(left) == {f"{made.schema}.{t}" for t in ("plain", "pair", "raw", "day")}


def _begun(made: Lab) -> dict[str, dict[str, str]]:
    """Where the copy ended."""
    return State.settled(made.config, lambda state: state.consistent())


def test_a_row_that_left_its_shard_before(made: Lab) -> None:
    """It was on both for a moment; its end on the old one is all that is seen of it."""
    made.on("plain_1", "INSERT INTO {t} VALUES (1, 'a')")
    changed = Changed(made.config, capture_positions(made.config))
    made.on("plain_0", "DELETE FROM {t} WHERE id = 1")
    assert judge(made, changed) == (1, True, set())


def test_who_writes_past_a_fence_is_named(made: Lab) -> None:
    final = capture_positions(made.config)
    assert nobody_wrote(made.config, final) == "no position moved"
    made.sources[0].connect().cursor().execute("CREATE DATABASE IF NOT EXISTS elsewhere")
    made.sources[0].connect().cursor().execute("DROP DATABASE elsewhere")
    assert nobody_wrote(made.config, final) == "no row was written since; m1 moved, by other tables"
    made.on("pair_1", "UPDATE {t} SET v = v + 1")
    with pytest.raises(NoGo, match=r"1 rows were written after it was up \(m2\..*pair_1, "):
        nobody_wrote(made.config, final)


def test_interleaved_keys(servers: Sandbox) -> None:
    tables = {"t": Table("id BIGINT NOT NULL PRIMARY KEY, v INT", (0, 1, 1), ("(1, 1), (2, 2)", "(1, 3)", "(1, 4)"))}
    with lab(servers.sources, servers.target, tables) as made:
        route = Route(schema=made.schema, table=r"t_\d", target=f"{made.schema}.t", key_collision="interleave")
        made.config: Config = replace(made.config, routes=(route,))
        made.copied().start()
        changed = Changed(made.config, capture_positions(made.config))
        for n in range(3):
            made.on(f"t_{n}", "UPDATE {t} SET v = v + 10")
        assert judge(made, changed) == (4, True, set())
        changed = Changed(made.config, _begun(made))
        made.at_target("UPDATE t SET v = 0 WHERE id = 1 * 4 + 2")
        assert judge(made, changed) == (4, False, {("different", "t")})


def test_any_number_of_rows_is_read_in_portions(made: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whole transactions, of both instances; together they are what is read at once."""
    begin = capture_positions(made.config)
    for n in range(100, 110):
        made.on("plain_0", f"INSERT INTO {{t}} VALUES ({n}, 'x')")
        made.on("plain_1", f"INSERT INTO {{t}} VALUES ({n + 100}, 'x')", f"DELETE FROM {{t}} WHERE id = {n + 100}")
    before_the_last = capture_positions(made.config)
    made.on("plain_0", "UPDATE {t} SET v = 'y'")
    now = capture_positions(made.config)
    every = Changed(made.config, begin).read_to(now)
    monkeypatch.setattr(migrate.cutover.changed, "_PORTION", 6)
    changed, portions = Changed(made.config, begin), []
    while not portions or not portions[-1][1]:
        portions.append(changed.portion(now))
    assert merged(keys for keys, _ in portions) == every
    sizes = [how_many(keys) for keys, _ in portions]
    assert sizes == [6, 6, 6, 13]  # the last: a row of each instance, then one transaction of twelve
    assert changed.portion(now) == ({}, True)
    monkeypatch.setattr(migrate.cutover.changed, "_MOST", 15)
    with pytest.raises(NoGo, match="more than 15 rows were written since the last look"):
        Changed(made.config, begin).read_to(now)
    monkeypatch.setattr(migrate.cutover.changed, "_MOST", 11)
    with pytest.raises(NoGo, match="one transaction on m1 wrote more than 11 rows: run `verify all` again"):
        Changed(made.config, before_the_last).portion(now)


def test_rows_that_vanish_without_a_word_are_a_no_go(made: Lab) -> None:
    changed = Changed(made.config, capture_positions(made.config))
    made.on("raw_0", "TRUNCATE TABLE {t}")
    with pytest.raises(NoGo, match=r"which rows of m1\..*raw_0 were changed by 'TRUNCATE"):
        changed.read_to(capture_positions(made.config))


def test_of_many_rows_the_one_that_differs_is_left(made: Lab) -> None:
    changed = Changed(made.config, capture_positions(made.config))
    made.on("plain_0", "INSERT INTO {t} VALUES " + ", ".join(f"({n}, 'x')" for n in range(1000, 3000)))
    made.settle()
    made.at_target("UPDATE plain SET v = 'y' WHERE id = 1500")
    with closing(Freeze(replace(made.config, pack=None))) as freeze:
        left = freeze.unequal(changed.read_to(capture_positions(made.config)))
    [keys] = left[f"{made.schema}.plain"].values()
    assert ("1500",) in keys
    assert len(keys) <= 30


def test_reading_that_a_freeze_has_no_time_for_is_broken_off(made: Lab) -> None:
    config = replace(made.config, pack=None)
    with Readers(config) as readers:
        pairs = load(readers)
    endless = Measure(pair_of(pairs, f"{made.schema}.plain"), (), (("endless", "SLEEP(1000)"),))
    assert endless.pair.name not in time_within(config, None, pairs, [endless], 3.0)
    running = (
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%SUM(SLEEP(%' AND ID <> CONNECTION_ID()"
    )
    until(lambda: not any(run(s, running)[0][0] for s in (*made.sources, made.target)), "the statements are ended")
    every = time_within(config, None, pairs, [], 600.0)
    assert set(every) == {pair.name for pair in pairs}


@pytest.mark.parametrize("slower", [False, True])
def test_laps_get_shorter_or_it_is_a_no_go(made: Lab, monkeypatch: pytest.MonkeyPatch, slower: bool) -> None:
    """Rows are written while rows are compared: half as many, or as many."""
    monkeypatch.setattr(migrate.cutover.narrow, "_FEW", 3)
    monkeypatch.setattr(migrate.cutover.narrow, "_SHARE", 0)
    monkeypatch.setattr(migrate.cutover.changed, "_PORTION", 4)
    compared: list[Keys] = []
    number = 10_000

    def write(count: int) -> None:
        nonlocal number
        for _ in range(count):
            made.on("plain_0", f"INSERT INTO {{t}} VALUES ({number}, 'x')")
            number += 1

    def compare(keys: Keys) -> Keys:
        compared.append(keys)
        count = how_many(keys)
        write(count if slower else count // 2)
        return {}

    narrowed = Narrowed(made.config, Clean(7, 1.0, capture_positions(made.config)), compare)
    write(16)
    if slower:
        with pytest.raises(NoGo, match="16 rows were written while as many were compared"):
            narrowed.narrow()
        return
    narrowed.narrow()
    assert how_many(narrowed.left) == 2
    assert "28 rows that were written since run 7 were compared in 3 laps; 2 are" in narrowed.said
    write(1)
    keys = narrowed.read_to(capture_positions(made.config))
    assert how_many(merged([*compared, keys])) == number - 10_000, "a row was never compared"
