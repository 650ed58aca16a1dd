"""Control totals, accounts and invariants of a seeded payment ledger: clean at first, and every planted fault named."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pymysql
import pytest
from click.testing import CliRunner

from migrate.catalog import read_catalog
from migrate.config import Config, load_config
from migrate.db import connect
from migrate.errors import ConfigError
from migrate.packs import pack_dir
from migrate.routes import resolve
from migrate.sandbox import Sandbox
from migrate.sandbox.layout import drop_schemas
from migrate.sandbox.seed import seed
from migrate.sandbox.workload import load_workload
from verify.cli import main
from verify.invariants import InvariantResult
from verify.result import Result
from verify.run import verify_all, verify_balances

ENTRIES = 1000
TABLES = ("account", "account_entry", "voucher", "payment_order", "refund")
RAW: dict[Any, Any] = dict(pymysql.converters.encoders)  # values come as the server's own text


@dataclass(frozen=True)
class Ledger:
    """A ledger on shards and, written by this module, on the target."""

    servers: Sandbox
    config: Config

    def on_target(self, *statements: str) -> None:
        with self.servers.target.connect(charset="utf8mb4") as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def ask(self, sql: str) -> list[Any]:
        with self.servers.target.connect(charset="utf8mb4", conv=RAW) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def mirror(self) -> None:
        """Makes the target what the shards together are."""
        catalog = []
        for source in self.config.sources:
            with connect(source) as session:
                catalog += read_catalog(session, source.name)
        self.on_target("DROP DATABASE IF EXISTS vbal", "CREATE DATABASE vbal")
        for merged in resolve(self.config, catalog).checked():
            for number, table in enumerate(merged.shards):
                server = self.servers.server(table.shard.instance)
                with server.connect(charset="utf8mb4", conv=RAW) as connection, connection.cursor() as cursor:
                    cursor.execute("SET time_zone = '+00:00'")
                    cursor.execute(f"SHOW CREATE TABLE {table.shard.sql}")
                    ddl = cursor.fetchone()[1].replace(f"`{table.shard.table}`", merged.target.sql, 1)
                    cursor.execute(f"SELECT * FROM {table.shard.sql}")
                    rows = cursor.fetchall()
                if number == 0:
                    self.on_target(ddl)
                with self.servers.target.connect(charset="utf8mb4") as connection, connection.cursor() as cursor:
                    cursor.execute("SET time_zone = '+00:00'")
                    values = ",".join(["%s"] * len(rows[0])) if rows else ""
                    if rows:
                        cursor.executemany(f"INSERT INTO {merged.target.sql} VALUES ({values})", rows)


@pytest.fixture(scope="module")
def ledger(servers: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    folder = tmp_path_factory.mktemp("balances")
    pack = folder / "pack"
    shutil.copytree(pack_dir("payment"), pack)
    for name in ("workload.toml", "ledger.toml"):
        text = (pack / name).read_text("utf-8")
        (pack / name).write_text(text.replace("payment_{:02d}", "vbal_{:02d}").replace("payment.", "vbal."), "utf-8")
    sources = load_config(servers.config).sources
    seed(sources, str(pack), ENTRIES, force=True)
    text = f'[migration]\nname = "b"\npack = "{pack}"\n'
    text += "".join(f'[[source]]\nname = "{s.name}"\nurl = "{s.url}"\n' for s in servers.sources)
    text += f'[target]\nurl = "{servers.target.url}"\n'
    text += "".join(f"[[route]]\nschema = 'vbal_\\d+'\ntable = '{t}_\\d+'\ntarget = \"vbal.{t}\"\n" for t in TABLES)
    text += "[[ignore]]\nschema = '(?!vbal_).*'\n"
    config = folder / "config.toml"
    config.write_text(text, "utf-8")
    ledger = Ledger(servers, load_config(config))
    ledger.mirror()
    yield ledger
    drop_schemas(load_workload(str(pack)).topology, sources)
    ledger.on_target("DROP DATABASE vbal")


@pytest.fixture
def planted(ledger: Ledger) -> Iterator[Ledger]:
    """The ledger, whose target is mirrored anew after the test."""
    yield ledger
    ledger.mirror()


def invariant(result: Result, name: str) -> InvariantResult:
    return next(i for i in result.invariants or () if i.name == name)


def broken(result: Result) -> set[str]:
    return {i.name for i in result.invariants or () if not i.ok}


def test_a_seeded_ledger_is_clean(ledger: Ledger) -> None:
    result = verify_balances(ledger.config)
    assert result.ok, result.text()
    assert {i.name for i in result.invariants or ()} >= {
        "debit_equals_credit",
        "balance_equals_opening_plus_entries",
        "balance_continuity",
        "no_orphan_entry",
        "idempotency_unique",
        "voucher_amount_equals_debits",
    }
    document = json.loads(json.dumps(result.document()))
    entries = [t for t in document["totals"] if t["table"] == "vbal.account_entry"]
    nets = [t for t in entries if "net" in t["source"]]
    entries = [t for t in entries if "net" not in t["source"]]
    assert sum(t["source"]["rows"] for t in nets) == sum(t["source"]["rows"] for t in entries) == ENTRIES
    assert {frozenset(t["by"]) for t in nets} == {frozenset(("currency", "day"))}
    assert sum(Decimal(t["source"]["net"]) for t in nets) == 0
    assert {frozenset(t["by"]) for t in entries} == {frozenset(("currency", "direction", "day"))}
    assert all(isinstance(t["source"]["amount"], str) and t["source"] == t["target"] for t in entries)
    by_shard = [t for t in document["shard_totals"] if t["table"] == "vbal.account_entry"]
    assert sum(t["source"]["rows"] for t in by_shard if "net" not in t["source"]) == ENTRIES
    assert {t["target"]: (t["missing"], t["extra"]) for t in document["tables"]} == {
        f"vbal.{t}": (0, 0) for t in TABLES
    }
    assert verify_all(ledger.config, strong=True).ok


def test_two_swapped_balances_are_named(planted: Ledger) -> None:
    rows = planted.ask("SELECT id, balance FROM vbal.account WHERE currency = 'CNY' ORDER BY balance LIMIT 2")
    (one, a), (other, b) = rows
    planted.on_target(f"UPDATE vbal.account SET balance = IF(id = {one}, {b}, {a}) WHERE id IN ({one}, {other})")
    result = verify_balances(planted.config)
    assert all(t.ok for t in result.totals or ())  # no sum tells it
    found = {str(m.key and m.key["id"]): (m.columns, m.source, m.target_values) for m in result.mismatches}
    assert found == {
        one: (("balance",), {"balance": a}, {"balance": b}),
        other: (("balance",), {"balance": b}, {"balance": a}),
    }
    offenders = {row["account"] for row in invariant(result, "balance_equals_opening_plus_entries").rows}
    assert offenders == {one, other}
    assert {row["account"] for row in invariant(result, "balance_continuity").rows} == {one, other}
    assert not next(t for t in result.tables if t.target == "vbal.account").ok


def test_a_cent_in_one_entry_is_named(planted: Ledger) -> None:
    ((entry, account, voucher, currency),) = planted.ask(
        "SELECT id, account_id, voucher_id, currency FROM vbal.account_entry WHERE direction = 'D' ORDER BY id LIMIT 1"
    )
    planted.on_target(f"UPDATE vbal.account_entry SET amount = amount + 0.0001 WHERE id = {entry}")
    result = verify_balances(planted.config)
    assert not result.ok
    wrong = [t for t in result.totals or () if not t.ok]
    assert [(t.table, t.by.get("direction")) for t in wrong] == [
        ("vbal.account_entry", "D"),
        ("vbal.account_entry", None),
    ]
    assert wrong[1].source is not None
    assert wrong[1].target is not None
    assert [b - a for a, b in zip(wrong[1].source.sums, wrong[1].target.sums, strict=True)] == [
        Decimal("0.0001"),
        Decimal("0.0000"),
        Decimal("-0.0001"),
    ]
    (mismatch,) = result.mismatches
    assert mismatch.key == {"account_id": account, "currency": currency}
    assert mismatch.columns == ("debit", "net")
    assert [r["voucher"] for r in invariant(result, "debit_equals_credit").rows] == [voucher]
    assert [r["entry"] for r in invariant(result, "balance_continuity").rows] == [entry]
    assert [r["account"] for r in invariant(result, "balance_equals_opening_plus_entries").rows] == [account]
    assert "voucher_amount_equals_debits" in broken(result)
    text = result.text()
    assert f"account_id={account}" in text
    assert f"voucher={voucher}" in text


def test_a_lost_entry_breaks_the_chain(planted: Ledger) -> None:
    ((entry, account, voucher),) = planted.ask(
        "SELECT id, account_id, voucher_id FROM vbal.account_entry "
        "WHERE seq = 2 AND direction = 'C' ORDER BY id LIMIT 1"
    )
    planted.on_target(f"DELETE FROM vbal.account_entry WHERE id = {entry}")
    result = verify_balances(planted.config)
    table = next(t for t in result.tables if t.target == "vbal.account_entry")
    assert (table.ok, table.missing, table.extra) == (False, 1, 0)
    assert [r["voucher"] for r in invariant(result, "debit_equals_credit").rows] == [voucher]
    ((hit),) = invariant(result, "balance_continuity").rows
    assert (hit["account"], hit["sequence"]) == (account, "3")


def test_the_last_entry_of_an_account_is_missed(planted: Ledger) -> None:
    ((account, seq),) = planted.ask("SELECT id, entry_seq FROM vbal.account WHERE entry_seq > 3 ORDER BY id LIMIT 1")
    planted.on_target(f"DELETE FROM vbal.account_entry WHERE account_id = {account} AND seq = {seq}")
    ((hit),) = invariant(verify_balances(planted.config), "balance_continuity").rows
    assert (hit["account"], hit["sequence"]) == (account, str(int(seq) - 1))


def test_orphans_are_named(planted: Ledger) -> None:
    ((voucher,),) = planted.ask("SELECT MIN(id) FROM vbal.voucher")
    ((account,),) = planted.ask("SELECT MIN(account_id) FROM vbal.account_entry")
    ((entries,),) = planted.ask(f"SELECT COUNT(*) FROM vbal.account_entry WHERE account_id = {account}")
    planted.on_target(
        f"UPDATE vbal.voucher SET id = -1 WHERE id = {voucher}", f"DELETE FROM vbal.account WHERE id = {account}"
    )
    found = invariant(verify_balances(planted.config), "no_orphan_entry")
    problems = [(r["problem"], r["refers to"]) for r in found.rows]
    assert problems.count(("entry without account", account)) == int(entries)
    assert ("entry without voucher", voucher) in problems
    assert ("voucher without entry", "-1") in problems


def test_a_young_voucher_may_miss_a_leg_only_while_money_moves(planted: Ledger) -> None:
    ((entry, voucher),) = planted.ask(
        "SELECT id, voucher_id FROM vbal.account_entry ORDER BY created_at DESC, id DESC LIMIT 1"
    )
    ((old,),) = planted.ask("SELECT id FROM vbal.account_entry ORDER BY created_at, id LIMIT 1")
    planted.on_target(f"DELETE FROM vbal.account_entry WHERE id IN ({entry}, {old})")
    strict = invariant(verify_balances(planted.config), "debit_equals_credit")
    live = invariant(verify_balances(planted.config, live=True), "debit_equals_credit")
    assert voucher in {r["voucher"] for r in strict.rows}
    assert voucher not in {r["voucher"] for r in live.rows}
    assert (strict.offenders, live.offenders) == (2, 1)


def test_an_idempotency_key_on_two_shards_is_named(planted: Ledger) -> None:
    """The target's unique key lets one of the two in, so only the shards can show it."""
    config = planted.config
    ((key,),) = planted.ask("SELECT MIN(idempotency_key) FROM vbal.account_entry")
    server = planted.servers.sources[0]
    with server.connect(database="vbal_00" if _has(server, "vbal_00") else "vbal_01") as connection:
        with connection.cursor() as cursor:
            cursor.execute("SHOW TABLES LIKE 'account\\_entry\\_%'")
            tables = [t for (t,) in cursor.fetchall()]
            for table in tables:  # a shard that doesn't have the key yet
                cursor.execute(f"SELECT COUNT(*) FROM {table} WHERE idempotency_key = %s", (key,))
                if cursor.fetchone() == (0,):
                    break
            cursor.execute(
                f"INSERT INTO {table} SELECT -id, account_id, -seq, voucher_id, direction, 0, currency, 0, 0, %s, "
                f"summary, created_at FROM {table} LIMIT 1",
                (key,),
            )
        try:
            found = invariant(verify_balances(config), "idempotency_unique")
            assert invariant(verify_all(config), "idempotency_unique").rows == found.rows
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f"DELETE FROM {table} WHERE id < 0")
    assert found.offenders == 1
    assert found.rows[0]["idempotency key"] == key
    assert f".{table}" in str(found.rows[0]["shards"])


