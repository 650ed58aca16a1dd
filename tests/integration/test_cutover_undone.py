"""What goes wrong before the switch is undone: the fence is lifted, and the exit code says no-go."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pymysql
import pytest

from migrate.cutover.fences import kill
from migrate.cutover.proof import final_positions
from migrate.db import connect
from migrate.sandbox import Sandbox
from migrate.source import read_routing
from tests.cutover_lab import Lab, cutover_lab
from tests.integration.shards import run


@pytest.fixture(scope="module")
def lab(servers: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One for all: each test leaves the shards primary, and both sides equal."""
    with cutover_lab(servers, tmp_path_factory.mktemp("undone")) as made:
        yield made


@pytest.fixture(autouse=True)
def _as_before(lab: Lab) -> Iterator[None]:
    lab.write_config()
    lab.ensure_sync()
    yield
    assert lab.open_sides() == {"source"}
    lab.delivered()


def step(client_out: str, name: str) -> str:
    """What the text says of a step."""
    return client_out.partition(f"== {name}: ")[2].partition("\n==")[0]


def test_a_mismatch_is_a_no_go_before_the_freeze(lab: Lab) -> None:
    table = f"{lab.scene.db}.account"
    run(lab.scene.target, f"UPDATE {table} SET balance = balance + 0.01, touched = touched WHERE id = 3")
    outcome = lab.cut_over()
    run(lab.scene.target, f"UPDATE {table} SET balance = balance - 0.01, touched = touched WHERE id = 3")
    assert not outcome.go
    assert outcome.freeze_s is None
    assert "the two sides differ" in outcome.reason
    assert outcome.steps[-1].name == "ahead"


@pytest.mark.parametrize("column", ["balance = balance + 0.01", "owner = 'nobody'"])
def test_a_row_that_differs_in_the_freeze_is_named(lab: Lab, column: str) -> None:
    """In money, which totals show, or not, where only the row that was written since tells it."""
    db = lab.scene.db
    client = lab.stopped("cutover", "before_fence")
    run(lab.scene.home(3), f"UPDATE {db}.account_03 SET seq = seq + 1 WHERE id = 3")
    lab.delivered()
    run(lab.scene.target, f"UPDATE {db}.account SET {column}, touched = touched WHERE id = 3")
    client.send(signal.SIGCONT)
    client.ended()
    assert client.code == 1, client.err
    assert f"different  {db}.account  id=3" in step(client.out, "verify"), client.out
    assert "NO-GO" in client.out
    run(lab.scene.target, f"UPDATE {db}.account SET balance = 1000, owner = 'o', touched = touched WHERE id = 3")


def test_a_hook_that_hangs_is_ended_with_its_children(lab: Lab) -> None:
    lab.write_config(hooks__smoke=lab.hook("smoke", "sleep 987 & sleep 987"), hooks__timeout_s=1)
    outcome = lab.cut_over()
    assert not outcome.go
    assert outcome.steps[-1].name == "reverse-end"
    assert "was not done in 1 s and was ended" in outcome.reason
    assert outcome.freeze_s is not None and outcome.freeze_s < 15
    asleep = [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "987"]]
    assert not asleep
    assert lab.hooks_called() == ["smoke"]


def test_a_hook_that_fails_is_called_back(lab: Lab) -> None:
    lab.write_config(hooks__switch=lab.hook("switch", "echo no such pool; exit 3"), hooks__back=lab.hook("back", ":"))
    outcome = lab.cut_over()
    assert not outcome.go
    assert "ended with 3: no such pool" in outcome.reason
    assert lab.hooks_called() == ["switch", "back"]


def test_over_its_budget_it_is_undone(lab: Lab) -> None:
    lab.write_config(freeze_s=1, hooks__smoke=lab.hook("smoke", "sleep 30"))
    outcome = lab.cut_over()
    assert not outcome.go
    assert outcome.freeze_s is not None and outcome.freeze_s < 10


