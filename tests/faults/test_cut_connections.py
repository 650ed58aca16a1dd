"""Connections that end at the worst moment: every chunk is in exactly once, and what the message says is true."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Literal

import pytest

from tests.faults.ledger import Ledger, Migration
from tests.proxy import Proxy, proxy

Make = Callable[..., Migration]


@pytest.fixture
def target(ledger: Ledger) -> Iterator[Proxy]:
    """A proxy before the target."""
    with proxy(ledger.sandbox.target.port) as made:
        yield made


@pytest.fixture
def source(ledger: Ledger) -> Iterator[Proxy]:
    """A proxy before the first source."""
    with proxy(ledger.sandbox.sources[0].port) as made:
        yield made


def through(ledger: Ledger, gate: Proxy, name: str) -> dict[str, str]:
    """The URL of a server by way of the proxy, as an option of a migration."""
    server = ledger.sandbox.server("tidb" if name == "target" else name)
    return {name: server.url.replace(f":{server.port}", f":{gate.port}")}


def test_source_cut_while_it_is_read(ledger: Ledger, source: Proxy, migrations: Make) -> None:
    migration = migrations(ledger, **through(ledger, source, "m1"))
    source.cut_after(30_000, "down", times=3, having=b"SELECT CONCAT(")
    client = migration.run("copy").ok()
    assert source.cuts == 3
    assert "waiting: m1 (" in client.err
    migration.assert_moved()


def test_source_cut_while_it_is_exported(ledger: Ledger, source: Proxy, migrations: Make) -> None:
    migration = migrations(ledger, **through(ledger, source, "m1"))
    source.cut_after(100_000, "down", times=3, having=b"SELECT CONCAT(")
    out = str(migration.folder / "files")
    assert "waiting: m1 (" in migration.run("export", "--out", out).ok().err
    migration.run("load", "--from", out).ok()
    migration.assert_moved()


def test_target_cut_while_it_loads(ledger: Ledger, target: Proxy, migrations: Make) -> None:
    migration = migrations(ledger, **through(ledger, target, "target"))
    target.cut_after(20_000, "up", times=3, having=b"LOAD DATA")
    client = migration.run("copy").ok()
    assert target.cuts == 3
    assert "waiting: target (" in client.err
    migration.assert_moved()


@pytest.mark.parametrize("when", ["before", "after"])
def test_commit_unanswered(ledger: Ledger, target: Proxy, migrations: Make, when: Literal["before", "after"]) -> None:
    migration = migrations(ledger, **through(ledger, target, "target"))
    target.cut_commit(when)
    client = migration.run("copy").ok()
    assert target.cuts == 1
    assert "the answer to COMMIT was lost" in client.err
    migration.assert_moved()


@pytest.mark.parametrize("when", ["before", "after"])
def test_commit_unanswered_and_the_target_gone(
    ledger: Ledger, target: Proxy, migrations: Make, when: Literal["before", "after"]
) -> None:
    migration = migrations(ledger, patience_s=2, **through(ledger, target, "target"))
    target.cut_commit(when, then_refuse=True)
    migration.run("copy", "--workers", "1").fails(4, "the answer to COMMIT was lost")
    assert migration.chunks() == (when == "after")
    target.accept()
    migration.run("copy").ok()
    migration.assert_moved()


@pytest.mark.parametrize("name", ["m1", "target"])
def test_server_gone_for_good(ledger: Ledger, target: Proxy, source: Proxy, migrations: Make, name: str) -> None:
    gate = source if name == "m1" else target
    migration = migrations(ledger, patience_s=2, **through(ledger, gate, name))
    with migration.client("copy", MIGRATE_FAULT="after_chunk_commit:stop") as client:
        client.until_stopped()
        gate.refuse()
        for worker in client.workers():
            worker.resume()
        client.fails(3, f"error: {name} (", f":{gate.port})", "waiting: ")
    assert 0 < migration.chunks() < 16
    gate.accept()
    migration.run("copy").ok()
    migration.assert_moved()


@pytest.mark.parametrize("name", ["m1", "target"])
def test_server_down_at_the_start(ledger: Ledger, target: Proxy, source: Proxy, migrations: Make, name: str) -> None:
    gate = source if name == "m1" else target
    url = through(ledger, gate, name)
    hasty, migration = migrations(ledger, patience_s=2, **url), migrations(ledger, patience_s=30, **url)
    gate.refuse()
    client = hasty.run("copy").fails(3, f"error: {name} (", f":{gate.port})", "refused")
    assert client.err.count("waiting: ") >= 2
    threading.Timer(1.5, gate.accept).start()
    assert "waiting: " in migration.run("copy").ok().err
    migration.assert_moved()


def test_a_stall_is_waited_for(ledger: Ledger, target: Proxy, migrations: Make) -> None:
    migration = migrations(ledger, **through(ledger, target, "target"))
    with migration.client("copy", MIGRATE_FAULT="after_chunk_commit:stop") as client:
        client.until_stopped()
        target.stall()
        threading.Timer(3, target.flow).start()
        for worker in client.workers():
            worker.resume()
        client.ok()
    migration.assert_moved()
