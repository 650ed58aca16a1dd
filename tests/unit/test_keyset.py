"""Conditions on keys: spelled out column by column, they order rows as tuples are ordered."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate.copy.keyset import beyond, chunk_columns, predicate
from migrate.model import Chunk, Column, Index, Shard, TableDef

SHARD = Shard("m1", "s", "t")


def definition(*types: str, unique: bool = False, nullable: bool = False, prefix: int | None = None) -> TableDef:
    columns = tuple(
        Column(f"k{i}", t.partition("(")[0], t, nullable, "utf8mb4", "utf8mb4_bin") for i, t in enumerate(types)
    )
    index = Index("u" if unique else "PRIMARY", True, tuple((c.name, prefix) for c in columns))
    return TableDef(columns, (index,), "utf8mb4", "utf8mb4_bin")


def holds(condition: str, row: tuple[int, ...]) -> bool:
    """Whether a condition over integer columns holds for a row, as SQL would say."""
    python = re.sub(r"`k(\d)`", lambda m: f"row[{m[1]}]", condition)
    python = re.sub(r"(?<![<>])=", "==", python).replace("AND", "and").replace("OR", "or")
    return bool(eval(python, {"row": row}))


SMALL = st.integers(-2, 2)
WIDTHS = st.integers(1, 3)


@given(WIDTHS.flatmap(lambda n: st.tuples(st.tuples(*[SMALL] * n), st.tuples(*[SMALL] * n))))
def test_beyond_orders_rows_as_tuples_are(pair: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    row, key = pair
    columns = chunk_columns(definition(*["int"] * len(row)))
    literals = tuple(map(str, key))
    assert holds(beyond(columns, literals), row) == (row > key)
    assert holds(beyond(columns, literals, to=True), row) == (row <= key)


@given(WIDTHS.flatmap(lambda n: st.tuples(st.tuples(*[SMALL] * n), st.lists(st.tuples(*[SMALL] * n), max_size=4))))
def test_a_row_lies_in_exactly_one_chunk(case: tuple[tuple[int, ...], list[tuple[int, ...]]]) -> None:
    row, bounds = case
    table = definition(*["int"] * len(row))
    edges = [None, *(tuple(map(str, b)) for b in sorted(set(bounds))), None]
    chunks = [Chunk(SHARD, i, lower, upper) for i, (lower, upper) in enumerate(pairwise(edges))]
    assert sum(holds(predicate(table, chunk) or "1 = 1", row) for chunk in chunks) == 1


def test_a_chunk_without_bounds_has_no_condition() -> None:
    assert predicate(definition("int"), Chunk(SHARD, 0)) == ""


@pytest.mark.parametrize("kind", ["bigint", "decimal(9,2)", "varchar(9)", "char(9)", "binary(4)", "varbinary(9)",
                                  "date", "datetime(6)", "timestamp", "time(3)", "year"])  # fmt: skip
def test_keys_that_cut_a_table(kind: str) -> None:
    assert chunk_columns(definition(kind))
    assert chunk_columns(definition("int", kind, unique=True))


@pytest.mark.parametrize("kind", ["float", "double", "enum('a')", "set('a')", "bit(8)", "text", "blob"])
def test_keys_that_leave_a_table_in_one_piece(kind: str) -> None:
    assert chunk_columns(definition(kind)) == ()
    assert chunk_columns(definition("int", kind)) == ()


def test_prefixes_and_keys_with_null_leave_a_table_in_one_piece() -> None:
    assert chunk_columns(definition("varchar(9)", prefix=3)) == ()
    assert chunk_columns(definition("int", unique=True, nullable=True)) == ()
    assert chunk_columns(TableDef((), (), "utf8mb4", "utf8mb4_bin")) == ()
