"""Rows that change while the copy reads them, and rows that wander between shards: none is lost or made."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from migrate.copy import chunks, copier
from migrate.sandbox import Sandbox, Server
from tests.integration.syncing import Lab, Table, lab

PLAIN = "id BIGINT PRIMARY KEY, v INT, memo VARCHAR(20)"
UNIQUE = "id BIGINT PRIMARY KEY, u VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NULL UNIQUE, v INT"
FOLDED = "id BIGINT PRIMARY KEY, u VARCHAR(20) NULL UNIQUE, v INT"
TWELVE = ", ".join(f"({n}, {n}, 'm{n}')" for n in range(1, 13))


@pytest.fixture(params=["5.6", pytest.param("9.7", marks=pytest.mark.soak)])
def servers_of(request: pytest.FixtureRequest, servers: Sandbox) -> tuple[list[Server], Server]:
    """Two sources, the first of that version, and a target."""
    if request.param == "5.6":
        return servers.sources, servers.target
    sandbox = request.getfixturevalue("sandbox97")
    return [sandbox.sources[0], servers.sources[0]], sandbox.target


@pytest.fixture(params=["small", "large"])
def batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Batches of one transaction, or of all that there is."""
    if request.param == "small":
        monkeypatch.setattr("migrate.sync.passage._CHANGES", 1)
    return str(request.param)


def at(monkeypatch: pytest.MonkeyPatch, module: Any, point: str, work: Callable[[], None]) -> None:
    """Does the work when the copy first passes a fault point."""
    before, done = module.fault_point, []

    def passes(name: str) -> None:
        if name == point and not done:
            done.append(name)
            work()
        before(name)

    monkeypatch.setattr(module, "fault_point", passes)


def change(scene: Lab, n: int) -> None:
    """Changes of each kind to rows 1 to 12, in a way of its own for each n."""
    one, other = f"plain_{n % 2}", f"plain_{(n + 1) % 2}"
    scene.on("plain_0", f"UPDATE {{t}} SET v = v + {n} WHERE id IN (1, 6, 12)", f"DELETE FROM {{t}} WHERE id = {3 + n}",
             f"INSERT INTO {{t}} VALUES ({100 + n}, 0, 'new'), ({200 + n}, 0, 'gone')")  # fmt: skip
    scene.on("plain_0", f"DELETE FROM {{t}} WHERE id = {200 + n}")
    scene.on("plain_0", f"UPDATE {{t}} SET id = {1000 + n} WHERE id = {7 + n}")  # from what is read to what isn't
    scene.on("plain_0", f"UPDATE {{t}} SET id = -{n} WHERE id = {100 + n}")  # and the other way round
    scene.on("plain_0", f"INSERT INTO {{t}} VALUES ({300 + n}, 0, 'x')", f"DELETE FROM {{t}} WHERE id = {300 + n}")
    scene.on(one, f"INSERT INTO {one} VALUES ({400 + n}, 0, 'here')")
    scene.on(one, f"INSERT INTO {other} VALUES ({400 + n}, 1, 'here')")
    scene.on(one, f"DELETE FROM {one} WHERE id = {400 + n}")


def swap(scene: Lab) -> None:
    scene.on("pairs_0", "UPDATE {t} SET u = NULL WHERE id = 1", "UPDATE {t} SET u = 'a' WHERE id = 2",
             "UPDATE {t} SET u = 'b' WHERE id = 1")  # fmt: skip
    scene.on("pairs_0", "DELETE FROM {t} WHERE id = 3", "INSERT INTO {t} VALUES (4, 'c', 4)")
    scene.on("pairs_0", "DELETE FROM {t} WHERE id = 4", "INSERT INTO {t} VALUES (3, 'c', 3)")


