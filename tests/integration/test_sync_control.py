"""`migrate sync` as its operator has it: begun, watched, steered from another terminal, ended where it is told to."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from migrate.sandbox import Sandbox
from tests.faults.client import Client
from tests.integration.syncing import Lab, Table, config_file, lab

KEYED = "id BIGINT PRIMARY KEY, v INT, memo VARCHAR(20)"
ROWS = ("(1, 1, 'a'), (2, 2, 'b')", "(11, 1, 'k'), (12, 2, 'l')")


class Desk:
    """A lab, and the command line on its configuration."""

    def __init__(self, scene: Lab, folder: Path):
        self.scene, self.config = scene, config_file(scene, folder)

    def client(self, *arguments: str, **environment: str) -> Client:
        return Client("-c", str(self.config), *arguments, environment=environment)

    def sync(self, *arguments: str, **environment: str) -> Client:
        return self.client("sync", *arguments, **environment)

    def caught_up(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.sync("--until-caught-up", "--json").ok().out)
        return document

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.sync("status", "--json").ok().out)
        return document

    def state(self, instance: str = "m1") -> str:
        """What the follower says that it does, or that it doesn't run."""
        rows = self.scene.at_target(
            "SELECT JSON_UNQUOTE(state->'$.state'), heartbeat > NOW(6) - INTERVAL 3 SECOND FROM "
            f"migrate_meta.sync_status WHERE migration = '{self.scene.config.name}' AND instance = '{instance}'"
        )
        return str(rows[0][0]) if rows and rows[0][1] else "not running"

    def until_state(self, client: Client, *states: str) -> None:
        client.until(lambda: all(self.state(i) in states for i in ("m1", "m2")))