def _has(server: Any, schema: str) -> bool:
    with server.connect() as connection, connection.cursor() as cursor:
        return bool(cursor.execute("SHOW DATABASES LIKE %s", (schema,)))


def test_an_idempotency_key_twice_on_the_target_is_named(planted: Ledger) -> None:
    rows = planted.ask("SELECT id, idempotency_key FROM vbal.voucher ORDER BY id LIMIT 2")
    (one, key), (other, _) = rows
    planted.on_target(
        "ALTER TABLE vbal.voucher DROP INDEX uk_idempotency",
        f"UPDATE vbal.voucher SET idempotency_key = '{key}' WHERE id = {other}",
    )
    (row,) = invariant(verify_balances(planted.config), "idempotency_unique").rows
    named = {"table": "vbal.voucher", "idempotency key": key, "times": "2", "first id": one}
    assert named.items() <= row.items() and row["last id"] == other


def test_a_warning_is_told_and_passes(planted: Ledger) -> None:
    path = Path(str(planted.config.pack)) / "ledger.toml"
    before = path.read_text("utf-8")
    path.write_text(
        before + "\n[[invariant]]\nname = 'odd'\nseverity = 'warning'\nsql = 'SELECT 1 AS one, 2'\n", "utf-8"
    )
    try:
        result = verify_balances(planted.config)
    finally:
        path.write_text(before, "utf-8")
    assert result.ok
    assert invariant(result, "odd").rows == ({"one": "1", "2": "2"},)
    assert "odd: WARNING: 1 offend" in result.text()


