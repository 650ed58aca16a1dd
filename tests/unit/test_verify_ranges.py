"""Ranges tile the key space, and a merged key's range is the same rows as the old key's."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate.config import Config, Verify, parse_url
from migrate.model import Column, Interleave
from verify.controls import Figures
from verify.model import Totals
from verify.ranges import Range, in_order, tile, tiling_column
from verify.tally import Proof, Tally
from verify.throttle import Throttle

ID = Column("id", "bigint", "bigint(20)", False)
bounds = st.none() | st.integers(-(2**70), 2**70).map(str)


def inside(range_: Range, value: int) -> bool:
    return (range_.lower is None or value > int(range_.lower)) and (range_.upper is None or value <= int(range_.upper))


@given(bounds, bounds, st.integers(-(2**63), 2**64), st.integers(1, 20), st.data())
def test_a_range_of_the_merged_key_is_the_same_rows_of_the_old_one(
    lower: str | None, upper: str | None, old: int, bits: int, data: st.DataObject
) -> None:
    remap = Interleave(bits, data.draw(st.integers(0, 2**bits - 1)))
    merged = Range("`id`", lower, upper)
    assert inside(merged.on_shard(remap), old) == inside(merged, (old << bits) + remap.number)
    assert merged.on_shard(None) is merged


@given(st.lists(st.integers(-50, 50)), st.integers(1, 20), st.integers(-60, 60))
def test_ranges_tile(keys: list[int], rows: int, value: int) -> None:
    ranges = tile(ID, in_order(ID, [(str(k), 3) for k in keys]), rows)
    assert sum(inside(r, value) for r in ranges) == 1
    assert len(ranges) <= len(set(keys)) + 1
    if keys:
        assert len(ranges) >= min(len(set(keys)), 3 * len(keys) // max(rows, 3)) / 2


def test_bounds_are_sorted_as_the_servers_do() -> None:
    def order(type_: str, *literals: str) -> list[str]:
        return [w for w, _ in in_order(Column("k", type_, type_, False), [(x, 1) for x in literals])]

    assert order("bigint", "10", "9", "-1") == ["-1", "9", "10"]
    assert order("decimal", "10.0", "9.50", "-0.01") == ["-0.01", "9.50", "10.0"]
    assert order("varbinary", "X'6161'", "X'61'", "''", "X'FF'") == ["''", "X'61'", "X'6161'", "X'FF'"]
    assert order("datetime", "'2026-01-02 00:00:00'", "'0000-00-00 00:00:00'") == [
        "'0000-00-00 00:00:00'",
        "'2026-01-02 00:00:00'",
    ]


@pytest.mark.parametrize(("type_", "tiles"), [("bigint", True), ("varchar", False), ("binary", False), ("date", True)])
def test_only_keys_that_both_servers_order_alike_are_cut_into_ranges(type_: str, tiles: bool) -> None:
    assert (tiling_column([Column("k", type_, type_, False)]) is not None) == tiles
    assert tiling_column([]) is None


amounts = st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**16), max_value=10**16)
figures = st.builds(
    Figures, st.integers(1, 10**9), st.tuples(amounts, amounts), st.none() | amounts, st.none() | amounts
)
groups = st.dictionaries(st.tuples(st.sampled_from(["CNY", "USD", "N"]), st.sampled_from(["2026-01-01", "N"])), figures)
totals = st.builds(Totals, *[st.integers(0, 2**90)] * 3)
tallies = st.builds(Tally, totals, st.tuples(groups))


@given(tallies, tallies, st.dictionaries(st.sampled_from("ab"), tallies))
def test_proofs_are_stored_exactly(source: Tally, target: Tally, shards: dict[str, Tally]) -> None:
    proof = Proof(source, target, shards, source == target)
    assert Proof.load(proof.dump()) == proof
    same = Proof(source, source, shards)
    assert Proof.load(same.dump()) == same


@given(tallies, tallies, tallies)
def test_tallies_add_up_in_any_order(a: Tally, b: Tally, c: Tally) -> None:
    assert a + (b + c) == (a + b) + c
    assert a + b == b + a
    assert a + Tally() == Tally() + a == a


def test_one_unequal_range_makes_the_table_unequal_even_if_the_sums_agree() -> None:
    one, two = Tally(Totals(1, 5)), Tally(Totals(1, 7))
    assert not (Proof(one, two, {}, False) + Proof(two, one, {}, False)).equal
    assert Decimal(sum(t.totals.first for t in (one, two))) == 12


@pytest.mark.parametrize(
    ("window", "hour", "waits"),
    [("22:00-06:00", 23, False), ("22:00-06:00", 3, False), ("22:00-06:00", 6, True), ("22:00-06:00", 12, True),
     ("01:00-02:00", 1, False), ("01:00-02:00", 2, True), ("01:00-02:00", 0, True)],
)  # fmt: skip
def test_the_time_window_may_cross_midnight(window: str, hour: int, waits: bool) -> None:
    target = parse_url("mysql://a:b@127.0.0.1:1", "target")
    config = Config(Path("x"), "x", None, (), target, (), (), None, verify=Verify(window=window))  # type: ignore[arg-type]
    throttle = Throttle(config, now=lambda: datetime(2026, 1, 1, hour, 0, tzinfo=UTC))
    assert (throttle.reason() is not None) == waits
