"""Flows of workload.toml, without a server: what is refused, and that what they make adds up."""

from __future__ import annotations

import shutil
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from migrate.errors import ConfigError
from migrate.packs import pack_dir, pack_names
from migrate.sandbox.flowseed import Made, flow_tables
from migrate.sandbox.topology import LEDGER, Spots
from migrate.sandbox.workload import Workload, load_workload

NOW_MS = 1_800_000_000_000


def made_of(workload: Workload, rows: int, seed: int, shards: int = 2) -> Made:
    """The seed on so many shard sets of the accounts' database, and one more of every other."""
    counts = {name: shards + 1 for name in workload.databases} | {LEDGER: shards}
    return flow_tables(workload, Spots(workload.databases, counts), [1 / shards] * shards, rows, seed, NOW_MS)


PACKS = [pack for pack in pack_names() if load_workload(pack).flows]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"D payer amount", "C buffer amount"', '"D payer amount", "C bufer amount"', "bufer amount: no such account"),
        ('"D payer amount", "C buffer amount"', '"payer amount"', "expected D|C ACCOUNT AMOUNT"),
        ('"master.balance + part"', '"master.balance + share"', "master share: no such account, or no such amount"),
        ('"BUFFER near payer"', '"BUFFER near payee"', "accounts.buffer: payee isn't picked before it"),
        ('"BUFFER near payer"', '"BUFER near payer"', "flow[0].accounts: no kind 'BUFER'"),
        ('from = "MERGED"', 'from = "MERGD"', "from: no step leads to 'MERGD'"),
        ('batch = "bookkeeping.batch"', 'batch = "bookkeeping.gone"', "flow[0]: no columns.'bookkeeping.gone'"),
        ('held = "held"', 'held = "hold"', "columns.bookkeeping.account.held: unknown field 'hold'"),
        ("each = 1\nbalances", "each = 1\nshare = 3\nbalances", "give one of share, each, total, parts_of"),
    ],
)
def test_errors_name_file_and_key(tmp_path: Path, old: str, new: str, words: str) -> None:
    folder = shutil.copytree(pack_dir("bookkeeping"), tmp_path / "pack")
    text = (folder / "workload.toml").read_text("utf-8")
    assert old in text
    (folder / "workload.toml").write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(ConfigError, match=r"workload\.toml: ") as error:
        load_workload(str(folder))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('by = "owner"', 'by = "user"', "database.flow.by: "),
        ('tables = ["wallet.flow"]', 'tables = ["wallet.flov"]', "database.flow: wallet.flov is of another database"),
        ('"wallet.payout"]', '"wallet.payout", "wallet.entry"]', "database.settlement: wallet.entry "),
        ('"wallet.clearing_file", "wallet', '"wallet.flow", "wallet', "wallet.flow is of another database"),
        ("apart = true", 'apart = true\nlegs = ["D peer part", "C bank part"]', "apart: only of a step that merges"),
        ('updates = ["wallet.clearing_item', 'updates = ["wallet.clearing_file', "need the fields document and status"),
        (
            '"each wallet.settlement_detail near peer"',
            '"each wallet.settlement_detail near pier"',
            "pier amount: no such",
        ),
        ('"wallet.settlement near peer"', '"wallet.settlement near pier"', "pier amount: no such account"),
        ('"owner of user"', '"owner of payer"', "unknown field 'owner of payer'"),
    ],
)
def test_errors_of_databases_name_file_and_key(tmp_path: Path, old: str, new: str, words: str) -> None:
    folder = shutil.copytree(pack_dir("wallet"), tmp_path / "pack")
    text = (folder / "workload.toml").read_text("utf-8")
    assert old in text
    (folder / "workload.toml").write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(ConfigError, match=r"workload\.toml: ") as error:
        load_workload(str(folder))
    assert words in str(error.value)


