"""The bookkeeping pack from the seed to the proof: clean, written to meanwhile, and broken in its own terms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from migrate.sandbox import Sandbox, Server
from tests.integration.pack_lab import Fault, PackLab
from verify.run import verify_all


@pytest.fixture(scope="module")
def lab(servers: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PackLab]:
    lab = PackLab("bookkeeping", "pbook", servers.sources, servers.target, tmp_path_factory.mktemp("pbook"))
    lab.migrated(2000)
    yield lab
    lab.drop()


def test_a_seed_is_migrated_and_clean(lab: PackLab) -> None:
    result = verify_all(lab.config)
    assert result.ok, result.text()
    checked = {i.name for i in result.invariants or ()}
    assert checked >= {"sub_accounts_equal_master", "buffer_drained", "settlement_equals_details", "trial_balance",
                       "escrow_equals_open_orders", "reversal_matches_original", "snapshot_equals_entries",
                       "buffer_equals_waiting_postings", "suspense_equals_open_transfers"}  # fmt: skip
    assert not any(i.offenders for i in result.invariants or ()), result.text()
    assert lab.at_target("SELECT COUNT(*) > 1 FROM $.batch WHERE postings > 1")[0][0]
    assert lab.at_target("SELECT COUNT(DISTINCT status) FROM $.transfer") == [(3,)]
    assert lab.at_target("SELECT COUNT(*) > 0 FROM $.hold WHERE status = 'OPEN'") == [(1,)]


FAULTS = [
    Fault("a sub-account that doesn't add up",
          "SELECT master_id, id, currency FROM $.account WHERE kind = 'SUB' LIMIT 1",
          ("UPDATE {{account}} SET balance = balance - 12.5 WHERE id = {1}",),
          "sub_accounts_equal_master", {"master": "{0}", "currency": "{2}"}, "12.5"),
    Fault("a master that missed a batch",
          "SELECT master_account_id, id, currency, amount FROM $.batch LIMIT 1",
          ("UPDATE {{account}} SET balance = balance - {3} WHERE id = {0}",
           "DELETE FROM {{summary_move}} WHERE batch_id = {1}"),
          "every_batch_reaches_its_master", {"batch": "{1}"}, "{3}"),
    Fault("a buffered posting that is lost",
          "SELECT batch_id, id, currency, amount FROM $.posting LIMIT 1",
          ("DELETE FROM {{posting}} WHERE id = {1}",),
          "settlement_equals_details", {"batch": "{0}"}, None),
    Fault("a buffered posting that was never merged",
          "SELECT buffer_account_id, id, currency, amount FROM $.posting LIMIT 1",
          ("UPDATE {{posting}} SET status = 'QUEUED', batch_id = NULL WHERE id = {1}",),
          "buffer_drained", {"posting": "{1}"}, "{3}"),
    Fault("a debit that was never credited and forgotten",
          "SELECT suspense_account_id, id, currency, amount FROM $.transfer WHERE status = 'DEBITED' LIMIT 1",
          ("DELETE FROM {{transfer}} WHERE id = {1}",),
          "suspense_equals_open_transfers", {"account": "{0}"}, "{3}"),
    Fault("a transfer said to be compensated that wasn't",
          "SELECT suspense_account_id, id, currency, amount FROM $.transfer WHERE status = 'DEBITED' LIMIT 1",
          ("UPDATE {{transfer}} SET status = 'COMPENSATED' WHERE id = {1}",),
          "suspense_equals_open_transfers", {"account": "{0}"}, "{3}"),
    Fault("a hold that binds nothing any more",
          "SELECT holder_account_id, id, currency, amount FROM $.hold WHERE status = 'OPEN' LIMIT 1",
          ("DELETE FROM {{hold}} WHERE id = {1}",),
          "escrow_equals_open_orders", {"account": "{0}"}, "{3}"),
    Fault("a freeze lifted on the account alone",
          "SELECT holder_account_id, id, currency, amount FROM $.hold WHERE status = 'OPEN' AND kind = 'FREEZE' "
          "LIMIT 1",
          ("UPDATE {{account}} SET held = held - {3} WHERE id = {0}",),
          "escrow_equals_open_orders", {"account": "{0}"}, "{3}"),
    Fault("a hold of nobody",
          "SELECT holder_account_id, id FROM $.hold WHERE status = 'RELEASED' LIMIT 1",
          ("UPDATE {{hold}} SET holder_account_id = 4 WHERE id = {1}",),
          "no_dangling_reference", {"refers to": "4"}, None),
    Fault("a voucher reversed twice",
          "SELECT r.original_id, o.id, o.amount FROM $.voucher r JOIN $.voucher o ON o.kind = 'CHARGE' AND "
          "o.original_id IS NULL AND o.id <> r.original_id WHERE r.kind = 'CHARGE' AND r.original_id IS NOT NULL "
          "LIMIT 1",
          ("UPDATE {{voucher}} SET original_id = {0} WHERE id = {1}",),
          "reversal_matches_original", {"original": "{0}", "problem": "reversed more than once"}, None),
    Fault("a day-end balance that isn't the day's",
          "SELECT account_id, day, currency FROM $.snapshot WHERE nature = 'C' ORDER BY day LIMIT 1",
          ("UPDATE {{snapshot}} SET balance = balance + 0.01 WHERE account_id = {0} AND day = '{1}'",),
          "snapshot_equals_entries", {"account": "{0}", "day": "{1}"}, "0.01"),
    Fault("a day whose trial balance is off",
          "SELECT day, currency, account_id FROM $.snapshot WHERE nature = 'D' ORDER BY day LIMIT 1",
          ("UPDATE {{snapshot}} SET balance = balance + 3 WHERE account_id = {2} AND day = '{0}'",),
          "day_end_trial_balance", {"day": "{0}", "currency": "{1}"}, "3"),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_a_fault_is_found_named_and_priced(lab: PackLab, fault: Fault) -> None:
    lab.judge(fault)


def test_traffic_is_followed_and_stays_clean(lab: PackLab) -> None:
    flows = {
        ("PAY", "QUEUED"),
        ("PAY", "POSTED"),
        ("TRANSFER", "DEBITED"),
        ("TRANSFER", "CREDITED"),
        ("HOLD", "CAPTURED"),
        ("REBALANCE", "DONE"),
    }
    lab.followed(60, (3, 1.5), flows)


def test_on_mysql_97_too(sandbox97: Sandbox, mysql97: Server, tmp_path: Path) -> None:
    lab = PackLab("bookkeeping", "pbook97", [mysql97], sandbox97.target, tmp_path)
    lab.migrated(600)
    with lab.posting(60) as traffic:
        traffic.wait(1.5)
    lab.caught_up()
    result = verify_all(lab.config)
    lab.drop()
    assert result.ok, result.text()
