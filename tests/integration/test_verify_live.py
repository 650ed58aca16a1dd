"""Verification beside the real sync and real traffic: postings on and across shards, all the time."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from migrate.config import Config, load_config
from migrate.db import connect
from migrate.packs import pack_dir
from migrate.sandbox import Sandbox
from migrate.sandbox.layout import drop_schemas
from migrate.sandbox.seed import seed
from migrate.sandbox.traffic import Traffic
from migrate.sandbox.workload import load_workload
from tests.soak import times as soak_times
from verify.run import verify_all, verify_checksum

TABLES = ("account", "account_entry", "voucher", "payment_order", "refund")


@pytest.fixture
def config(servers: Sandbox, tmp_path: Path) -> Iterator[Config]:
    """A seeded ledger that was copied, in databases of this test's own."""
    pack = tmp_path / "pack"
    shutil.copytree(pack_dir("payment"), pack)
    for name in ("workload.toml", "ledger.toml"):
        text = (pack / name).read_text("utf-8")
        (pack / name).write_text(text.replace("payment_{:02d}", "vlive_{:02d}").replace("payment.", "vlive."), "utf-8")
    sources = load_config(servers.config).sources
    seed(sources, str(pack), 1000, force=True)
    path = tmp_path / "config.toml"
    text = f'[migration]\nname = "{tmp_path.name}"\npack = "{pack}"\n'
    text += "".join(f'[[source]]\nname = "{s.name}"\nurl = "{s.url}"\n' for s in servers.sources)
    text += f'[target]\nurl = "{servers.target.url}"\n'
    text += "".join(f"[[route]]\nschema = 'vlive_\\d+'\ntable = '{t}_\\d+'\ntarget = \"vlive.{t}\"\n" for t in TABLES)
    path.write_text(text + "[[ignore]]\nschema = '(?!vlive_).*'\n", "utf-8")
    for verb in (["schema", "--execute"], ["copy"]):
        subprocess.run([sys.executable, "-m", "migrate.cli", "-c", str(path), *verb], check=True, capture_output=True)
    config = load_config(path)
    yield config
    drop_schemas(load_workload(str(pack)).topology, sources)
    with connect(config.target) as session:
        session.execute("DROP DATABASE IF EXISTS vlive")


@contextmanager
def live(config: Config, tps: float) -> Iterator[None]:
    """Sync follows, and money moves."""
    command = [sys.executable, "-m", "migrate.cli", "-c", str(config.path), "sync"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while b"following" not in (line := process.stderr.readline()):
            assert line, "sync ended"
        try:
            with Traffic(config.sources, str(config.pack), tps):
                yield
        finally:
            process.terminate()
            process.communicate(timeout=30)


@pytest.mark.parametrize(
    "times", [6, pytest.param(soak_times(30, 15), marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
def test_no_verification_of_a_live_ledger_sees_a_difference(config: Config, times: int) -> None:
    with live(config, tps=20):
        rows = set()
        for _ in range(times):
            result = verify_all(config)
            assert result.ok, result.text()
            assert all(cut.exact for cut in result.cuts)
            rows.add(sum(t.target_rows for t in result.tables))
            time.sleep(0.2)
        assert len(rows) == times  # money moved between any two of them
        with connect(config.target) as session:
            session.execute("UPDATE vlive.account_entry SET amount = amount + 0.01 ORDER BY id LIMIT 1")
        result = verify_checksum(config)
        assert [t.target for t in result.tables if not t.ok] == ["vlive.account_entry"]
        assert [t.by.get("direction") for t in result.totals or () if not t.ok].count("D") == 1
