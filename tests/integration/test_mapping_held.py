"""What goes wrong while the target's rows go back into mapped shards: held, priced, mended; or killed, and gone on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from migrate.config import Config
from migrate.doublewrite import DoubleWrite
from migrate.doublewrite.canal import Sink
from migrate.doublewrite.pump import Pump, drain
from migrate.doublewrite.repair import repair, undo
from migrate.doublewrite.router import Router
from migrate.doublewrite.status import read_status
from migrate.sandbox import Sandbox
from tests.integration.doublewrite_scene import PATIENCE_S
from tests.integration.mapping_reverse_lab import ORDER_SQL, Lab, reverse_lab, write
from verify.journal import BY_DOUBLE_WRITE, Journal
from verify.run import verify_rows


@pytest.fixture
def lab(servers: Sandbox, tmp_path: Path) -> Iterator[Lab]:
    with reverse_lab(servers.sources, servers.target, tmp_path) as made:
        yield made


def spoilt(lab: Lab) -> tuple[Config, DoubleWrite]:
    """TiDB has changed two orders, of which somebody has changed the first on its shard."""
    config = lab.ready()
    ledger = lab.shadow()
    lab.reversed()
    lab.on_shard(1, "UPDATE $.pay_order_1 SET amount_cents = 1200, legacy_flag = 55 WHERE order_no = 1")
    write(ledger, 7, f"UPDATE {lab.schema}.payment SET amount = amount + 1 WHERE kind = 'ORDER' AND payment_no < 4",
          side="target")  # fmt: skip
    ledger.close()
    return config, ledger


def test_what_differs_on_a_shard_is_held_priced_repaired_and_undone(lab: Lab) -> None:
    config, _ = spoilt(lab)
    report = lab.reverse()
    assert report.applied == 2
    ((_, reason),) = report.held.items()
    assert "amount_cents not as the change found it" in reason
    (finding,) = read_status(config).findings
    assert (finding.kind, finding.columns, finding.key) == ("different", ("amount_cents",), ("ORDER", "1"))
    assert (finding.money, finding.currency) == (Decimal("1.34"), "CNY")  # 13.34 here, 12.00 there
    begin = partial(Journal.begin, config, BY_DOUBLE_WRITE)
    mended = repair(config, lambda right, undone: begin(right, ("test", "T-1"), undone))
    assert mended.ok, mended.text()
    assert lab.shards("pay_order")[1][0][2:5] == (1334, 1, 1)
    assert lab.shards("pay_order")[1][0][9] == 55
    assert read_status(config).ok
    assert lab.waiting() == 0
    _, right, rows = Journal.rows(config, mended.number or 0)
    assert undo(config, mended.number or 0, right, rows, lambda right, undone: begin(right, ("test", "T-2"), undone)).ok
    assert lab.shards("pay_order")[1][0][2:5] == (1200, 1, 1)
    assert lab.shards("pay_order")[1][0][9] == 55


def test_a_row_that_was_written_without_the_library_and_has_no_way_back(lab: Lab) -> None:
    """The audit names it, and the repair leaves it."""
    config = lab.ready()
    ledger = lab.shadow()
    lab.reversed()
    where = "WHERE kind = 'ORDER' AND payment_no = 1"
    write(ledger, 7, f"UPDATE {lab.schema}.payment SET amount = 5 {where}", side="target")
    assert lab.reverse().ok
    lab.on_target(f"UPDATE $.payment SET status = 'CLOSED' {where}")
    (finding,) = read_status(config).findings
    assert "no code becomes 'CLOSED'" in finding.reason
    assert finding.money == Decimal(5)
    begin = partial(Journal.begin, config, BY_DOUBLE_WRITE)
    left = repair(config, lambda right, undone: begin(right, ("test", "T-1"), undone))
    assert [m.key for m in left.left] == [{"kind": "ORDER", "payment_no": "1"}]
    assert not left.ok
    assert lab.shards("pay_order")[1][0][:3] == (1, 7, 500)
    ledger.close()


def test_deleted_and_made_again_is_a_new_row(lab: Lab) -> None:
    lab.ready()
    ledger = lab.shadow()
    lab.reversed()
    put = ORDER_SQL.format(lab.schema, "'ORDER', 1, 7, 1, 1, 'PAID', 'a', 'b', 'CNY', NULL, NULL")
    gone = f"DELETE FROM {lab.schema}.payment WHERE kind = 'ORDER' AND payment_no = 1"
    write(ledger, 7, gone, side="target")
    write(ledger, 7, put, side="target")
    assert lab.reverse().applied == 2  # both at once, as it happens
    assert lab.shards("pay_order")[1][0][9] == 7
    ledger.close()


@pytest.mark.timeout(300)
def test_reverse_is_killed_and_goes_on(lab: Lab) -> None:
    config = lab.ready()
    ledger = lab.shadow()
    lab.reversed()
    for n in range(30, 60):
        kind = "ORDER" if n % 3 else "TOPUP"
        row = f"'{kind}', {n}, {n}, '{n}.25', 0.01, 'PAID', 'a', 'b', 'CNY', NULL, NULL"
        write(ledger, n, ORDER_SQL.format(lab.schema, row), side="target")
    ledger.close()
    for fault in ("before_deliver:kill:1", "after_deliver:kill:1", "after_deliver:kill:2", ""):
        done = subprocess.run(
            [sys.executable, "-m", "migrate.cli", "-c", str(config.path), "reverse", "--until-empty", "--workers", "1"],
            env={**os.environ, "MIGRATE_FAULT": fault}, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == (-9 if fault else 0), done.stderr
    assert lab.waiting() == 0
    assert not verify_rows(config).mismatches
    orders = [row[2:4] for rows in lab.shards("pay_order") for row in rows if 30 <= row[0] < 60]
    assert sorted(orders) == [(n * 100 + 25, 1) for n in range(30, 60) if n % 3]


def test_what_ticdc_carries_and_no_shard_can_have_is_held(lab: Lab, tmp_path: Path) -> None:
    """Rows that were written without the library: the one that has a way back takes it, the other is held by name."""
    config = lab.ready()
    names = ("kind", "payment_no", "account_id", "amount", "status", "bank", "bank_no", "currency", "remark", "paid_at")

    def message(*values: str | None) -> str:
        row = dict(zip(names, values, strict=True)) | {"fee": None}
        return json.dumps({
            "id": 0, "database": lab.schema, "table": "payment", "isDdl": False, "type": "INSERT", "data": [row],
            "old": None, "_tidb": {"commitTs": 20},
        })  # fmt: skip

    folder = tmp_path / "sink" / lab.schema / "payment"
    folder.mkdir(parents=True)
    rest = (None, None, "CNY", "r", None)
    lines = [
        message("ORDER", "70", "8", "0.010", "PAID", *rest),
        message("ORDER", "71", "8", "0.011", "PAID", *rest),
        message("TOPUP", "70", "7", "0.01", "INIT", *rest),
    ]
    (folder / "CDC000001.json").write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "sink" / "metadata").write_text('{"checkpoint-ts":46}')
    router = Router.of(config)
    report = Pump(config, router, [Sink(config, router, tmp_path / "sink", after=10)]).run(until_empty=True, seconds=60)
    assert report.applied == 2
    ((change, reason),) = report.held.items()
    assert "ORDER, 71" in change
    assert "amount can't become amount_cents exactly: 0.011 has more than 2 digits" in reason
    assert [row[:3] for row in lab.shards("pay_order")[0] if row[0] in (70, 71)] == [(70, 8, 1)]
    assert [row[:5] for row in lab.shards("topup")[1] if row[0] == 70] == [(70, 7, 1, None, "N")]


def test_rows_of_two_tables_with_one_number_do_not_wait_for_each_other(lab: Lab) -> None:
    """The order of that number is held on its way to the target; its top-up arrives."""
    config = lab.ready()
    ledger = lab.shadow()
    lab.on_target("UPDATE $.payment SET amount = 0 WHERE kind = 'ORDER' AND payment_no = 1")
    ledger.deadline_s = 0.1
    write(ledger, 7, f"UPDATE {lab.schema}.pay_order_1 SET state = 0 WHERE order_no = 1", side="source")
    report = drain(config, Router.of(config)).run(until_empty=True, seconds=PATIENCE_S)
    assert "ORDER" not in str(report.held)  # a shard's rows are named by the shard's key
    assert [reason for reason in report.held.values() if "amount not as the change found it" in reason]
    write(ledger, 7, f"UPDATE {lab.schema}.topup_1 SET cents = 9 WHERE topup_no = 1", side="source")
    ledger.close()
    report = drain(config, Router.of(config)).run(until_empty=True, seconds=PATIENCE_S)
    assert [row[3] for row in lab.merged() if row[:2] == ("TOPUP", 1)] == [Decimal("0.09")]
