"""What the double write costs: postings a second and their latency without the library, and in its phases.

python -m tests.benchmarks.doublewrite [--seconds S] [--threads T] [--json]
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from sqlalchemy import create_engine, text

from migrate.doublewrite import DoubleWrite
from migrate.sandbox import Sandbox
from tests.conftest import guarded_sandbox
from tests.integration.doublewrite_scene import Scene, scene

_ACCOUNTS = 200
_UPDATE = "UPDATE {account} SET balance = balance - 1, seq = seq + 1 WHERE id = :id"
_INSERT = ("INSERT INTO {entry} (id, account_id, voucher_id, direction, amount, once) "
           "VALUES (:entry, :id, :entry, 'D', 1, :once)")  # fmt: skip


def without(made: Scene) -> Callable[[int, int], None]:
    engines = [create_engine(s.url.replace("mysql:", "mysql+pymysql:"), pool_size=32) for s in made.sources]

    def post(account: int, number: int) -> None:
        shard = account % made.shards
        names = {k: f"{made.db}.{k}_{shard:02}" for k in made.kinds}
        with engines[shard % len(engines)].begin() as connection:
            _statements(connection, names, account, number)

    return post


def with_library(made: Scene, ledger: DoubleWrite) -> Callable[[int, int], None]:
    names = {k: f"{made.db}.{k}" for k in made.kinds}

    def post(account: int, number: int) -> None:
        with ledger.engine(account).begin() as connection:
            _statements(connection, names, account, number)

    return post


def _statements(connection: Any, names: dict[str, str], account: int, number: int) -> None:
    lock = f"SELECT balance FROM {names['account']} WHERE id = :id FOR UPDATE"
    connection.execute(text(lock), {"id": account}).one()
    connection.execute(text(_UPDATE.format(**names)), {"id": account})
    connection.execute(text(_INSERT.format(**names)), {"id": account, "entry": number, "once": f"b{number}"})


def measure(post: Callable[[int, int], None], seconds: float, threads: int, first: int) -> dict[str, Any]:
    """Postings a second and latencies in ms, of `threads` that post as fast as they can to accounts of their own."""
    end = time.monotonic() + seconds
    latencies: list[list[float]] = [[] for _ in range(threads)]

    def work(thread: int) -> None:
        number = first + thread * 10_000_000
        while time.monotonic() < end:
            account = 1 + thread + threads * (number % (_ACCOUNTS // threads - 1))
            began = time.perf_counter()
            post(account, number)
            latencies[thread].append(time.perf_counter() - began)
            number += 1

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    began, cpu = time.monotonic(), time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took = np.array([x for one in latencies for x in one]) * 1000
    p50, p99 = (round(float(np.quantile(took, q)), 2) for q in (0.5, 0.99))
    seconds = time.monotonic() - began
    return {"postings_per_s": round(len(took) / seconds, 1), "p50_ms": p50, "p99_ms": p99,
            "client_cpu_ms": round(1000 * (time.process_time() - cpu) / len(took), 3)}  # fmt: skip


def run(sandbox: Sandbox, folder: Path, seconds: float, threads: int) -> dict[str, Any]:
    """All of them on one ledger."""
    found: dict[str, Any] = {}
    with scene(sandbox.sources, sandbox.target, folder) as made:
        made.ready()
        ledger = made.open(pool_size=32)
        made.phase("shadow")
        for id in range(1, _ACCOUNTS + 1):
            with ledger.session(id) as session:
                session.execute(text(f"INSERT INTO account (id, owner, balance) VALUES ({id}, 'o', 1000)"))
        ledger._courier.rest(30)
        made.drain()
        posts = with_library(made, ledger)
        found["shadow"] = measure(posts, seconds, threads, 1_000_000_000)
        ledger._courier.rest(60)
        made.drain()
        made.phase("strict")
        ledger._refresh()
        found["strict"] = measure(posts, seconds, threads, 2_000_000_000)
        made.drain()
        made.phase("off")
        ledger._refresh()
        found["off"] = measure(posts, seconds, threads, 3_000_000_000)
        found["without"] = measure(without(made), seconds, threads, 4_000_000_000)
        ledger.close()
    return {name: found[name] for name in ("without", "off", "shadow", "strict")}


@click.command()
@click.option("--seconds", default=10.0, help="For each of the four.")
@click.option("--threads", default=4)
@click.option("--json", "as_json", is_flag=True)
def main(seconds: float, threads: int, as_json: bool) -> None:
    """Measures on servers of its own."""
    with tempfile.TemporaryDirectory() as folder, guarded_sandbox(Path(folder) / "sandbox") as sandbox:
        sandbox.up(instances=2, mysql="5.6")
        found = run(sandbox, Path(folder), seconds, threads)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, one in found.items():
        click.echo(f"{name:8}" + "  ".join(f"{k} {v}" for k, v in one.items()))


if __name__ == "__main__":
    main()
