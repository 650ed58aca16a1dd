"""What changes on the shards arrives on the target, and nothing else; what can't be right is held."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrate.sandbox import Sandbox
from tests.integration.shards import run
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
    "busy": Table("id BIGINT PRIMARY KEY, u BIGINT UNIQUE, v INT", (0, 1)),
}  # fmt: skip


@pytest.fixture(scope="module", params=["5.6", "9.7"])
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


@pytest.mark.parametrize("table", ["swap", "numbers"])
def test_unique_values_change_hands(scene: Lab, table: str) -> None:
    shard, column = f"{table}_0", "u"
    scene.on(shard, f"UPDATE {{t}} SET {column} = 'tmp' WHERE id = 1", f"UPDATE {{t}} SET {column} = 'A1' WHERE id = 2",
             f"UPDATE {{t}} SET {column} = 'B1' WHERE id = 1")  # fmt: skip
    one, two = "A1", "B1"
    for _ in range(4):  # in one transaction, by way of another value
        scene.on(shard, f"UPDATE {{t}} SET {column} = 'tmp' WHERE id = 1",
                 f"UPDATE {{t}} SET {column} = '{two}' WHERE id = 2", f"UPDATE {{t}} SET {column} = '{one}' WHERE id = 1")  # fmt: skip
        one, two = two, one
    scene.same(table)
    # By deleting and inserting again, and with the values handed around three rows.
    scene.on(shard, "DELETE FROM {t} WHERE id IN (1, 2)", f"INSERT INTO {{t}} VALUES (1, '{two}', 1)",
             f"INSERT INTO {{t}} VALUES (2, '{one}', 2)")  # fmt: skip
    scene.on(shard, "UPDATE {t} SET u = NULL WHERE id = 1", "UPDATE {t} SET u = 'one' WHERE id = 2",
             f"UPDATE {{t}} SET u = '{one}' WHERE id = 3", f"UPDATE {{t}} SET u = '{two}' WHERE id = 1")  # fmt: skip
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