def test_rows_lie_with_an_account_or_with_its_owner() -> None:
    databases = load_workload("wallet").databases
    spots = Spots(databases, {LEDGER: 4, "flow": 6, "clearing": 2, "settlement": 4})
    assert spots.spot(None, 7, 100) == spots.spot("wallet.voucher", 7, 100) == 3
    assert spots.spot("wallet.flow", 7, 100) == 4 + 100 % 6
    assert spots.spot("wallet.clearing_item", 7, 101) == 4 + 6 + 1
    assert spots.spot("wallet.payout", 7, 103) == 4 + 6 + 2 + 3


def test_a_batch_that_lists_documents_lets_them_go_on_one_by_one() -> None:
    """As many items as flows that were filed, each with the status of its flow; batches of payments keep together."""
    workload = load_workload("wallet")
    made = {table: fields for table, fields, _ in made_of(workload, 1500, 5)}
    flows, items = made["wallet.flow"], made["wallet.clearing_item"]
    status = dict(zip(flows["id"], flows["status"], strict=True))
    filed = [id for id, kind, s in zip(flows["id"], flows["action"], flows["status"], strict=True)
             if kind == "TOPUP" and s in ("FILED", "CLEARED")]  # fmt: skip
    assert sorted(filed) == sorted(items["document"])
    assert all(status[d] == s for d, s in zip(items["document"], items["status"], strict=True))
    vouchers = [v for v in items["voucher"] if v is not None]
    assert len(set(vouchers)) == len(vouchers) == list(items["status"]).count("CLEARED")
    batches = made["wallet.settlement"]
    of = Counter(b for k, b in zip(flows["action"], flows["batch"], strict=True) if k == "PAY" and b is not None)
    assert of == {b: int(n) for b, n in zip(batches["id"], batches["count"], strict=True)}
    assert len(made["wallet.payout"]["id"]) == list(batches["status"]).count("PAID")


def test_flows_without_a_beginning_end_with_the_seed() -> None:
    made = {table: fields for table, fields, _ in made_of(load_workload("wallet"), 400, 7)}
    last = datetime.fromisoformat(max(made["wallet.entry"]["time"])).replace(tzinfo=UTC)
    assert 0 < NOW_MS / 1000 - last.timestamp() < 86400


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize(("rows", "shards"), [(2, 1), (1500, 3)])
def test_what_flows_make_adds_up(pack: str, rows: int, shards: int) -> None:
    workload = load_workload(pack)
    made = {table: fields for table, fields, _ in made_of(workload, rows, 1, shards)}
    entries, accounts = made[workload.entry_table], made[workload.account_table]
    assert rows <= len(entries["id"]) < rows + 200
    net: Counter[tuple[str, str]] = Counter()
    for voucher, currency, side, amount in zip(
        *(entries[f] for f in ("voucher", "currency", "direction", "amount")), strict=True
    ):
        net[voucher, currency] += Decimal(amount) if side == "D" else -Decimal(amount)  # type: ignore[assignment]
    assert not any(net.values())
    masters = {kind.parts_of for kind in workload.kinds.values()}
    trial: Counter[str] = Counter()
    for kind, nature, currency, balance in zip(
        *(accounts[f] for f in ("kind", "nature", "currency", "balance")), strict=True
    ):
        assert Decimal(balance) >= 0
        if kind not in masters:
            trial[currency] += Decimal(balance) if nature == "D" else -Decimal(balance)  # type: ignore[assignment]
    assert not any(trial.values())


@pytest.mark.parametrize("pack", PACKS)
def test_the_same_numbers_make_the_same_rows(pack: str) -> None:
    workload = load_workload(pack)
    first, second = (made_of(workload, 400, 7) for _ in range(2))
    for (table, one, _), (_, other, _) in zip(first, second, strict=True):
        assert all((one[f] == other[f]).all() for f in one), table


@pytest.mark.parametrize("pack", PACKS)
def test_nothing_is_left_that_must_be_settled(pack: str) -> None:
    workload = load_workload(pack)
    made = {table: fields for table, fields, _ in made_of(workload, 1000, 3)}
    for flow in workload.flows:
        if flow.table and "status" in made[flow.table]:
            assert not set(flow.settle) & set(made[flow.table]["status"])
