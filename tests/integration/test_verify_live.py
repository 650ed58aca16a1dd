"""Verification beside the real sync and real traffic: postings on and across shards, all the time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
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
from tests.follower import await_true
from tests.soak import times as soak_times
from verify.changes import Order
from verify.evidence import keep
from verify.halts import following as sync_ages
from verify.journal import unverified
from verify.repair import repair
from verify.result import Result
from verify.run import verify_all, verify_checksum, verify_rows

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
def following(config: Config) -> Iterator[None]:
    """Sync runs, and has begun to follow."""
    command = [sys.executable, "-m", "migrate.cli", "-c", str(config.path), "sync"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while b"following" not in (line := process.stderr.readline()):
            assert line, "sync ended"
        try:
            yield
        finally:
            process.terminate()
            process.communicate(timeout=60)


def run_clean(config: Config, times: int) -> None:
    """So many verifications in a row, none of which sees a difference."""
    rows = set()
    for _ in range(times):
        result = verify_all(config)
        assert result.ok, result.text()
        assert all(cut.exact for cut in result.cuts)
        rows.add(entries(result))
        await_true(lambda: entries_of_shards(config) > max(rows))  # money moves between any two of them
    assert len(rows) == times


def entries(result: Result) -> int:
    return sum(t.source_rows for t in result.tables if t.target == "vlive.account_entry")


def entries_of_shards(config: Config) -> int:
    """The entries on the shards now."""
    found = 0
    for source in config.sources:
        with connect(source) as session:
            tables = session.query(
                "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA LIKE 'vlive\\_%' "
                "AND TABLE_NAME LIKE 'account\\_entry\\_%'"
            )
            found += sum(session.value(f"SELECT COUNT(*) FROM {schema}.{table}") for schema, table in tables)
    return found


def test_no_verification_of_a_live_ledger_sees_a_difference(config: Config) -> None:
    with following(config), Traffic(config.sources, str(config.pack), 20):
        run_clean(config, 4)
        with connect(config.target) as session:
            session.execute("UPDATE vlive.account_entry SET amount = amount + 0.01 ORDER BY id LIMIT 1")
        result = verify_checksum(config)
        assert [t.target for t in result.tables if not t.ok] == ["vlive.account_entry"]
        assert [t.by.get("direction") for t in result.totals or () if not t.ok].count("D") == 1


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_thirty_clean_verifications_and_then_every_fault_found_and_repaired(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Money moves all the time."""
    with ExitStack() as stack:
        stack.enter_context(Traffic(config.sources, str(config.pack), 20))
        with following(config):
            run_clean(config, soak_times(30, 15))
            planted = plant(config)
            result = verify_all(config)
            rows = [m for m in result.mismatches if m.source_row or m.target_row]  # the others are sums of accounts
            assert {m.key["id"]: (m.kind, m.at_risk) for m in rows if m.key} == planted
            assert {m.target for m in rows} == {"vlive.account_entry"}
            mended = repair(config, Order(True, "a test", "T-1"), run=keep(config, result).run)
            assert mended.ok, mended.text()
            assert len([c for c in mended.changes if c.state == "done"]) == len(planted)
            clean = verify_all(config)
            assert clean.ok, clean.text()
            keep(config, clean)
            assert unverified(config) == []
        seen = entries_of_shards(config)
        await_true(lambda: entries_of_shards(config) > seen + 20)
        with connect(config.target) as session:  # until its last sign of life is old
            await_true(lambda: min(sync_ages(session, config.name).values()) > 10)

        def catch_up(seconds: float) -> None:
            stack.enter_context(following(config))

        monkeypatch.setattr("verify.narrow.wait", catch_up)
        late = verify_rows(config, tables=["vlive.account_entry"])
        assert late.ok, late.text()
        assert {m.kind for m in late.mismatches} == {"late"}
        assert len(late.mismatches) > 20
        run_clean(config, 2)


def plant(config: Config) -> dict[str, tuple[str, dict[str, Decimal]]]:
    """An entry lost, one too many, one a cent off, on the target: key, kind and the money at risk."""
    columns = "voucher_id, direction, amount, currency, balance_before, balance_after"
    with connect(config.target) as session:
        rows = session.query("SELECT id, amount, currency FROM vlive.account_entry ORDER BY id LIMIT 3")
        (lost, more, off) = (int(row[0]) for row in rows)
        session.execute(f"DELETE FROM vlive.account_entry WHERE id = {lost}")
        session.execute(
            f"INSERT INTO vlive.account_entry SELECT -id, account_id, -seq, {columns}, 'extra', summary, created_at "
            f"FROM vlive.account_entry WHERE id = {more}"
        )
        session.execute(f"UPDATE vlive.account_entry SET amount = amount + 0.01 WHERE id = {off}")
    return {
        str(lost): ("missing", {rows[0][2]: rows[0][1]}),
        str(-more): ("extra", {rows[1][2]: rows[1][1]}),
        str(off): ("different", {rows[2][2]: Decimal("0.01")}),
    }
