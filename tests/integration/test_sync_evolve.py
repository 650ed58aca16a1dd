"""Shards of one table altered one after the other, and the merged table on TiDB brought along, or held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from migrate.model import Interleave, Shard, TableDef
from migrate.sync.apart import apart
from migrate.sync.evolve import Apply, Hold, Pass, decide
from tests.integration.evolving import ROWS, Scene, scene
from tests.integration.shards import run


@pytest.fixture
def old(servers: Any) -> Iterator[Scene]:
    yield from scene(servers.sources[0], servers.target)


@pytest.fixture
def new(sandbox97: Any) -> Iterator[Scene]:
    yield from scene(sandbox97.sources[0], sandbox97.target)


# {} is the shard; each runs on one, then on the other, and the target follows.
ADDITIVE = {
    "nullable": "ALTER TABLE {} ADD COLUMN x INT",
    "first": "ALTER TABLE {} ADD COLUMN x BIGINT UNSIGNED NULL COMMENT 'it''s' FIRST",
    "after_default": "ALTER TABLE {} ADD COLUMN x VARCHAR(9) NOT NULL DEFAULT 'é\\\\''' AFTER v",
    "implicit_int": "ALTER TABLE {} ADD COLUMN x INT NOT NULL",
    "implicit_many": "ALTER TABLE {} ADD x1 VARCHAR(5) NOT NULL, ADD x2 DECIMAL(8,3) NOT NULL AFTER id, "
    "ADD x3 ENUM('q','r') NOT NULL, ADD x4 SET('q') NOT NULL, ADD x5 VARBINARY(3) NOT NULL, ADD x6 DOUBLE NOT NULL, "
    "ADD x7 BIT(3) NOT NULL, ADD x8 TIME NOT NULL, ADD x9 YEAR NOT NULL",
    "implicit_dates": "ALTER TABLE {} ADD x1 DATE NOT NULL, ADD x2 DATETIME(3) NOT NULL",
    "several": "ALTER TABLE {} ADD x INT DEFAULT 3, ADD y CHAR(2) DEFAULT 'ab' AFTER x, ADD z TEXT FIRST, "
    "ADD KEY kx (x, n)",
    "plain_index": "CREATE INDEX i ON {} (d, n)",
    "index_dropped_and_added": "ALTER TABLE {} ADD KEY k2 (n, d), COMMENT = 'c'",
    "integer": "ALTER TABLE {} MODIFY n BIGINT",
    "key": "ALTER TABLE {} MODIFY id BIGINT NOT NULL",
    "unsigned": "ALTER TABLE {} MODIFY u INT UNSIGNED NOT NULL",
    "longer": "ALTER TABLE {} MODIFY v VARCHAR(30) COLLATE utf8mb4_bin NOT NULL DEFAULT 'x', MODIFY b VARBINARY(50)",
    "decimal": "ALTER TABLE {} MODIFY d DECIMAL(20,2)",
    "members": "ALTER TABLE {} MODIFY e ENUM('a','b','c'), MODIFY s SET('a','b','c')",
    "text": "ALTER TABLE {} MODIFY w MEDIUMTEXT",
    "loosened": "ALTER TABLE {} MODIFY u SMALLINT UNSIGNED NULL",
    "default": "ALTER TABLE {} ALTER n SET DEFAULT 9, ALTER v SET DEFAULT 'y'",
    "comment": "ALTER TABLE {} MODIFY n INT COMMENT 'new', COMMENT = 'all'",
    "moved": "ALTER TABLE {} MODIFY n INT FIRST, MODIFY d DECIMAL(10,2) AFTER t",
    "added_between": "ALTER TABLE {} ADD x INT AFTER n, MODIFY d DECIMAL(12,2) AFTER x",
    "utf8mb4": "ALTER TABLE {} MODIFY l VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
    "nothing": "ALTER TABLE {} ENGINE=InnoDB, AUTO_INCREMENT=5",
    "fulltext": "ALTER TABLE {} ADD FULLTEXT KEY ft (w)",
}

HELD = {
    "drop": ("ALTER TABLE {} DROP COLUMN n", "column n is dropped or renamed"),
    "rename": ("ALTER TABLE {} CHANGE n m INT", "column n is dropped or renamed"),
    "anew": ("ALTER TABLE {} DROP f, ADD f FLOAT", "column f is dropped and added anew"),
    "now": ("ALTER TABLE {} ADD x DATETIME DEFAULT CURRENT_TIMESTAMP", "as it was on the shard at that moment"),
    "auto": ("ALTER TABLE {} ADD x INT AUTO_INCREMENT UNIQUE", "AUTO_INCREMENT"),
    "unique": ("ALTER TABLE {} ADD UNIQUE KEY q (n)", "unique index q is new"),
    "unique_gone": ("ALTER TABLE {} DROP KEY uv", "unique index uv goes"),
    "primary": ("ALTER TABLE {} DROP PRIMARY KEY, ADD PRIMARY KEY (id, u)", "primary key changes"),
    "narrower": ("ALTER TABLE {} MODIFY n SMALLINT", "narrower"),
    "shorter": ("ALTER TABLE {} MODIFY b VARBINARY(4)", "narrower"),
    "sign": ("ALTER TABLE {} MODIFY u INT NOT NULL", "sign changes"),
    "scale": ("ALTER TABLE {} MODIFY d DECIMAL(14,4)", "other digits"),
    "digits": ("ALTER TABLE {} MODIFY d DECIMAL(8,2)", "narrower"),
    "fraction": ("ALTER TABLE {} MODIFY t DATETIME(6)", "other digits"),
    "members": ("ALTER TABLE {} MODIFY e ENUM('b','a')", "members change"),
    "tightened": ("ALTER TABLE {} MODIFY n INT NOT NULL", "becomes NOT NULL"),
    "type": ("ALTER TABLE {} MODIFY n VARCHAR(20)", "another type"),
    "float": ("ALTER TABLE {} MODIFY f FLOAT(7,1)", "rounded anew"),
    "charset": ("ALTER TABLE {} CONVERT TO CHARACTER SET latin1", "charset"),
    "collation": ("ALTER TABLE {} MODIFY v VARCHAR(20) COLLATE utf8mb4_unicode_ci NOT NULL DEFAULT 'x'", "collation"),
    "partition": ("ALTER TABLE {} DROP KEY uv PARTITION BY HASH (id) PARTITIONS 2", "partitioning"),
    "engine": ("ALTER TABLE {} ENGINE=MyISAM", "no transactions"),
    "renamed": ("RENAME TABLE {} TO gone", "renamed to"),
    "altered_away": ("ALTER TABLE {} RENAME gone", "renamed to"),
    "truncate": ("TRUNCATE TABLE {}", "without row events"),
    "dropped": ("DROP TABLE {}", "dropped"),
    "not_null_text": ("ALTER TABLE {} ADD x TEXT NOT NULL", "can have no default on TiDB"),
}  # fmt: skip


def follows(place: Scene, statement: str) -> None:
    for table in ("t_1", "t_2"):
        for decision in place.alter(statement.format(table)):
            assert not isinstance(decision, Hold), decision
        place.same_rows()
        if table == "t_1" and "{}" in statement:
            late = place.history.definition(place.schema, "t_2")
            assert late is not None
            insert_late(place, late)
    place.as_meant()
    assert apart(place.merged()) == []


def insert_late(place: Scene, late: TableDef) -> None:
    """A row of the shard that isn't altered yet still finds its place."""
    row = ROWS.format("t_2", 3).split("VALUES")[1]
    names = ", ".join(f"`{c.name}`" for c in late.columns)
    strict = "SET sql_mode = 'STRICT_TRANS_TABLES'"
    run(
        place.server,
        strict,
        f"INSERT INTO t ({names}) VALUES {row}",
        "DELETE FROM t WHERE id = 3",
        database=place.schema,
    )


