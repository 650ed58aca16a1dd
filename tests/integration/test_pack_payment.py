"""The payment pack on one table a kind: what its README says that TiDB answers, and the DDL that it shows."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from migrate.packs import pack_dir
from migrate.sandbox import Sandbox
from tests.integration.pack_lab import PackLab

BLOCKS = re.findall(r"```sql\n(.*?)```", (pack_dir("payment") / "README.md").read_text("utf-8"), re.S)
BEFORE, DDL, AFTER = ([s.strip() for s in re.sub(r"(?m)^--.*$", "", b).split(";") if s.strip()] for b in BLOCKS)
BY_INDEX = re.compile(r"(IndexLookUp|IndexReader|Point_Get|IndexJoin|IndexHashJoin|IndexMergeJoin)")


@pytest.fixture(scope="module")
def lab(servers: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PackLab]:
    lab = PackLab("payment", "ppay", servers.sources, servers.target, tmp_path_factory.mktemp("ppay"))
    lab.migrated(3000)
    lab.at_target(*(f"ANALYZE TABLE $.{table}" for table in lab.tables))
    yield lab
    lab.drop()


def asked(lab: PackLab, sql: str, **values: object) -> list[tuple[object, ...]]:
    """A statement of the README about the values given, of this lab's tables; and its plan reads no whole table."""
    for column, value in values.items():
        sql = re.sub(rf"\b{column} = ('[^']*'|\d+)", f"{column} = {value!r}", sql)
    sql = sql.replace("payment.", "$.")
    plan = lab.at_target(f"EXPLAIN {sql}")
    assert any(BY_INDEX.search(row[0]) for row in plan), plan
    assert not any("TableFullScan" in row[0] for row in plan), plan
    return list(lab.at_target(sql))


def test_the_shards_are_asked_one_by_one_and_the_target_by_an_index(lab: PackLab) -> None:
    id, voucher, payer, number, key, amount = lab.at_target(
        "SELECT o.id, o.voucher_id, o.payer_account_id, o.merchant_order_no, o.idempotency_key, o.amount "
        "FROM $.payment_order o JOIN $.refund r ON r.order_id = o.id ORDER BY o.id LIMIT 1"
    )[0]
    by_number, by_key, of_payer, refunded = BEFORE
    on_shards = [
        lab.on_shard(place, f"SELECT id, voucher_id FROM {{payment_order}} WHERE merchant_order_no = '{number}'")
        for place in lab.places("payment_order")
    ]
    assert len(on_shards) > 4 and sum(map(len, on_shards)) == 1  # one of them has it, and none knows which
    assert [row[:2] for row in asked(lab, by_number, merchant_order_no=number)] == [(id, voucher)]
    assert [row[:2] for row in asked(lab, by_key, idempotency_key=key)] == [(id, voucher)]
    orders = asked(lab, of_payer, payer_account_id=payer)
    assert id in {row[0] for row in orders}
    ((order, ordered, back),) = asked(lab, refunded, merchant_order_no=number)
    assert (order, ordered) == (id, amount) and 0 < back <= amount  # type: ignore[operator]


def test_ddl_on_one_table_instead_of_one_a_shard(lab: PackLab) -> None:
    assert len(DDL) == 3 and all(re.fullmatch(r"ALTER TABLE payment\.\w+ ADD .*", s) for s in DDL)
    lab.at_target(*(statement.replace("payment.", "$.") for statement in DDL))
    legs, by_day = AFTER
    voucher, payee = lab.at_target("SELECT voucher_id, payee_account_id FROM $.payment_order ORDER BY id LIMIT 1")[0]
    found = asked(lab, legs, voucher_id=voucher)
    sums = {side: sum(row[2] for row in found if row[1] == side) for side in "DC"}  # type: ignore[misc]
    assert len(found) >= 2 and sums["D"] == sums["C"] > 0
    days = asked(lab, by_day, payee_account_id=payee)
    total = lab.at_target(f"SELECT COUNT(*), SUM(amount) FROM $.payment_order WHERE payee_account_id = {payee}")[0]
    assert (sum(row[1] for row in days), sum(row[2] for row in days)) == total  # type: ignore[misc]
    assert lab.at_target("SELECT COUNT(*), COUNT(settled_on), SUM(risk_score) FROM $.payment_order")[0][1:] == (0, 0)
