"""Merging per key, and cutting a batch into parts, against a plain model of tables."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate.model import Column, Index, MergedTable, Shard, ShardTable, TableDef, Target
from migrate.sync.batch import AFTER, BEFORE, Batch, Doubt, Layout
from migrate.sync.shares import shares

_TARGET = Target("t", "t")


class _Plain:
    """A decoder whose images are what they show: (key, unique value, other)."""

    columns = ("id", "u", "v")

    def key(self, image: tuple[Any, ...]) -> int:
        return int(image[0])

    def shown(self, image: tuple[Any, ...]) -> str:
        return str(image[0])


def _layout(number: int, *, unique: bool = True) -> Layout:
    columns = tuple(Column(name, "bigint", "bigint(20)", name == "v") for name in _Plain.columns)
    indexes = (Index("PRIMARY", True, (("id", None),)), Index("u", True, (("u", None),)))
    definition = TableDef(columns, indexes if unique else indexes[:1], "utf8mb4", "utf8mb4_bin")
    shard = Shard("m1", "s", f"t_{number}")
    table = MergedTable(_TARGET, (ShardTable(shard, definition), ShardTable(Shard("m1", "s", "other"), definition)))
    return Layout(shard, table, definition, _Plain())  # type: ignore[arg-type]


_OPERATIONS = st.lists(
    st.tuples(st.sampled_from("iudk"), st.integers(0, 8), st.integers(0, 8), st.integers(0, 8), st.integers(0, 3)),
    max_size=60,
)


def _apply(operations: list[Any], rows: dict[int, tuple[int, int, int]], batch: Batch, layout: Layout) -> None:
    """Does to `rows` what the operations say, where a server would allow it; tells the batch what its binlog says."""
    for what, key, other, unique, value in operations:
        taken = {row[1] for row in rows.values()}
        if what == "i" and key not in rows and unique not in taken:
            rows[key] = (key, unique, value)
            batch.insert(layout, [rows[key]])
        elif what == "d" and key in rows:
            batch.delete(layout, [rows.pop(key)])
        elif what == "u" and key in rows and (unique == rows[key][1] or unique not in taken):
            before, rows[key] = rows[key], (key, unique, value)
            batch.update(layout, [(before, rows[key])])
        elif what == "k" and key in rows and other not in rows:
            before = rows.pop(key)
            rows[other] = (other, *before[1:])
            batch.update(layout, [(before, rows[other])])


@given(_OPERATIONS, _OPERATIONS, st.booleans())
def test_a_batch_takes_the_table_from_what_it_was_to_what_it_is(first: Any, second: Any, fuzzy: bool) -> None:
    layout = _layout(0)
    rows: dict[int, tuple[int, int, int]] = {}
    _apply(first, rows, Batch(False), layout)
    was = dict(rows)
    batch = Batch(fuzzy)
    _apply(second, rows, batch, layout)
    merged = dict(was)
    for key, entry in batch.tables.get(_TARGET, {}).items():
        if not fuzzy:
            assert entry[BEFORE] == was.get(key)
        merged.pop(key, None)
        if entry[AFTER] is not None:
            merged[key] = entry[AFTER]
    assert merged == rows


@given(_OPERATIONS, _OPERATIONS, st.integers(1, 4))
def test_parts_can_be_written_in_any_order_deletions_first(first: Any, second: Any, parts: int) -> None:
    layout = _layout(0)
    rows: dict[int, tuple[int, int, int]] = {}
    _apply(first, rows, Batch(False), layout)
    target = dict(rows)
    batch = Batch(False)
    _apply(second, rows, batch, layout)
    cut = shares(batch, parts)
    assert sum(len(e) for share in cut for e in share.values()) == len(batch.tables.get(_TARGET, {}))
    for share in reversed(cut):
        entries = share.get(_TARGET, [])
        for before, after, _, _ in entries:
            if before is not None and (after is None or after[1] != before[1]):
                del target[before[0]]
        for _, after, _, _ in entries:
            if after is not None:
                clash = [k for k, row in target.items() if row[1] == after[1] and k != after[0]]
                assert not clash, "a unique value was taken before it was given up"
                target[after[0]] = after
    assert target == rows


def test_without_unique_indexes_a_table_is_spread() -> None:
    batch = Batch(False)
    batch.insert(_layout(0, unique=False), [(i, i, 0) for i in range(10)])
    assert [len(share[_TARGET]) for share in shares(batch, 2)] == [5, 5]


def test_a_row_moves_between_shards_by_insert_then_delete() -> None:
    here, there, batch = _layout(0), _layout(1), Batch(False)
    batch.update(here, [((1, 1, 1), (1, 1, 2))])
    batch.insert(there, [(1, 1, 2)])
    batch.update(there, [((1, 1, 2), (1, 1, 3))])
    assert batch.doubled
    batch.delete(here, [(1, 1, 2)])
    assert not batch.doubled
    entry = batch.tables[_TARGET][1]
    assert (entry[BEFORE], entry[AFTER], entry[2], entry[3]) == ((1, 1, 1), (1, 1, 3), here, there)


def test_a_key_on_two_shards_names_both() -> None:
    here, there, batch = _layout(0), _layout(1), Batch(False)
    batch.insert(here, [(1, 1, 1)])
    batch.insert(there, [(1, 2, 2)])
    ((layout, image),) = batch.doubled.values()
    assert "key 1 is on two shards, m1.s.t_0 and m1.s.t_1" in layout.twice(batch, image)


def test_changes_that_the_binlog_lost_are_noticed() -> None:
    layout, batch = _layout(0), Batch(False)
    batch.insert(layout, [(1, 1, 1)])
    with pytest.raises(Doubt, match=r"key 1 of m1\.s\.t_0 was changed without a trace"):
        batch.update(layout, [((1, 1, 2), (1, 1, 3))])
    with pytest.raises(Doubt, match="without a trace"):
        batch.delete(layout, [(1, 1, 5)])
    with pytest.raises(Doubt, match="inserted a second time"):
        batch.insert(layout, [(1, 1, 1)])


def test_in_a_fuzzy_batch_what_came_and_went_is_deleted() -> None:
    layout, batch = _layout(0), Batch(True)
    batch.insert(layout, [(1, 1, 1)])
    batch.delete(layout, [(1, 1, 1)])
    entry = batch.tables[_TARGET][1]
    assert (entry[BEFORE], entry[AFTER]) == ((1, 1, 1), None)
