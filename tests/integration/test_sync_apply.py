"""What changes on the shards arrives on the target, and nothing else; what can't be right is held."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrate.sandbox import Sandbox
from migrate.sync import appliers
from tests.integration.syncing import Lab, Table, lab

KEYED = "id BIGINT PRIMARY KEY, v INT, memo VARCHAR(20)"
UNIQUE = "id BIGINT PRIMARY KEY, u VARCHAR(20) NULL UNIQUE, v INT"
THREE = ("(1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c')", "(11, 1, 'k'), (12, 2, 'l'), (13, 3, 'm')")
PAIRS = ("(1, 'a', 1), (2, 'b', 2), (3, 'c', 3)",)
BINARY_UNIQUE = "id BIGINT PRIMARY KEY, u VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin UNIQUE, n BIGINT UNIQUE"

TABLES = {
    "plain": Table(KEYED, (0, 0, 1), THREE),
    "merged": Table(KEYED, (0,), THREE),
    "rekeyed": Table(KEYED, (0,), THREE),
    "swap": Table(UNIQUE, (0,), PAIRS),
    "numbers": Table(BINARY_UNIQUE, (0,), ("(1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (4, 'd', 4), (5, 'e', 5)",)),
    "cased": Table("k VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v VARCHAR(20) COLLATE utf8mb4_general_ci",
                   (0,), ("('a', 'x'), ('b', 'y')",)),
    "composite": Table("a INT, b VARCHAR(10), c BIGINT UNSIGNED, v DECIMAL(20,4), PRIMARY KEY (b, a)", (0,),
                       ("(1, 'x', 1, 1.5), (2, 'x', 2, 2.5), (1, 'y', 18446744073709551615, -1)",)),
    "nulls": Table(UNIQUE, (0,), ("(1, NULL, 1), (2, NULL, 2), (3, 'c', 3)",)),
    "stamped": Table("id BIGINT PRIMARY KEY, v INT, at TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE "
                     "CURRENT_TIMESTAMP", (0,), ("(1, 1, '2020-01-01'), (2, 2, '2020-01-01')",)),
    "moved": Table(KEYED, (0, 0), THREE),
    "crossed": Table(KEYED, (0, 1), THREE),
    "twice": Table(KEYED, (0, 0), THREE),
    "apart": Table(KEYED, (0, 1), THREE),
    "drifted": Table(KEYED, (0, 0), THREE),
    "lost": Table(KEYED, (0,), THREE),
    "extra": Table(KEYED, (0,), THREE),
    "forced": Table(KEYED, (0,), THREE),
    "bystander": Table(KEYED, (0, 1), THREE),
    "narrow": Table(KEYED, (0,), THREE),
    "unlogged": Table(KEYED, (0,), THREE),
    "keyless": Table("a INT NULL, b INT", (0,), ("(1, 1)",)),
    "seldom": Table(UNIQUE, (0,), PAIRS),
    "raced": Table(KEYED, (0,), (", ".join(f"({n}, {n}, 'm')" for n in range(20)),)),
    "bent": Table(KEYED, (0,), THREE),
    "strange": Table(UNIQUE, (0, 1), ("(1, 'a', 1)", "(2, 'b', 2)")),
}  # fmt: skip


@pytest.fixture(scope="module", params=["5.6", pytest.param("9.7", marks=pytest.mark.soak)])
def scene(request: pytest.FixtureRequest, servers: Sandbox) -> Iterator[Lab]:
    """All the tables, copied and followed; each test has tables of its own."""
    if request.param == "5.6":
        sources, target = servers.sources, servers.target
    else:
        sandbox = request.getfixturevalue("sandbox97")
        sources, target = [sandbox.sources[0], servers.sources[0]], sandbox.target
    with lab(sources, target, TABLES) as found:
        yield found.copied().start()


def test_inserts_updates_deletes(scene: Lab) -> None:
    scene.on("plain_0", "INSERT INTO {t} VALUES (4, 4, 'd'), (5, 5, NULL)", "UPDATE {t} SET v = -v WHERE id < 3",
             "DELETE FROM {t} WHERE id = 3")  # fmt: skip
    scene.on("plain_1", "REPLACE INTO {t} VALUES (11, 100, 'r'), (14, 4, 'n')")
    scene.on("plain_1", "INSERT INTO {t} VALUES (12, 0, 'x'), (15, 5, 'o') ON DUPLICATE KEY UPDATE v = v + 1000")
    scene.on("plain_2", "INSERT INTO {t} VALUES (21, 1, 'é中😀'), (22, 2, 'a\"b,\\\\c\\n')")
    scene.same("plain")


def test_many_changes_of_one_key(scene: Lab) -> None:
    changes = [f"UPDATE {{t}} SET v = v + 1, memo = 'm{n}' WHERE id = 1" for n in range(50)]
    scene.on("merged_0", *changes, "DELETE FROM {t} WHERE id = 1", "INSERT INTO {t} VALUES (1, 7, 'again')",
             "UPDATE {t} SET v = 8 WHERE id = 1", "INSERT INTO {t} VALUES (9, 9, 'x')",
             "DELETE FROM {t} WHERE id = 9")  # fmt: skip
    scene.same("merged")
    for n in range(10):
        scene.on("merged_0", f"UPDATE {{t}} SET v = {n} WHERE id = 2")
    scene.same("merged")


def test_key_changes_in_a_chain_and_in_a_cycle(scene: Lab) -> None:
    scene.on("rekeyed_0", "UPDATE {t} SET id = 100 WHERE id = 1", "UPDATE {t} SET id = 101 WHERE id = 100",
             "UPDATE {t} SET id = id + 1000, v = v * 2 WHERE id = 101")  # fmt: skip
    scene.same("rekeyed")
    scene.on("rekeyed_0", "UPDATE {t} SET id = 0 WHERE id = 2", "UPDATE {t} SET id = 2 WHERE id = 3",
             "UPDATE {t} SET id = 3 WHERE id = 1101", "UPDATE {t} SET id = 1101 WHERE id = 0")  # fmt: skip
    scene.same("rekeyed")
    assert sorted(scene.target_rows("rekeyed")) == [(2, 3, "c"), (3, 2, "a"), (1101, 2, "b")]


def renamed(**values: str) -> list[str]:
    """Gives rows new unique values: {id: value}."""
    return [f"UPDATE {{t}} SET u = {value} WHERE id = {id[1:]}" for id, value in values.items()]


@pytest.mark.parametrize("table", ["swap", "numbers"])
def test_unique_values_change_hands(scene: Lab, table: str) -> None:
    shard = f"{table}_0"
    for _ in range(3):  # by way of another value, and by way of NULL
        scene.on(shard, *renamed(_1="'t'"), *renamed(_2="'a'"), *renamed(_1="'b'"))
        scene.on(shard, *renamed(_2="NULL"), *renamed(_1="'a'"), *renamed(_2="'b'"))
    scene.same(table)
    scene.on(shard, "DELETE FROM {t} WHERE id IN (1, 2)", "INSERT INTO {t} (id, u) VALUES (1, 'b'), (2, 'a')")
    scene.on(shard, *renamed(_1="NULL"), *renamed(_2="'b'"), *renamed(_3="'a'"), *renamed(_1="'c'"))
    scene.same(table)
    scene.on(shard, "DELETE FROM {t} WHERE id = 3", "INSERT INTO {t} (id, u) VALUES (33, 'a')")
    scene.on(shard, "REPLACE INTO {t} (id, u) VALUES (34, 'a')")
    scene.same(table)


def test_unique_values_change_hands_between_transactions(scene: Lab) -> None:
    for n in range(12):
        scene.on("numbers_0", "UPDATE {t} SET n = NULL WHERE id = 4", f"UPDATE {{t}} SET n = {4 + n % 2} WHERE id = 5",
                 f"UPDATE {{t}} SET n = {5 - n % 2} WHERE id = 4")  # fmt: skip
    scene.same("numbers")


def test_keys_and_values_that_differ_in_case_or_trailing_spaces(scene: Lab) -> None:
    scene.on("cased_0", "UPDATE {t} SET v = 'X' WHERE k = 'a'")
    scene.same("cased")
    scene.on("cased_0", "UPDATE {t} SET k = 'A' WHERE k = 'a'")
    scene.same("cased")
    scene.on("cased_0", "UPDATE {t} SET k = 'b ', v = 'y ' WHERE k = 'b'", "UPDATE {t} SET v = 'Y ' WHERE k = 'b'",
             "DELETE FROM {t} WHERE k = 'a'", "INSERT INTO {t} VALUES ('a', 'new')")  # fmt: skip
    scene.same("cased")
    assert {k for k, _ in scene.target_rows("cased")} == {"a", "b "}


def test_composite_keys(scene: Lab) -> None:
    scene.on("composite_0", "UPDATE {t} SET v = v + 1 WHERE b = 'x'", "DELETE FROM {t} WHERE b = 'y'",
             "INSERT INTO {t} VALUES (1, 'y', 5, 0.0001), (3, '', 0, NULL), (4, 'é', 4, 4)",
             "UPDATE {t} SET a = 9, c = c + 1 WHERE b = 'x' AND a = 2")  # fmt: skip
    scene.same("composite")


def test_null_in_a_unique_key(scene: Lab) -> None:
    scene.on("nulls_0", "INSERT INTO {t} VALUES (4, NULL, 4), (5, NULL, 5)", "UPDATE {t} SET u = NULL WHERE id = 3",
             "UPDATE {t} SET u = 'c' WHERE id = 1", "DELETE FROM {t} WHERE id = 2")  # fmt: skip
    scene.same("nulls")


def test_columns_that_the_server_fills(scene: Lab) -> None:
    scene.on("stamped_0", "UPDATE {t} SET v = v + 1 WHERE id = 1", "INSERT INTO {t} (id, v) VALUES (3, 3)")
    scene.same("stamped")


# -- rows that move between shards ------------------------------------------------------------------------------------


def moves(scene: Lab, table: str, id: int, there: str, back: str) -> None:
    """Moves a row from one shard to another: in one transaction, and in two, either way round."""
    gone, come = f"DELETE FROM {there} WHERE id = {id}", f"INSERT INTO {back} VALUES ({id}, {id}, 'moved')"
    together = scene.instances[there] == scene.instances[back]
    if together:
        scene.on(there, gone, come)
    else:
        scene.on(there, gone)
        scene.on(back, come)
    scene.same(table)
    gone, come = f"DELETE FROM {back} WHERE id = {id}", f"INSERT INTO {there} VALUES ({id}, {id}, 'back')"
    scene.on(there, come)
    scene.on(back, gone)
    scene.same(table)
    if together:
        scene.on(there, f"INSERT INTO {back} VALUES ({id}, 0, 'x')", f"UPDATE {back} SET v = 9 WHERE id = {id}",
                 f"DELETE FROM {there} WHERE id = {id}", f"UPDATE {back} SET v = 10 WHERE id = {id}")  # fmt: skip
        scene.same(table)


def test_a_row_moves_between_shards_of_an_instance(scene: Lab) -> None:
    moves(scene, "moved", 1, "moved_0", "moved_1")
    moves(scene, "moved", 11, "moved_1", "moved_0")


def test_a_row_moves_between_instances(scene: Lab) -> None:
    moves(scene, "crossed", 1, "crossed_0", "crossed_1")
    moves(scene, "crossed", 11, "crossed_1", "crossed_0")


@pytest.mark.parametrize(("table", "instance"), [("twice", "m1"), ("apart", "m2")])
def test_a_key_on_two_shards_is_held_again_and_again(
    scene: Lab, table: str, instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("migrate.sync.appliers.MOVE_S", 1.0)
    monkeypatch.setattr("migrate.sync.passage.MOVE_S", 1.0)
    scene.on(f"{table}_1", "INSERT INTO {t} VALUES (2, 99, 'other')")
    hold = scene.until_held(table, "key 2 is on two shards", f"{table}_0", f"{table}_1", instance=instance)
    assert hold.instance == instance
    scene.on(f"{table}_1", "INSERT INTO {t} VALUES (50, 50, 'later')")
    scene.on("bystander_0", "UPDATE {t} SET v = v + 1")
    scene.same("bystander")
    assert (2, 2, "b") in scene.target_rows(table)
    for how in ("go-on", "overwrite"):
        scene.resolve(table, how)  # type: ignore[arg-type]
        scene.until_held(table, "key 2 is on two shards", f"{table}_0", f"{table}_1")
    assert (2, 2, "b") in scene.target_rows(table)
    assert (50, 50, "later") not in scene.target_rows(table)
    scene.on(f"{table}_1", "DELETE FROM {t} WHERE id = 2")
    scene.release(table, "go-on")
    scene.same(table)


# -- drift ------------------------------------------------------------------------------------------------------------


def test_drift_is_held_and_goes_on_when_it_is_mended(scene: Lab) -> None:
    scene.at_target("UPDATE drifted SET v = 77 WHERE id = 1")
    scene.on("drifted_0", "UPDATE {t} SET v = v + 1 WHERE id <= 3")
    scene.until_held("drifted", "drift", "key 1 ", "drifted_0", "column v")
    scene.on("drifted_1", "UPDATE {t} SET v = v + 1")
    scene.on("bystander_1", "UPDATE {t} SET memo = 'on'")
    scene.same("bystander")
    assert (1, 77, "a") in scene.target_rows("drifted") and (2, 2, "b") in scene.target_rows("drifted")
    scene.resolve("drifted", "go-on")  # nothing was mended
    scene.until_held("drifted", "key 1 ")
    scene.at_target("UPDATE drifted SET v = 1 WHERE id = 1")
    scene.release("drifted", "go-on")
    scene.same("drifted")


def test_a_lost_row_is_drift(scene: Lab) -> None:
    scene.at_target("DELETE FROM lost WHERE id IN (1, 2)")
    scene.on("lost_0", "DELETE FROM {t} WHERE id = 1")
    scene.until_held("lost", "drift", "key 1 ", "lost_0", "not on the target")
    scene.on("lost_0", "UPDATE {t} SET v = 22 WHERE id = 2", "INSERT INTO {t} VALUES (4, 4, 'd')")
    scene.release("lost", "overwrite")
    scene.same("lost")


def test_an_extra_row_is_drift(scene: Lab) -> None:
    scene.at_target("INSERT INTO extra VALUES (9, 9, 'rogue')")
    scene.on("extra_0", "INSERT INTO {t} VALUES (8, 8, 'fine'), (9, 9, 'ours')")
    scene.until_held("extra", "drift", "key 9 ", "extra_0")
    assert (9, 9, "rogue") in scene.target_rows("extra")
    scene.at_target("DELETE FROM extra WHERE id = 9")
    scene.release("extra", "go-on")
    scene.same("extra")


def test_a_taken_unique_value_is_drift(scene: Lab) -> None:
    scene.at_target("INSERT INTO seldom VALUES (9, 'z', 9)")
    scene.on("seldom_0", "UPDATE {t} SET u = 'z' WHERE id = 3")
    scene.until_held("seldom", "drift", "key 3", "'z'", "seldom_0")
    assert (9, "z", 9) in scene.target_rows("seldom")
    scene.at_target("DELETE FROM seldom WHERE id = 9")
    scene.release("seldom", "go-on")
    scene.same("seldom")


def test_a_rogue_write_between_our_read_and_our_commit(scene: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    before, done = appliers.fault_point, []

    def passes(name: str) -> None:
        if (
            name == "after_batch_prepared"
            and not done
            and scene.on("raced_0", "SELECT v FROM {t} WHERE id = 1") == [(2,)]
        ):
            done.append(scene.at_target("UPDATE raced SET v = 99 WHERE id IN (1, 2)"))
        before(name)

    monkeypatch.setattr(appliers, "fault_point", passes)
    scene.on("raced_0", "UPDATE {t} SET v = v + 1")
    scene.until_held("raced", "drift", "raced_0", "column v")
    scene.on("raced_0", "UPDATE {t} SET v = v + 1")
    assert {v for id, v, _ in scene.target_rows("raced") if id in (1, 2)} == {99}
    scene.at_target("UPDATE raced SET v = id WHERE id IN (1, 2)")
    scene.release("raced", "go-on")  # also where a part of the batch is in, and the other isn't
    scene.same("raced")


def test_a_unique_value_on_two_shards_names_both(scene: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrate.sync.appliers.MOVE_S", 1.0)
    scene.on("strange_0", "INSERT INTO {t} VALUES (3, 'b', 3)")
    scene.until_held("strange", "u = 'b'", "strange_0", "strange_1", "key 3")
    assert (2, "b", 2) in scene.target_rows("strange")
    scene.on("strange_1", "UPDATE {t} SET u = 'c' WHERE id = 2")
    scene.settle()
    scene.release("strange", "go-on")
    scene.same("strange")


def test_a_target_table_that_refuses_its_rows_holds_back_no_other(scene: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrate.sync.appliers.MOVE_S", 0.5)
    scene.at_target("ALTER TABLE bent CHANGE memo note VARCHAR(20)")
    scene.on("bent_0", "UPDATE {t} SET v = v + 1")
    scene.until_held("bent", "the target refuses", "memo")
    scene.on("bystander_0", "UPDATE {t} SET v = v + 1")
    scene.same("bystander")
    scene.at_target("ALTER TABLE bent CHANGE note memo VARCHAR(20)")
    scene.release("bent", "go-on")
    scene.same("bent")


def test_overwriting_lets_the_source_win(scene: Lab) -> None:
    scene.at_target("UPDATE forced SET v = 77, memo = NULL", "INSERT INTO forced VALUES (5, 5, 'rogue')")
    scene.on("forced_0", "UPDATE {t} SET v = v + 1 WHERE id < 3", "INSERT INTO {t} VALUES (5, 5, 'e')",
             "DELETE FROM {t} WHERE id = 3")  # fmt: skip
    scene.until_held("forced", "drift")
    scene.release("forced", "overwrite")
    scene.same("forced")


# -- what the binlog doesn't tell -------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", ["NOBLOB", "MINIMAL"])
def test_row_images_that_leave_columns_out_are_held(scene: Lab, image: str) -> None:
    if image == "NOBLOB":
        scene.on("narrow_0", "SET SESSION binlog_row_image = NOBLOB", "UPDATE {t} SET v = v + 1 WHERE id = 3")
        scene.same("narrow")  # it has no BLOB
        return
    scene.on("narrow_0", "SET SESSION binlog_row_image = MINIMAL", "UPDATE {t} SET v = v + 1 WHERE id = 1")
    scene.until_held("narrow", "narrow_0", "binlog_row_image")


def test_a_change_that_was_not_logged_is_held_at_the_next(scene: Lab) -> None:
    scene.on("unlogged_0", "SET SESSION sql_log_bin = 0", "UPDATE {t} SET v = 100 WHERE id = 1")
    scene.on("unlogged_0", "UPDATE {t} SET v = v + 1 WHERE id IN (1, 2)")
    scene.until_held("unlogged", "key 1 ", "unlogged_0")
    scene.release("unlogged", "overwrite")
    scene.same("unlogged")


def test_a_table_without_a_key_is_held(scene: Lab) -> None:
    scene.on("keyless_0", "INSERT INTO {t} VALUES (2, 2)")
    scene.until_held("keyless", "keyless_0", "key")
