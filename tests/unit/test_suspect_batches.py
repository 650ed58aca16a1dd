"""Values to look for are dealt to statements whole, in order, and no statement gets more than it has room for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from verify.suspects import _AT_ONCE, _BY_INDEX, _BYTES, batches

VALUES = st.lists(st.tuples(st.text("abc'\\", max_size=300)), max_size=50).flatmap(
    lambda some: st.integers(1, 500).map(lambda times: some * times)
)


@given(values=VALUES, indexed=st.booleans())
def test_every_value_is_in_one_statement(values: list[tuple[str, ...]], indexed: bool) -> None:
    parts = list(batches(values, indexed=indexed))
    assert [value for part in parts for value in part] == values
    assert all(0 < len(part) <= (_BY_INDEX if indexed else _AT_ONCE) for part in parts)
    assert all(sum(len(text) + 1 for (text,) in part) <= _BYTES for part in parts)
