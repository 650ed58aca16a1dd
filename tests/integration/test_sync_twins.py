"""Rows that come while the copy reads, two for their shards and one for the target's collation: neither is lost."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import AbstractContextManager
from zlib import crc32

import pytest

from migrate.copy import copier
from migrate.copy.copier import copy
from migrate.errors import NoGo, TryAgain
from migrate.sandbox import Sandbox
from migrate.sync.appliers import Appliers
from migrate.sync.marks import PARTS
from tests.integration.syncing import Lab, Table, lab
from tests.integration.test_sync_window import at

pytestmark = pytest.mark.timeout(600)  # a loaded machine takes its time

SWEDISH = "VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci"  # ä is a letter of its own there
UNIQUE = f"id BIGINT PRIMARY KEY, u {SWEDISH} UNIQUE, v INT"
TEXT_KEY = f"u {SWEDISH} PRIMARY KEY, id BIGINT, v INT"


@pytest.fixture(params=["5.6", pytest.param("9.7", marks=pytest.mark.soak)])
def servers_of(request: pytest.FixtureRequest, servers: Sandbox) -> tuple[list[object], object]:
    if request.param == "5.6":
        return list(servers.sources), servers.target
    sandbox = request.getfixturevalue("sandbox97")
    return [sandbox.sources[0], servers.sources[0]], sandbox.target


@pytest.fixture(params=["unique", "primary"])
def scene(request: pytest.FixtureRequest, servers_of: tuple[list[object], object]) -> Iterator[Lab]:
    columns = UNIQUE if request.param == "unique" else TEXT_KEY
    made: AbstractContextManager[Lab] = lab(*servers_of, {"far": Table(columns, (0, 0, 1))})  # type: ignore[arg-type]
    with made as found:
        found.on("far_0", row(1, "x"))
        found.on("far_1", row(2, "y"))
        found.on("far_2", row(3, "å"))
        yield found


def row(id: int, u: str) -> str:
    return f"INSERT INTO {{t}} (id, u, v) VALUES ({id}, '{u}', {id})"


@pytest.mark.parametrize("changes", [1, 30_000], ids=["small", "large"])
@pytest.mark.parametrize("shard", ["far_1", "far_2"], ids=["one instance", "two instances"])
def test_two_that_come_while_the_copy_ends(
    scene: Lab, monkeypatch: pytest.MonkeyPatch, changes: int, shard: str
) -> None:
    """The table is held with both shards' names, again if nothing was mended, and goes on when something was."""
    monkeypatch.setattr("migrate.sync.passage._CHANGES", changes)
    monkeypatch.setattr("migrate.sync.appliers.MOVE_S", 1.0)

    def come() -> None:
        scene.on("far_0", row(4, "o"))
        scene.on(shard, row(5, "ö"))

    at(monkeypatch, copier, "before_consistent_saved", come)
    scene.copied().start()
    scene.until_held("far", f"{scene.schema}.{shard} ", f"{scene.schema}.far_0 ", "the target's collation")
    scene.resolve("far", "go-on")
    scene.until_held("far", "the target's collation")
    scene.on(shard, "UPDATE {t} SET u = 'q' WHERE id = 5")
    scene.release("far", "go-on")
    scene.same("far")
    assert len(scene.target_rows("far")) == 5


def test_one_that_is_loaded_before_an_older_one(scene: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older one isn't in any binlog: the copy mustn't leave it out."""
    at(monkeypatch, copier, "after_position_captured", lambda: scene.on("far_0", row(4, "a")))
    with pytest.raises(NoGo, match=r"key \S+ of m2\.\S+far_2 .*the target's collation.*change or remove the row on m2"):
        scene.copied()
    scene.on("far_2", "UPDATE {t} SET u = 'q' WHERE id = 3")
    copy(scene.config, 1)
    scene.start().same("far")
    assert len(scene.target_rows("far")) == 4


def test_held_between_the_commits_of_two_parts(scene: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part that had no rows of the table isn't ahead of the other: what mends it may come later in the binlog."""
    monkeypatch.setattr("migrate.sync.appliers.MOVE_S", 1.0)
    scene.copied().start().same("far")
    scene.stop()
    scene.on("far_0", row(4, "o"))
    scene.on("far_2", row(5, "ö"))
    home = crc32(f"{scene.schema}.far".encode()) % PARTS
    commit, late = Appliers._commit, []

    def commits(self: Appliers, part: int, goal: int, leaving: Set[str] | None) -> None:
        if part == home and not late:  # the row of far_0 comes first
            late.append(part)
            self._roll_back(part)
            scene.at_target("INSERT INTO far (id, u, v) VALUES (4, 'o', 4)")
            raise TryAgain(9007, "write conflict", "target")
        commit(self, part, goal, leaving)

    monkeypatch.setattr(Appliers, "_commit", commits)
    scene.start(only=["m2"]).until_held("far", "the target's collation", instance="m2")
    assert scene.at_target(f"SELECT DISTINCT seq FROM migrate_meta.applied WHERE target = '{scene.schema}.far'") == [
        (0,)
    ]
    scene.on("far_2", "UPDATE {t} SET u = 'q' WHERE id = 5")
    scene.at_target("DELETE FROM far WHERE id = 4")
    scene.start()
    scene.release("far", "go-on")
    scene.same("far")


def test_values_that_are_handed_on_are_not_twins(scene: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value goes to another row as it is, or in other letters, while the copy reads: that is no reason to stop."""
    monkeypatch.setattr("migrate.sync.passage._CHANGES", 1)

    def hand_on() -> None:
        scene.on("far_0", row(4, "o"))
        scene.on("far_0", "DELETE FROM {t} WHERE id = 4")
        scene.on("far_1", row(5, "O"))
        scene.on("far_1", "UPDATE {t} SET u = 'p' WHERE id = 5")
        scene.on("far_0", row(6, "ö"))
        scene.on("far_0", "DELETE FROM {t} WHERE id = 6")
        scene.on("far_1", row(7, "o"))

    at(monkeypatch, copier, "after_position_captured", hand_on)
    scene.copied().start().same("far")
    assert len(scene.target_rows("far")) == 5
