"""Rows that were put on the target ahead of their own instance's binlog, and how long that is remembered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrate.db import Session
from migrate.sandbox import Sandbox
from migrate.sync.lent import forget_passed
from tests.integration.shards import run
from tests.integration.syncing import Lab, Table, lab


@pytest.fixture
def scene(servers: Sandbox) -> Iterator[Lab]:
    rows = ["(1, 1), (3, 3), (5, 5)", "(2, 2), (4, 4)"]
    tables = {
        "far": Table("id BIGINT PRIMARY KEY, v INT", (0, 1), rows),
        "tag": Table("id BIGINT PRIMARY KEY, v INT UNIQUE", (0, 1), rows),
    }
    with lab(servers.sources, servers.target, tables) as found:
        yield found.copied()


def lent(scene: Lab) -> int:
    sql = f"SELECT COUNT(*) FROM migrate_meta.lent WHERE migration = '{scene.config.name}'"
    return int(run(scene.target, sql)[0][0])


def forgotten(scene: Lab) -> int:
    with Session(scene.config.target) as session:
        return forget_passed(session, scene.config.name, "m2")


def test_what_was_lent_is_forgotten_when_its_instance_is_there(scene: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before, and not while the table is held at a place before."""
    monkeypatch.setattr("migrate.sync.monitor._TIDY_S", 0.1)
    scene.at_target("UPDATE far SET v = 99 WHERE id = 4")
    scene.on("far_1", "UPDATE {t} SET v = 5 WHERE id = 4")
    for id in 1, 3:
        scene.on("far_0", f"DELETE FROM {{t}} WHERE id = {id}")
        scene.on("far_1", f"INSERT INTO {{t}} VALUES ({id}, -{id})")
    scene.start(only=["m1"]).settle(only=["m1"])
    assert lent(scene) == 2
    assert forgotten(scene) == 0
    scene.start().until_held("far", "drift", "key 4 ", instance="m2")
    scene.settle()  # m2 itself has gone on
    assert forgotten(scene) == 0
    assert lent(scene) == 2
    scene.at_target("UPDATE far SET v = 4 WHERE id = 4")
    scene.release("far", "go-on")
    scene.same("far")
    scene.until(lambda: lent(scene) == 0, "what was lent to be forgotten")


def test_a_row_that_moved_and_has_another_rows_unique_value_by_now(scene: Lab) -> None:
    """Who lets it go can't put it back as it is: its new instance has it to come, with what it is now."""
    scene.on("tag_0", "DELETE FROM {t} WHERE id IN (1, 3)")
    scene.on("tag_1", "UPDATE {t} SET v = 9 WHERE id = 4", "INSERT INTO {t} VALUES (1, 4), (3, 3)")
    scene.start(only=["m1"]).settle(only=["m1"])
    assert scene.target_rows("tag") == [(2, 2), (3, 3), (4, 4), (5, 5)]
    scene.start().same("tag", "far")
    scene.on("tag_1", "UPDATE {t} SET v = -v")
    scene.same("tag")
