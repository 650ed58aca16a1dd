"""Mapped columns through the library: the shards' rows on the target, and the target's new rows back in their shards,
each in the table and shard that it belongs to, byte for byte; what can't be so is refused when it is written."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from migrate.cli import cli
from migrate.doublewrite import Refused
from migrate.doublewrite.phases import Wish, change
from migrate.doublewrite.status import read_status
from migrate.errors import ConfigError
from migrate.preflight import run_preflight
from migrate.sandbox import Sandbox
from tests.integration.doublewrite_scene import PATIENCE_S, delivered
from tests.integration.mapping_reverse_lab import ORDER_SQL, Lab, reverse_lab, write
from tests.mapping_lab import ORDERS, ROUTES, TOPUPS, expected
from verify.run import verify_rows


@pytest.fixture(params=["5.6"])
def lab(request: pytest.FixtureRequest, servers: Sandbox, tmp_path: Path) -> Iterator[Lab]:
    sources = servers.sources
    if request.param == "9.7":  # the second shard of both versions
        sources = [sources[1], request.getfixturevalue("mysql97")]
    with reverse_lab(sources, servers.target, tmp_path) as made:
        yield made


@pytest.mark.timeout(300)
@pytest.mark.parametrize("lab", ["5.6", "9.7"], indirect=True)
def test_there_and_back(lab: Lab) -> None:
    config = lab.ready()
    ledger = lab.shadow()
    s = lab.schema
    write(
        ledger, 7,
        f"INSERT INTO {s}.pay_order_1 VALUES (20, 7, 10001, -1, 1, 'ICBC-77', 'CNY', 'new', '2026-01-02 03:04:05', 9)",
        f"UPDATE {s}.pay_order_1 SET amount_cents = amount_cents + 1, state = 0 WHERE order_no = 1",
        f"DELETE FROM {s}.pay_order_1 WHERE order_no = 2",
        f"INSERT INTO {s}.topup_1 VALUES (20, 9, 3, '0.0200', 'N', 'ABC', NULL, 'USD', '中', NULL)",
        f"UPDATE {s}.pay_order_1 SET legacy_flag = 99 WHERE order_no = 3",  # which the target knows nothing of
        side="source",
    )  # fmt: skip
    delivered(ledger)
    orders = [(1, 7, 1235, 1, 0, *ORDERS[0][5:]), *ORDERS[2:],
              (20, 7, 10001, -1, 1, "ICBC-77", "CNY", "new", "2026-01-02 03:04:05", 9)]  # fmt: skip
    topups = [*TOPUPS, (20, 9, 3, "0.0200", "N", "ABC", None, "USD", "中", None)]
    assert lab.merged() == expected(orders, topups)
    with pytest.raises(Refused, match="state can't become status exactly: '5' is none of its codes"):
        write(ledger, 7, f"UPDATE {s}.pay_order_1 SET state = 5 WHERE order_no = 1", side="source")
    with pytest.raises(Refused, match="has other columns than its shards"):
        write(ledger, 7, f"DELETE FROM {s}.payment WHERE payment_no = 1", side="source")
    assert lab.merged() == expected(orders, topups)

    lab.reversed()
    before = lab.shards("pay_order")
    ledger._refresh()
    with pytest.raises(Refused, match="is a shard, and the target is primary"):
        write(ledger, 7, f"DELETE FROM {s}.pay_order_1 WHERE order_no = 1", side="target")
    write(
        ledger, 7,  # one transaction over both shards and both of the tables that were merged
        ORDER_SQL.format(s, f"'ORDER', {2**64 - 2}, 8, '92233720368547758.07', '-0.01', 'VOID', '', 'x', 'CNY', 'é', "
                            "'2026-02-03 00:00:00.001'"),
        ORDER_SQL.format(s, "'TOPUP', 21, 7, '0.01', NULL, 'PAID', NULL, 'r', 'EUR', NULL, NULL"),
        f"UPDATE {s}.payment SET amount = amount - 10, bank = 'X', remark = NULL WHERE payment_no = 20",
        f"UPDATE {s}.payment SET status = 'PAID' WHERE kind = 'ORDER' AND payment_no = 3",
        f"DELETE FROM {s}.payment WHERE kind = 'TOPUP' AND payment_no = 1",
        side="target",
    )  # fmt: skip
    assert lab.waiting() == 6
    assert lab.shards("pay_order") == before
    assert lab.reverse().applied == 6
    assert lab.waiting() == 0
    whole = {row[0]: row for rows in lab.shards("pay_order") for row in rows}
    assert [row[0] for row in lab.shards("pay_order")[0]] == [2**63 + 9, 2**64 - 2, 2**64 - 1]
    made = whole[2**64 - 2]
    assert made[:8] == (2**64 - 2, 8, 2**63 - 1, -1, -1, "-x", "CNY", "é")
    assert (str(made[8]), made[9]) == ("2026-02-03 00:00:00.001000", 7)  # what isn't carried has its default
    assert whole[20][2:8] == (9001, -1, 1, "X-77", "CNY", None)
    assert (whole[20][9], whole[3][4], whole[3][9]) == (9, 1, 99)  # .. and stays as it was
    (first, second) = lab.shards("topup")
    assert [row[0] for row in first] == [2, 11]
    assert [row[:7] for row in second] == [
        (20, 9, -997, Decimal("0.0200"), "N", "X", None),
        (21, 7, 1, None, "Y", None, "r"),
    ]
    result = verify_rows(config)
    assert not result.mismatches, result.text()
    assert read_status(config).ok

    back = change(config, Wish("strict"), within_s=PATIENCE_S)
    assert (back.epoch.primary, back.forward) == ("source", "outbox")
    write(ledger, 7, f"UPDATE {s}.topup_1 SET cents = 2, done = 'N' WHERE topup_no = 21", side="source")
    assert not verify_rows(config).mismatches
    ledger.close()


def test_what_the_old_system_cannot_have_is_refused_when_it_is_written(lab: Lab) -> None:
    lab.ready()
    ledger = lab.shadow()
    lab.reversed()
    there, shards = lab.merged(), lab.shards("pay_order")
    update = f"UPDATE {lab.schema}.payment SET {{}} WHERE kind = 'ORDER' AND payment_no = 1"
    for statement, words in (
        (update.format("status = 'CLOSED'"), "no code becomes 'CLOSED'"),
        (update.format("amount = '92233720368547758.08'"), "9223372036854775808 is beyond bigint"),
        (update.format("bank = 'a-b'"), "has a '-' of its own"),
        (update.format("bank = NULL"), "one is NULL, the other isn't"),
        (update.format("remark = '中'"), "can't be written in latin1"),
        (update.format("account_id = 8"), "it can't move from"),
        (ORDER_SQL.format(lab.schema, "'REFUND', 1, 7, 1, 1, 'PAID', NULL, NULL, 'CNY', NULL, NULL"),
         "'REFUND' belong to 0 of the tables that were merged"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=words):
            write(ledger, 7, statement, side="target")
    assert lab.waiting() == 0
    assert (lab.merged(), lab.shards("pay_order")) == (there, shards)
    ledger.close()


def test_a_mapping_that_cannot_be_undone_has_no_double_write(lab: Lab) -> None:
    codes = '"0" = "INIT", "1" = "PAID", "-1" = "VOID"'
    routes = ROUTES.replace(codes, codes.replace("VOID", "INIT"))
    with pytest.raises(ConfigError, match="payment: column state: INIT stands for several codes"):
        lab.ready(routes)
    config = lab.config(routes)
    shown = CliRunner().invoke(cli, ["-c", str(config.path), "double-write", "install"])
    assert shown.exit_code == 2  # without --execute too
    assert "INIT stands for several codes" in shown.output
    (said,) = [c for c in run_preflight(config).checks if c.name == "way_back"]
    assert said.status == "warning"
    assert "column state: INIT stands for several codes" in said.message
    assert "no sharding is declared" in said.message


def test_a_rebuilt_table_spells_its_columns_as_the_route_does(lab: Lab) -> None:
    lab.ready()
    lab.on_target("ALTER TABLE $.payment RENAME COLUMN bank TO b", "ALTER TABLE $.payment RENAME COLUMN b TO Bank")
    with pytest.raises(ConfigError, match=r"payment spells bank differently"):
        lab.shadow()


# What the new application may write, column by column: the first is plain, the others are limits, some beyond them.
NEW: dict[str, list[Any]] = {
    "kind": ["ORDER", "TOPUP"],
    "account_id": [7, -(2**62), 2**63 - 1],
    "amount": ["1.23", "0.00", "-0.01", "90071992547409.93", "92233720368547758.07", "-92233720368547758.08",
               "92233720368547758.08"],
    "fee": [None, "0.01", "-9999999999999999.99"],
    "status": ["PAID", "INIT", "VOID", "paid", "PAID "],
    "bank, bank_no": [("ICBC", "001"), (None, None), ("", ""), ("a", None), ("x" * 20, "y" * 19), ("x" * 20, "y" * 20),
                      ("é中", "'\\"), ("a-b", "c"), ("\U0001f4e6", "1")],
    "remark": [None, "", "é€ÿ ", "中", "\U0001f4e6", "z" * 100],
    "paid_at": [None, "2026-02-28 23:59:59.999"],
}  # fmt: skip
CODES = {"ORDER": {"INIT": 0, "PAID": 1, "VOID": -1}, "TOPUP": {"INIT": "N", "PAID": "Y"}}


def of_old(number: int, new: dict[str, Any]) -> tuple[Any, ...] | None:
    """The row of the old table, by means of our own; None where there can be none."""
    kind, (bank, bank_no), remark = new["kind"], new["bank, bank_no"], new["remark"]
    cents, status = int(Decimal(new["amount"]) * 100), CODES[kind].get(new["status"])
    fee, at = new["fee"] and Decimal(new["fee"]), new["paid_at"] and datetime.fromisoformat(new["paid_at"])
    whole = "".join(filter(None, (bank, bank_no, remark)))
    if status is None or not -(2**63) <= cents < 2**63:
        return None
    if kind == "TOPUP":
        if "\U0001f4e6" in whole:
            return None
        return (number, new["account_id"], cents, fee, status, bank, bank_no, "CNY", remark, at)
    if (bank is None) != (bank_no is None) or (bank and "-" in bank) or (remark and set(remark) & set("中\U0001f4e6")):
        return None
    channel = None if bank is None else f"{bank}-{bank_no}"
    if channel and len(channel) > 40:
        return None
    return (number, new["account_id"], cents, fee and int(fee * 100), status, channel, "CNY", remark, at, 7)


def combinations() -> Iterator[dict[str, Any]]:
    """Each limit in a plain row of either kind, then some together, always the same ones."""
    plain, chance = {name: values[0] for name, values in NEW.items()}, random.Random(8)
    for kind in NEW["kind"]:
        for name, values in NEW.items():
            yield from ({**plain, "kind": kind, name: value} for value in values if name != "kind")
    for _ in range(60):
        yield {name: chance.choice(values) for name, values in NEW.items()}


@pytest.mark.timeout(300)
def test_limits_go_back_byte_for_byte_or_are_refused(lab: Lab) -> None:
    config = lab.ready()
    ledger = lab.shadow()
    lab.reversed()
    ledger._refresh()
    wanted: dict[str, list[Any]] = {"ORDER": [], "TOPUP": []}
    marks = ":kind, :no, :account_id, :amount, :fee, :status, :bank, :bank_no, 'CNY', :remark, :paid_at"
    sql, refused = text(ORDER_SQL.format(lab.schema, marks)), 0
    for number, new in enumerate(combinations(), 1000):
        old = of_old(number, new)
        bank, bank_no = new["bank, bank_no"]
        row = {**new, "no": number, "bank": bank, "bank_no": bank_no}
        try:
            with ledger.session(new["account_id"]) as session:
                session.execute(sql, row)
        except Refused:
            assert old is None, row
            refused += 1
            continue
        assert old is not None, row
        wanted[new["kind"]].append(old)
    ledger.close()
    assert refused > 20
    report = lab.reverse()
    assert (report.applied, report.held) == (sum(map(len, wanted.values())), {})
    for kind, table in (("ORDER", "pay_order"), ("TOPUP", "topup")):
        for n, rows in enumerate(lab.shards(table)):
            made = [row for row in rows if 1000 <= row[0] < 2000]
            assert made == [row for row in wanted[kind] if lab.home(row[1]) == n]
    assert not verify_rows(config).mismatches
