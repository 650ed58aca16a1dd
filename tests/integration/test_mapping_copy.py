"""Mapped columns on real servers: values at the limits arrive exactly, or nothing is loaded and they are named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from migrate.config import Config
from migrate.copy.copier import copy
from migrate.copy.rowformat import RowRefused
from migrate.errors import NoGo
from migrate.plan import make_plan
from migrate.preflight import run_preflight
from migrate.sandbox import Sandbox
from tests.fidelity import Way, create_target, move, rows
from tests.mapping_lab import ORDERS, ROUTES, TOPUPS, Old, expected
from verify.changes import Order
from verify.evidence import keep
from verify.prove import plan
from verify.readers import Readers
from verify.repair import repair
from verify.run import verify_rows
from verify.tables import load

NUMBERS = iter(range(10_000))


@pytest.fixture(params=["5.6"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Old]:
    sandbox: Sandbox = request.getfixturevalue("servers" if request.param == "5.6" else "sandbox97")
    made = Old(sandbox.sources, sandbox.target, tmp_path, f"mapped_{next(NUMBERS)}")
    yield made
    made.drop()


@pytest.mark.parametrize("old", ["5.6", "9.7"], indirect=True)
@pytest.mark.parametrize("way", ["copy", "files"])
def test_values_at_the_limits_arrive_exactly(old: Old, tmp_path: Path, way: Way) -> None:
    old.fill()
    config = old.config(more="[run]\nchunk_rows = 100\n")
    move(config, way, tmp_path / "files")
    assert old.merged() == expected()
    found = verify_rows(config, strong=True)
    assert found.ok
    assert [(t.target, t.source_rows, t.target_rows) for t in found.tables] == [
        (f"{old.schema}.payment", len(ORDERS) + len(TOPUPS), len(ORDERS) + len(TOPUPS))
    ]


MISFITS = {
    1: ("channel_no = 'A-B-C'", "has 'A-B-C'", "bank varchar(20)"),
    21: ("channel_no = 'ABC'", "has 'ABC'", "bank_no varchar(20)"),
    22: (f"channel_no = 'A-{'x' * 21}'", f"has 'A-{'x' * 21}'", "bank_no varchar(20)"),
    23: ("state = 2", "has '2'", "status varchar(8)"),
    24: ("fee_cents = 1000000000000000000", "has '1000000000000000000'", "fee decimal(18,2)"),
    25: ("note = REPEAT('é', 101)", "has 'ééé", "remark varchar(100)"),
}


@pytest.mark.parametrize("old", ["5.6", "9.7"], indirect=True)
def test_what_does_not_fit_exactly_is_refused_before_anything_is_loaded(old: Old) -> None:
    """A part too many, one that is missing or too long, an unmapped code, a number beyond the column, a text too long,
    and a cent that would be rounded: each by shard, table, key, column and value."""
    old.fill()
    for number, (value, _, _) in MISFITS.items():
        if number > 1:
            old.put(0, "pay_order", (number, *ORDERS[0][1:]))
        old.on_shard(0, f"UPDATE $.pay_order_# SET {value} WHERE order_no = {number}")
    old.on_shard(0, "UPDATE $.topup_# SET fee = 1.0050 WHERE topup_no = 1")
    config = old.config()
    create_target(config)
    with pytest.raises(NoGo) as refused:
        copy(config, 2)
    assert old.merged() == []
    checks = [c.message for c in run_preflight(config).checks if c.status == "failed" and c.name == "mapped_value"]
    for said in (str(refused.value).splitlines(), checks, make_plan(config).problems):
        for number, (_, shown, column) in MISFITS.items():
            (line,) = [s for s in said if f"become {column} exactly" in s and f"order_no = {number} {shown}" in s]
            assert f"m1.{old.schema}.pay_order_0" in line
        (line,) = [s for s in said if "topup_no = 1 has '1.0050'" in s]
        assert f"m1.{old.schema}.topup_0: 1 values of column fee can't become fee decimal(18,2) exactly" in line


def test_copy_itself_refuses_what_comes_after_the_check(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that was changed after the scan is not loaded as another value."""
    old.fill()
    old.on_shard(0, "UPDATE $.topup_# SET fee = 1.0050 WHERE topup_no = 1")
    config = old.config()
    create_target(config)
    monkeypatch.setattr("migrate.copy.copier.check_values", lambda *_: None)
    with pytest.raises(RowRefused, match=r"column fee: fee can't be mapped exactly: 1\.0050"):
        copy(config, 1)
    assert ("TOPUP", 1) not in [row[:2] for row in old.merged()]


