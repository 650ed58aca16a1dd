"""DDL on the shards while sync runs: what adds is carried to the merged table, everything else holds it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from migrate.config import Ignore
from migrate.copy import copier
from migrate.errors import NoGo
from migrate.sandbox import Sandbox, Server
from migrate.sync.status import read_sync_status
from tests.integration.syncing import OPTIONS, Lab, Table, lab
from tests.integration.test_sync_window import at

KEYED = "id BIGINT PRIMARY KEY, v INT, memo VARCHAR(20)"
THREE = ("(1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c')", "(11, 1, 'k'), (12, 2, 'l')", "(21, 1, 'x')")
NAMES = ("wider", "widened", "indexed", "dropped", "skipped", "replaced", "truncated", "removed", "renamed", "fresh",
         "other", "ghost", "perc", "spoken", "bystander", "again", "early")  # fmt: skip


def servers_of(version: str, servers: Sandbox, request: pytest.FixtureRequest) -> tuple[list[Server], Server]:
    if version == "5.6":
        return servers.sources, servers.target
    sandbox = request.getfixturevalue("sandbox97")
    return [sandbox.sources[0], servers.sources[0]], sandbox.target


@pytest.fixture(scope="module", params=["5.6", "9.7"])
def scene(request: pytest.FixtureRequest, servers: Sandbox) -> Iterator[Lab]:
    """All the tables, copied and followed; each test has tables of its own."""
    tables = {name: Table(KEYED, (0, 0), THREE) for name in NAMES}
    tables["wider"] = Table(KEYED, (0, 0, 1), THREE)
    tables["spoken"] = Table(KEYED, (0,), THREE)
    with lab(*servers_of(request.param, servers, request), tables) as found:
        yield found.copied().start()


def on_target(scene: Lab, table: str) -> list[str]:
    """The columns of the target table."""
    return [str(row[0]) for row in scene.at_target(f"SHOW COLUMNS FROM {table}")]


def test_a_column_comes_shard_by_shard(scene: Lab) -> None:
    add = "ALTER TABLE {t} ADD COLUMN extra VARCHAR(10) NOT NULL DEFAULT 'none'"
    scene.on("wider_0", add)
    scene.on("wider_0", "INSERT INTO {t} VALUES (4, 4, 'd', 'full')", "UPDATE {t} SET extra = 'x', v = 9 WHERE id = 1")
    scene.on("wider_1", "UPDATE {t} SET v = v + 1", "INSERT INTO {t} VALUES (13, 3, 'n')")
    scene.settle()
    assert on_target(scene, "wider") == ["id", "v", "memo", "extra"]
    assert {row[0]: row[3] for row in scene.target_rows("wider")} == {
        1: "x", 2: "none", 3: "none", 4: "full", 11: "none", 12: "none", 13: "none", 21: "none"
    }  # fmt: skip
    status = read_sync_status(scene.config)
    late = [w for w in status.waiting if w.target == f"{scene.schema}.wider"]
    assert [(str(w.shard), w.lacks) for w in late] == [
        (f"m1.{scene.schema}.wider_1", ("extra",)), (f"m2.{scene.schema}.wider_2", ("extra",))
    ]  # fmt: skip
    assert "wider_1" in status.text() and "extra" in status.text()
    scene.on("wider_1", add)
    scene.on("wider_2", add)
    scene.on("wider_2", "INSERT INTO {t} VALUES (22, 2, 'y', 'late')", "UPDATE {t} SET extra = 'z' WHERE id = 21")
    scene.same("wider")
    assert not [w for w in read_sync_status(scene.config).waiting if w.target == f"{scene.schema}.wider"]


def test_columns_get_wider(scene: Lab) -> None:
    for shard in ("widened_0", "widened_1"):
        scene.on(shard, "ALTER TABLE {t} MODIFY v BIGINT, MODIFY memo VARCHAR(40)")
        scene.on(shard, "UPDATE {t} SET v = 5000000000 + id, memo = REPEAT('m', 40)")
    scene.same("widened")


def test_an_index_is_added(scene: Lab) -> None:
    scene.on("indexed_0", "ALTER TABLE {t} ADD INDEX by_v (v)")
    scene.on("indexed_1", "CREATE INDEX by_v ON {t} (v)")
    scene.on("indexed_0", "UPDATE {t} SET v = 7")
    scene.same("indexed")
    assert "by_v" in {row[2] for row in scene.at_target("SHOW INDEX FROM indexed")}


def test_a_dropped_column_holds_until_it_is_dropped_on_the_target(scene: Lab) -> None:
    scene.on("dropped_0", "ALTER TABLE {t} DROP COLUMN memo")
    scene.on("dropped_0", "INSERT INTO {t} VALUES (4, 4)")
    hold = scene.until_held("dropped", "dropped_0", "memo", "sync go-on", "sync skip", "sync replace")
    assert hold.statement and "DROP COLUMN memo" in hold.statement
    scene.on("bystander_0", "UPDATE {t} SET v = 5")
    scene.same("bystander")
    assert len(scene.target_rows("dropped")) == 5
    scene.on("dropped_1", "ALTER TABLE {t} DROP COLUMN memo")
    scene.resolve("dropped", "skip")
    scene.until_held("dropped", "dropped_1")  # the next statement is the other shard's
    scene.release("dropped", "replace", f"ALTER TABLE {scene.schema}.dropped DROP COLUMN memo")
    scene.same("dropped")


def test_a_statement_is_skipped(scene: Lab) -> None:
    scene.on("skipped_0", "ALTER TABLE {t} ADD UNIQUE KEY by_v (v)")
    scene.until_held("skipped", "skipped_0", "by_v")
    scene.on("skipped_0", "INSERT INTO {t} VALUES (4, 4, 'd')", "DELETE FROM {t} WHERE id = 1")
    scene.release("skipped", "skip")
    scene.same("skipped")


def test_a_statement_is_replaced(scene: Lab) -> None:
    scene.on("replaced_0", "ALTER TABLE {t} CHANGE memo note VARCHAR(20)")
    scene.on("replaced_1", "ALTER TABLE {t} CHANGE memo note VARCHAR(20)")
    scene.on("replaced_0", "UPDATE {t} SET note = CONCAT(note, '!')")
    scene.until_held("replaced", "memo")
    scene.resolve("replaced", "replace", f"ALTER TABLE {scene.schema}.replaced CHANGE memo note VARCHAR(20)")
    scene.until_held("replaced", "replaced_1")  # the same statement, on the other shard
    scene.release("replaced", "skip")
    scene.same("replaced")
    assert on_target(scene, "replaced") == ["id", "v", "note"]


def test_a_replacement_that_fails_holds_again(scene: Lab) -> None:
    scene.on("again_0", "ALTER TABLE {t} DROP COLUMN memo")
    scene.until_held("again", "memo")
    scene.resolve("again", "replace", f"ALTER TABLE {scene.schema}.again DROP COLUMN nonsense")
    scene.until_held("again", "nonsense")
    scene.on("bystander_1", "UPDATE {t} SET v = 6")
    scene.same("bystander")


def test_truncate_holds(scene: Lab) -> None:
    scene.on("truncated_0", "TRUNCATE TABLE {t}")
    scene.on("truncated_0", "INSERT INTO {t} VALUES (1, 100, 'anew')")
    scene.until_held("truncated", "truncated_0", "TRUNCATE")
    assert len(scene.target_rows("truncated")) == 5
    scene.resolve("truncated", "go-on")
    scene.until_held("truncated", "truncated_0", "TRUNCATE")  # it never passes by itself
    scene.release("truncated", "replace", f"DELETE FROM {scene.schema}.truncated WHERE id < 10")
    scene.same("truncated")


def test_drop_table_holds(scene: Lab) -> None:
    scene.on("removed_1", "DROP TABLE {t}")
    scene.until_held("removed", "removed_1", "dropped")
    assert len(scene.target_rows("removed")) == 5
    scene.on("removed_0", "UPDATE {t} SET v = 6")
    scene.release("removed", "skip")
    scene.settle()
    kept = [*scene.on("removed_0", "SELECT * FROM {t}"), (11, 1, "k"), (12, 2, "l")]
    assert scene.target_rows("removed") == sorted(kept, key=repr)


def test_rename_holds(scene: Lab) -> None:
    scene.on("renamed_1", "RENAME TABLE {t} TO elsewhere_1")
    scene.until_held("renamed", "renamed_1", "renamed to")


def test_a_new_shard_arrives(scene: Lab) -> None:
    scene.instances["fresh_7"] = 0
    scene.on("fresh_7", "CREATE TABLE {t} LIKE fresh_0")
    scene.on("fresh_7", "INSERT INTO {t} VALUES (70, 7, 'seven'), (71, 7, NULL)")
    scene.on("fresh_7", "UPDATE {t} SET v = 8 WHERE id = 71", "DELETE FROM {t} WHERE id = 70")
    scene.same("fresh")
    scene.stop()
    scene.on("fresh_7", "INSERT INTO {t} VALUES (72, 7, 'restarted')")
    scene.start()
    scene.same("fresh")


def test_a_new_shard_of_another_shape_holds(scene: Lab) -> None:
    scene.on("other_0", f"CREATE TABLE other_8 (id BIGINT PRIMARY KEY, w INT) {OPTIONS}")
    scene.on("other_0", "INSERT INTO other_8 VALUES (80, 8)")
    scene.until_held("other", "other_8", "shape")


def test_gh_ost(scene: Lab) -> None:
    scene.on("ghost_0", "CREATE TABLE _ghost_0_ghc (id BIGINT AUTO_INCREMENT PRIMARY KEY, value VARCHAR(99))")
    scene.on("ghost_0", "CREATE TABLE _ghost_0_gho LIKE {t}")
    scene.on("ghost_0", "ALTER TABLE _ghost_0_gho ADD COLUMN extra INT NOT NULL DEFAULT 5")
    scene.on("ghost_0", "INSERT INTO _ghost_0_ghc (value) VALUES ('on')",
             "INSERT IGNORE INTO _ghost_0_gho (id, v, memo) SELECT id, v, memo FROM {t}")  # fmt: skip
    for n in range(4, 9):
        scene.on(
            "ghost_0", f"INSERT INTO {{t}} VALUES ({n}, {n}, 'live')", f"UPDATE {{t}} SET v = v + 1 WHERE id = {n - 1}"
        )
        scene.on("ghost_0", "REPLACE INTO _ghost_0_gho (id, v, memo) SELECT id, v, memo FROM {t}")
    scene.same("ghost")
    scene.on("ghost_0", "CREATE TABLE _ghost_0_del (id INT PRIMARY KEY) COMMENT='ghost-cut-over-sentry'")
    scene.on("ghost_0", "DROP TABLE _ghost_0_del")
    scene.on("ghost_0", "RENAME TABLE {t} TO _ghost_0_del, _ghost_0_gho TO {t}")
    scene.on("ghost_0", "UPDATE {t} SET extra = v", "INSERT INTO {t} VALUES (90, 9, 'after', 9)")
    scene.on("ghost_0", "DROP TABLE _ghost_0_ghc, _ghost_0_del")
    scene.on("ghost_1", "UPDATE {t} SET v = v + 1")
    scene.settle()
    assert not scene.held("ghost")
    rows = scene.on("ghost_0", "SELECT * FROM {t}") + [(*row, 5) for row in scene.on("ghost_1", "SELECT * FROM {t}")]
    assert scene.target_rows("ghost") == sorted(rows, key=repr)


def test_pt_online_schema_change(scene: Lab) -> None:
    scene.on("perc_0", "CREATE TABLE _perc_0_new LIKE {t}")
    scene.on("perc_0", "ALTER TABLE _perc_0_new MODIFY memo VARCHAR(80)")
    scene.on("perc_0", "CREATE TRIGGER pt_ins AFTER INSERT ON {t} FOR EACH ROW REPLACE INTO _perc_0_new VALUES "
             "(NEW.id, NEW.v, NEW.memo)")  # fmt: skip
    scene.on("perc_0", "CREATE TRIGGER pt_upd AFTER UPDATE ON {t} FOR EACH ROW REPLACE INTO _perc_0_new VALUES "
             "(NEW.id, NEW.v, NEW.memo)")  # fmt: skip
    scene.on("perc_0", "INSERT LOW_PRIORITY IGNORE INTO _perc_0_new SELECT * FROM {t}")
    scene.on("perc_0", "INSERT INTO {t} VALUES (4, 4, 'live')", "UPDATE {t} SET v = 50 WHERE id = 2")
    scene.on("perc_0", "RENAME TABLE {t} TO _perc_0_old, _perc_0_new TO {t}")
    scene.on("perc_0", "DROP TABLE IF EXISTS _perc_0_old")
    scene.on("perc_0", "UPDATE {t} SET memo = REPEAT('m', 80) WHERE id = 4")
    scene.same("perc")


def test_rows_that_are_logged_as_statements_hold(scene: Lab) -> None:
    scene.on("spoken_0", "SET SESSION binlog_format = STATEMENT", "UPDATE {t} SET v = v + 1 WHERE id = 1")
    hold = scene.until_held("spoken", "spoken_0", "logged as text")
    assert hold.statement and "v = v + 1" in hold.statement
    scene.on("spoken_0", "UPDATE {t} SET v = v + 1 WHERE id = 1")
    scene.release("spoken", "replace", f"UPDATE {scene.schema}.spoken SET v = v + 1 WHERE id = 1")
    scene.same("spoken")


def test_sync_starts_again_right_behind_ddl(scene: Lab) -> None:
    scene.stop()
    scene.on("early_0", "ALTER TABLE {t} ADD COLUMN w INT NULL")
    scene.on("early_0", "UPDATE {t} SET w = 1")
    scene.start()
    scene.settle()
    scene.stop()
    scene.on("early_1", "ALTER TABLE {t} ADD COLUMN w INT NULL")
    scene.on("early_1", "UPDATE {t} SET w = 2")
    scene.start()
    scene.same("early")


def test_rows_of_a_table_that_nobody_names_end_sync(scene: Lab) -> None:
    scene.on("fresh_0", "CREATE TABLE stray (id INT PRIMARY KEY)")
    scene.on("fresh_0", "INSERT INTO stray VALUES (1)")
    scene.on("fresh_0", "INSERT INTO {t} VALUES (5, 5, 'later')")
    with pytest.raises(NoGo, match=r"m1\.\w+\.stray .*neither routed nor ignored"):
        scene.settle()
    with pytest.raises(NoGo):
        scene.stop()
    assert (5, 5, "later") not in scene.target_rows("fresh")
    scene.config = replace(scene.config, ignores=(*scene.config.ignores, Ignore(schema=scene.schema, table="stray")))
    scene.start()
    scene.same("fresh")


@pytest.mark.parametrize("version", ["5.6", "9.7"])
def test_ddl_while_the_copy_reads(
    version: str, servers: Sandbox, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lab(*servers_of(version, servers, request), {"live": Table(KEYED, (0, 1), THREE)}) as scene:

        def alter(column: str) -> None:
            for shard in ("live_0", "live_1"):
                scene.on(shard, f"ALTER TABLE {{t}} ADD COLUMN {column} INT NULL")
                scene.on(shard, f"UPDATE {{t}} SET {column} = id, v = v + 1 WHERE id <> 2")

        at(monkeypatch, copier, "after_position_captured", lambda: alter("before_it"))
        at(monkeypatch, copier, "before_consistent_saved", lambda: alter("after_it"))
        scene.copied()
        assert on_target(scene, "live") == ["id", "v", "memo"]
        alter("later")
        scene.start()
        scene.same("live")
        assert on_target(scene, "live")[3:] == ["before_it", "after_it", "later"]