@pytest.mark.parametrize("statement", ADDITIVE.values(), ids=ADDITIVE)
def test_additive_changes_reach_the_target_from_56(old: Scene, statement: str) -> None:
    follows(old, statement)


@pytest.mark.parametrize("name", ["implicit_many", "implicit_dates", "several", "members", "utf8mb4", "added_between"])
def test_additive_changes_reach_the_target_from_97(new: Scene, name: str) -> None:
    follows(new, ADDITIVE[name])


@pytest.mark.parametrize(("statement", "reason"), HELD.values(), ids=HELD)
def test_everything_else_holds(old: Scene, statement: str, reason: str) -> None:
    before = old.on_target()
    decisions = old.alter(statement.format("t_1"))
    (held,) = [d for d in decisions if isinstance(d, Hold)]
    assert reason in held.reason
    assert f"m1.{old.schema}.t_1" in held.reason
    assert statement.format("t_1") in held.reason
    assert all(f"migrate sync {verb} {old.schema}.t" in held.remedy for verb in ("go-on", "skip", "replace"))
    assert old.on_target() == before


def test_shards_that_give_their_rows_different_defaults_hold(old: Scene) -> None:
    (first,) = old.alter("ALTER TABLE t_1 ADD x INT DEFAULT 1")
    assert isinstance(first, Apply)
    (second,) = old.alter("ALTER TABLE t_2 ADD x INT DEFAULT 2")
    assert isinstance(second, Hold)
    assert "get '2', but the target has it already and gave '1'" in second.reason


