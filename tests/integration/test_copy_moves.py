"""Rows and unique values that move while the copy reads them: it takes each once; sync brings what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from migrate.copy import chunks, copier
from migrate.copy.rowformat import RowRefused
from migrate.sandbox import Sandbox
from tests.integration.syncing import Lab, Table, lab
from tests.integration.test_sync_window import at

UNIQUE = "id BIGINT PRIMARY KEY, u VARCHAR(20) NULL UNIQUE, v INT"
ROWS = [",".join(f"({n}, 'u{n}', {n})" for n in some) for some in (range(1, 20, 2), range(2, 21, 2))]


@pytest.fixture(params=["5.6", "9.7"])
def scene(request: pytest.FixtureRequest, servers: Sandbox) -> Iterator[Lab]:
    sources, target = servers.sources, servers.target
    if request.param == "9.7":
        sandbox = request.getfixturevalue("sandbox97")
        sources, target = [sandbox.sources[0], servers.sources[0]], sandbox.target
    with lab(sources, target, {"far": Table(UNIQUE, (0, 1), ROWS), "one": Table(UNIQUE, (0,), ROWS[:1])}) as found:
        yield found


def swap(scene: Lab, one: int, other: int) -> None:
    """Two rows of different shards change places; then a unique value goes to another row, of each shard."""
    for id, source, to in (one, "far_0", "far_1"), (other, "far_1", "far_0"):
        scene.on(source, f"DELETE FROM {{t}} WHERE id = {id}")
        scene.on(to, f"INSERT INTO {{t}} VALUES ({id}, 'u{id}', -{id})")
    scene.on("far_0", f"UPDATE {{t}} SET u = NULL WHERE id = {one + 2}")
    scene.on("far_1", f"UPDATE {{t}} SET u = 'u{one + 2}' WHERE id = {other + 2}")
    scene.on("far_0", f"UPDATE {{t}} SET u = 'u{other + 2}' WHERE id = {one + 2}")


def test_rows_that_move_between_shards(scene: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, chunks, "after_chunk_commit", lambda: swap(scene, 1, 2))
    scene.copied()
    there = len(scene.target_rows("far"))
    assert there < 20  # rows of the second shard were there already
    ((told,),) = scene.at_target(
        f"SELECT SUM(loaded_rows) FROM migrate_meta.chunk WHERE migration = '{scene.config.name}' AND "
        "table_name LIKE 'far%'"
    )
    assert told == there
    scene.start().same("far", "one")


def test_a_unique_value_that_moves_inside_a_shard(scene: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def move() -> None:
        scene.on("one_0", "UPDATE {t} SET u = NULL WHERE id IN (1, 3)")
        scene.on("one_0", "UPDATE {t} SET u = 'u1' WHERE id = 19", "UPDATE {t} SET u = 'u3' WHERE id = 17")

    small = scene.config.run.model_copy(update={"chunk_rows": 4})
    scene.config = scene.config.__class__(**{**vars(scene.config), "run": small})
    at(monkeypatch, chunks, "after_chunk_commit", move)
    scene.copied()
    scene.start().same("far", "one")


@pytest.mark.parametrize("first", ["m1", "m2"])
def test_what_a_row_was_before_it_left_doesnt_come_back(
    scene: Lab, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Whichever instance is ahead: what a shard did to a row before it left is replayed after its arrival elsewhere."""
    monkeypatch.setattr("migrate.sync.passage._CHANGES", 1)

    def leave() -> None:
        for here, there, row in ("far_0", "far_1", 1), ("far_1", "far_0", 2), ("far_0", "far_1", 3):
            scene.on(here, f"UPDATE {{t}} SET v = 1000 WHERE id = {row}")
            scene.on(here, f"DELETE FROM {{t}} WHERE id = {row}")
            scene.on(there, f"INSERT INTO {{t}} VALUES ({row}, 'u{row}', -{row})")
        scene.on("far_1", "UPDATE {t} SET v = -30 WHERE id = 3")
        scene.on("far_1", "DELETE FROM {t} WHERE id = 3")  # and on, and back
        scene.on("far_0", "INSERT INTO {t} VALUES (3, 'u3', 33)")

    finish = copier._finish

    def last(*arguments: Any) -> None:  # all is read
        leave()
        finish(*arguments)

    monkeypatch.setattr(copier, "_finish", last)
    scene.copied()
    for n in (1, 2, 3):  # later than what the copy knows of, while one follower is still in its time
        scene.on("far_1" if n == 1 else "far_0", f"UPDATE {{t}} SET v = v * 2 WHERE id = {n}")
    scene.start(only=[first])
    scene.settle(only=[first])
    for n in (1, 2, 3):
        scene.on("far_1" if n == 1 else "far_0", f"UPDATE {{t}} SET v = v * 2 WHERE id = {n}")
    scene.start().same("far", "one")
    # From here on the target must be what the binlog says.
    scene.on("far_0", "UPDATE {t} SET v = v + 1")
    scene.on("far_1", "UPDATE {t} SET v = v + 1")
    scene.same("far", "one")
    scene.at_target("UPDATE far SET v = 7777 WHERE id = 2")
    scene.on("far_0", "UPDATE {t} SET v = v + 1 WHERE id = 2")
    scene.until_held("far", "drift", "key 2")


def test_a_row_of_somebody_else_is_not_taken_for_one(scene: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def plant() -> None:
        swap(scene, 1, 2)
        scene.at_target("INSERT INTO far VALUES (99, 'rogue', 0)")

    with monkeypatch.context() as once:
        at(once, chunks, "after_chunk_commit", plant)
        with pytest.raises(RowRefused, match="Duplicate entry"):
            scene.copied()
    scene.at_target("DELETE FROM far WHERE id = 99")
    scene.copied()
    scene.start().same("far", "one")
