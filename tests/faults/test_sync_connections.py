"""Sync over connections that are cut, stall or are slow, on both sides, while money moves."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import guarded_sandbox
from tests.faults.books import Books
from tests.faults.client import Client
from tests.proxy import Proxy, proxy


@pytest.fixture(scope="module", params=["5.6", pytest.param("9.7", marks=pytest.mark.soak)])
def books(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    folder = tmp_path_factory.mktemp("gated")
    with guarded_sandbox(folder / "sandbox") as sandbox:
        sandbox.up(instances=2, mysql=request.param)
        yield Books(sandbox, "gated", folder)


@pytest.fixture
def target(books: Books) -> Iterator[Proxy]:
    with proxy(books.target.port) as made:
        yield made


@pytest.fixture
def source(books: Books) -> Iterator[Proxy]:
    """Before m1."""
    with proxy(books.sandbox.sources[0].port) as made:
        yield made


@pytest.fixture
def gated(books: Books, source: Proxy, target: Proxy) -> Books:
    """Copied, while it is written; sync goes by the proxies."""
    m1 = books.sandbox.sources[0]
    return books.copied(
        m1=m1.url.replace(f":{m1.port}", f":{source.port}"),
        target=books.target.url.replace(f":{books.target.port}", f":{target.port}"),
    )


def goes_on(books: Books, client: Client, gate: Proxy, cuts: int) -> None:
    """So many more connections were cut, and sync got on after that."""
    goal = gate.cuts + cuts
    client.until(lambda: gate.cuts >= goal)
    books.follows(client)


def until_told(books: Books, client: Client, what: Callable[[dict[str, Any]], bool], timeout_s: float = 40) -> None:
    """Waits until m1's follower has said so of itself, where `migrate sync status` reads it."""
    client.until(lambda: what(books.told().get("m1", {})), timeout_s)


def test_connections_cut(gated: Books, source: Proxy, target: Proxy) -> None:
    dice = random.Random(seed := random.randrange(1 << 32))
    print(f"seed {seed}")
    with gated.writing():
        source.cut_after(dice.randrange(500, 5000), "down", times=2, having=b"binlog_checksum")
        with gated.client("sync") as client:
            goes_on(gated, client, source, 0)
            for _ in range(3):  # inside events and transactions
                source.cut_after(dice.randrange(1000, 20_000), "down", having=b"binlog_checksum")
                goes_on(gated, client, source, 1)
            for _ in range(3):
                target.cut_after(dice.randrange(100, 3000), "up", having=b"LOAD DATA")
                goes_on(gated, client, target, 1)
            for when in ("before", "after", "before", "after"):
                target.cut_commit(when)
                goes_on(gated, client, target, 1)
            for when in ("before", "after"):  # of the other part too, wherever it is
                target.cut_commit(when, then_refuse=True)
                goal = target.cuts + 1
                client.until(lambda goal=goal: target.cuts >= goal)
                time.sleep(0.5)
                target.accept()
                gated.follows(client)
            client.kill()
            client.ended()
        assert "waiting: m1 (" in client.err
        assert "the answer to COMMIT was lost" in client.err
    gated.judge()


@pytest.mark.soak
def test_a_stalled_source_is_noticed(gated: Books, source: Proxy) -> None:
    """By the heartbeats that don't come; the other instance goes on meanwhile, and the operator is told why."""
    with gated.writing():
        with gated.client("sync") as client:
            gated.until_calm(client)  # until then, a row that leaves m2 may have moved to m1: m2 must wait to hear
            source.stall()
            until_told(
                gated,
                client,
                lambda m1: (
                    "not even a heartbeat" in m1.get("reason", "") and m1["lag_s"] > 5 > gated.told()["m2"]["lag_s"]
                ),
            )
            source.flow()
            until_told(gated, client, lambda m1: m1["state"] == "following" and m1["lag_s"] < 1)
            client.kill()
            client.ended()
        assert "not even a heartbeat" in client.err
    gated.judge()


@pytest.mark.soak
def test_a_slow_target_gets_smaller_batches(gated: Books, target: Proxy) -> None:
    with gated.writing(), gated.client("sync") as client:
        gated.follows(client)
        target.pause_s = 0.3
        until_told(gated, client, lambda m1: "the target took" in m1.get("reason", ""))
        target.pause_s = 0.0
        until_told(gated, client, lambda m1: m1["lag_s"] < 1 and not m1["reason"])
        client.kill()
    gated.judge()


@pytest.mark.soak
def test_a_source_that_stalls_right_after_the_copy_is_told_and_waited_for(gated: Books, source: Proxy) -> None:
    """Each instance then asks the others where rows are that leave it."""
    with gated.writing():
        with gated.client("sync") as client:
            gated.follows(client)
            until_told(gated, client, lambda m1: m1.get("state") == "following")  # m2 alone may have got on
            source.stall()
            until_told(gated, client, lambda m1: "m1 (" in m1.get("reason", ""), 60)
            source.flow()
            gated.until_calm(client)
            client.kill()
            client.ended()
        assert "waiting: m1 (" in client.err
    gated.judge()
