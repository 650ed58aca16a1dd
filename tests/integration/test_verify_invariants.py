"""Every invariant has a violation that only it can see: both sides hold the same rows, and all totals stay right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import pytest

from migrate.config import Config
from migrate.db import connect
from migrate.ledger import BuiltIn, load_ledger
from migrate.sandbox import Sandbox
from tests.integration.books import BANK, DDL, HOLD, HOT, LOAN, Books
from tests.verify_lab import Lab
from verify.equations import Condition, Equation
from verify.invariants import InvariantResult
from verify.readers import Readers
from verify.result import Result
from verify.rules import rules
from verify.run import verify_all, verify_balances
from verify.suspects import Suspects
from verify.sweep import Sweep
from verify.tables import load

EXPECTED = """
[[equation]]
name = "payments_are_answered"
per = ["payment", "currency"]
left = [{ table = "$.posting", by = ["id", "currency"], sum = "amount", where = { status = "QUEUED" }, time = "at" }]
right = [{ table = "$.clearing", by = ["id", "currency"], sum = "amount", where = { status = "ANSWER" }, time = "at" }]
in_transit_s = 300
at_rest = true
"""

Changes = list[tuple[str, str, str]]  # table, SET, WHERE


@dataclass(frozen=True)
class Planted:
    name: str
    changes: Changes
    offenders: list[dict[str, str]]  # parts of rows
    amounts: dict[str, str] = field(default_factory=dict)


CASES = [
    Planted(
        "debit_equals_credit",
        [("entry", "voucher_id = IF(id = 5000, 1001, 1000)", "id IN (5000, 5002)")],
        [{"voucher": "1000", "debit": "2.10", "credit": "1.25"}, {"voucher": "1001", "debit": "1.25"}],
        {"CNY": "1.70"},
    ),
    Planted(
        "trial_balance",
        [("account", "opening = opening + 1, balance = balance + 1", "id = 10"),
         ("entry", "before_ = before_ + 1, after_ = after_ + 1", "account_id = 10"),
         ("snapshot", "balance = balance + 1", "account_id = 10")],
        [{"currency": "CNY"}],
        {"CNY": "1"},
    ),
    Planted(
        "balance_equals_opening_plus_entries",
        [("entry", "currency = 'USD'", "voucher_id = 1000")],
        [{"account": "10", "currency": "CNY"}, {"account": "10", "currency": "USD", "entries (debit +)": "1.25"},
         {"account": "20", "currency": "CNY"}, {"account": "20", "currency": "USD", "entries (debit +)": "-1.25"}],
    ),
    Planted(
        "balance_continuity",
        [("entry", "seq = IF(seq = 2, 3, 2)", "account_id = 20 AND seq IN (2, 3)")],
        [{"account": "20", "sequence": "2"}, {"account": "20", "sequence": "3"}, {"account": "20", "sequence": "4"}],
    ),
    Planted(
        "no_orphan_entry",
        [("voucher", "id = 99", "id = 1003")],
        [{"problem": "entry without voucher", "refers to": "1003"}, {"problem": "entry without voucher"},
         {"problem": "voucher without entry", "id": "99"}],
    ),
    Planted(
        "idempotency_unique",
        [("entry", "idem = 'K5004'", "id = 5009")],
        [{"idempotency key": "K5004", "first id": "5004", "last id": "5009"}],
    ),
    Planted("balance_nature", [("account", "kind = 'CUSTOMER'", f"id = {LOAN}")],
            [{"account": str(LOAN), "amount": "-70.0000"}], {"CNY": "70.0000"}),
    Planted(
        "sub_accounts_equal_master",
        [("account", "master = 6", "id = 30")],
        [{"master": "3", "balance of master": "13.50", "sub-accounts": "6.50"}, {"master": "6"}],
    ),
    Planted("buffer_drained", [("posting", "status = 'QUEUED'", "id = 602")], [{"posting": "602", "amount": "5"}],
            {"CNY": "5"}),
    Planted("escrow_equals_open_orders", [("orders", "status = 'DONE'", "id = 7000")],
            [{"account": str(HOLD), "held": "240.00", "open orders": "120.00"}], {"CNY": "120"}),
    Planted(
        "settlement_equals_details",
        [("detail", "batch = IF(batch = 800, 801, 800)", "id IN (8000, 8012)")],
        [{"batch": "800", "currency": "CNY", "batch amount": "6.00", "details": "8.01"}, {"batch": "801"}],
        {"CNY": "4.02"},
    ),
    Planted("settlement_equals_details", [("settlement", "merchant = 22", "id = 801")],
            [{"batch": "801", "account": "22", "posted": "0.0000"}]),
    Planted("reversal_matches_original", [("voucher", "original = 1002", "original IS NOT NULL")],
            [{"original": "1002", "problem": "not the amount or currency of the original"}]),
    Planted("instalments_within_hold", [("instalment", "number = 1", "id = 70032")],
            [{"hold": "7003", "instalment": "1", "times": "2"}], {"CNY": "40.0000"}),
    Planted("clearing_booked_once", [("clearing", "ref = 'R1'", "id = 902")],
            [{"channel": "WX", "ref": "R1", "times": "2"}]),
    Planted(
        "snapshot_equals_entries",
        [("snapshot", "account_id = IF(account_id = 10, 11, 10)", "account_id IN (10, 11) AND day = '2026-03-01'")],
        [{"account": "10", "day": "2026-03-01"}, {"account": "11", "day": "2026-03-01"}],
    ),
    Planted("no_dangling_reference", [("orders", "voucher_id = 3", "id = 7001")], [{"refers to": "3"}]),
    # what a rule's other parts see
    Planted("debit_equals_credit", [("entry", "direction = 'C', amount = -amount", "id = 5000")],
            [{"entry": "5000", "voucher": "1000", "direction": "C", "amount": "-1.2500"}]),
    Planted(
        "balance_continuity",
        [("entry", "after_ = after_ + IF(seq = 2, 1, 0), before_ = before_ + IF(seq = 3, 1, 0)",
          "account_id = 20 AND seq IN (2, 3)")],
        [{"account": "20", "sequence": "2"}, {"account": "20", "sequence": "3"}],
    ),
    Planted("balance_continuity", [("account", "seq = seq + 1", "id = 20")], [{"account": "20"}]),
    Planted("settlement_equals_details", [("settlement", "details = 2", "id = 800")],
            [{"batch": "800", "batch count": "2.00", "details": "3.00"}]),
    Planted("reversal_matches_original", [("voucher", "original = 9999", "original IS NOT NULL")],
            [{"original": "9999", "problem": "there is no original"}]),
    Planted("reversal_matches_original", [("voucher", "original = 1121", "id = 1123")],
            [{"original": "1121", "problem": "reversed more than once", "reversals": "2"}]),
    Planted("instalments_within_hold", [("orders", "amount = 100", "id = 7003")],
            [{"hold": "7003", "problem": "more is released than held", "released": "120.0000"}], {"CNY": "20"}),
    Planted("clearing_booked_once", [("clearing", "voucher_id = voucher_id - 1, amount = amount - 1", "id = 902")],
            [{"problem": "one voucher books more than one item", "first item": "901", "last item": "902"}]),
    Planted("clearing_booked_once", [("clearing", "amount = amount + 1", "id = 902")],
            [{"problem": "not booked by a voucher of its amount", "item": "902"}], {"CNY": "1"}),
    Planted("released_equals_instalments", [("instalment", "order_id = 7000, number = 9", "id = 70011")],
            [{"order": "7001", "left": "40.00", "right": "0.00"}, {"order": "7000", "right": "40.00"}]),
]  # fmt: skip


@pytest.fixture(scope="module")
def books(servers: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    lab = Lab(servers.sources, servers.target, tmp_path_factory.mktemp("books"), "vinv")
    yield Books(lab)
    lab.drop()


@pytest.fixture(scope="module")
def config(books: Books) -> Config:
    return books.config(books.lab.folder)


def found(result: Result, name: str) -> InvariantResult:
    return next(i for i in result.invariants or () if i.name == name)


def broken(result: Result) -> set[str]:
    return {i.name for i in result.invariants or () if i.offenders}


def test_the_books_are_clean_and_every_role_is_checked(config: Config) -> None:
    result = verify_all(config)
    assert result.ok, result.text()
    assert {i.name for i in result.invariants or ()} == {c.name for c in CASES} | {"no_large_posting"}
    assert {c.name for c in CASES} >= set(get_args(BuiltIn))
    on_both = {i.name for i in result.invariants or () if i.source is not None}
    assert on_both >= {"debit_equals_credit", "trial_balance", "balance_equals_opening_plus_entries", "buffer_drained",
                       "balance_continuity", "sub_accounts_equal_master", "escrow_equals_open_orders"}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.name}-{c.changes[0][0]}")
def test_only_it_sees_its_violation(books: Books, config: Config, case: Planted) -> None:
    for change in case.changes:
        books.change(*change)
    try:
        result = verify_balances(config)
    finally:
        books.restore(*{table for table, *_ in case.changes})
    assert broken(result) == {case.name}, result.text()
    assert not result.ok
    assert not result.mismatches and all(t.ok for t in result.totals or ())  # both sides agree
    invariant = found(result, case.name)
    assert invariant.offenders == len(case.offenders), invariant.rows
    for part in case.offenders:
        assert any(part.items() <= row.items() for row in invariant.rows), (part, invariant.rows)
    for currency, amount in case.amounts.items():
        assert str(invariant.target.prices[currency].normalize()) == str(
            type(invariant.target.prices[currency])(amount).normalize()
        )
    if invariant.source is not None and invariant.target.count and case.name != "idempotency_unique":
        both = invariant.source.count == invariant.target.count
        assert both or case.name in ("settlement_equals_details", "balance_continuity"), invariant.source


def test_a_fault_on_the_source_alone_is_told_as_such(books: Books, config: Config) -> None:
    books.lab.on_shard(0, f"UPDATE $.account_0 SET balance = balance + 5 WHERE id = {BANK}")
    try:
        result = verify_balances(config)
    finally:
        books.restore("account")
    invariant = found(result, "balance_equals_opening_plus_entries")
    assert invariant.where == "source" and [row["account"] for row in invariant.rows] == [str(BANK)]
    assert "on the source" in result.text()


def test_a_leg_under_way_is_in_transit_while_money_moves(books: Books, config: Config) -> None:
    """The last voucher's credit isn't in yet: neither its entry nor what it does to its account."""
    last = max(books.rows["entry"], key=lambda row: row[0])
    books.delete("entry", f"id = {last[0]}")
    books.change("account", f"balance = balance - {last[5]}, seq = seq - 1", f"id = {last[1]}")
    books.delete("clearing", f"voucher_id = {last[3]}")
    try:
        strict, live = verify_balances(config), verify_balances(config, live=True)
        books.change("entry", "at = at - INTERVAL 2 HOUR", f"voucher_id = {last[3]}")
        stale = verify_balances(config, live=True)
    finally:
        books.restore("entry", "account", "clearing")
    assert broken(strict) == {"debit_equals_credit", "trial_balance"}
    assert live.ok, live.text()
    moving = found(live, "debit_equals_credit").target
    assert (moving.in_transit, moving.oldest_s) == (1, 0)
    assert moving.in_transit_prices == {"CNY": last[5]}
    assert "1 in transit, the oldest since 0 s" in live.text()
    assert [row["voucher"] for row in found(stale, "debit_equals_credit").rows] == [str(last[3])]
    assert "trial_balance" in broken(stale)


def test_a_posting_may_wait_for_its_time_only_while_money_moves(books: Books, config: Config) -> None:
    books.change("posting", "status = 'QUEUED', at = '2026-03-05 00:00:00'", "id = 601")
    books.change("posting", "at = '2026-03-05 00:04:00'", "id = 602")
    try:
        waits = found(verify_balances(config, live=True), "buffer_drained")
        books.change("posting", "at = '2026-03-05 00:06:00'", "id = 602")
        late = found(verify_balances(config, live=True), "buffer_drained")
    finally:
        books.restore("posting")
    assert (waits.offenders, waits.target.in_transit, waits.target.oldest_s) == (0, 1, 240)
    assert (late.offenders, late.rows[0]["posting"]) == (1, "601")


def test_what_waits_for_somebody_else_is_in_transit_even_when_nothing_moves(books: Books, config: Config) -> None:
    """By roles and by an equation: shown with its age, the oldest first; and an offender once it is too old."""
    path = Path(str(config.pack)) / "ledger.toml"
    text = path.read_text("utf-8")
    waiting = text.replace("max_age_s = 300", 'max_age_s = 300\nat_rest = true\nitem = "payment"')
    waiting = waiting.replace("[[equation]]", EXPECTED.replace("$", books.lab.schema) + "[[equation]]", 1)
    path.write_text(waiting, "utf-8")
    books.change("posting", "status = 'QUEUED', at = '2026-03-05 00:00:00'", "id = 601")
    books.change("posting", "status = 'QUEUED', at = '2026-03-05 00:04:00'", "id = 602")
    try:
        waits = verify_balances(config)
        books.change("posting", "at = '2026-03-05 00:05:30'", "id = 602")
        late = verify_balances(config)
    finally:
        path.write_text(text, "utf-8")
        books.restore("posting")
    assert waits.ok, waits.text()
    held = found(waits, "buffer_drained").target
    assert [(row["payment"], row["age_s"]) for row in held.waiting] == [("601", "240"), ("602", "0")]
    assert held.in_transit_prices == {"CNY": 10}
    expected = found(waits, "payments_are_answered").target
    assert [(row["payment"], row["age_s"]) for row in expected.waiting] == [("601", "240"), ("602", "0")]
    assert "in transit: payment=601" in waits.text()
    assert broken(late) == {"buffer_drained", "payments_are_answered"}
    assert [row["payment"] for row in found(late, "buffer_drained").rows] == ["601"]
    assert [row["payment"] for row in found(late, "payments_are_answered").rows] == ["601"]
    assert found(late, "payments_are_answered").target.prices == {"CNY": 5}


def test_a_wrong_number_of_details_is_no_money(books: Books, config: Config) -> None:
    books.change("settlement", "details = 4", "id = 801")
    try:
        wrong = found(verify_balances(config), "settlement_equals_details")
    finally:
        books.restore("settlement")
    assert wrong.rows == ({"batch": "801", "batch count": "4.00", "details": "3.00"},)
    assert wrong.target.prices == {}


def test_two_wrong_accounts_do_not_cancel(books: Books, config: Config) -> None:
    books.change("account", "balance = balance + IF(id = 10, 7, -7)", "id IN (10, 11)")
    try:
        result = verify_balances(config)
    finally:
        books.restore("account")
    rows = found(result, "balance_equals_opening_plus_entries").rows
    assert [row["account"] for row in rows] == ["10", "11"]
    assert "trial_balance" not in broken(result)


def test_a_rule_of_the_users_own_shows_its_columns(books: Books, config: Config) -> None:
    books.change("posting", "amount = 2000000", "id = 600")
    try:
        result = verify_balances(config)
    finally:
        books.restore("posting")
    assert result.ok
    own = found(result, "no_large_posting")
    assert own.rows == ({"posting": "600", "amount": "2000000", "currency": "CNY"},)
    assert own.target.prices == {"CNY": 2000000}


def test_an_invariant_can_be_switched_off(books: Books, config: Config) -> None:
    path = Path(str(config.pack)) / "ledger.toml"
    text = path.read_text("utf-8")
    path.write_text(text + '\n[severity]\ntrial_balance = "off"\nbuffer_drained = "warning"\n', "utf-8")
    try:
        ledger = load_ledger(str(config.pack))
    finally:
        path.write_text(text, "utf-8")
    assert "trial_balance" not in ledger.built_in and ledger.built_in["buffer_drained"] == "warning"


def test_tikv_adds_up_all_that_the_equations_need(books: Books, config: Config) -> None:
    """One row a region leaves TiKV for a table; of what doesn't hold, one a bucket, or the keys of a few buckets."""
    with Readers(config) as readers, connect(config.target) as session:
        pairs = load(readers)
        listed = [part for rule in rules(load_ledger(str(config.pack))) for part in rule.parts]
        parts = [part for part in listed if isinstance(part, Equation | Condition)]
        sweep = Sweep(readers, pairs, parts, live=True, suspects=Suspects())
        statements = {sweep.sql(f"{books.lab.schema}.{table}", None)[0] for table in DDL}
        chain = next(part for part in parts if isinstance(part, Equation) and part.details)
        voucher = next(part for part in parts if isinstance(part, Equation) and part.tolerance_s)
        for part in (chain, voucher):
            statements |= {sql for _, sql in sweep.bucket_statements(part, False, 64)}
        for sql in statements:
            plan = [(row[0], row[2]) for row in session.query(f"EXPLAIN {sql}")]
            assert any("Agg" in name and task == "cop[tikv]" for name, task in plan), (sql, plan)
        for _, sql in sweep.key_statements(voucher, False, 64, (1, 2)):
            rows = [(row[0], row[2], row[4]) for row in session.query(f"EXPLAIN {sql}")]
            assert any("Selection" in name and task == "cop[tikv]" and "crc32" in info for name, task, info in rows)
            assert any("Agg" in name and task == "cop[tikv]" for name, task, _ in rows), rows


def test_hot_is_no_account_of_its_own(books: Books) -> None:
    assert [row for row in books.rows["entry"] if row[1] == HOT] == []