def test_null_where_the_target_has_none(old: Old) -> None:
    old.fill()
    config = old.config(ROUTES.replace('type = "decimal(18,2)" }', 'type = "decimal(18,2)", null = false }'))
    create_target(config)
    with pytest.raises(NoGo, match="order_no = 2 has NULL"):
        copy(config, 2)
    old.on_shard(0, "UPDATE $.pay_order_# SET fee_cents = 0 WHERE fee_cents IS NULL")
    old.on_shard(len(old.sources) - 1, "UPDATE $.pay_order_# SET fee_cents = 0 WHERE fee_cents IS NULL")
    for shard in range(len(old.sources)):
        old.on_shard(shard, "UPDATE $.topup_# SET fee = 0 WHERE fee IS NULL")
    copy(config, 2)
    assert verify_rows(config).ok


def test_a_key_on_two_shards_is_found(old: Old) -> None:
    """Equal numbers of an order and a top-up are two keys; of two orders, or without the constant in the key, one."""
    old.fill()
    config = old.config(ROUTES.replace('key = ["kind", "payment_no"]', ""))
    create_target(config)
    with pytest.raises(NoGo, match=r"PRIMARY \(payment_no = 1\) is on .*pay_order_0 and on .*topup_0"):
        copy(config, 2)


def test_a_rebuilt_table_that_stands_there_already(old: Old) -> None:
    """Its order of columns, its defaults and its own indexes are its own affair; its types and keys are not."""
    old.fill()
    config = old.config()
    columns = ("status VARCHAR(8) NOT NULL DEFAULT 'NEW', payment_no BIGINT UNSIGNED NOT NULL, account_id BIGINT NOT "
               "NULL, amount DECIMAL(19,2) NOT NULL, fee DECIMAL(18,2), bank VARCHAR(20), bank_no VARCHAR(20), kind "
               "VARCHAR(6) COLLATE utf8mb4_bin NOT NULL, currency CHAR(3) NOT NULL, remark VARCHAR(100), paid_at "
               "DATETIME(3), KEY by_account (account_id, paid_at)")  # fmt: skip
    key = ", PRIMARY KEY (kind, payment_no)"
    old.on_target("CREATE DATABASE $", f"CREATE TABLE $.payment ({columns}, PRIMARY KEY (payment_no))")
    with pytest.raises(NoGo, match="unique kind, payment_no is missing"):
        copy(config, 2)
    old.on_target("DROP TABLE $.payment", f"CREATE TABLE $.payment ({columns.replace('(19,2)', '(16,2)')}{key})")
    with pytest.raises(NoGo, match=r"column amount: type is decimal\(16,2\), not decimal\(19,2\)"):
        copy(config, 2)
    old.on_target("DROP TABLE $.payment", f"CREATE TABLE $.payment ({columns}{key})")
    copy(config, 2)
    assert old.merged() == expected()
    assert verify_rows(config).ok


def test_what_is_wrong_on_the_target_is_found(old: Old) -> None:
    """A cent, a status, a part: by the values, and the amount by totals of the source's own columns."""
    old.fill()
    config = old.config()
    create_target(config)
    copy(config, 2)
    old.on_target("UPDATE $.payment SET amount = amount + 0.01 WHERE kind = 'ORDER' AND payment_no = 1",
                  "UPDATE $.payment SET status = 'VOID' WHERE kind = 'TOPUP' AND payment_no = 2",
                  "UPDATE $.payment SET bank_no = '002' WHERE kind = 'ORDER' AND payment_no = 1",
                  f"UPDATE $.payment SET amount = amount - 0.01 WHERE payment_no = {2**64 - 1}",
                  "DELETE FROM $.payment WHERE payment_no = 3")  # fmt: skip
    found = {
        (m.key["kind"], m.key["payment_no"]): (m.kind, m.source, m.target_values)
        for m in verify_rows(config).mismatches
        if m.key
    }
    assert found.pop(("ORDER", "3"))[0] == "missing"
    assert found == {
        ("ORDER", "1"): (
            "different",
            {"amount": "12.34", "bank_no": "001"},
            {"amount": "12.35", "bank_no": "002"},
        ),
        ("TOPUP", "2"): ("different", {"status": "INIT"}, {"status": "VOID"}),
        ("ORDER", str(2**64 - 1)): (
            "different",
            {"amount": "92233720368547758.07"},
            {"amount": "92233720368547758.06"},
        ),
    }


