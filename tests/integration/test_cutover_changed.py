"""Which rows were written, by the binlog, and whether exactly those are equal: keys of several columns, texts, bytes,
interleaved ones, rows that have moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from migrate.config import Config, Route
from migrate.cutover.changed import Changed, how_many
from migrate.cutover.proof import nobody_wrote
from migrate.errors import NoGo
from migrate.sandbox import Sandbox
from migrate.source import capture_positions
from migrate.state import State
from tests.integration.syncing import Lab, Table, lab
from verify.freeze import Freeze

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
