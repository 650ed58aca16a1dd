"""A worker's memory is bounded, and doesn't grow with the table."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from migrate.sandbox import Sandbox
from tests.conftest import guarded_sandbox
from tests.faults.client import Client
from tests.faults.ledger import Ledger, Migration

LIMIT_MIB = 256


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Sandbox]:
    """Servers of the test's own: what it puts there is large."""
    with guarded_sandbox(tmp_path / "box") as sandbox:
        sandbox.up(instances=2, mysql="5.6")
        yield sandbox


def peak_mib(client: Client) -> float:
    """The most memory that any worker of the client ever had, in MiB; waits for its end."""
    peaks: dict[int, int] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            for pid in [w.pid for w in client.workers()]:
                with suppress(OSError):
                    if found := re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()):
                        peaks[pid] = max(peaks.get(pid, 0), int(found[1]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        client.ok(timeout_s=1500)
    finally:
        ended.set()
        watcher.join()
    assert len(peaks) == 2
    return max(peaks.values()) / 1024


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_memory_does_not_grow_with_the_table(box: Sandbox, migrations: Callable[..., Migration]) -> None:
    peaks: dict[str, list[float]] = {"copy": [], "export": [], "load": []}
    for rows in (200_000, 2_000_000):
        ledger = Ledger(box, f"large_{rows}", rows // 4)
        ledger.fill()
        migration = migrations(ledger, chunk_rows=20_000)
        peaks["copy"].append(peak_mib(migration.client("copy")))
        migration.assert_moved()
        again, files = migrations(ledger, into=migration.table, chunk_rows=20_000), str(migration.folder / str(rows))
        peaks["export"].append(peak_mib(again.client("export", "--out", files)))
        peaks["load"].append(peak_mib(again.client("load", "--from", files)))
        again.assert_moved()
        ledger.drop()
    print(peaks)
    for verb, (small, large) in peaks.items():
        assert large < LIMIT_MIB, (verb, peaks)
        assert large < small + 16, (verb, peaks)
