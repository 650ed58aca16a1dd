"""What a follower waits for is told, and noticed: sources that stall, and instances in whose binlog nothing happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from migrate.config import Config
from migrate.sandbox import Sandbox
from migrate.sync import elsewhere
from migrate.sync.asking import Asking
from tests.integration.shards import run
from tests.integration.syncing import Lab, Table, lab
from tests.proxy import Proxy, proxy

pytestmark = pytest.mark.timeout(600)  # a loaded machine takes its time

PLAIN = "id BIGINT PRIMARY KEY, v INT"
ROWS = ["(1, 1), (3, 3), (5, 5)", "(2, 2), (4, 4)", ""]


@pytest.fixture
def gate(servers: Sandbox) -> Iterator[Proxy]:
    """Before m2."""
    with proxy(servers.sources[1].port) as made:
        yield made


@pytest.fixture
def scene(servers: Sandbox, gate: Proxy) -> Iterator[Lab]:
    """A table with one shard on m1 and two on m2, copied. The gate stays open until its followers have ended."""
    with lab(servers.sources, servers.target, {"far": Table(PLAIN, (0, 1, 1), ROWS)}) as found:
        yield found.copied()


def through(scene: Lab, gate: Proxy) -> None:
    """Followers reach m2 by the proxy from now on."""
    m1, m2 = scene.config.sources
    scene.config = replace(scene.config, sources=(m1, replace(m2, port=gate.port)))


def told(scene: Lab, instance: str) -> dict[str, Any]:
    """What the follower says of itself."""
    rows = run(
        scene.target,
        "SELECT state FROM migrate_meta.sync_status WHERE heartbeat > NOW(6) - INTERVAL 5 SECOND AND "
        f"migration = '{scene.config.name}' AND instance = '{instance}'",
    )
    return dict(json.loads(rows[0][0])) if rows else {"state": "", "reason": ""}


@pytest.mark.parametrize("words", [b"", b"SHOW COLLATION", b"SHOW BINARY LOGS"], ids=["at once", "asked", "streaming"])
def test_a_source_that_stalls_when_sync_starts(
    scene: Lab, gate: Proxy, monkeypatch: pytest.MonkeyPatch, words: bytes
) -> None:
    """It is named from the start on, and once it hasn't answered for long it counts as lost."""
    monkeypatch.setattr("migrate.sync.asking.ANSWER_S", 2.0)
    monkeypatch.setattr("migrate.sync.passage.STREAM_S", 2.0)
    through(scene, gate)
    gate.stall_at(words) if words else gate.stall()
    reasons = set()

    def waits() -> bool:
        said = told(scene, "m2")
        reasons.add((said["state"], said["reason"]))
        return said["state"] == "waiting" and "m2 (" in said["reason"]

    scene.start().until(waits, "m2 to be waited for")
    assert not any(not reason for state, reason in reasons if state == "starting"), reasons
    scene.on("far_0", "INSERT INTO {t} VALUES (7, 7)")
    scene.until(lambda: (7, 7) in scene.target_rows("far"), "m1 to go on alone")
    gate.flow()
    scene.same("far")
    scene.until(lambda: told(scene, "m2")["state"] == "following" and not told(scene, "m2")["reason"], "m2 to follow")


def test_a_follower_that_waits_for_its_source_hears_stop(scene: Lab, gate: Proxy) -> None:
    through(scene, gate)
    gate.refuse()
    scene.start().until(lambda: told(scene, "m2")["state"] == "waiting", "m2 to be waited for")
    assert {name: progress.state for name, progress in scene.stop().items()} == {"m1": "stopped", "m2": "stopped"}
    gate.accept()


def test_a_source_that_stalls_while_its_rows_are_handed_over(
    scene: Lab, gate: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of m1 are on two shards of m2 by now, which m1's follower puts in their place: over one connection."""
    monkeypatch.setattr("migrate.sync.asking.ANSWER_S", 2.0)
    through(scene, gate)
    asked: list[str] = []  # the instances, by connection, and what was done between
    put = elsewhere.put

    class Counted(Asking):
        def __init__(self, config: Config, instance: str):
            asked.append(instance)
            super().__init__(config, instance)

    def counted(*arguments: Any) -> str:
        asked.append("put")
        said = put(*arguments)
        asked.append("done")
        return said

    monkeypatch.setattr(elsewhere, "Asking", Counted)
    monkeypatch.setattr(elsewhere, "put", counted)
    for id, shard in (1, "far_1"), (3, "far_2"):
        scene.on("far_0", f"DELETE FROM {{t}} WHERE id = {id}")
        scene.on(shard, f"INSERT INTO {{t}} VALUES ({id}, -{id})")
    gate.stall_at(b"SELECT `id`")  # not what is asked before: whether it is there
    scene.start(only=["m1"]).until(lambda: "m2 (" in told(scene, "m1")["reason"], "m1 to say that it waits for m2")
    gate.flow()
    scene.settle(only=["m1"])
    assert asked[asked.index("done") - 2 :][:3] == ["put", "m2", "done"]
    assert {(1, -1), (3, -3)} <= set(scene.target_rows("far"))
    scene.start()
    scene.same("far")


def test_rows_do_not_wait_for_an_instance_whose_binlog_has_only_rotated(
    scene: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of m1 has its place on the target when m2 is where it stands: in a new file, without a transaction."""
    monkeypatch.setattr("migrate.sync.appliers._STILL_S", 100.0)  # it isn't held before we have looked
    scene.start().same("far")
    scene.on("far_0", "UPDATE {t} SET v = v + 100")
    scene.on("far_1", "UPDATE {t} SET v = v + 100")
    scene.same("far")  # from here on no instance looks where a row is that leaves
    scene.stop()
    scene.on("far_1", "DELETE FROM {t} WHERE id = 2")
    scene.on("far_0", "INSERT INTO {t} VALUES (2, -2)")
    run(scene.sources[1], "FLUSH BINARY LOGS")
    scene.start(only=["m1"]).until(
        lambda: "must leave another shard" in told(scene, "m1")["reason"], "m1 to wait for m2"
    )
    scene.start()
    scene.same("far")


@pytest.mark.parametrize("number", [0, 1])
def test_positions_move_with_a_binlog_that_only_rotates(scene: Lab, number: int) -> None:
    """While sync runs, and where it starts: the file in which it was may be purged then."""
    scene.start().same("far")
    run(scene.sources[number], "FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
    scene.settle()
    scene.stop()
    run(scene.sources[number], "FLUSH BINARY LOGS")
    scene.start().settle()
    scene.on("far_0", "UPDATE {t} SET v = v + 1")
    scene.on("far_2", "INSERT INTO {t} VALUES (8, 8)")
    scene.same("far")
