"""workload.toml and what is made of it, without a server."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate.config import Endpoint, load_config
from migrate.errors import ConfigError
from migrate.packs import config_dir, pack_dir, pack_names
from migrate.sandbox.layout import plan_layout
from migrate.sandbox.postings import Accounts, Snowflake
from migrate.sandbox.rows import clock, money, render, tab_separated
from migrate.sandbox.seed import _tables, _weights
from migrate.sandbox.topology import LEDGER, Spots, Topology
from migrate.sandbox.workload import Generator, load_workload

SOURCES = tuple(Endpoint(f"m{n}", "127.0.0.1", 3300 + n, "u") for n in range(1, 5))
RNG = np.random.default_rng(7)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(pack_dir("payment"), tmp_path / "pack")
    return tmp_path / "pack"


def change(folder: Path, file: str, old: str, new: str) -> None:
    text = (folder / file).read_text("utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1), "utf-8")


@pytest.mark.parametrize("pack", pack_names())
def test_every_pack_can_be_made(pack: str) -> None:
    workload = load_workload(pack)
    counts = dict.fromkeys(workload.databases, 3) | {LEDGER: 2}
    tables = _tables(workload, Spots(workload.databases, counts), [0.5, 0.5], 1000, 1)
    assert {t for t, _, _ in tables} == set(workload.columns)
    for table, fields, _ in tables:
        texts = render(workload.columns[table], fields, workload.postings.scale, RNG)
        assert tab_separated(texts).count(b"\n") == len(fields["id"])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("cross_shard = 0.5", "cross_shards = 0.5", "postings.cross_shards: unknown key"),
        ("cross_shard = 0.5", "cross_shard = 1.5", "postings.cross_shard: "),
        ('"payment_{:02d}"', '"payment"', "topology.schema: expected a format of the number"),
        ('"300.00"', '"0.10"', "postings: amount: "),
        ('reverses = "PAY"', 'reverses = "TRANSFER"', "action[2].reverses: no action 'TRANSFER' with a document"),
        ('document = "payment.refund"', 'document = "payment.gone"', "action[2].document"),
        ('kind = "action"', 'kind = "actoin"', "columns.payment.voucher.kind"),
        ("status = { choice", "status = { value = 1, choice", "status: give one of field, choice, between, value"),
        ('kind = "action"', 'amount = "amount"', "columns.payment.voucher.amount: its role in ledger.toml"),
        ("entries_each = 50", "entries_each = 50\nnatures = { C = 1 }", "accounts.natures"),
    ],
)
def test_errors_name_file_and_key(folder: Path, old: str, new: str, words: str) -> None:
    change(folder, "workload.toml", old, new)
    with pytest.raises(ConfigError, match=r"workload\.toml: ") as error:
        load_workload(str(folder))
    assert words in str(error.value)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "source.sql").unlink()
    with pytest.raises(ConfigError, match=r"source\.sql: cannot read it"):
        load_workload(str(folder))


@given(st.integers(1, 4), st.integers(1, 50), st.integers(1, 500))
def test_shard_sets_are_dealt_evenly(instances: int, schemas: int, shards: int) -> None:
    topology = Topology.model_validate({"schema": "p_{:02d}"})
    sources = SOURCES[:instances]
    if schemas > shards:
        with pytest.raises(ConfigError, match="don't fill"):
            plan_layout(topology, sources, schemas, shards)
        return
    layout = plan_layout(topology, sources, schemas, shards)
    assert [p.number for p in layout] == list(range(shards))
    per_schema = Counter(p.schema for p in layout)
    assert len(per_schema) == schemas and max(per_schema.values()) - min(per_schema.values()) <= 1
    assert len({(p.schema, p.source) for p in layout}) == schemas
    per_source = Counter(s for _, s in {(p.schema, p.source) for p in layout})
    assert len(per_source) < instances or max(per_source.values()) - min(per_source.values()) <= 1


def test_the_default_layout_follows_the_topology() -> None:
    topology = load_workload("payment").topology
    assert len(plan_layout(topology, SOURCES[:2])) == 8
    assert len({p.schema for p in plan_layout(topology, SOURCES[:2])}) == 4
    big = plan_layout(topology, SOURCES, 41, 480)
    assert big[0].table("payment.account_entry") == "`payment_00`.`account_entry_00`"
    assert big[479].table("payment.refund").endswith("`.`refund_479`")
    assert len(plan_layout(topology, SOURCES, None, 1)) == 1


def ledger(rows: int, shards: int, skew: float = 0, pack: str = "payment") -> dict[str, dict[str, Any]]:
    made = _tables(load_workload(pack), Spots({}, {LEDGER: shards}), _weights(shards, skew), rows, 1)
    return {table: fields for table, fields, _ in made}


@pytest.mark.parametrize(("rows", "shards", "skew"), [(2, 1, 0.0), (3, 1, 0.0), (4999, 8, 0.0), (5000, 3, 0.9)])
def test_the_ledger_adds_up(rows: int, shards: int, skew: float) -> None:
    made = ledger(rows, shards, skew)
    entries, accounts = made["payment.account_entry"], made["payment.account"]
    assert len(entries["id"]) == rows == len(set(entries["id"].tolist()))
    sums: Counter[tuple[int, str]] = Counter()
    balance = dict(zip(accounts["id"].tolist(), accounts["opening"].tolist(), strict=True))
    sequence: Counter[int] = Counter()
    currency = dict(zip(accounts["id"].tolist(), accounts["currency"].tolist(), strict=True))
    for account, voucher, side, amount, before, after, number, money_of in zip(
        *(entries[f].tolist() for f in ("account", "voucher", "direction", "amount", "before", "after", "sequence",
                                        "currency")), strict=True
    ):  # fmt: skip
        signed = amount if side == "C" else -amount
        sums[voucher, money_of] += signed
        assert amount > 0 and before == balance[account] and after == before + signed >= 0
        balance[account] = after
        sequence[account] += 1
        assert number == sequence[account] and money_of == currency[account]
    assert not any(sums.values())
    assert balance == dict(zip(accounts["id"].tolist(), accounts["balance"].tolist(), strict=True))
    assert [sequence[a] for a in accounts["id"].tolist()] == accounts["sequence"].tolist()


def test_a_nature_column_decides_what_raises_a_balance(folder: Path) -> None:
    change(folder, "ledger.toml", 'increases = "C"', 'nature = "nature"')
    change(folder, "workload.toml", "entries_each = 50", "entries_each = 50\nnatures = { C = 1, D = 1 }")
    made = ledger(2000, 2, pack=str(folder))
    accounts, entries = made["payment.account"], made["payment.account_entry"]
    nature = dict(zip(accounts["id"].tolist(), accounts["nature"].tolist(), strict=True))
    assert set(nature.values()) == {"C", "D"}
    raised = entries["after"] > entries["before"]
    expected = [nature[a] == d for a, d in zip(entries["account"].tolist(), entries["direction"].tolist(), strict=True)]
    assert raised.tolist() == expected


@pytest.mark.parametrize("rows", range(2, 40))
def test_the_number_of_entries_is_exact(rows: int) -> None:
    made = ledger(rows, 2)
    assert len(made["payment.account_entry"]["id"]) == rows == made["payment.voucher"]["legs"].sum()


def test_refunds_reverse_earlier_orders_once() -> None:
    made = ledger(20_000, 4)
    orders, refunds = made["payment.payment_order"], made["payment.refund"]
    known = dict(zip(orders["id"].tolist(), zip(*(orders[f].tolist() for f in ("debit", "credit", "amount", "time")),
                                                strict=True), strict=True))  # fmt: skip
    originals = refunds["original"].tolist()
    assert len(originals) > 300 and len(set(originals)) == len(originals)
    for original, debit, credit, amount, when in zip(
        originals, *(refunds[f].tolist() for f in ("debit", "credit", "amount", "time")), strict=True
    ):
        payer, payee, paid, earlier = known[original]
        assert (payer, payee) == (credit, debit) and 0 < amount <= paid and earlier <= when


def test_actions_and_cross_shard_postings_come_in_their_proportions() -> None:
    made = ledger(50_000, 8)
    vouchers = made["payment.voucher"]
    parts = Counter(vouchers["action"].tolist())
    total = len(vouchers["id"])
    assert 0.6 < parts["TRANSFER"] / total < 0.7 and 0.2 < parts["PAY"] / total < 0.3
    cross = (vouchers["debit"] % 8 != vouchers["credit"] % 8).mean()
    assert 0.38 < cross < 0.5  # 0.5 of them look on any of 8 shards and find their own on one of the 8
    assert 0.08 < (vouchers["legs"] == 3).mean() < 0.12


def test_accounts_without_a_partner_are_refused() -> None:
    with pytest.raises(ConfigError, match="two accounts of each currency"):
        Accounts(np.arange(3), np.array([0, 0, 1]), ["CNY"] * 3, ["C"] * 3, [0.5, 0.5])


def test_snowflakes_are_unique_and_ordered() -> None:
    ids = Snowflake(5, counter=4090).take(np.repeat(np.arange(1_800_000_000_000, 1_800_000_000_010), 1000))
    assert len(set(ids.tolist())) == 10_000 and ids.max() < 2**63
    assert (np.diff(ids >> 22) >= 0).all()


@given(st.integers(-(10**17), 10**17), st.integers(0, 9))
def test_money_is_exact(units: int, scale: int) -> None:
    text = money(units, scale)
    assert int(text.replace(".", "")) == units and len(text.partition(".")[2]) == scale


def test_rows_are_rendered_and_escaped() -> None:
    columns = {
        "id": Generator(field="id", format="PO{}"),
        "text": Generator(choice=("tab\t, line\n, back\\slash, 𠮷😀",)),
        "nothing": Generator(value="x", null=1.0),
        "number": Generator(between=(3, 3), format="{:04d}"),
        "at": Generator(field="time"),
    }
    fields = {"id": np.array([7]), "time": np.array([1_767_225_600_001])}
    texts = render(columns, fields, 4, RNG)
    assert texts["at"] == ["2026-01-01 00:00:00.001"] == clock(fields["time"])
    assert tab_separated(texts).decode() == (
        "PO7\ttab\\t, line\\n, back\\\\slash, 𠮷😀\t\\N\t0003\t2026-01-01 00:00:00.001\n"
    )


def test_a_field_that_the_row_lacks_is_named() -> None:
    with pytest.raises(KeyError, match="original"):
        render({"x": Generator(field="original")}, {"id": np.array([1])}, 4, RNG)


def test_the_config_of_the_full_topology_routes_every_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYSQL_PASSWORD", "x")
    monkeypatch.setenv("TIDB_PASSWORD", "x")
    config = load_config(config_dir() / "payment-480.toml")
    workload = load_workload("payment")
    layout = plan_layout(workload.topology, config.sources, 41, 480)
    assert len({p.source.name for p in layout}) == len(config.sources) == 4
    assert len({p.schema for p in layout}) == 41
    for place in layout:
        for target in workload.columns:
            schema, table = place.table(target).replace("`", "").split(".")
            assert [r.target for r in config.routes if r.matches(schema, table)] == [target]


def test_draws_are_the_same_for_the_same_seed() -> None:
    workload = load_workload("payment")
    first, second = (_tables(workload, Spots({}, {LEDGER: 2}), [0.5, 0.5], 500, 3) for _ in range(2))
    for (_, one, _), (_, other, _) in zip(first, second, strict=True):
        assert all((one[f] == other[f]).all() for f in one)
