"""The text of a row says all of the row: a Python model of it, and what it can and can't confuse."""

from __future__ import annotations

import datetime
import itertools
import json
import math
import struct
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from migrate.errors import NoGo
from migrate.model import Column, Interleave
from tests.verify_model import Value, encode, model_piece
from verify.encoding import Hash, Kind, finish, kind_of, piece, show

VALUES: dict[Kind, st.SearchStrategy[Value]] = {
    Kind.NUMBER: st.integers() | st.decimals(allow_nan=False, allow_infinity=False, places=4),
    Kind.BITS: st.integers(0, 2**64 - 1),
    Kind.CLOCK: st.datetimes().map(str) | st.just("0000-00-00") | st.just("-838:59:59.000000"),
    Kind.TEXT: st.text("aAN,4E é\0", max_size=4),  # few characters: what could be confused is drawn often
    Kind.BYTES: st.binary(max_size=3),
    Kind.LARGE_TEXT: st.text("aAN, ", max_size=4),
    Kind.LARGE_BYTES: st.binary(),
    Kind.FLOAT: st.floats(allow_nan=False, allow_infinity=False),
}
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
KINDS = st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=5)


@st.composite
def two_rows(draw: st.DrawFn) -> tuple[list[Kind], list[Value], list[Value]]:
    kinds = draw(KINDS)
    rows = [[draw(st.none() | VALUES[kind]) for kind in kinds] for _ in range(2)]
    return kinds, rows[0], rows[1]


def same(kind: Kind, one: Value, other: Value) -> bool:
    if kind is Kind.FLOAT and isinstance(one, float) and isinstance(other, float):
        return struct.pack(">d", one) == struct.pack(">d", other)
    if kind is Kind.NUMBER and one is not None and other is not None:
        return str(one) == str(other)  # of one column, and so of one scale
    return type(one) is type(other) and one == other


@patient
@given(two_rows())
@example(([Kind.TEXT, Kind.TEXT], ["a,b", "c"], ["a", "b,c"]))
@example(([Kind.TEXT], ["N"], [None]))
@example(([Kind.TEXT], [""], [None]))
@example(([Kind.TEXT], ["a "], ["a"]))
@example(([Kind.TEXT], ["A"], ["a"]))
@example(([Kind.NUMBER], [0], [None]))
@example(([Kind.BYTES], [b""], [None]))
@example(([Kind.FLOAT], [0.0], [-0.0]))
@example(([Kind.LARGE_TEXT], [""], [None]))
def test_two_rows_have_one_text_only_if_they_are_the_same(rows: tuple[list[Kind], list[Value], list[Value]]) -> None:
    kinds, one, other = rows
    equal = all(itertools.starmap(same, zip(kinds, one, other, strict=True)))
    assert (encode(kinds, one) == encode(kinds, other)) == equal


@patient
@given(two_rows())
def test_no_piece_holds_a_comma(rows: tuple[list[Kind], list[Value], list[Value]]) -> None:
    kinds, one, _ = rows
    pieces = encode(kinds, one).split(",")
    assert len(pieces) == len(kinds)
    for kind, value, text in zip(kinds, one, pieces, strict=True):
        assert text == model_piece(kind, value)
        assert (show(kind, text) is None) == (value is None)


@patient
@given(st.text())
def test_a_text_is_shown_as_it_is(text: str) -> None:
    assert show(Kind.TEXT, model_piece(Kind.TEXT, text)) == text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"b": 1, "a": 1.0}', '{"a": 1, "b": 1}'),
        ("1e20", "100000000000000000000"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("9.007199254740992e15", "9007199254740992"),
        ("-0.0", "-0"),
        ("0.10", "0.1"),
        ('"\\u0041"', '"A"'),
        ("[1, true, null]", "[1,true,null]"),
    ],
)
def test_json_that_the_servers_write_differently_is_one(one: str, other: str) -> None:
    assert finish(Kind.JSON, one) == finish(Kind.JSON, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("18446744073709551615", "18446744073709551614"),
        ("9007199254740993", "9007199254740992"),
        ("0.30000000000000004", "0.3"),
        ("0", "-0.0"),
        ("1", '"1"'),
        ("1", "true"),
        ("null", '"null"'),
        ("[]", "{}"),
        ('{"a": [1, 2]}', '{"a": [2, 1]}'),
        ('{"a": 1}', '{"a": 1, "b": null}'),
        ('"a"', '"a "'),
    ],
)
def test_json_that_differs_differs(one: str, other: str) -> None:
    assert finish(Kind.JSON, one) != finish(Kind.JSON, other)


def test_a_json_null_is_not_null() -> None:
    assert finish(Kind.JSON, "null") != finish(Kind.JSON, None) == "N"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@patient
@given(JSON, JSON)
def test_json_is_one_only_if_it_is_equal(one: object, other: object) -> None:
    texts = [json.dumps(value, sort_keys=True) for value in (one, other)]
    assert (finish(Kind.JSON, texts[0]) == finish(Kind.JSON, texts[1])) == (texts[0] == texts[1])
    assert show(Kind.JSON, finish(Kind.JSON, texts[0])) is not None


@patient
@given(st.floats(allow_nan=False, allow_infinity=False))
@example(5e-324)
@example(-0.0)
def test_a_double_keeps_its_last_bit(value: float) -> None:
    shown = show(Kind.FLOAT, finish(Kind.FLOAT, repr(value)))
    assert shown is not None
    assert float(shown) == value
    assert math.copysign(1, float(shown)) == math.copysign(1, value)


def column(type_: str, full: str = "", nullable: bool = False, charset: str | None = None) -> Column:
    return Column("c", type_, full or type_, nullable, charset)


def test_pieces() -> None:
    md5 = Hash("MD5")
    assert piece(column("bigint"), Kind.NUMBER, "source", md5) == "`c`"
    assert piece(column("bigint", nullable=True), Kind.NUMBER, "target", md5) == "IFNULL(`c`,'N')"
    assert piece(column("int", "int(8) unsigned zerofill"), Kind.NUMBER, "source", md5) == "`c`+0"
    interleaved = piece(column("bigint", nullable=True), Kind.NUMBER, "source", md5, Interleave(3, 5))
    assert interleaved == "IFNULL(CAST(`c` AS DECIMAL(20,0))*8+5,'N')"
    latin1 = column("varchar", charset="latin1")
    assert piece(latin1, Kind.TEXT, "source", md5) == "HEX(CONVERT(`c` USING utf8mb4))"
    assert piece(latin1, Kind.TEXT, "target", md5) == "HEX(`c`)"
    assert piece(column("longblob"), Kind.LARGE_BYTES, "source", Hash("SHA2")) == "SHA2(`c`,256)"


def test_a_type_without_a_digest_is_refused() -> None:
    with pytest.raises(NoGo, match="column c is geometry"):
        kind_of(column("geometry"))


def test_every_other_type_has_a_kind() -> None:
    names = (
        "tinyint bigint decimal year bit date datetime timestamp time char varchar enum set tinytext longtext binary "
    )
    names += "varbinary blob tinyblob float double json"
    assert {kind_of(column(name)) for name in names.split()} == set(Kind)


def test_model_values() -> None:
    assert model_piece(Kind.NUMBER, Decimal("-0.5000")) == "-0.5000"
    assert model_piece(Kind.CLOCK, str(datetime.date(2026, 1, 2))) == "2026-01-02"
