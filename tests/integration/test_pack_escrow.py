"""The escrow pack from the seed to the proof: clean, written to meanwhile, and broken in its own terms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from migrate.sandbox import Sandbox, Server
from tests.integration.pack_lab import Fault, PackLab
from verify.run import verify_all


@pytest.fixture(scope="module")
def lab(servers: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PackLab]:
    lab = PackLab("escrow", "pescrow", servers.sources, servers.target, tmp_path_factory.mktemp("pescrow"))
    lab.migrated(1500)
    yield lab
    lab.drop()


def test_a_seed_is_migrated_and_clean(lab: PackLab) -> None:
    result = verify_all(lab.config)
    assert result.ok, result.text()
    checked = {i.name for i in result.invariants or ()}
    assert checked >= {"pool_equals_virtual_balances_and_holds", "escrow_equals_open_orders", "hold_equals_order",
                       "instalments_within_hold", "split_adds_up", "reversal_matches_original"}  # fmt: skip
    assert not any(i.offenders for i in result.invariants or ()), result.text()
    assert lab.at_target("SELECT COUNT(DISTINCT status) FROM $.orders") == [(4,)]
    assert lab.at_target("SELECT MAX(number) > 3, MAX(amount) > 1000000 FROM $.instalment") == [(1, 1)]


FAULTS = [
    Fault("an instalment released twice",
          "SELECT order_id, id, currency, amount, number FROM $.instalment WHERE number > 1 LIMIT 1",
          ("UPDATE {{instalment}} SET number = number - 1 WHERE id = {1}",),
          "instalments_within_hold", {"hold": "{0}", "times": "2"}, None),
    Fault("more released than was held",
          "SELECT order_id, id, currency, amount FROM $.instalment LIMIT 1",
          ("UPDATE {{instalment}} SET amount = amount + 30000000 WHERE id = {1}",),
          "instalments_within_hold", {"hold": "{0}", "problem": "more is released than held"}, None),
    Fault("an instalment that its order doesn't know",
          "SELECT order_id, id, currency, amount FROM $.instalment LIMIT 1",
          ("UPDATE {{orders}} SET released = released - {3}, refunded = refunded + {3} WHERE id = {0}",),
          "released_equals_instalments", {"order": "{0}", "currency": "{2}"}, "{3}"),
    Fault("a hold without an order",
          "SELECT id, hold_account_id, currency, amount - released - refunded FROM $.orders WHERE status = 'HELD' "
          "LIMIT 1",
          ("UPDATE {{hold}} SET order_id = 5 WHERE order_id = {0}",),
          "no_dangling_reference", {"refers to": "5"}, None),
    Fault("an order that is closed with money in it",
          "SELECT id, hold_account_id, currency, amount - released - refunded FROM $.orders WHERE status = 'HELD' "
          "LIMIT 1",
          ("UPDATE {{orders}} SET status = 'RELEASED' WHERE id = {0}",),
          "closed_orders_hold_nothing", {"order": "{0}", "status": "RELEASED"}, "{3}"),
    Fault("the same, as the hold account sees it",
          "SELECT id, hold_account_id, currency, amount - released - refunded FROM $.orders WHERE status = 'DISPUTED' "
          "LIMIT 1",
          ("UPDATE {{orders}} SET status = 'REFUNDED' WHERE id = {0}",),
          "escrow_equals_open_orders", {"account": "{1}", "currency": "{2}"}, "{3}"),
    Fault("a cent of the pool that is nobody's",
          "SELECT id, currency FROM $.account WHERE kind = 'SELLER' LIMIT 1",
          ("UPDATE {{account}} SET balance = balance - 0.01 WHERE id = {0}",),
          "pool_equals_virtual_balances_and_holds", {"currency": "{1}"}, "0.01"),
    Fault("money at the bank that isn't there",
          "SELECT id, currency FROM $.account WHERE kind = 'REAL' LIMIT 1",
          ("UPDATE {{account}} SET balance = balance + 250000 WHERE id = {0}",),
          "pool_equals_virtual_balances_and_holds", {"currency": "{1}"}, "250000"),
    Fault("a split that keeps a cent",
          "SELECT id, currency FROM $.instalment LIMIT 1",
          ("UPDATE {{instalment}} SET partner_amount = partner_amount - 0.01 WHERE id = {0}",),
          "split_adds_up", {"instalment": "{0}", "currency": "{1}"}, "0.01"),
    Fault("a refund booked twice",
          "SELECT order_id, id, currency, amount FROM $.refund LIMIT 1",
          ("UPDATE {{refund}} SET amount = amount * 2 WHERE id = {1}",),
          "refunded_equals_refunds", {"order": "{0}"}, "{3}"),
    Fault("more refunded than was paid",
          "SELECT order_id, id, currency, amount FROM $.refund LIMIT 1",
          ("UPDATE {{refund}} SET amount = amount + 90000000 WHERE id = {1}",),
          "reversal_matches_original", {"original": "{0}"}, None),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_a_fault_is_found_named_and_priced(lab: PackLab, fault: Fault) -> None:
    lab.judge(fault)


def test_traffic_is_followed_and_stays_clean(lab: PackLab) -> None:
    flows = {("ORDER", "HELD"), ("DEPOSIT", "DONE"), ("PAYOUT", "DONE")}
    lab.followed(50, (3, 1.5), flows)


def test_on_mysql_97_too(sandbox97: Sandbox, mysql97: Server, tmp_path: Path) -> None:
    lab = PackLab("escrow", "pescrow97", [mysql97], sandbox97.target, tmp_path)
    lab.migrated(500)
    with lab.posting(50) as traffic:
        traffic.wait(1.5)
    lab.caught_up()
    result = verify_all(lab.config)
    lab.drop()
    assert result.ok, result.text()
