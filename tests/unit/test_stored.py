"""A definition survives being kept as JSON, whatever its names and texts are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate.model import Column, Index, TableDef
from migrate.schema.stored import definition_from_json, definition_to_json

names = st.text(min_size=1, max_size=20)
maybe = st.none() | st.text(max_size=20)
columns = st.builds(
    Column,
    name=names,
    type=names,
    full_type=names,
    nullable=st.booleans(),
    charset=maybe,
    collation=maybe,
    default=maybe,
    default_is_expression=st.booleans(),
    on_update=maybe,
    auto_increment=st.booleans(),
    invisible=st.booleans(),
    generated=maybe,
    stored=st.booleans(),
    comment=st.text(max_size=20),
)
parts = st.tuples(st.none() | names, st.none() | st.integers(1, 3072))
indexes = st.builds(Index, names, st.booleans(), st.lists(parts, max_size=3).map(tuple), names)
several = st.lists(names, max_size=3).map(tuple)
definitions = st.builds(
    TableDef,
    columns=st.lists(columns, max_size=5).map(tuple),
    indexes=st.lists(indexes, max_size=3).map(tuple),
    charset=names,
    collation=names,
    comment=st.text(max_size=20),
    engine=names,
    partitioned=st.booleans(),
    foreign_keys=several,
    checks=several,
    triggers=several,
)


@given(definitions, definitions)
def test_a_definition_comes_back_as_it_was(one: TableDef, other: TableDef) -> None:
    text = definition_to_json(one)
    assert text.isascii()
    assert "\n" not in text
    again = definition_from_json(text)
    assert again == one
    assert hash(again) == hash(one)  # tuples all the way down
    assert (definition_to_json(other) == text) == (other == one)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"columns": [{"nome": "a"}], "indexes": []}'])
def test_what_is_no_definition_is_refused(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        definition_from_json(text)
