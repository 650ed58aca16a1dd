"""Sets of GTIDs against sets of numbers, in both formats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate.errors import MigrateError
from migrate.position import covers, reached
from migrate.sync.gtid import GtidSet

A, B = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "00000000-0000-0000-0000-00000000000b"
origins = st.sampled_from([A, B, f"{A}:bank", f"{A}:a_1", f"{B}:bank"])
models = st.sets(st.tuples(origins, st.integers(1, 40)))


def made(model: set[tuple[str, int]]) -> GtidSet:
    new = GtidSet()
    for origin, number in model:  # in a set's order, that is, in none
        new.add(origin, number)
    return new


def members(gtids: GtidSet) -> set[tuple[str, int]]:
    return {(origin, n) for origin, first, last in gtids for n in range(first, last + 1)}


@given(models)
def test_a_set_holds_what_was_added_however_it_travels(model: set[tuple[str, int]]) -> None:
    gtids = made(model)
    assert members(gtids) == model
    assert GtidSet.parse(str(gtids)) == gtids
    assert GtidSet.decode(gtids.encode()) == gtids
    assert bool(gtids) == bool(model) and len(gtids) == len(model)


@given(models, origins, st.integers(1, 41))
def test_contains(model: set[tuple[str, int]], origin: str, number: int) -> None:
    assert made(model).contains(f"{origin}:{number}") == ((origin, number) in model)


@given(models, models)
def test_minus_and_within(one: set[tuple[str, int]], other: set[tuple[str, int]]) -> None:
    left = made(one).minus(made(other))
    assert members(left) == one - other
    assert left == made(one - other)  # its form too: no empty origins, no intervals that touch
    assert made(one).within(made(other)) == (one <= other)


@given(st.lists(st.tuples(origins, st.integers(1, 30), st.integers(0, 9)), max_size=12))
def test_intervals_that_overlap_or_touch_become_one(pieces: list[tuple[str, int, int]]) -> None:
    gtids = GtidSet()
    for origin, first, more in pieces:
        gtids.add(origin, first, first + more)
    model = {(origin, n) for origin, first, more in pieces for n in range(first, first + more + 1)}
    assert members(gtids) == model and gtids == made(model)


def test_mysql_s_own_text() -> None:
    text = f"{B}:1-3:5:bank:7,\n{A.upper()}:1-10:15:A_1:1:bank:2-4"
    assert str(GtidSet.parse(text)) == f"{B}:1-3:5:bank:7,{A}:1-10:15:a_1:1:bank:2-4"
    assert str(GtidSet.parse(f"{A}:5-3")) == "" == str(GtidSet.parse(" "))


@pytest.mark.parametrize(
    "text", ["x:1", f"{A}:0", f"{A}:1-", f"{A}:-1", f"{A}:Bäder:1", f"{A}:{'t' * 33}:1", "0-1-100"]
)
def test_what_isn_t_a_set_is_refused(text: str) -> None:
    with pytest.raises(MigrateError, match="not a GTID set"):
        GtidSet.parse(text)


def test_a_position_covers_by_gtid_where_it_can_and_by_place_where_not() -> None:
    position = {"file": "bin.000009", "offset": "120", "gtid_set": f"{A}:1-7", "server_uuid": A}
    assert covers(position, f"{A}:7", "bin.000010", 500)
    assert not covers(position, f"{A}:8", "bin.000001", 4)
    assert covers(position, None, "bin.000009", 120) and not covers(position, None, "bin.000009", 121)
    assert not covers(position, None, "bin.000010", 4) and covers(position, None, "bin.000008", 1 << 33)
    bare = {**position, "gtid_set": ""}
    assert covers(bare, f"{A}:8", "bin.000009", 120) and not covers(bare, f"{A}:1", "bin.1000000", 4)


def test_a_goal_is_reached_by_place_on_its_server_and_by_gtids_elsewhere() -> None:
    goal = {"file": "bin.000009", "offset": "120", "gtid_set": f"{A}:1-7", "server_uuid": A}
    assert reached(goal, goal) and reached({**goal, "file": "bin.000010", "offset": "4"}, goal)
    assert not reached({**goal, "offset": "119", "gtid_set": f"{A}:1-9"}, goal)
    elsewhere = {"file": "log.000001", "offset": "4", "gtid_set": f"{A}:1-8", "server_uuid": B}
    assert reached(elsewhere, goal) and not reached({**elsewhere, "gtid_set": f"{A}:1-6:8"}, goal)
    with pytest.raises(MigrateError, match="by their GTIDs only"):
        reached({**elsewhere, "gtid_set": ""}, goal)
