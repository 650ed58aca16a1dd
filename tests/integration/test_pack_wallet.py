"""The wallet pack from the seed to the proof: four databases with sharding keys of their own, posted to asynchronously,
cleared, settled, and broken in its own terms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from migrate.sandbox import Sandbox, Server
from migrate.sandbox.layout import find_layout
from tests.integration.pack_lab import Fault, PackLab
from verify.run import verify_all, verify_balances


@pytest.fixture(scope="module")
def lab(servers: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PackLab]:
    lab = PackLab("wallet", "pwallet", servers.sources, servers.target, tmp_path_factory.mktemp("pwallet"))
    lab.migrated(1500)
    yield lab
    lab.drop()


def test_a_seed_is_migrated_and_clean(lab: PackLab) -> None:
    result = verify_all(lab.config)
    assert result.ok, result.text()
    checked = {i.name for i in result.invariants or ()}
    assert checked >= {"buffer_drained", "clearing_booked_once", "settlement_equals_details", "clearing_equals_flows",
                       "every_flow_is_posted_once", "channel_owes_uncleared_flows", "every_settlement_is_paid_once",
                       "payable_equals_unpaid_settlements"}  # fmt: skip
    assert not any(i.offenders for i in result.invariants or ()), result.text()
    assert lab.at_target("SELECT MAX(payments) > 1, COUNT(DISTINCT status) FROM $.settlement") == [(1, 2)]
    assert lab.at_target("SELECT MAX(items) > 1 FROM $.clearing_file") == [(1,)]
    assert lab.at_target("SELECT COUNT(DISTINCT status) FROM $.clearing_item") == [(2,)]


def test_every_database_has_shards_and_a_key_of_its_own(lab: PackLab) -> None:
    layout = find_layout(lab.workload, lab.endpoints)
    counts = {name: sum(p.database == name for p in layout) for name in lab.workload.topologies}
    assert counts == {"ledger": 4, "flow": 6, "clearing": 2, "settlement": 4}
    keys = {"flow": "user_id", "entry": "account_id", "clearing_item": "channel_id", "payout": "merchant_id"}
    for table, key in keys.items():
        for place in lab.places(table):
            many = len(lab.places(table))
            strangers = lab.on_shard(place, f"SELECT COUNT(*) FROM {{{table}}} WHERE {key} % {many} <> {place.number}")
            assert strangers == [(0,)], (table, place)


def test_what_is_in_transit_is_shown_and_offends_nothing(lab: PackLab) -> None:
    """Nothing moves, and the channels' files of tomorrow aren't here yet."""
    uncleared = "kind = 'TOPUP' AND status = 'POSTED'"
    ((count, total),) = lab.at_target(
        f"SELECT COUNT(*), SUM(amount) FROM $.flow WHERE {uncleared} AND currency = 'CNY'"
    )
    oldest = lab.at_target(f"SELECT id FROM $.flow WHERE {uncleared} ORDER BY created_at LIMIT 1")[0][0]
    waits = next(i for i in verify_balances(lab.config).invariants or () if i.name == "buffer_drained")
    assert waits.ok and not waits.offenders
    assert waits.target.in_transit > count > 0
    assert waits.target.in_transit_prices["CNY"] > total
    shown = {row.get("uncleared flow"): row for row in waits.target.waiting}
    assert 0 < int(shown[str(oldest)]["age_s"] or 0) <= 3 * 86400
    assert {name for row in waits.target.waiting for name in row} >= {
        "uncleared flow", "unbooked item", "unsettled flow", "unpaid settlement",
    }  # fmt: skip
    ages = [int(row["age_s"] or 0) for row in waits.target.waiting]
    assert ages == sorted(ages, reverse=True) and ages[0] == waits.target.oldest_s
    broken = lab.wrong(f"UPDATE {{flow}} SET created_at = created_at - INTERVAL 3 DAY WHERE id = {oldest}")
    late = broken.pop("buffer_drained")
    assert not broken
    assert [row["uncleared flow"] for row in late.rows] == [str(oldest)]


_FLOW = "id, user_id, user_account_id, peer_account_id, kind, amount, currency, status, channel_ref, created_at"
_ITEM = "id, file_id, channel_id, channel_ref, flow_id, amount, fee, net, currency, status, voucher_id, received_at"
_PAYOUT = "id, settlement_id, merchant_id, amount, currency, bank_ref, voucher_id, paid_at"


def _copied(columns: str, table: str, **changed: str) -> str:
    """A row once more, with another id."""
    values = ", ".join(changed.get(name, name) for name in columns.split(", "))
    return f"INSERT INTO {{{{{table}}}}} ({columns}) SELECT {values} FROM {{{{{table}}}}} WHERE id = {{0}}"


_BALANCE = ("balance_continuity",)
FAULTS = [
    Fault("a clearing item booked twice",
          "SELECT id, channel_id, channel_ref, currency, amount FROM $.clearing_item WHERE status = 'CLEARED' LIMIT 1",
          (_copied(_ITEM, "clearing_item", id="7"),),
          "clearing_booked_once", {"channel_ref": "{2}", "channel_id": "{1}", "times": "2", "last item": "{0}"},
          "{4}", "{3}", ("clearing_equals_flows", "settlement_equals_details")),
    Fault("two items booked by one voucher",
          "SELECT a.id, b.id, b.voucher_id, a.currency, LEAST(a.amount, b.amount) FROM $.clearing_item a JOIN "
          "$.clearing_item b ON b.currency = a.currency AND b.amount > a.amount WHERE a.status = 'CLEARED' AND "
          "b.status = 'CLEARED' LIMIT 1",
          ("UPDATE {{clearing_item}} SET voucher_id = {2} WHERE id = {0}",),
          "clearing_booked_once", {"voucher": "{2}", "times": "2"}, None, None, ()),
    Fault("a flow that was never posted",
          "SELECT id, user_account_id, amount, currency FROM $.flow WHERE status = 'POSTED' LIMIT 1",
          (_copied(_FLOW, "flow", id="7", status="'RECEIVED'", channel_ref="CONCAT(channel_ref, 'X')"),),
          "buffer_drained", {"unposted flow": "7", "account": "{1}", "amount": "{2}"}, "{2}", "{3}", ()),
    Fault("a flow that is said to be posted and wasn't",
          "SELECT id, voucher_id, amount, currency FROM $.flow WHERE kind = 'TRANSFER' AND status = 'POSTED' LIMIT 1",
          (_copied(_FLOW, "flow", id="7", channel_ref="CONCAT(channel_ref, 'X')"),),
          "every_flow_is_posted_once", {"flow": "7", "right": "0.00", "currency": "{3}"}, "{2}", "{3}", ()),
    Fault("a top-up that its channel never reported",
          "SELECT id, peer_account_id, currency, amount, channel_ref FROM $.flow WHERE kind = 'TOPUP' AND "
          "status = 'POSTED' LIMIT 1",
          ("UPDATE {{flow}} SET status = 'CLEARED' WHERE id = {0}",),
          "channel_owes_uncleared_flows", {"account": "{1}", "currency": "{2}"}, "{3}", "{2}",
          ("clearing_equals_flows",)),
    Fault("an item that says another amount than its flow",
          "SELECT id, channel_ref, currency, amount FROM $.clearing_item WHERE status = 'FILED' LIMIT 1",
          ("UPDATE {{clearing_item}} SET amount = amount + 10, net = net + 10 WHERE id = {0}",),
          "clearing_equals_flows", {"channel ref": "{1}", "currency": "{2}"}, "10", "{2}",
          ("settlement_equals_details",)),
    Fault("a clearing file that isn't its items",
          "SELECT id, currency FROM $.clearing_file LIMIT 1",
          ("UPDATE {{clearing_file}} SET amount = amount + 0.01 WHERE id = {0}",),
          "settlement_equals_details", {"batch": "{0}", "currency": "{1}"}, "0.01", "{1}", ()),
    Fault("a settlement batch whose details don't add up to it",
          "SELECT id, settlement_id, currency, flow_id FROM $.settlement_detail LIMIT 1",
          ("UPDATE {{settlement_detail}} SET amount = amount - 0.25 WHERE id = {0}",),
          "settlement_equals_details", {"batch": "{1}", "currency": "{2}"}, "0.25", "{2}",
          ("settlement_equals_flows",)),
    Fault("a settlement that keeps a cent",
          "SELECT id, currency FROM $.settlement WHERE status = 'PAID' LIMIT 1",
          ("UPDATE {{settlement}} SET fee = fee - 0.01 WHERE id = {0}",),
          "settlement_adds_up", {"settlement": "{0}", "currency": "{1}"}, "0.01", "{1}", ()),
    Fault("a payout paid twice",
          "SELECT id, settlement_id, amount, currency FROM $.payout LIMIT 1",
          (_copied(_PAYOUT, "payout", id="7", bank_ref="CONCAT(bank_ref, 'X')"),),
          "every_settlement_is_paid_once", {"settlement": "{1}", "currency": "{3}"}, "{2}", "{3}", ()),
    Fault("a settlement said to be paid that wasn't",
          "SELECT id, payable_account_id, net, currency FROM $.settlement WHERE status = 'SETTLED' LIMIT 1",
          ("UPDATE {{settlement}} SET status = 'PAID' WHERE id = {0}",),
          "every_settlement_is_paid_once", {"settlement": "{0}", "right": "0.00"}, "{2}", "{3}",
          ("payable_equals_unpaid_settlements",)),
    Fault("an entry moved to another account",
          "SELECT e.id, e.account_id, b.id, e.currency, 2 * e.amount FROM $.entry e JOIN $.account a ON a.id = "
          "e.account_id AND a.kind = 'CUSTOMER' JOIN $.account b ON b.kind = 'CUSTOMER' AND b.currency = a.currency "
          "AND b.id <> a.id AND b.id % 4 = a.id % 4 LIMIT 1",
          ("UPDATE {{entry}} SET account_id = {2}, seq = seq + 1000 WHERE id = {0}",),
          "balance_equals_opening_plus_entries", ({"account": "{1}", "currency": "{3}"}, {"account": "{2}"}),
          "{4}", "{3}", _BALANCE),
    Fault("two accounts' balances swapped",
          "SELECT a.id, b.id, a.balance, b.balance, a.currency, 2 * ABS(a.balance - b.balance) FROM $.account a JOIN "
          "$.account b ON b.kind = 'CUSTOMER' AND b.currency = a.currency AND b.balance <> a.balance "
          "WHERE a.kind = 'CUSTOMER' LIMIT 1",
          ("UPDATE {{account}} SET balance = {2} + {3} - balance WHERE id IN ({0}, {1})",),
          "balance_equals_opening_plus_entries", ({"account": "{0}", "currency": "{4}"}, {"account": "{1}"}),
          "{5}", "{4}", _BALANCE),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_a_fault_is_found_named_and_priced(lab: PackLab, fault: Fault) -> None:
    lab.judge(fault)


def test_traffic_is_followed_and_stays_clean(lab: PackLab) -> None:
    flows = {("TOPUP", "POSTED"), ("TOPUP", "CLEARED"), ("PAY", "POSTED"), ("PAY", "SETTLED"), ("PAY", "PAID")}
    lab.followed(80, (4, 2), flows)
    assert lab.at_target("SELECT COUNT(*) FROM $.flow WHERE status = 'RECEIVED'") == [(0,)]


def test_on_mysql_97_too(sandbox97: Sandbox, mysql97: Server, tmp_path: Path) -> None:
    lab = PackLab("wallet", "pwallet97", [mysql97], sandbox97.target, tmp_path)
    lab.migrated(500)
    with lab.posting(60) as traffic:
        traffic.wait(1.5)
    lab.caught_up()
    result = verify_all(lab.config)
    lab.drop()
    assert result.ok, result.text()
