"""Ctrl-C and SIGTERM in the middle: one line, nobody left, and the same command goes on."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from tests.faults.ledger import Migration


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
@pytest.mark.parametrize("stopped", [True, False], ids=["everybody", "parent"])
def test_copy_interrupted(migration: Migration, number: signal.Signals, stopped: bool) -> None:
    with migration.client("copy", MIGRATE_FAULT="after_chunk_loaded:stop:2") as client:
        client.until_stopped()
        workers = client.workers()
        if stopped:
            client.send(number)
        else:
            psutil.Process(client.pid).send_signal(number)
        client.fails(130, "interrupted; what was committed stays, the same command goes on from there")
        assert len(client.err.strip().splitlines()) == 1
        assert not psutil.wait_procs(workers, timeout=5)[1]
    assert 0 < migration.chunks() < 16
    migration.run("copy").ok()
    migration.assert_moved()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_export_interrupted(migration: Migration, tmp_path: Path, number: signal.Signals) -> None:
    command = ("export", "--out", str(tmp_path / "files"))
    with migration.client(*command, MIGRATE_FAULT="after_file_written:stop") as client:
        client.until_stopped().send(number)
        client.fails(130, "interrupted")
        assert len(client.err.strip().splitlines()) == 1
    migration.run(*command).ok()
    migration.run("load", "--from", str(tmp_path / "files")).ok()
    migration.assert_moved()
