"""Totals and figures combine associatively, and a result says what it knows."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from functools import reduce
from operator import add

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from verify.controls import Figures
from verify.invariants import InvariantResult
from verify.model import Mismatch, TableResult, Totals
from verify.offenders import Offenders
from verify.result import Result
from verify.rows import Buckets

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
totals = st.builds(Totals, st.integers(0, 10**12), st.integers(0, 2**90), st.integers(0, 2**90))
amounts = st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**30), max_value=10**30)
keys = st.integers(0, 2**64).map(Decimal)
figures = st.builds(Figures, st.integers(0, 10**9), st.tuples(amounts, amounts), st.none() | keys, st.none() | keys)


@patient
@given(totals, totals, totals)
def test_totals_combine_in_any_order_and_grouping(a: Totals, b: Totals, c: Totals) -> None:
    assert (a + b) + c == a + (b + c) == c + b + a
    assert a + Totals() == a


@patient
@given(figures, figures, figures)
def test_figures_combine_in_any_order_and_grouping(a: Figures, b: Figures, c: Figures) -> None:
    assert (a + b) + c == a + (b + c) == c + b + a
    assert a + Figures() == Figures() + a == a


@patient
@given(st.dictionaries(st.integers(0, 50), totals), st.dictionaries(st.integers(0, 50), totals), st.integers(1, 10**12))
def test_passes_hold_every_bad_bucket_once_and_no_more_rows_than_asked(
    source: dict[int, Totals], target: dict[int, Totals], most: int
) -> None:
    buckets = Buckets(64, source, target)
    passes = list(buckets.passes(most))
    assert reduce(add, passes, []) == buckets.bad
    for chosen in passes:
        rows = sum(max(source.get(b, Totals()).rows, target.get(b, Totals()).rows) for b in chosen)
        assert rows <= most or len(chosen) == 1


TABLE = TableResult("p.t", 3, 2, False, missing=1, extra=0, different=0, duplicate=0)
MISSING = Mismatch("p.t", {"id": "7"}, "missing", ("id", "amount"), {"id": "7", "amount": "1.50"}, None, "m1.s.t_1")
CHANGED = Mismatch("p.t", {"id": "8"}, "different", ("memo",), {"memo": "a "}, {"memo": None}, "m1.s.t_2")


def test_the_document_keeps_the_contract() -> None:
    document = json.loads(json.dumps(Result("rows", (TABLE,), (MISSING, CHANGED)).document()))
    assert document["ok"] is False
    assert {"target", "source_rows", "target_rows", "missing", "extra", "different"} <= document["tables"][0].keys()
    assert document["mismatches"][0] == {
        "target": "p.t",
        "key": {"id": "7"},
        "kind": "missing",
        "columns": ["id", "amount"],
        "source": {"id": "7", "amount": "1.50"},
        "target_values": None,
        "shard": "m1.s.t_1",
        "at_risk": {},
    }


def test_the_text_names_rows_values_and_the_next_step() -> None:
    text = Result("rows", (TABLE,), (MISSING, CHANGED)).text()
    assert "MISMATCH: 1 missing" in text
    assert "missing    p.t  id=7 on m1.s.t_1: id=7, amount=1.50" in text
    assert "different  p.t  id=8 on m1.s.t_2: memo: 'a ' -> NULL" in text
    assert "next: " in text
    assert "verify rows --table p.t" in Result("checksum", (TABLE,)).text()
    assert "`verify repair` shows what would mend them" in text
    broken = InvariantResult("trial_balance", "error", Offenders(1, count=1, rows=[{"currency": "CNY"}]))
    told = Result("all", (replace(TABLE, ok=True),), invariants=(broken,)).text()
    assert "both sides hold the same rows, and the ledger itself breaks trial_balance" in told
    assert "verify repair" not in told


def test_what_is_under_way_is_told_the_oldest_first_and_all_of_it_counted() -> None:
    one, other = Offenders(2), Offenders(2)
    for found, ages in ((one, (5, 90, 30)), (other, (60, 7))):
        for age in ages:
            assert found.judge({"flow": str(age), "currency": "CNY"}, Decimal(age), age, 100)
    one.merge(other)
    assert [row["flow"] for row in one.waiting] == ["90", "60"] and one.waiting[0]["age_s"] == "90"
    assert (one.in_transit, one.oldest_s, one.in_transit_prices) == (5, 90, {"CNY": Decimal(192)})
    assert not one.judge({"flow": "8", "currency": "CNY"}, Decimal(8), 100, 100)
    assert (one.count, one.prices, one.rows[0]["flow"]) == (1, {"CNY": Decimal(8)}, "8")


def test_no_tables_are_never_a_success() -> None:
    assert not Result("counts", ()).ok
    assert Result("counts", (replace(TABLE, ok=True),)).ok
