"""What a report hides: nothing but the end of an account number gets out, and amounts stay."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from verify.masks import mask, masked, offender


@given(st.text())
def test_at_most_a_third_and_four_characters_are_seen(value: str) -> None:
    told = mask(value)
    assert told.startswith("••••")
    seen = told.removeprefix("••••")
    assert len(seen) <= min(4, len(value) // 3) and value.endswith(seen)


@given(st.dictionaries(st.text(min_size=1), st.none() | st.text(min_size=5)))
def test_only_what_is_named_is_shown(values: dict[str, str | None]) -> None:
    told = masked(values, ["amount"]) or {}
    assert told.keys() == values.keys()
    for name, value in values.items():
        if name.lower() == "amount" or value is None:
            assert told[name] == value
        else:
            assert value not in str(told[name])


def test_an_offender_shows_its_amounts_and_hides_who_it_is() -> None:
    row = {"amount": "12", "account": "6222021234567890", "debit": "1.50", "currency": "CNY", "memo": "Zhang Wei"}
    assert offender(row) == {"account": "••••7890", "memo": "••••Wei", "debit": "1.50", "amount": "12",
                             "currency": "CNY"}  # fmt: skip
    assert next(iter(offender(row))) == "account"
    assert masked(None) is None and mask(None) == "NULL"