def test_the_target_keeps_what_any_shard_needs_until_all_have_it(old: Scene) -> None:
    old.alter("ALTER TABLE t_1 ADD x INT NOT NULL, MODIFY n BIGINT COMMENT 'big', ALTER v SET DEFAULT 'q'")
    made = old.on_target()
    assert made.column("x").default == "0"  # which rows of t_2 take until it has the column
    assert (made.column("n").comment, made.column("v").default) == ("", "x")
    assert f"{old.schema}.t: column x is on 1 of 2 shards; waiting for m1.{old.schema}.t_2" in apart(old.merged())
    assert any("column n is " in s and "bigint(20)" in s for s in apart(old.merged()))
    old.alter("ALTER TABLE t_2 ALTER v SET DEFAULT 'q'")
    assert old.on_target().column("v").default == "x"
    old.alter("ALTER TABLE t_2 ADD x INT NOT NULL, MODIFY n BIGINT COMMENT 'big'")
    assert old.on_target().column("x").default is None
    old.as_meant()


def test_a_shard_may_stay_behind_a_wider_target(old: Scene) -> None:
    old.alter("ALTER TABLE t_1 MODIFY n BIGINT, MODIFY e ENUM('a','b','c','d')")
    made = old.on_target()
    decisions = old.alter("ALTER TABLE t_2 MODIFY e ENUM('a','b','c')")
    assert decisions == [Pass()]
    assert old.on_target() == made
    (apart_now,) = [d for d in old.alter("ALTER TABLE t_2 MODIFY e ENUM('a','b','c','x')")]
    assert isinstance(apart_now, Hold)
    assert "members change" in apart_now.reason


def test_indexes_that_go_stay_on_the_target(old: Scene) -> None:
    (passed,) = old.alter("ALTER TABLE t_1 DROP KEY kn")
    assert isinstance(passed, Pass)
    assert "the target keeps index kn" in passed.note
    (passed,) = old.alter("ALTER TABLE t_2 DROP KEY kn, ADD KEY kn (n, d)")
    assert isinstance(passed, Pass)
    assert "the target keeps its own index kn" in passed.note


def test_a_unique_index_may_get_another_name(old: Scene) -> None:
    assert old.alter("ALTER TABLE t_1 DROP KEY uv, ADD UNIQUE KEY other (v)") == [Pass()]


def test_new_shards(old: Scene) -> None:
    (passed,) = old.alter("CREATE TABLE t_3 LIKE t_1")
    assert isinstance(passed, Pass)
    assert f"of the shape of m1.{old.schema}.t_1" in passed.note
    (held,) = old.alter("CREATE TABLE t_4 (id INT PRIMARY KEY, n BIGINT)")
    assert isinstance(held, Hold)
    assert "another shape" in held.reason
    assert "column v is missing" in held.reason
    (held,) = old.alter("RENAME TABLE t_4 TO t_5")
    assert isinstance(held, Hold)


def test_a_new_shard_of_interleaved_keys_holds(old: Scene) -> None:
    run(old.source, "CREATE TABLE t_3 LIKE t_1", database=old.schema)
    (change,) = old.history.read(old.schema, "CREATE TABLE t_3 LIKE t_1")
    merged = old.merged()
    merged = replace(merged, interleaved={s.shard: {"id": Interleave(1, n)} for n, s in enumerate(merged.shards)})
    held = decide(change, Shard("m1", old.schema, "t_3"), merged, old.on_target())
    assert isinstance(held, Hold)
    assert "number" in held.reason


def test_interleaved_columns_stay_wide(old: Scene) -> None:
    """The target's key is BIGINT; an INT that becomes BIGINT on the shard changes nothing there."""
    (change,) = old.history.read(old.schema, "ALTER TABLE t_1 MODIFY id BIGINT NOT NULL, ADD x INT AFTER id")
    merged = old.merged()
    merged = replace(merged, interleaved={s.shard: {"id": Interleave(1, n)} for n, s in enumerate(merged.shards)})
    run(old.server, "ALTER TABLE t MODIFY id BIGINT NOT NULL", database=old.schema)
    decision = decide(change, Shard("m1", old.schema, "t_1"), merged, old.on_target())
    assert isinstance(decision, Apply)
    assert decision.statements == (f"ALTER TABLE `{old.schema}`.`t` ADD COLUMN `x` int NULL AFTER `id`",)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE t_1 SET n = 1", "INSERT INTO t_1 SELECT * FROM q", "DELETE q FROM q JOIN t_1 USING (id)",
     "LOAD DATA INFILE 'x' INTO TABLE t_1"],
)  # fmt: skip
def test_rows_logged_as_text_hold(old: Scene, statement: str) -> None:
    (change,) = old.history.read(old.schema, statement)
    held = decide(change, Shard("m1", old.schema, "t_1"), old.merged(), old.on_target())
    assert isinstance(held, Hold)
    assert "logged as text" in held.reason


def test_what_cannot_be_read_holds(old: Scene) -> None:
    (change,) = old.history.read(old.schema, "ALTER TABLE t_1 ADD g INT AS (n + 1) VIRTUAL")
    assert change.kind == "unknown"
    held = decide(change, Shard("m1", old.schema, "t_1"), old.merged(), old.on_target())
    assert isinstance(held, Hold)
    assert "can't be read safely: column g is generated" in held.reason
    assert "copy" in held.remedy
