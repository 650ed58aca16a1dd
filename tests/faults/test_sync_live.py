"""Sync beside a ledger that is written at a high rate: how far behind it is, and that it needs no more memory."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from migrate.sandbox import Sandbox
from migrate.sandbox.traffic import Traffic
from tests.conftest import guarded_sandbox
from tests.faults.books import Books
from tests.faults.chaos import Chaos
from tests.faults.client import Client
from tests.faults.ledger import Ledger, Migration, query
from tests.soak import times

_MIB = 1 << 20
_GROWS_MIB = 24  # what the allocator and longer GTID sets may take


class Watcher:
    """Samples memory of a sync's followers (MiB), and what they say of their lag (s)."""

    def __init__(self, client: Client, told: Callable[[], dict[str, dict[str, Any]]], every_s: float):
        self.lags: list[float] = []
        self.memory: list[float] = []
        self._client, self._told, self._every_s = client, told, every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._ended.wait(self._every_s):
            self.lags += [t["lag_s"] for t in self._told().values() if t["lag_s"] is not None]
            with suppress(psutil.NoSuchProcess):
                self.memory.append(max((w.memory_info().rss for w in self._client.workers()), default=0) / _MIB)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def flat(self) -> None:
        """The most memory of the last third of the time is that of the second, but for a little."""
        third = len(self.memory) // 3
        before, after = max(self.memory[third : 2 * third]), max(self.memory[2 * third :])
        print(f"memory of a follower: {max(self.memory[:third]):.0f}, {before:.0f}, {after:.0f} MiB")
        assert after < before + _GROWS_MIB


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Sandbox]:
    """Servers of the test's own: it writes much."""
    with guarded_sandbox(tmp_path / "box") as sandbox:
        sandbox.up(instances=2, mysql="5.6")
        yield sandbox


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_live(box: Sandbox, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    books = Books(box, "live", tmp_path, rows=4000)
    chaos = Chaos(books.things, 10, random.randrange(1, 1 << 32))
    with Traffic(books.endpoints, books.pack, 20, journal=books.journal):
        books.copied()
    with books.client("sync") as client:
        books.until_near(client)
        tps = _highest_rate(books)
        chaos.start()
        with Traffic(books.endpoints, books.pack, tps, journal=books.journal) as traffic:
            with Watcher(client, books.told, 0.25) as watcher:
                traffic.wait(times(600, 120))
            report = traffic.stop()
        chaos.stop()
        client.kill()
    p50, p99, longest = (float(np.quantile(watcher.lags, q)) for q in (0.5, 0.99, 1))
    print(f"{report.tps} postings/s for {report.seconds} s (asked: {tps:.0f}; p99 {report.p99_ms} ms); "
          f"lag p50 {p50:.2f} s, p99 {p99:.2f} s, most {longest:.2f} s of {len(watcher.lags)} samples")  # fmt: skip
    for name, value in ("tps", report.tps), ("lag_p50_s", p50), ("lag_p99_s", p99):
        record_property(name, round(value, 3))
    assert p50 < 1
    watcher.flat()
    books.judge()


def _highest_rate(books: Books) -> float:
    """Postings a second of which sync, on the same machine, is less than a second behind."""
    rate = 50.0
    while True:
        with Traffic(books.endpoints, books.pack, rate, journal=books.journal) as traffic:
            traffic.wait(12)
            lag = max(t["lag_s"] for t in books.told().values())
            done = traffic.stop().tps
        print(f"{rate:.0f} asked, {done:.0f} done, {lag:.2f} s behind")
        if lag > 1 or done < 0.9 * rate:
            return 0.6 * min(rate, done)
        rate *= 1.4


@pytest.mark.parametrize(
    "changes", [pytest.param(300_000, marks=pytest.mark.soak), pytest.param(10_000_000, marks=pytest.mark.endurance)]
)
@pytest.mark.timeout(3600)
def test_memory_is_flat(box: Sandbox, tmp_path: Path, changes: int) -> None:
    """However much there is to catch up with: rows that change, and rows that come and go."""
    rows = 10_000
    ledger = Ledger(box, "flat", rows)
    ledger.fill()
    migration = Migration(ledger, tmp_path, chunk_rows=5000).create()
    migration.run("copy").ok()
    made = 0
    with migration.client("sync") as client, Watcher(client, dict, 0.2) as watcher:
        for number in range(1 << 30):
            server, table = ledger.shards[number % 4]
            query(server, f"UPDATE {table} SET amount = amount + 0.01, account = account + 1")
            if number % 3 == 0:
                query(server, f"DELETE FROM {table} WHERE id % 5 = {number % 5}")
                made += rows // 5
            if number % 3 == 2:
                _put_back(server, table, rows, number % 4)
            made += rows
            if made >= changes:
                break
        client.until(lambda: _caught_up(migration), timeout_s=3000)
        client.kill()
    watcher.flat()
    migration.run("sync", "--until-caught-up").ok()
    migration.assert_same()


def _put_back(server: Any, table: str, rows: int, shard: int) -> None:
    """The rows of the shard that are missing."""
    digit = "(SELECT 0 d UNION ALL " + " UNION ALL ".join(f"SELECT {d}" for d in range(1, 10)) + ")"
    n = f"SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d AS n FROM {digit} a, {digit} b, {digit} c, {digit} e"
    first = shard * 1_000_000_000
    query(server, f"INSERT INTO {table} SELECT {first} + n, n % 97, n / 7, NULL, CONCAT('ref-', {first} + n), "
          f"'2020-01-01' FROM ({n}) ids WHERE n < {rows} AND NOT EXISTS (SELECT 1 FROM {table} t WHERE t.id = "
          f"{first} + n)")  # fmt: skip


def _caught_up(migration: Migration) -> bool:
    """Whether all is applied, and nothing held."""
    mine = f"WHERE migration = '{migration.name}'"
    assert not query(migration.target, f"SELECT reason FROM migrate_meta.hold {mine}")
    told = query(migration.target, f"SELECT state FROM migrate_meta.sync_status {mine}")
    return len(told) == 2 and all(s["lag_s"] == s["lag_bytes"] == 0 for s in map(json.loads, (t for (t,) in told)))
