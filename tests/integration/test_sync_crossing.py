"""Rows and unique values that cross between two instances in both directions, while both of them are behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from migrate.errors import ConnectionLost
from migrate.sandbox import Sandbox
from migrate.sync.appliers import Appliers
from migrate.sync.marks import PARTS
from tests.faults.client import Client
from tests.integration.syncing import Lab, Table, config_file, lab

pytestmark = pytest.mark.timeout(600)  # a loaded machine takes its time

UNIQUE = "id BIGINT PRIMARY KEY, u VARCHAR(20) NULL UNIQUE, v INT"
ROWS = [",".join(f"({n}, 'u{n}', {n})" for n in some) for some in (range(1, 20, 2), range(2, 21, 2))]
KILLED = -9


@pytest.fixture(params=["5.6", pytest.param("9.7", marks=pytest.mark.soak)])
def scene(request: pytest.FixtureRequest, servers: Sandbox) -> Iterator[Lab]:
    """Two tables over two instances, copied and followed for a while; nobody follows now."""
    sources, target = servers.sources, servers.target
    if request.param == "9.7":
        sandbox = request.getfixturevalue("sandbox97")
        sources, target = [sandbox.sources[0], servers.sources[0]], sandbox.target
    tables = {"far": Table(UNIQUE, (0, 1), ROWS), "near": Table(UNIQUE, (0, 1), ROWS)}
    with lab(sources, target, tables) as found:
        found.copied().start()
        found.on("far_0", "UPDATE {t} SET v = v + 100")
        found.on("far_1", "UPDATE {t} SET v = v + 100")
        found.same("far")
        found.stop()
        yield found


def move(scene: Lab, id: int, source: str, to: str, *, early: bool = False) -> None:
    """A row moves, with another value; `early`: it arrives before it leaves."""
    steps = [(source, f"DELETE FROM {{t}} WHERE id = {id}"), (to, f"INSERT INTO {{t}} VALUES ({id}, 'u{id}', -{id})")]
    for shard, sql in reversed(steps) if early else steps:
        scene.on(shard, sql)


def cross(scene: Lab, table: str, *, early: bool = False) -> None:
    """Each instance has rows in its binlog that come before their leaving from the other is applied."""
    here, there = f"{table}_0", f"{table}_1"
    for n in (1, 3, 5):
        move(scene, n, here, there, early=early)
        move(scene, n + 1, there, here, early=early)
        scene.on(there, f"UPDATE {{t}} SET v = v * 2 WHERE id = {n}")
    # unique values cross, too: of rows that stay, and of one that goes
    for one, other in ((7, 8), (9, 10)):
        scene.on(here, f"UPDATE {{t}} SET u = NULL WHERE id = {one}")
        scene.on(there, f"UPDATE {{t}} SET u = 'u{one}', v = 0 WHERE id = {other}")
        scene.on(here, f"UPDATE {{t}} SET u = 'u{other}', v = 0 WHERE id = {one}")
    scene.on(here, "DELETE FROM {t} WHERE id = 11")
    scene.on(there, "UPDATE {t} SET u = 'u11' WHERE id = 12")
    scene.on(here, "INSERT INTO {t} VALUES (21, 'u12', 21)")
    scene.on(here, "UPDATE {t} SET v = v + 1 WHERE id = 13")


@pytest.mark.parametrize("early", [False, True], ids=["leaving first", "arriving first"])
def test_rows_that_cross(scene: Lab, early: bool) -> None:
    cross(scene, "far", early=early)
    scene.start().same("far", "near")
    assert not any(scene.at_target("SELECT COUNT(departed) FROM migrate_meta.applied")[0])


def test_a_table_that_drifted_is_held_and_the_crossing_one_goes_on(scene: Lab) -> None:
    """In one batch: what left of the one is in, and what is in doubt of the other isn't."""
    scene.at_target("UPDATE near SET v = -1 WHERE id = 4")
    cross(scene, "near")
    cross(scene, "far")
    scene.start()
    scene.until_held("near", "drift", "key 4 ", instance="m2")
    scene.settle(90)
    scene.same("far")
    scene.at_target("UPDATE near SET v = 4 WHERE id = 4")
    scene.resolve("near", "go-on")
    scene.until(lambda: not scene.held("near"), "near to be released", 90)
    scene.same("far", "near")