@pytest.fixture(scope="module", params=["5.6", pytest.param("9.7", marks=pytest.mark.soak)])
def desk(request: pytest.FixtureRequest, servers: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    sources, target = servers.sources, servers.target
    if request.param == "9.7":
        sandbox = request.getfixturevalue("sandbox97")
        sources, target = [sandbox.sources[0], servers.sources[0]], sandbox.target
    tables = {"book": Table(KEYED, (0, 1), ROWS), "other": Table(KEYED, (0,), ROWS),
              "large": Table("id BIGINT PRIMARY KEY, v INT, body LONGTEXT", (0,))}  # fmt: skip
    with lab(sources, target, tables) as scene:
        found = Desk(scene, tmp_path_factory.mktemp("desk"))
        found.sync("--until-caught-up").fails(1, "the copy isn't complete", "migrate copy")
        scene.copied()
        yield found


def test_until_caught_up_ends_soon_and_says_what_it_did(desk: Desk) -> None:
    idle = desk.caught_up()
    assert idle["ok"] and idle["ended"] == "caught up" and idle["seconds"] < 10
    desk.scene.on("book_0", "UPDATE {t} SET v = v + 1", "INSERT INTO {t} VALUES (3, 3, 'c')")
    desk.scene.on("book_1", "DELETE FROM {t} WHERE id = 12")
    done = desk.caught_up()
    assert set(done) == {"ok", "ended", "seconds", "changes", "transactions", "instances", "holds"}
    assert done["changes"] == 4 and done["instances"]["m1"]["changes"] == 3
    assert set(done["instances"]["m1"]) == {
        "changes", "transactions", "batches", "retries", "reconnects", "position", "waited_s"
    }  # fmt: skip
    desk.scene.same("book")


def test_a_sync_is_steered_from_another_terminal(desk: Desk) -> None:
    scene = desk.scene
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with desk.sync("--metrics", str(port), "--log-json", "--json") as client:
        desk.until_state(client, "following")
        desk.sync().fails(1, "is being run by")
        scene.on("book_0", "INSERT INTO {t} VALUES (4, 4, 'd')")
        scene.same("book")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            metrics = answer.read().decode()
        assert 'migrate_sync_running{instance="m1"} 1.0' in metrics
        assert 'migrate_sync_lag_seconds{instance="m2"}' in metrics
        assert "migrate_sync_held{" not in metrics
        desk.sync("pause").ok()
        desk.until_state(client, "paused")
        scene.on("book_0", "UPDATE {t} SET v = 44 WHERE id = 4")
        scene.on("book_1", "UPDATE {t} SET v = 55 WHERE id = 11")
        time.sleep(1.5)
        assert (4, 4, "d") in scene.target_rows("book")
        paused = desk.status()
        assert {i["state"] for i in paused["instances"]} == {"paused"}
        assert all(i["running"] and i["lag_s"] > 1 and i["lag_bytes"] > 0 for i in paused["instances"])
        assert "resume" in paused["instances"][0]["reason"]
        text = desk.sync("status").ok().out
        assert "m1: paused" in text and "lag" in text
        assert "m2: paused" in desk.client("status").ok().out
        desk.sync("resume").ok()
        scene.same("book")
        assert desk.sync("stop", "--json").ok().out
        client.ok()
    assert json.loads(client.out)["ended"] == "stopped"
    assert all(json.loads(line)["message"] for line in client.err.splitlines())
    assert "m1: not running" in desk.sync("status").ok().out


def place(desk: Desk) -> dict[str, str]:
    return desk.scene.positions()["m1"]


def test_it_ends_at_exactly_a_position(desk: Desk) -> None:
    scene = desk.scene
    scene.on("book_0", "INSERT INTO {t} VALUES (20, 1, 'x')")
    first = place(desk)
    scene.on("book_0", "INSERT INTO {t} VALUES (21, 1, 'y')", "UPDATE {t} SET v = 2 WHERE id = 20")
    second = place(desk)
    scene.on("book_0", "UPDATE {t} SET v = 3 WHERE id = 20")
    there = scene.positions()["m2"]
    m2 = f"m2={there['file']}:{there['offset']}"

    def seen() -> set[tuple[Any, ...]]:
        return {row for row in scene.target_rows("book") if row[0] in (20, 21)}

    def at(position: dict[str, str], shift: int = 0) -> str:
        return f"m1={position['file']}:{int(position['offset']) + shift}"

    desk.sync("--until", at(first), "--until", m2).ok()
    assert seen() == {(20, 1, "x")}
    desk.sync("--until", at(second, -1), "--until", m2).fails(1, "no transaction ends at", at(second)[3:])
    assert seen() == {(20, 1, "x")}
    desk.sync("--until", f"m1={second['gtid_set']}", "--until", m2).ok()
    assert seen() == {(20, 2, "x"), (21, 1, "y")}
    desk.sync("--until", at(first), "--until", m2).fails(1, "is beyond", at(first)[3:])
    desk.sync("--until", at(second)).fails(2, "no position for m2")
    desk.sync("--until", "m3=bin.000001:4").fails(2, "m1, m2")
    desk.sync("--until", "m1=nonsense", "--until", m2).fails(2, "nonsense")
    desk.sync("--until", "now", "--until-caught-up").fails(2, "exclude each other")
    assert json.loads(desk.sync("--until", "now", "--json").ok().out)["ended"] == "at the position"
    scene.same("book")


def test_what_is_held_makes_it_exit_with_1(desk: Desk) -> None:
    scene = desk.scene
    scene.at_target("UPDATE other SET v = 1000 WHERE id = 1")
    scene.on("other_0", "UPDATE {t} SET v = v + 1")
    ended = desk.sync("--until-caught-up", "--json").ended()
    assert ended.code == 1
    document = json.loads(ended.out)
    (hold,) = document["holds"]
    assert not document["ok"] and hold["target"] == f"{scene.schema}.other" and "drift" in hold["reason"]
    assert "HELD" in desk.sync("--until-caught-up").ended().out
    desk.sync("skip", f"{scene.schema}.other").fails(2, "isn't held at a statement")
    desk.sync("go-on", f"{scene.schema}.book").fails(2, "is not held")
    desk.sync("overwrite", f"{scene.schema}.other").ok()
    assert desk.caught_up()["ok"]
    scene.same("other")


def test_a_halt_is_kept_to_the_letter(desk: Desk) -> None:
    scene = desk.scene
    name = scene.config.name

    def halt(sql: str, *rows: Any) -> Any:
        with scene.target.connect() as connection, connection.cursor() as cursor:
            cursor.execute(sql, rows)
            return cursor.fetchall()

    def reached() -> dict[str, str] | None:
        found = halt("SELECT reached FROM migrate_meta.halt WHERE migration = %s AND reached_at IS NOT NULL", name)
        return json.loads(found[0][0]) if found else None

    with desk.sync() as client:
        desk.until_state(client, "following")
        halt("INSERT INTO migrate_meta.halt (migration, instance, requested_by, `until`) VALUES "
             "(%s, 'm1', 'test', NOW(6) + INTERVAL 60 SECOND)", name)  # fmt: skip
        client.until(lambda: reached() is not None)
        scene.on("book_0", "INSERT INTO {t} VALUES (30, 1, 'x')")
        goal = place(desk)
        scene.on("book_0", "UPDATE {t} SET v = 2 WHERE id = 30")
        scene.on("book_1", "UPDATE {t} SET v = v + 1")  # the other instance goes on
        time.sleep(1)
        assert 30 not in {row[0] for row in scene.target_rows("book")}
        halt("UPDATE migrate_meta.halt SET position = %s, reached_at = NULL WHERE migration = %s",
             json.dumps(goal), name)  # fmt: skip
        client.until(lambda: reached() is not None)
        stands = reached()
        assert stands and (stands["file"], stands["offset"]) == (goal["file"], goal["offset"])
        assert (30, 1, "x") in scene.target_rows("book")
        time.sleep(0.5)
        assert (30, 1, "x") in scene.target_rows("book")
        halt("UPDATE migrate_meta.halt SET `until` = NOW(6) + INTERVAL 1 SECOND WHERE migration = %s", name)
        scene.same("book")  # it has run out
        halt("DELETE FROM migrate_meta.halt WHERE migration = %s", name)
        desk.sync("stop").ok()
        client.ok()


def test_a_large_transaction_is_resumed_inside(desk: Desk) -> None:
    scene = desk.scene
    digit = "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6)"
    desk.caught_up()
    scene.on("large_0", f"INSERT INTO {{t}} SELECT a.d + 7 * b.d + 49 * c.d + 343 * d.d + 2401 * e.d, 0, 'x' FROM "
             f"{digit} a, {digit} b, {digit} c, {digit} d, {digit} e", "UPDATE {t} SET v = v + 1",
             "DELETE FROM {t} WHERE id % 7 = 3", "UPDATE {t} SET id = id + 100000 WHERE id % 7 = 4")  # fmt: skip
    killed = desk.sync("--until-caught-up", MIGRATE_FAULT="after_part_commit:kill:2")
    killed.fails(3, "a follower was killed")
    (inside,) = scene.at_target(f"SELECT MIN(inside), MAX(inside) FROM migrate_meta.applied WHERE "
                                f"migration = '{scene.config.name}' AND instance = 'm1'")  # fmt: skip
    assert inside[1] > 0, killed.err
    desk.caught_up()
    scene.same("large")


def test_rows_of_megabytes(desk: Desk) -> None:
    scene = desk.scene
    scene.on("large_0", "DELETE FROM {t}")
    for n in range(4):
        scene.on("large_0", f"INSERT INTO {{t}} VALUES ({n}, 0, REPEAT('0123456789abcdé\\\\\\'', 200000))")
    scene.on("large_0", "UPDATE {t} SET v = v + 1", "UPDATE {t} SET body = CONCAT(body, 'z') WHERE id = 1")
    desk.caught_up()
    scene.same("large")


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_memory_stays_flat_in_a_huge_transaction(desk: Desk) -> None:
    scene = desk.scene
    digit = "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6)"
    body = "REPEAT('memory ', 20)"
    scene.on("large_0", "DELETE FROM {t}")
    scene.on("large_0", f"INSERT INTO {{t}} SELECT a.d + 7 * b.d + 49 * c.d + 343 * d.d + 2401 * e.d + 16807 * f.d, 0, "
             f"{body} FROM {digit} a, {digit} b, {digit} c, {digit} d, {digit} e, {digit} f",
             "UPDATE {t} SET v = v + 1", "UPDATE {t} SET v = v + 1")  # fmt: skip
    with desk.sync("--until-caught-up", "--json") as client:
        peak = 0
        while client.runs():
            sizes = [p.memory_info().rss for p in client.workers() if psutil.pid_exists(p.pid)]
            peak = max([peak, *sizes])
            time.sleep(0.2)
        client.ok(600)
    scene.same("large")
    assert peak < 500 << 20, f"{peak >> 20} MiB"
