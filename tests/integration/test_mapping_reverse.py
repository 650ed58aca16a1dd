"""Mapped columns through the library: the shards' rows on the target, and the target's new rows back in their shards,
each in the table and shard that it belongs to, byte for byte; what can't be so is refused when it is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from migrate.config import Config
from migrate.copy.copier import copy
from migrate.doublewrite import DoubleWrite, Refused, fence
from migrate.doublewrite.audit import read_status
from migrate.doublewrite.canal import Sink
from migrate.doublewrite.phases import Wish, change, install_everywhere, read
from migrate.doublewrite.pump import Pump, Report, drain, reverse
from migrate.doublewrite.reading import bucket
from migrate.doublewrite.repair import repair, undo
from migrate.doublewrite.router import Router
from migrate.errors import ConfigError
from migrate.preflight import run_preflight
from migrate.sandbox import Sandbox
from tests.fidelity import create_target
from tests.integration.doublewrite_scene import PATIENCE_S, delivered
from tests.mapping_lab import ORDERS, ROUTES, TOPUPS, Old, expected
from verify.journal import BY_DOUBLE_WRITE, Journal
from verify.run import verify_rows

NUMBERS = iter(range(10_000))
LEDGER = """
[role.account]
table = "$.payment"
id = "payment_no"
balance = "amount"
currency = "currency"
increases = "TOPUP"
[role.entry]
table = "$.payment"
id = "payment_no"
account = "account_id"
voucher = "payment_no"
direction = "kind"
debit = "ORDER"
credit = "TOPUP"
amount = "amount"
currency = "currency"
time = "paid_at"
"""
SHARDING = '[[sharding]]\nnumber = "key % shards"\n[sharding.keys]\n"$.payment" = "account_id"\n'
Rows = list[tuple[Any, ...]]


class Lab(Old):
    """The old schema with its rows where their sharding key says, copied, with the double write installed."""

    def ready(self, routes: str = ROUTES) -> Config:
        """Writes the pack, copies and installs."""
        pack = self.folder / "pack"
        pack.mkdir()
        (pack / "ledger.toml").write_text(LEDGER.replace("$", self.schema))
        (pack / "sharding.toml").write_text(SHARDING.replace("$", self.schema))
        made = self.config(routes, "[run]\npatience_s = 60\n", pack=str(pack))
        create_target(made)
        for table, rows in (("pay_order", ORDERS), ("topup", TOPUPS)):
            for row in rows:
                self.put(self.home(row[1]), table, row)
        copy(made, 2)
        install_everywhere(made)
        self.made = made
        return made

    def home(self, account: int) -> int:
        """The number of the shard that an account's rows live on."""
        return account % len(self.sources)

    def shards(self, table: str) -> list[Rows]:
        """All rows of each shard of that table."""
        return [
            self._rows(server, f"SELECT * FROM {self.schema}.{table}_{n} ORDER BY 1")
            for n, server in enumerate(self.sources)
        ]

    def _rows(self, server: Any, sql: str) -> Rows:
        with closing(server.connect(charset="utf8mb4")) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def waiting(self) -> int:
        """Changes in the target's outbox."""
        sql = f"SELECT COUNT(*) FROM migrate_outbox.outbox WHERE migration = '{self.schema}'"
        return int(self._rows(self.target, sql)[0][0])

    def shadow(self) -> DoubleWrite:
        change(self.made, Wish("shadow"), in_step=True)
        return DoubleWrite(self.made, deadline_s=PATIENCE_S)

    def reversed(self) -> None:
        """Makes the target primary."""
        fence.fence(self.made, within_s=PATIENCE_S)
        drain(self.made, Router.of(self.made)).run(until_empty=True, seconds=PATIENCE_S)
        fence.switch(self.made, "reversed", share=100)

    def reverse(self) -> Report:
        return reverse(self.made, Router.of(self.made)).run(until_empty=True, seconds=PATIENCE_S)


