"""kill -9 at random instants: of the client, of TiDB, of the parent alone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.faults.ledger import Ledger, Migration, query
from tests.soak import times

Make = Callable[..., Migration]


def _quick(kills: int) -> Any:
    """Random instants may lie anywhere, and a loaded machine takes its time with each."""
    return pytest.param(kills, marks=pytest.mark.timeout(600))


def quick_or_soak(quick: int, soak: int) -> list[Any]:
    """How often to kill: a few times, and many times where it is asked for."""
    marks = [pytest.mark.soak, pytest.mark.timeout(3600)]
    return [_quick(quick), pytest.param(times(soak, max(quick + 1, soak // 4)), marks=marks)]


def soak_or_endurance(soak: int, endurance: int) -> list[Any]:
    """How often to kill what is much like what is killed by every run of the tests."""
    return [pytest.param(soak, marks=pytest.mark.soak), *quick_or_endurance(soak, endurance)[1:]]


def quick_or_endurance(quick: int, endurance: int) -> list[Any]:
    """How often to kill: a few times, and so often that CI has no time for it."""
    return [_quick(quick), pytest.param(endurance, marks=[pytest.mark.endurance, pytest.mark.timeout(3600)])]


@pytest.fixture
def dice() -> random.Random:
    """Random instants that a failed test's output lets repeat."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture(scope="module")
def seconds(fragile: Ledger, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long a copy of the fragile ledger takes that nobody disturbs."""
    migration = Migration(fragile, tmp_path_factory.mktemp("undisturbed"), chunk_rows=400).create()
    started = time.monotonic()
    migration.run("copy").ok()
    elapsed = time.monotonic() - started
    migration.assert_moved()
    return elapsed


@pytest.mark.parametrize("kills", quick_or_soak(5, 50))
def test_client_killed_at_random_instants(
    fragile: Ledger, migrations: Make, seconds: float, dice: random.Random, kills: int
) -> None:
    """A run that comes after a kill isn't refused for the lease of the dead one: it would end with 1."""
    migration = migrations(fragile, chunk_rows=400)
    while kills:
        with migration.client("copy") as client:
            time.sleep(dice.uniform(0.2, seconds * 0.8))
            if client.runs():
                client.kill()
                kills -= 1
                continue
        client.ok()
        migration.assert_moved()
        migration = migrations(fragile, chunk_rows=400)
    migration.run("copy").ok()
    migration.assert_moved()


@pytest.mark.parametrize("kills", quick_or_soak(2, 10))
def test_tidb_killed_at_random_instants(
    fragile: Ledger, migrations: Make, seconds: float, dice: random.Random, kills: int
) -> None:
    waited = 0
    while kills:
        migration = migrations(fragile, chunk_rows=400)
        with migration.client("copy") as client:
            time.sleep(dice.uniform(0.4, seconds * 0.8))
            if client.runs():
                fragile.sandbox.kill("tidb")
                kills -= 1
                time.sleep(dice.uniform(0, 1))
                fragile.sandbox.up()
                waited += "waiting: " in client.ok().err  # not if all was said already
        migration.run("copy").ok()
        migration.assert_moved()
    assert waited


def test_parent_killed(migration: Migration) -> None:
    """No worker lives on, and none of their connections."""

    def sessions() -> set[int]:
        return {row[0] for row in query(migration.target, "SELECT id FROM information_schema.processlist")}

    before = sessions()
    with migration.client("copy", MIGRATE_FAULT="after_chunk_loaded:stop:2") as client:
        client.until_stopped()
        workers = client.workers()
        assert len(workers) == 2
        opened = sessions() - before
        assert len(opened) >= 2
        client.kill_parent()
        assert not psutil.wait_procs(workers, timeout=5)[1]
        deadline = time.monotonic() + 10
        while opened & sessions():
            assert time.monotonic() < deadline, "a connection of the dead is still open"
            time.sleep(0.1)
    migration.run("copy").ok()
    migration.assert_moved()