@pytest.mark.parametrize("old", ["5.6", "9.7"], indirect=True)
def test_a_row_that_cannot_be_mapped_is_equal_to_nothing(old: Old) -> None:
    """What came to the source since, and what the target would have if it were rounded, cut or left out."""
    old.fill()
    config = old.config()
    create_target(config)
    copy(config, 2)
    old.on_shard(0, "UPDATE $.topup_# SET fee = 0.0149 WHERE topup_no = 1",
                 "UPDATE $.pay_order_# SET channel_no = 'ICBC-001-7', state = 9 WHERE order_no = 1")  # fmt: skip
    old.on_target("UPDATE $.payment SET fee = 0.01 WHERE kind = 'TOPUP' AND payment_no = 1")
    found = {m.key["payment_no"] + m.key["kind"]: m.source for m in verify_rows(config).mismatches if m.key}
    assert found["1TOPUP"] == {"fee": "0.0149"}
    assert found["1ORDER"] == {
        "bank": "not 2 parts: ICBC-001-7", "bank_no": "not 2 parts: ICBC-001-7", "status": "no code: 9",
    }  # fmt: skip


def test_rows_are_mended_in_both_directions(old: Old) -> None:
    """On the shards in cents and codes; what can't be there is left, and what an undo couldn't bring back stays."""
    old.fill()
    config = old.config()
    create_target(config)
    copy(config, 2)
    wrong = (
        "UPDATE $.payment SET amount = 12.35, status = 'VOID', bank_no = '7' WHERE payment_no = 1 AND kind = 'ORDER'",
        "UPDATE $.payment SET status = 'VOID' WHERE kind = 'TOPUP' AND payment_no = 2",
    )
    old.on_target(*wrong, "DELETE FROM $.payment WHERE payment_no = 3")
    made = repair(config, Order(True, "r", "t"), run=stored(config))
    assert made.ok
    assert old.merged() == expected()
    old.on_target(*wrong, "DELETE FROM $.payment WHERE payment_no = 3")
    back = repair(config, Order(True, "r", "t"), run=stored(config), direction="target")
    states = {str((c.key or {})["kind"]) + str((c.key or {})["payment_no"]): (c.state, c.why) for c in back.changes}
    assert states["ORDER1"] == ("done", "")
    assert "which no code becomes" in states["TOPUP2"][1]
    assert "legacy_flag of the row could not be brought back" in states["ORDER3"][1]
    on_shard = rows(old.sources[0], f"SELECT amount_cents, state, channel_no FROM {old.schema}.pay_order_0 WHERE "
                    "order_no = 1")  # fmt: skip
    assert on_shard == [(1235, -1, "ICBC-7")]
    assert [m.key and m.key["payment_no"] for m in verify_rows(config).mismatches] == ["2", "3"]


def stored(config: Config) -> int:
    """The run of a verification that named the rows that differ."""
    return keep(config, verify_rows(config)).run


@pytest.mark.parametrize("keyed", [True, False])
def test_many_chunks_and_ranges(old: Old, monkeypatch: pytest.MonkeyPatch, keyed: bool) -> None:
    """Cut by the old key, with and without a constant in the new one, and proven range by range."""
    for shard in range(2):
        old.put(shard, "pay_order", *[(4 * n + shard, *ORDERS[0][1:]) for n in range(230)])
        old.put(shard, "topup", *[(4 * n + shard + 2, *TOPUPS[0][1:]) for n in range(230)])
        old.on_shard(shard, "ANALYZE TABLE $.pay_order_#, $.topup_#")  # the plan of the ranges goes by statistics
    routes = ROUTES if keyed else ROUTES.replace('key = ["kind", "payment_no"]', "")
    config = old.config(routes, more="[run]\nchunk_rows = 100\n[verify]\nrange_rows = 30\n")
    create_target(config)
    assert copy(config, 2).tables[0]["chunks"] == 12
    monkeypatch.setattr("verify.prove._SHARD_ROWS", 1)
    monkeypatch.setattr("verify.scan.RANGE_ROWS", 20)
    with Readers(config) as readers:
        assert (len(plan(readers, load(readers))) > 4) is not keyed
    assert verify_rows(config, strong=True).ok
    old.on_target("UPDATE $.payment SET amount = 0 WHERE payment_no IN (0, 402, 917)")
    named = [m.key["payment_no"] for m in verify_rows(config).mismatches if m.key]
    assert sorted(named) == ["0", "402", "917"]
