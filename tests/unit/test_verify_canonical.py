"""The one text of a document, and the chain over texts."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from verify.canonical import NOTHING, canonical, digest_of_lines, link, plain

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
    | st.decimals(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


def shuffled(value: Any) -> Any:
    """The same document with its keys the other way round."""
    if isinstance(value, dict):
        return {key: shuffled(item) for key, item in reversed(value.items())}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(documents)
def test_the_order_of_keys_and_a_way_through_json_change_nothing(document: Any) -> None:
    text = canonical(document)
    assert canonical(shuffled(document)) == text == canonical(json.loads(text))
    assert "\n" not in text and text.isascii()


@given(documents, documents)
def test_two_documents_have_one_text_only_if_they_are_equal(one: Any, other: Any) -> None:
    same = json.dumps(plain(one), sort_keys=True) == json.dumps(plain(other), sort_keys=True)
    assert (canonical(one) == canonical(other)) == same


def test_amounts_and_seconds_are_texts() -> None:
    assert canonical({"a": Decimal("1E+3"), "b": 0.1, "c": 1, "d": True}) == '{"a":"1000","b":"0.1","c":1,"d":true}'


@given(st.lists(st.text(alphabet="ab{}:,", max_size=5), max_size=6), st.lists(st.text(alphabet="ab", max_size=5)))
def test_lines_have_one_digest_only_if_they_are_equal(one: list[str], other: list[str]) -> None:
    assert (digest_of_lines(one) == digest_of_lines(other)) == (one == other)


@given(st.lists(st.text(), min_size=2, max_size=6), st.data())
def test_every_change_of_a_chain_changes_its_head(texts: list[str], data: st.DataObject) -> None:
    def head(chain: list[str]) -> str:
        digest = NOTHING
        for text in chain:
            digest = link(digest, text)
        return digest

    at = data.draw(st.integers(0, len(texts) - 1))
    assert head([*texts[:at], texts[at] + "x", *texts[at + 1 :]]) != head(texts)
    assert head([*texts[:at], *texts[at + 1 :]]) != head(texts)
