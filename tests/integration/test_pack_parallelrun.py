"""The pack of two schemas side by side, from the seed to the proof: clean, written to meanwhile, and broken in its own
terms."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from decimal import Decimal
from pathlib import Path

import pytest

from migrate.config import load_config
from migrate.cutover.run import cut_over, roll_back
from migrate.cutover.verifier import EdgeVerifier
from migrate.doublewrite import DoubleWrite
from migrate.doublewrite.phases import install_everywhere
from migrate.sandbox import Sandbox, Server
from tests.integration.pack_lab import PackLab
from verify.evidence import keep
from verify.invariants import InvariantResult
from verify.run import verify_all, verify_balances, verify_rows


@pytest.fixture(scope="module")
def lab(servers: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PackLab]:
    lab = PackLab("parallelrun", "pparallel", servers.sources, servers.target, tmp_path_factory.mktemp("pparallel"))
    lab.migrated(1500)
    yield lab
    lab.drop()


def test_a_seed_is_migrated_and_clean(lab: PackLab) -> None:
    result = verify_all(lab.config)
    assert result.ok, result.text()
    checked = {i.name for i in result.invariants or ()}
    assert checked >= {"payment_equals_voucher", "no_dangling_reference", "debit_equals_credit"}
    assert not any(i.offenders for i in result.invariants or ()), result.text()
    orders, topups = (lab.on_shards(f"SELECT COUNT(*) FROM {{{t}}}") for t in ("pay_order", "topup"))
    counted = lab.at_target("SELECT kind, COUNT(*) FROM $.payment GROUP BY kind ORDER BY kind")
    assert counted == [("ORDER", sum(n for (n,) in orders)), ("TOPUP", sum(n for (n,) in topups))]


def test_the_totals_are_those_of_the_cents(lab: PackLab) -> None:
    """By currency, added up here from the old columns; and so the control totals say it, of both sides."""
    cents: dict[tuple[str, str], int] = {}
    for kind, sql in (("ORDER", "SELECT ccy, SUM(amount_cents) FROM {pay_order} GROUP BY ccy"),
                      ("TOPUP", "SELECT currency, SUM(cents) FROM {topup} GROUP BY currency")):  # fmt: skip
        for currency, total in lab.on_shards(sql):
            cents[kind, currency] = cents.get((kind, currency), 0) + int(total)
    told: dict[tuple[str, str], Decimal] = {}
    for total in verify_balances(lab.config).totals or ():
        if total.table.endswith(".payment") and total.shard is None and total.source and total.target:
            assert total.source == total.target
            key = (str(total.by["kind"]), str(total.by["currency"]))
            told[key] = told.get(key, Decimal(0)) + total.source.sums[0]
    assert told == {key: Decimal(total).scaleb(-2) for key, total in cents.items()}


def test_a_cent_made_by_rounding_in_the_mapping(lab: PackLab) -> None:
    """On the target alone: it is named by its row, by the total of the cents, and by the ledger's own rule."""
    kind, number, voucher, currency, amount = lab.at_target(
        "SELECT kind, payment_no, voucher_id, currency, amount FROM $.payment WHERE status = 'PAID' LIMIT 1"
    )[0]
    where = f"WHERE kind = '{kind}' AND payment_no = {number}"
    lab.at_target(f"UPDATE $.payment SET amount = amount + 0.01 {where}")
    try:
        rows = verify_rows(lab.config)
        balances = verify_balances(lab.config)
    finally:
        lab.at_target(f"UPDATE $.payment SET amount = amount - 0.01 {where}")
    (mismatch,) = rows.mismatches
    assert mismatch.key == {"kind": kind, "payment_no": str(number)}
    assert mismatch.source == {"amount": str(amount)}
    assert mismatch.target_values == {"amount": str(amount + Decimal("0.01"))}
    (total,) = [t for t in balances.totals or () if not t.ok]
    assert total.by["currency"] == currency
    assert total.source and total.target
    assert total.target.sums[0] - total.source.sums[0] == Decimal("0.01")
    (rule,) = [i for i in balances.invariants or () if i.offenders]
    assert rule.name == "payment_equals_voucher"
    assert [row["voucher"] for row in rule.rows] == [str(voucher)]
    assert rule.target.prices == {currency: Decimal("0.01")}
    assert not rule.source or rule.source.count == 0


def test_a_scale_that_is_wrong_in_the_routes(lab: PackLab, tmp_path: Path) -> None:
    """Both sides agree then, and the ledger beside them says that they are wrong."""
    text = lab.config.path.read_text("utf-8").replace('from = "cents", scale = 2', 'from = "cents", scale = 3')
    path = tmp_path / "wrong.toml"
    path.write_text(text, "utf-8")
    found = {i.name: i for i in verify_balances(load_config(path)).invariants or () if i.offenders}
    rule = found["payment_equals_voucher"]
    assert rule.source
    assert rule.source.count > 10


