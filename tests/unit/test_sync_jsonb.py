"""Binary JSON comes out as the text of the same value, whatever its layout."""

from __future__ import annotations

import json
import struct
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from migrate.sync.jsonb import Unsayable, element, same, text
from tests.row_images import Opaque, decimal, json_document

_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=9), st.sampled_from([2**15, -(2**15) - 1, 2**16, 2**31, -(2**31) - 1, 2**32, 1.0, 1e22, 5e-324]),
)  # fmt: skip
VALUES = st.recursive(
    _LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=5), inner)),
    max_leaves=12,
)  # fmt: skip


def exact(value: Any) -> Any:
    """The value, with what Python takes for equal told apart."""
    if isinstance(value, dict):
        return {k: exact(v) for k, v in value.items()}
    if isinstance(value, list):
        return [exact(v) for v in value]
    return type(value), struct.pack(">d", value) if isinstance(value, float) else value


@given(VALUES, st.booleans())
@example({"a": [1, {"b": None}], "": '\0\\"\n中😀'}, False)
@example("x" * 70000, False)
def test_a_document_is_read_exactly(value: Any, large: bool) -> None:
    shown = element(json_document(value, large))
    assert isinstance(shown, bytes)
    assert exact(json.loads(shown)) == exact(value)
    assert shown == element(json_document(value, not large)), "one value, two elements"
    assert text(shown) == shown and same(shown, json.dumps(value).encode())


@given(VALUES, VALUES)
def test_other_values_are_other_elements(one: Any, other: Any) -> None:
    assert (element(json_document(one)) == element(json_document(other))) == (
        json.dumps(one, ensure_ascii=False) == json.dumps(other, ensure_ascii=False)
    )


def test_the_target_may_write_a_double_as_an_integer_and_sort_keys() -> None:
    shown = element(json_document({"bb": 1.0, "a": [1e20, True]}))
    assert same(shown, b'{"a": [100000000000000000000, true], "bb": 1}')
    for other in (b'{"a": [100000000000000000000, 1], "bb": 1}', b'{"a": [100000000000000000001, true], "bb": 1}',
                  b'{"a": [100000000000000000000, true], "bb": "1"}', b"null"):  # fmt: skip
        assert not same(shown, other)
    assert not same(element(json_document(2**53 + 1)), str(2**53).encode())


@pytest.mark.parametrize(
    ("number", "precision", "scale"),
    [("12.30", 9, 2), ("-0.5", 30, 30), ("18446744073709551615", 20, 0), ("-9223372036854775808", 19, 0), ("0", 1, 0)],
)
def test_a_decimal_of_few_digits_is_carried(number: str, precision: int, scale: int) -> None:
    data = json_document([Opaque(b"\xf6" + bytes([precision, scale]) + decimal(Decimal(number), precision, scale))])
    assert Decimal(text(element(data))[1:-1].decode()) == Decimal(number)


@pytest.mark.parametrize(
    "inner",
    [Opaque(b"\xf6\x1a\x06" + decimal(Decimal("12345678901234567890.123456"), 26, 6)), Opaque(b"\x0a12345678"),
     Opaque(b"\xfcbytes")],
)  # fmt: skip
def test_what_has_no_text_is_refused_and_still_compared(inner: Opaque) -> None:
    data = json_document({"deep": [inner]})
    found = element(data)
    assert isinstance(found, Unsayable)
    assert found == element(data) and hash(found) == hash(element(data)) and found != element(json_document([inner]))
    assert not same(found, b"{}")
    with pytest.raises(ValueError, match="no JSON text"):
        text(found)


def test_an_empty_value_is_null() -> None:
    assert element(b"") == b"null"


@given(VALUES.filter(lambda v: isinstance(v, (list, dict, str)) and len(v) > 0), st.data())
def test_a_document_cut_short_is_never_taken_for_whole(value: Any, data: st.DataObject) -> None:
    whole = json_document(value)
    cut = whole[: data.draw(st.integers(1, len(whole) - 1))]
    with pytest.raises((ValueError, IndexError, struct.error)):
        assert element(cut) == element(whole), "read beyond its end"
        raise ValueError("what is left is whole: trailing bytes are not part of the value")