def test_a_writer_that_the_fence_does_not_stop_is_found(lab: Lab) -> None:
    """One that doesn't use the library. Whether by the rows that it writes, or by the difference that they make."""
    ended = threading.Event()

    def write() -> None:
        with lab.scene.home(1).connect() as connection, connection.cursor() as cursor:
            while not ended.wait(0.01):
                cursor.execute(f"UPDATE {lab.scene.db}.account_01 SET seq = seq + 1 WHERE id = 1")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        outcome = lab.cut_over()
    finally:
        ended.set()
        writer.join()
    assert not outcome.go
    assert outcome.freeze_s is not None
    words = ("rows were written after it was up", "the two sides differ")
    assert any(w in outcome.reason for w in words), outcome.reason


@pytest.mark.parametrize(
    "sql",
    ["UPDATE {} SET owner = 'straggler' WHERE id = 2", "SELECT * FROM {} WHERE id = 2 FOR UPDATE"],
    ids=["wrote", "locked"],
)
def test_an_open_transaction_is_ended_before_it_is_told_that_it_is_open(lab: Lab, sql: str) -> None:
    """Though the time for it is up when the first try to lock the shards has failed."""
    with lab.scene.home(2).connect() as straggler, straggler.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(sql.format(f"{lab.scene.db}.account_02"))
        _, said = final_positions(lab.config, read_routing(lab.config).checked(), 0.1)
        assert said.startswith("ended m")
        with pytest.raises(pymysql.Error):
            cursor.execute("COMMIT")


def test_a_killed_connection_is_gone_before_another_is_opened(lab: Lab) -> None:
    """MySQL 5.6 loses it otherwise, with its locks, if the new one gets its descriptor."""
    alive = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = %s"
    with connect(lab.config.sources[0]) as session:
        for _ in range(100):
            with lab.scene.sources[0].connect() as straggler:
                number = straggler.thread_id()
                assert session.value(alive, [number]) == 1
                assert kill(session, [number]) == {number}
                assert session.value(alive, [number]) == 0
        assert not kill(session, [number])


def test_an_open_transaction_is_ended(lab: Lab) -> None:
    """Its connection is killed and its change rolled back; the night goes on to its end, and back."""
    lab.write_config(freeze_s=20)
    client = lab.stopped("cutover", "before_fence")
    with lab.scene.home(2).connect() as straggler, straggler.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(f"UPDATE {lab.scene.db}.account_02 SET owner = 'straggler' WHERE id = 2")
        client.send(signal.SIGCONT)
        client.ok()
        assert "ended m" in step(client.out, "proof") and "connection" in step(client.out, "proof"), client.out
        with suppress(pymysql.Error):
            cursor.execute("COMMIT")
            raise AssertionError("it could commit")
    lab.write_config()
    assert lab.roll_back().go
    assert run(lab.scene.home(2), f"SELECT owner FROM {lab.scene.db}.account_02 WHERE id = 2") == [("o",)]


def test_interrupted_it_is_undone(lab: Lab) -> None:
    client = lab.stopped("cutover", "before_verify")
    assert lab.open_sides() == set()
    client.send(signal.SIGINT)
    client.send(signal.SIGCONT)
    client.fails(130, "everything is as it was before")


def test_two_operators(lab: Lab) -> None:
    client = lab.stopped("cutover", "before_verify")
    time.sleep(0.2)
    # side by side: one that stands still loses its lease in the end
    others = [lab.client(verb, "--execute") for verb in ("cutover", "rollback")]
    for other in others:
        other.fails(1, "is being run by process")
    client.send(signal.SIGCONT)
    client.ok()
    lab.client("rollback", "--execute").ok()


def test_what_is_not_ready_is_listed_whole(lab: Lab) -> None:
    lab.client("sync", "stop").ok()
    lab.sync_ended()
    time.sleep(5.5)
    lab.write_config(verified_within_s=1, hooks__smoke=str(lab.folder / "nothing"))
    outcome = lab.cut_over()
    assert not outcome.go
    assert outcome.freeze_s is None
    for words in ("FAIL sync of m1", "FAIL sync of m2", "FAIL verification", "FAIL hook smoke"):
        assert words in outcome.reason, outcome.reason
