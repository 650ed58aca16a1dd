"""The double write beside sync: the handover both ways, and nothing that reverse wrote comes back as an echo."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from migrate.copy.copier import copy
from migrate.doublewrite import DoubleWrite, fence, phases
from migrate.doublewrite.phase import Phase
from migrate.doublewrite.phases import Wish, change
from migrate.sandbox import Sandbox
from tests.integration.doublewrite_scene import Scene, delivered, scene, until
from tests.integration.shards import run

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def stage(servers: Sandbox, tmp_path: Path) -> Iterator[Scene]:
    """A ledger that was copied; its config is in a file."""
    with scene(servers.sources, servers.target, tmp_path) as made:
        made.ready()
        for id in range(1, 9):
            table = f"{made.db}.account_{id % 4:02}"
            run(made.home(id % 4), f"INSERT INTO {table} (id, owner, balance) VALUES ({id}, 'o', 100)")
        copy(made.config, 2)
        (tmp_path / "migration.toml").write_text(made.toml())
        yield made


def command(stage: Scene) -> list[str]:
    return [sys.executable, "-m", "migrate.cli", "-c", str(stage.folder / "migration.toml"), "sync"]


def catch_up(stage: Scene) -> None:
    done = subprocess.run([*command(stage), "--until-caught-up"], check=False, capture_output=True, timeout=200)
    assert done.returncode == 0, done.stderr.decode()


@contextmanager
def syncing(stage: Scene) -> Iterator[None]:
    with (
        (stage.folder / "sync.log").open("wb") as log,
        subprocess.Popen(command(stage), stdout=log, stderr=log) as process,
    ):
        try:
            yield
            assert process.poll() is None, (stage.folder / "sync.log").read_text()
        finally:
            process.terminate()
            process.wait(100)


def pay(ledger: DoubleWrite, amount: int) -> None:
    ledger._refresh()
    for id in range(1, 9):
        with ledger.session(id) as session:
            session.execute(text(f"UPDATE account SET balance = balance - {amount}, seq = seq + 1 WHERE id = {id}"))


def test_sync_skips_what_reverse_wrote(stage: Scene) -> None:
    ledger = stage.open()
    pay(ledger, 1)
    catch_up(stage)
    assert stage.same()
    fence.fence(stage.config)
    fence.switch(stage.config, "reversed")
    pay(ledger, 10)
    assert stage.reverse().applied == 8
    assert stage.same()
    pay(ledger, 100)  # the target is ahead of what reverse wrote: an echo would take it back
    ahead = stage.on_target("account")
    catch_up(stage)
    assert stage.on_target("account") == ahead
    assert stage.reverse().applied == 8
    catch_up(stage)
    assert stage.on_target("account") == ahead
    assert stage.same()


def test_the_handover_from_sync_and_back(stage: Scene) -> None:
    ledger = stage.open()
    with syncing(stage):
        pay(ledger, 1)
        phase = change(stage.config, Wish("shadow"), within_s=100)
        assert phase.forward == "outbox"
        pay(ledger, 10)
        delivered(ledger)
        stage.drain()
        assert stage.same()
        phase = change(stage.config, Wish("off"), within_s=100)
        assert phase.forward == "sync"
        pay(ledger, 100)
        assert stage.pending() == 0
    catch_up(stage)
    assert stage.same()
    assert {b for (b,) in stage.on_target("account", "balance")} == {-11}


def test_sync_does_not_go_past_the_handover(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is captured isn't applied by sync as well, however late that is told where to stop: the changes of a row
    would find it changed already, and be held."""
    ledger = stage.open(deadline_s=0.0)
    spread = phases._spread

    def balances() -> set[int]:
        return {int(b) for (b,) in stage.on_target("account", "balance")}

    def slow(*args: Any) -> Phase:
        made = spread(*args)
        pay(ledger, 10)
        end = time.monotonic() + 5
        while balances() != {89} and time.monotonic() < end:  # which a sync that goes on brings
            time.sleep(0.1)
        return made

    with syncing(stage):
        pay(ledger, 1)
        until(lambda: balances() == {99}, "sync follows")
        monkeypatch.setattr(phases, "_spread", slow)
        assert change(stage.config, Wish("shadow"), within_s=100).forward == "outbox"
        pay(ledger, 100)
        report = stage.drain()
        assert report.ok, report.text()
        assert balances() == {-11}
        assert stage.same()