def test_a_row_of_nobody_in_the_way_is_found_all_the_same(scene: Lab) -> None:
    scene.at_target("INSERT INTO far VALUES (77, 'u77', 1)")
    cross(scene, "far")
    scene.on("far_0", "INSERT INTO {t} VALUES (77, 'u78', 2)")
    scene.start().until_held("far", "drift", "key 77", "on no other shard", instance="m1")
    scene.at_target("DELETE FROM far WHERE id = 77")
    scene.resolve("far", "go-on")
    scene.until(lambda: not scene.held("far"), "far to be released", 90)
    scene.same("far", "near")


@pytest.mark.parametrize("then", ["", "v = 7"], ids=["left", "changed, and left"])
def test_a_row_that_comes_back_to_another_instance_while_its_coming_here_has_to_wait(
    scene: Lab, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other follower is so far ahead then that what was here for a moment is history."""
    monkeypatch.setattr("migrate.sync.passage._NEAR_S", 0)  # so that the other takes all there is in one batch
    scene.on("far_1", "DELETE FROM {t} WHERE id = 2")
    scene.on("far_0", "INSERT INTO {t} VALUES (2, 'u2', 2)", "INSERT INTO {t} VALUES (50, 'u50', 50)")
    scene.start(only=["m1"])
    waits = "SELECT COUNT(departed) FROM migrate_meta.applied WHERE instance = 'm1' AND migration = "
    scene.until(lambda: scene.at_target(f"{waits}'{scene.config.name}'") == [(PARTS,)], "m1 to wait for m2")
    for sql in ([f"UPDATE {{t}} SET {then} WHERE id = 50"] if then else []) + ["DELETE FROM {t} WHERE id = 50"]:
        scene.on("far_0", sql)
    scene.on("far_1", "INSERT INTO {t} VALUES (50, 'u50', 50)")
    scene.start(only=["m2"]).same("far")
    scene.on("far_1", "UPDATE {t} SET v = v + 1 WHERE id = 50")
    scene.same("far")
    scene.on("far_1", "DELETE FROM {t} WHERE id = 50")
    scene.on("far_0", "INSERT INTO {t} VALUES (50, 'u50', -50)")
    scene.same("far")


@pytest.mark.parametrize("value", ["NULL", "'other'"])
def test_a_row_that_leaves_while_the_unique_value_that_it_gave_up_has_to_wait(
    scene: Lab, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place on the target was free for a moment, in which the other follower came that far."""
    monkeypatch.setattr("migrate.sync.passage._NEAR_S", 0)  # so that the other takes all there is in one batch
    scene.on("far_1", "DELETE FROM {t} WHERE id = 2")
    scene.on("far_0", "INSERT INTO {t} VALUES (2, 'u2', 2)", f"UPDATE {{t}} SET u = {value} WHERE id = 1")
    scene.start(only=["m1"])
    waits = "SELECT COUNT(departed) FROM migrate_meta.applied WHERE instance = 'm1' AND migration = "
    scene.until(lambda: scene.at_target(f"{waits}'{scene.config.name}'") == [(PARTS,)], "m1 to wait for m2")
    scene.on("far_0", "DELETE FROM {t} WHERE id = 1")
    scene.on("far_1", "INSERT INTO {t} VALUES (1, 'u1', -1)")
    scene.start(only=["m2"]).same("far")
    scene.on("far_1", "UPDATE {t} SET v = v + 1 WHERE id = 1")
    scene.same("far")


def test_two_followers_that_wait_for_each_other_after_what_leaves_left(
    scene: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each is in the way of the other with is gone, though neither gets to where the other's binlog stood when it
    was asked: that is seen."""
    go = {"m1": threading.Event(), "m2": threading.Event()}
    there = {"m1": threading.Event(), "m2": threading.Event()}
    waits = threading.Event()  # m2 waits for where m1 stood
    together, awaited = Appliers._together, Appliers._awaited

    def waiting(self: Appliers, *args: Any) -> Any:
        if self._instance == "m2":
            waits.set()
        return awaited(self, *args)

    def lets_go(self: Appliers, parts: list[int], *args: Any, **options: Any) -> None:
        if parts and options.get("leaving"):
            there[self._instance].set()
            assert go[self._instance].wait(60)
        together(self, parts, *args, **options)

    monkeypatch.setattr(Appliers, "_together", lets_go)
    monkeypatch.setattr(Appliers, "_awaited", waiting)
    monkeypatch.setattr("migrate.sync.passage._NEAR_S", 0)
    move(scene, 1, "far_0", "far_1")
    scene.start(only=["m2"])
    assert there["m2"].wait(60)  # at row 1, which is to leave m1
    move(scene, 2, "far_1", "far_0")
    scene.start(only=["m1"])
    assert there["m1"].wait(60)  # at row 2, which leaves m2 behind this batch
    scene.on("near_0", "UPDATE {t} SET v = v + 1 WHERE id = 1")
    go["m2"].set()
    assert waits.wait(60)
    began = time.monotonic()
    go["m1"].set()
    scene.same("far", "near")
    assert time.monotonic() - began < 15


@pytest.mark.soak
def test_killed_while_rows_cross(scene: Lab, tmp_path: Path) -> None:
    """After each commit of what leaves, and around each of the rest: nothing is lost, and nothing is done twice."""
    config = str(config_file(scene, tmp_path))

    def sync(fault: str) -> Client:
        return Client("-c", config, "sync", "--until-caught-up", environment={"MIGRATE_FAULT": fault}).ended()

    for round_, point in enumerate(("after_departure", "after_departure", "after_part_commit")):
        cross(scene, "far", early=round_ == 2)
        assert sync(f"{point}:killall").code == KILLED
        for passage in (2, 1):  # if there is so much left to be done
            client = sync(f"{point}:killall:{passage}")
            assert client.code in (KILLED, 0), client.err
        sync("none:kill").ok()
        scene.same("far", "near")
        for n in (1, 3, 5):  # and back again
            move(scene, n, "far_1", "far_0")
            move(scene, n + 1, "far_0", "far_1")
        scene.on("far_0", "DELETE FROM {t} WHERE id = 21", "UPDATE {t} SET u = NULL WHERE id IN (7, 9)",
                 "INSERT INTO {t} VALUES (11, NULL, 1)")  # fmt: skip
        scene.on("far_1", "UPDATE {t} SET u = CONCAT('u', id) WHERE id IN (8, 10, 12) ORDER BY id DESC")
        scene.on("far_0", "UPDATE {t} SET u = CONCAT('u', id) WHERE id IN (7, 9, 11)")
        sync("none:kill").ok()


def test_rows_that_cross_further_apart_than_a_batch(scene: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is held with what to do; that is done while others write, and nothing is lost."""
    monkeypatch.setattr("migrate.sync.passage._CHANGES", 5)
    monkeypatch.setattr("migrate.sync.passage._BYTES", 150)
    monkeypatch.setattr("migrate.sync.passage.MOVE_S", 1.0)
    monkeypatch.setattr("migrate.sync.appliers.MOVE_S", 1.0)
    monkeypatch.setattr("migrate.sync.appliers._STILL_S", 3.0)
    scene.on("far_0", "INSERT INTO {t} VALUES (2, NULL, -2)")
    scene.on("far_1", "INSERT INTO {t} VALUES (1, NULL, -1)")
    for n in range(25):
        for shard, id in ("far_0", 3), ("far_1", 4):
            scene.on(shard, f"UPDATE {{t}} SET v = {n} WHERE id = {id}")
    scene.on("far_0", "DELETE FROM {t} WHERE id = 1")
    scene.on("far_1", "DELETE FROM {t} WHERE id = 2")
    scene.start()
    for instance in "m1", "m2":
        scene.until_held("far", "further apart than a batch reaches", "migrate sync overwrite", instance=instance)
    busy = threading.Event()
    lost = {"before_position_save", "after_part_commit"}  # connections, once each at these points

    def passes(point: str) -> None:
        if point in lost:
            lost.discard(point)
            raise ConnectionLost(2013, f"lost at {point}", "target")

    monkeypatch.setattr("migrate.sync.appliers.fault_point", passes)

    def write() -> None:
        while not busy.wait(0.05):
            scene.on("near_0", "UPDATE {t} SET v = v + 1 WHERE id = 1")
            scene.on("near_1", "UPDATE {t} SET v = v + 1 WHERE id = 2")

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            scene.resolve("far", "overwrite")
            scene.until(lambda: not scene.held("far"), "far to be released", 90)
        finally:
            busy.set()
        writing.result()
    scene.same("far", "near")
    assert not lost