def test_the_limit_holds_for_offenders_and_accounts(planted: Ledger) -> None:
    planted.on_target("UPDATE vbal.account SET balance = balance + 1")
    result = verify_balances(planted.config, limit=3)
    found = invariant(result, "balance_equals_opening_plus_entries")
    assert (len(result.mismatches), len(found.rows)) == (3, 3)
    assert found.offenders > 3
    assert result.more


def test_an_interrupted_command_kills_its_statements(planted: Ledger) -> None:
    path = Path(str(planted.config.pack)) / "ledger.toml"
    before = path.read_text("utf-8")
    path.write_text(before + "\n[[invariant]]\nname = 'slow'\nsql = 'SELECT SLEEP(100) /* slow */'\n", "utf-8")
    running = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP(100)%'"
    try:
        with subprocess.Popen(
            [sys.executable, "-c", "from verify.cli import main; main()", "-c", str(planted.config.path), "balances"],
            stderr=subprocess.PIPE,
        ) as process:
            _until(lambda: planted.ask(running) == [("1",)])
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=20)
        assert process.returncode == 130
        assert b"interrupted" in error
        _until(lambda: planted.ask(running) == [("0",)])
    finally:
        path.write_text(before, "utf-8")


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_command_line(ledger: Ledger) -> None:
    done = CliRunner().invoke(main, ["-c", str(ledger.config.path), "balances", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["ok"] is True


def test_a_role_that_no_route_leads_to_is_an_error(ledger: Ledger, tmp_path: Path) -> None:
    text = ledger.config.path.read_text("utf-8")
    cut = text.replace(
        "table = 'refund_\\d+'\ntarget = \"vbal.refund\"", "table = 'refund_\\d+'\ntarget = \"vbal.other\""
    )
    path = tmp_path / "config.toml"
    path.write_text(cut, "utf-8")
    ledger.on_target("CREATE TABLE vbal.other LIKE vbal.refund")
    try:
        with pytest.raises(ConfigError, match=r"ledger.toml names vbal.refund, but no route leads to it"):
            verify_balances(load_config(path))
    finally:
        ledger.on_target("DROP TABLE vbal.other")
