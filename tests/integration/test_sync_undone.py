"""Transactions that stand in the binlog and were rolled back: none of their rows gets to the target."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrate.errors import NoGo
from migrate.sandbox import Sandbox
from tests.binlog_lab import lone_server
from tests.integration.syncing import Lab, Table, lab

COLUMNS = "id BIGINT PRIMARY KEY, v INT"
ROWS = ("(1, 1), (2, 2), (3, 3)",)
DROP = "DROP TEMPORARY TABLE IF EXISTS z"  # which stands in the binlog, and what is before it in the transaction too


@pytest.fixture(scope="module")
def scene(servers: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """On a MySQL 5.6 without GTIDs, which wouldn't let such transactions be."""
    folder = tmp_path_factory.mktemp("undone") / "m1"
    tables = {n: Table(COLUMNS, (0, 0), ROWS) for n in ("book", "isam")}
    with (
        lone_server(folder, "5.6", gtid_mode="OFF", enforce_gtid_consistency="OFF") as source,
        lab([source], servers.target, tables) as found,
    ):
        for shard in ("isam_0", "isam_1"):
            found.on(shard, "ALTER TABLE {t} ENGINE = MyISAM")
        yield found.copied()


@pytest.fixture
def followed(scene: Lab) -> Iterator[Lab]:
    yield scene
    scene.stop()


def test_none_of_it_is_applied(followed: Lab) -> None:
    scene = followed
    scene.on("book_0", "INSERT INTO {t} VALUES (10, 10)")
    scene.on("book_0", "UPDATE {t} SET v = 5 WHERE id = 1", "INSERT INTO {t} VALUES (11, 1)", DROP, "ROLLBACK")
    scene.on("book_0", "DELETE FROM {t} WHERE id = 2", "SAVEPOINT a", "UPDATE {t} SET v = 6", "SAVEPOINT a",
             "DELETE FROM {t}", DROP, "ROLLBACK TO SAVEPOINT a", "INSERT INTO {t} VALUES (12, 1)")  # fmt: skip
    scene.on("book_0", "UPDATE {t} SET v = v + 1", "INSERT INTO book_1 VALUES (20, 20)")
    scene.start().same("book", "isam")
    assert len(scene.source_rows("book")) == 5
    scene.on("book_0", "UPDATE {t} SET v = 7", "SAVEPOINT b", "DELETE FROM {t} WHERE id = 1", DROP, "ROLLBACK TO b")
    scene.on("book_1", "DELETE FROM {t}", DROP, "ROLLBACK")
    scene.same("book", "isam")


def test_what_cant_roll_back_stays(followed: Lab) -> None:
    """Rows of a table without transactions are a transaction of their own in the binlog."""
    scene = followed
    scene.start()
    scene.on("book_0", "UPDATE book_0 b JOIN isam_0 i USING (id) SET b.v = 100, i.v = 200 WHERE id = 1",
             "INSERT INTO isam_1 VALUES (40, 40)", "DELETE FROM book_0", DROP, "ROLLBACK")  # fmt: skip
    scene.same("book", "isam")
    assert {(1, 200), (40, 40)} <= set(scene.target_rows("isam"))


def test_one_that_is_larger_than_a_batch_is_refused(followed: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of it may be on the target before its end is read."""
    monkeypatch.setattr("migrate.sync.passage._CHANGES", 1)
    scene = followed
    scene.on("book_1", "INSERT INTO {t} VALUES (30, 1)", "INSERT INTO {t} VALUES (31, 1)", DROP, "ROLLBACK")
    scene.start()
    with pytest.raises(NoGo, match=r"m1 .* at bin\.\d+:\d+: a transaction of more rows than a batch .* copy again"):
        scene.ended()