def test_rows_that_change_while_they_are_copied(
    servers_of: tuple[list[Server], Server], batches: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = {"plain": Table(PLAIN, (0, 0, 1), (TWELVE,)),
              "pairs": Table(UNIQUE, (0,), ("(1, 'a', 1), (2, 'b', 2), (3, 'c', 3)",))}  # fmt: skip
    with lab(*servers_of, tables, chunk_rows=4) as scene:

        def swaps_too(n: int) -> None:
            change(scene, n)
            swap(scene)

        at(monkeypatch, copier, "after_position_captured", lambda: swaps_too(1))
        at(monkeypatch, chunks, "after_chunk_commit", lambda: change(scene, 2))
        at(monkeypatch, copier, "before_consistent_saved", lambda: swaps_too(3))
        scene.copied()
        assert scene.target_rows("plain") != scene.source_rows("plain")  # or nothing happened while it was copied
        change(scene, 4)
        swap(scene)
        scene.start()
        scene.same("plain", "pairs")
        # From here on the target must be what the binlog says.
        scene.at_target("UPDATE plain SET v = 1000 WHERE id = 1")
        scene.on("plain_0", "UPDATE {t} SET v = v + 1 WHERE id = 1")
        scene.until_held("plain", "drift", "key 1 ", "plain_0", "column v")


class Wanderers:
    """Random changes of rows that never are on two shards for long."""

    def __init__(self, scene: Lab, table: str, seed: int):
        self.scene, self.table, self.rng = scene, table, random.Random(seed)
        self.shards = [s for s in scene.instances if s.rpartition("_")[0] == table]
        self.rows: dict[int, tuple[str, str | None]] = {}  # id: shard, unique value

    def work(self, count: int) -> None:
        for _ in range(count):
            choice = self.rng.choice(["insert", "insert", "update", "delete", "key", "give", "swap", "move", "move"])
            if choice == "insert" or len(self.rows) < 4:
                self._insert()
            else:
                getattr(self, f"_{choice}")(self.rng.choice(sorted(self.rows)))

    def _free(self) -> int:
        return self.rng.choice([n for n in range(40) if n not in self.rows])

    def _unique(self) -> str | None:
        held = {u for _, u in self.rows.values()}
        return self.rng.choice([*(u for u in (f"u{n}" for n in range(40)) if u not in held), None])

    def _insert(self) -> None:
        id, shard, unique = self._free(), self.rng.choice(self.shards), self._unique()
        self.scene.on(shard, f"INSERT INTO {{t}} VALUES ({id}, {_text(unique)}, 0)")
        self.rows[id] = shard, unique

    def _update(self, id: int) -> None:
        shard, _ = self.rows[id]
        unique = self._unique()
        self.scene.on(shard, f"UPDATE {{t}} SET v = v + 1 WHERE id = {id}",
                      f"UPDATE {{t}} SET u = {_text(unique)} WHERE id = {id}")  # fmt: skip
        self.rows[id] = shard, unique

    def _delete(self, id: int) -> None:
        shard, _ = self.rows.pop(id)
        self.scene.on(shard, f"DELETE FROM {{t}} WHERE id = {id}")

    def _key(self, id: int) -> None:
        new = self._free()
        self.rows[new] = shard, _ = self.rows.pop(id)
        self.scene.on(shard, f"UPDATE {{t}} SET id = {new} WHERE id = {id}")

    def _give(self, id: int) -> None:
        """A row's unique value goes to another row, of any shard."""
        other = self.rng.choice([n for n in self.rows if n != id])
        (shard, unique), (there, _) = self.rows[id], self.rows[other]
        self.scene.on(shard, f"UPDATE {{t}} SET u = NULL WHERE id = {id}")
        self.scene.on(there, f"UPDATE {{t}} SET u = {_text(unique)}, v = v + 10 WHERE id = {other}")
        self.rows[id], self.rows[other] = (shard, None), (there, unique)

    def _swap(self, id: int) -> None:
        shard, unique = self.rows[id]
        others = [n for n, (s, _) in self.rows.items() if s == shard and n != id]
        if others:
            other = self.rng.choice(others)
            theirs = self.rows[other][1]
            self.scene.on(shard, f"UPDATE {{t}} SET u = NULL WHERE id = {id}",
                          f"UPDATE {{t}} SET u = {_text(unique)} WHERE id = {other}",
                          f"UPDATE {{t}} SET u = {_text(theirs)} WHERE id = {id}")  # fmt: skip
            self.rows[id], self.rows[other] = (shard, theirs), (shard, unique)

    def _move(self, id: int) -> None:
        """A row moves to another shard, now and then with another value on the way."""
        shard, unique = self.rows[id]
        there = self.rng.choice([s for s in self.shards if s != shard])
        gone = f"DELETE FROM {shard} WHERE id = {id}"
        come = f"INSERT INTO {there} VALUES ({id}, {_text(unique)}, {self.rng.choice([0, id])})"
        steps = [(shard, gone), (there, come)]
        if self.rng.random() < 0.5:
            steps.reverse()
        if self.scene.instances[shard] == self.scene.instances[there] and self.rng.random() < 0.4:
            self.scene.on(shard, *(sql for _, sql in steps))
        else:
            for where, sql in steps:
                self.scene.on(where, sql)
        self.rows[id] = there, unique


def _text(value: str | None) -> str:
    return "NULL" if value is None else f"'{value}'"


@pytest.fixture(params=["small", "large"])
def wandering(
    request: pytest.FixtureRequest, servers_of: tuple[list[Server], Server], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Lab, Wanderers]]:
    """Rows that wander: in small batches, unique values told apart by their bytes; in large ones, by their letters."""
    if request.param == "small":
        monkeypatch.setattr("migrate.sync.passage._CHANGES", 1)
    columns = UNIQUE if request.param == "small" else FOLDED
    with lab(*servers_of, {"far": Table(columns, (0, 0, 0))}) as scene:
        yield scene, Wanderers(scene, "far", seed=7)


def test_rows_that_wander_between_shards(wandering: tuple[Lab, Wanderers]) -> None:
    scene, wanderers = wandering
    wanderers.work(20)
    scene.copied()
    wanderers.work(20)
    scene.start()
    wanderers.work(80)
    scene.same("far")


def test_rows_that_wander_while_they_are_copied(
    wandering: tuple[Lab, Wanderers], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, wanderers = wandering
    wanderers.work(20)
    at(monkeypatch, copier, "after_position_captured", lambda: wanderers.work(30))
    at(monkeypatch, copier, "before_consistent_saved", lambda: wanderers.work(30))
    scene.copied().start()
    scene.same("far")