@pytest.fixture(params=["5.6"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    servers: Sandbox = request.getfixturevalue("servers")
    sources = servers.sources
    if request.param == "9.7":  # the second shard of both versions
        sources = [sources[1], request.getfixturevalue("mysql97")]
    made = Lab(sources, servers.target, tmp_path, f"maprev_{next(NUMBERS)}")
    yield made
    made.drop()


def write(ledger: DoubleWrite, key: int, *statements: str, side: str) -> None:
    """A transaction of the application, in the tables of the side that it expects."""
    ledger._refresh()
    with ledger.session(key) as session:
        assert session.info["side"] == side
        for statement in statements:
            session.execute(text(statement.replace(":", r"\:")))


ORDER_SQL = (
    "INSERT INTO {0}.payment (kind, payment_no, account_id, amount, fee, status, bank, bank_no, currency, remark, "
    "paid_at) VALUES ({1})"
)


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
    (said,) = [c for c in run_preflight(config).checks if c.name == "way_back"]
    assert said.status == "warning"
    assert "column state: INIT stands for several codes" in said.message
    assert "no sharding is declared" in said.message


def test_a_rebuilt_table_spells_its_columns_as_the_route_does(lab: Lab) -> None:
    lab.ready()
    lab.on_target("ALTER TABLE $.payment RENAME COLUMN bank TO b", "ALTER TABLE $.payment RENAME COLUMN b TO Bank")
    with pytest.raises(ConfigError, match=r"payment spells bank differently"):
        lab.shadow()


# -- reads by account --------------------------------------------------------------------------------------------------


class Reader:
    """The application's reads: what an account's orders are, in the words of either side."""

    def __init__(self, lab: Lab, ledger: DoubleWrite):
        self.lab, self.ledger, self.sides = lab, ledger, list[str]()

    def orders(self, account: int) -> list[Any]:
        """Number, amount and status of an account's orders, from the side that the phase says."""

        def old(session: Session) -> Rows:
            self.sides.append("source")
            rows = session.execute(
                text(f"SELECT order_no, amount_cents, state FROM {self.lab.schema}.pay_order_{self.lab.home(account)} "
                     "WHERE user_id = :account"), {"account": account},
            )  # fmt: skip
            return [(no, Decimal(cents).scaleb(-2), {0: "INIT", 1: "PAID"}[state]) for no, cents, state in rows]

        def new(session: Session) -> Any:
            self.sides.append("target")
            return session.execute(
                text(f"SELECT payment_no, amount, status FROM {self.lab.schema}.payment WHERE kind = 'ORDER' "
                     "AND account_id = :account"), {"account": account},
            )  # fmt: skip

        return self.ledger.ask(account, old=old, new=new)

    def everyone(self) -> set[int]:
        """Reads all accounts once; those that the target answered for. What is compared is."""
        found = set()
        for account in ACCOUNTS:
            self.sides.clear()
            rows = self.orders(account)
            assert rows == [(account, Decimal(account) + Decimal("0.07"), "PAID")]
            if self.sides[0] == "target":
                found.add(account)
            self.ledger._comparer.rest(PATIENCE_S)
        return found


ACCOUNTS = [*range(100, 150), next(n for n in count(1000) if bucket(n) < 1)]  # of the first per cent too


@pytest.mark.timeout(300)
def test_reads_move_account_by_account(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrate.doublewrite.reading._SAMPLE", 100)
    monkeypatch.setattr("migrate.doublewrite.reading._SLOW_S", 1e6)  # a busy machine is no reason to back off
    config = lab.ready()
    ledger = lab.shadow()
    reader = Reader(lab, ledger)
    for account in ACCOUNTS:
        into = f"{lab.schema}.pay_order_{lab.home(account)} (order_no, user_id, amount_cents, state, currency)"
        row = f"({account}, {account}, {account * 100 + 7}, 1, 'CNY')"
        write(ledger, account, f"INSERT INTO {into} VALUES {row}", side="source")
    delivered(ledger)

    def to(name: str, share: int = 0) -> set[int]:
        change(config, Wish(name, share))
        ledger._refresh()
        return reader.everyone()

    assert to("strict") == set()
    assert to("read-compare", 100) == set()
    moved = [to("read-switch", share) for share in (1, 10, 50, 100)]
    assert all(before <= after for before, after in pairwise(moved)), "an account went back"
    assert 0 < len(moved[0]) < len(moved[1]) < len(moved[2]) < len(ACCOUNTS)
    assert moved[3] == set(ACCOUNTS)
    compared, differed, money = read_status(config).reads
    assert (compared, differed, money) == (len(ACCOUNTS), 0, Decimal(0))

    lab.on_target("UPDATE $.payment SET amount = amount + 0.01 WHERE payment_no = 123")
    assert reader.orders(123) == [(123, Decimal("123.08"), "PAID")]  # what TiDB says; the comparison hears of it
    ledger._comparer.rest(PATIENCE_S)
    assert (read(config).epoch.phase, read(config).epoch.share) == ("read-switch", 50)
    ledger._refresh()
    stays = min(set(ACCOUNTS) - moved[2])
    with ledger.reading(stays) as session, pytest.raises(Refused, match="has other columns than its shards"):
        session.execute(text(f"SELECT * FROM {lab.schema}.payment"))
    ledger.close()


# -- what goes wrong on the way back -----------------------------------------------------------------------------------


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