BUFFER = """
[[role.buffer]]
table = "pparallel.payment"
id = "payment_no"
account = "account_id"
amount = "amount"
currency = "currency"
time = "paid_at"
pending = { status = "INIT" }
max_age_s = 60
item = "payment"
"""


def test_a_rule_of_single_rows_is_the_same_on_cents_and_codes(lab: PackLab, tmp_path: Path) -> None:
    """Payments that nobody finished, which are state 0 or done N on the shards: counted and priced alike; and one that
    is so on its shard alone is found there."""
    pack = tmp_path / "pack"
    shutil.copytree(lab.pack, pack)
    with (pack / "ledger.toml").open("a") as file:
        file.write(BUFFER)
    path = tmp_path / "buffer.toml"
    path.write_text(lab.config.path.read_text("utf-8").replace(f'pack = "{lab.pack}"', f'pack = "{pack}"'), "utf-8")
    orders = lab.on_shards("SELECT ccy, COUNT(*), SUM(amount_cents) FROM {pay_order} WHERE state = 0 GROUP BY ccy")
    topups = lab.on_shards("SELECT currency, COUNT(*), SUM(cents) FROM {topup} WHERE done = 'N' GROUP BY currency")
    prices: dict[str, Decimal] = {}
    for currency, _, cents in (*orders, *topups):
        prices[currency] = prices.get(currency, Decimal(0)) + Decimal(cents).scaleb(-2)

    def judged() -> InvariantResult:
        found = verify_balances(load_config(path)).invariants or ()
        return next(i for i in found if i.name == "buffer_drained")

    rule = judged()
    assert rule.source
    for side in (rule.source, rule.target):
        assert side.count == sum(n for _, n, _ in (*orders, *topups)) > 10
        assert side.prices == prices
    place = lab.places("pay_order")[0]
    ((number, cents, currency),) = lab.on_shard(
        place, "SELECT order_no, amount_cents, ccy FROM {pay_order} WHERE state = 1 LIMIT 1"
    )
    lab.on_shard(place, f"UPDATE {{pay_order}} SET state = 0 WHERE order_no = {number}")
    try:
        late = judged()
    finally:
        lab.on_shard(place, f"UPDATE {{pay_order}} SET state = 1 WHERE order_no = {number}")
    assert late.source
    assert late.source.count == late.target.count + 1
    assert late.source.prices[currency] - late.target.prices[currency] == Decimal(cents).scaleb(-2)
    assert late.target.prices == prices


def test_it_is_followed_while_it_is_written(lab: PackLab) -> None:
    with lab.syncing(), lab.posting(30) as traffic:
        traffic.wait(3)
        live = lab.verify_settled()
    assert not [i.name for i in live.invariants or () if not i.ok], live.text()
    lab.caught_up()
    result = verify_all(lab.config)
    assert result.ok, result.text()


@pytest.mark.timeout(300)
def test_the_night_and_the_way_back(lab: PackLab, tmp_path: Path) -> None:
    """Cut over, work in the new tables, go back: the old tables have it."""
    install_everywhere(lab.config)
    with ExitStack() as night:
        night.enter_context(lab.syncing())
        result = verify_all(lab.config)
        keep(lab.config, result, tmp_path / "evidence")
        verifier = night.enter_context(closing(EdgeVerifier(lab.config)))
        there = cut_over(lab.config, verifier)
    assert there.go, there.text()
    ledger = DoubleWrite(lab.config)
    changed = lab.at_target("SELECT payment_no, account_id FROM $.payment WHERE kind = 'ORDER' AND status = 'INIT'")
    with ledger.session(changed[0][1]) as session:
        assert session.info["side"] == "target"
        for number, _ in changed:
            session.connection().exec_driver_sql(
                f"UPDATE {lab.name}.payment SET status = 'PAID', bank = 'NEW', bank_no = '8' "
                f"WHERE kind = 'ORDER' AND payment_no = {number}"
            )
    ledger.close()
    with closing(EdgeVerifier(lab.config)) as verifier:
        back = roll_back(lab.config, verifier)
    assert back.go, back.text()
    written = lab.on_shards("SELECT order_no FROM {pay_order} WHERE channel_no = 'NEW-8' AND state = 1")
    assert sorted(written) == sorted((number,) for number, _ in changed)
    assert not any(n for (n,) in lab.on_shards("SELECT COUNT(*) FROM {pay_order} WHERE state = 0"))
    lab.caught_up()
    result = verify_all(lab.config)
    assert result.ok, result.text()


@pytest.mark.usefixtures("servers")
def test_on_a_recent_server(mysql97: Server, sandbox97: Sandbox, tmp_path: Path) -> None:
    lab = PackLab("parallelrun", "pparallel97", [mysql97], sandbox97.target, tmp_path)
    try:
        lab.migrated(400)
        result = verify_all(lab.config)
        assert result.ok, result.text()
    finally:
        lab.drop()
