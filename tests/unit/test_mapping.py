"""Mapped columns: what the configuration takes, what becomes of a table, and that values are exact both ways or not."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from migrate.config import Route
from migrate.conversion import forward, misfit_sql
from migrate.errors import NoGo
from migrate.mapped import mapped
from migrate.model import Column, Constant, Index, Shard, ShardTable, TableDef, literal
from migrate.schema.stored import definition_from_json, definition_to_json
from migrate.translation import irreversible
from verify.mapped import written_back

TEXT: dict[str, Any] = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}
SOURCE = TableDef(
    columns=(
        Column("order_no", "bigint", "bigint(20) unsigned", False),
        Column("user_id", "bigint", "bigint(20)", False),
        Column("amount_cents", "bigint", "bigint(20)", True, default="100"),
        Column("state", "tinyint", "tinyint(4)", False, default="0"),
        Column("channel_no", "varchar", "varchar(40)", True, **TEXT),
        Column("fee", "decimal", "decimal(20,4)", True),
        Column("legacy", "int", "int(11)", False),
    ),
    indexes=(
        Index("PRIMARY", True, (("order_no", None),)),
        Index("by_channel", False, (("channel_no", None),)),
        Index("by_user", False, (("user_id", None),)),
    ),
    charset="utf8mb4",
    collation="utf8mb4_bin",
)
COLUMNS: dict[str, Any] = {
    "payment_no": "order_no",
    "amount": {"from": "amount_cents", "scale": 2},
    "status": {"from": "state", "codes": {"0": "INIT", "1": "PAID"}},
    "bank": {"from": "channel_no", "separator": "-", "part": 1},
    "bank_no": {"from": "channel_no", "separator": "-", "part": 2},
    "fee": {"from": "fee", "type": "decimal(10,2)"},
    "kind": {"value": "ORDER"},
}


def route(**more: Any) -> Route:
    given_ = {"schema": "s", "table": r"t_\d", "target": "s.t", "columns": COLUMNS, "drop": ("legacy",)}
    return Route.model_validate(given_ | more)


def shard(definition: TableDef = SOURCE) -> ShardTable:
    return ShardTable(Shard("m1", "s", "t_0"), definition)


def made(**more: Any) -> ShardTable:
    table, problems = mapped(shard(), route(**more))
    assert problems == []
    return table


def problems(columns: dict[str, Any], **more: Any) -> list[str]:
    return mapped(shard(), route(columns=columns, **more))[1]


def test_the_shape_that_a_shard_is_merged_in() -> None:
    table = made()
    assert [(c.name, c.full_type, c.nullable) for c in table.definition.columns] == [
        ("payment_no", "bigint(20) unsigned", False),
        ("user_id", "bigint(20)", False),
        ("amount", "decimal(19,2)", True),
        ("status", "varchar(4)", False),
        ("bank", "varchar(40)", True),
        ("bank_no", "varchar(40)", True),
        ("fee", "decimal(10,2)", True),
        ("kind", "varchar(5)", False),
    ]
    assert table.definition.column("amount").default == "1.00"
    assert table.definition.column("status").default == "INIT"
    assert [(i.name, i.columns) for i in table.definition.indexes] == [
        ("PRIMARY", ("payment_no",)),
        ("by_user", ("user_id",)),
    ]
    assert table.physical == SOURCE
    assert mapped(shard(), Route.model_validate({"schema": "s", "table": "t", "target": "s.t"})) == (shard(), [])


def test_a_constant_joins_the_key() -> None:
    key = made(key=("kind", "payment_no")).definition.key
    assert key
    assert (key.name, key.columns) == ("PRIMARY", ("kind", "payment_no"))
    assert "expected payment_no" in mapped(shard(), route(key=("kind", "user_id")))[1][0]
    assert "no column x" in mapped(shard(), route(key=("kind", "x")))[1][0]


@pytest.mark.parametrize(
    ("columns", "more", "words"),
    [
        ({"a": "nothing"}, {}, "columns.a: there is no column nothing"),
        ({"a": "legacy"}, {}, "column legacy is dropped and used"),
        ({}, {"drop": ("nothing",)}, "drop: there is no column nothing"),
        ({"user_id": "order_no"}, {}, "column user_id of the target is made twice"),
        ({"no": {"from": "order_no", "scale": 2}}, {}, "the key PRIMARY has order_no: a key's columns may be renamed"),
        ({}, {"drop": ("order_no",)}, "the key PRIMARY has order_no"),
        ({"a": {"from": "channel_no", "scale": 2}}, {}, "not an integer of minor units"),
        ({"a": {"from": "channel_no", "separator": "-", "part": 1}}, {}, "each part carried once"),
        ({"a": {"from": "channel_no", "separator": "-", "part": 1}, "b": {"from": "channel_no", "separator": "-",
          "part": 3}}, {}, "each part carried once"),
        ({"a": {"from": "state", "separator": "-", "part": 1}}, {}, "not CHAR or VARCHAR"),
        ({"a": {"from": "user_id", "type": "varchar(9)"}}, {}, "doesn't become varchar(9) exactly"),
        ({"a": {"from": "state", "codes": {"1": "LONG"}, "type": "varchar(3)"}}, {}, "'LONG' is longer than"),
        ({"a": {"value": 300, "type": "tinyint"}}, {}, "'300' is no tinyint"),
        ({"a": {"from": "state", "codes": {"1": "x"}, "type": "int"}}, {}, "'x' is no int"),
        ({"a": {"from": "amount_cents", "scale": 2, "type": "bigint"}}, {}, "with a scale its type is DECIMAL"),
    ],
)  # fmt: skip
def test_what_a_mapping_cannot_be(columns: dict[str, Any], more: dict[str, Any], words: str) -> None:
    assert any(words in p for p in problems(columns, **more)), problems(columns, **more)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ({}, "either from"),
        ({"from": "a", "value": 1}, "either from"),
        ({"value": "a", "scale": 2}, "a constant has no scale"),
        ({"from": "a", "scale": 2, "codes": {"a": "b"}}, "exclude each other"),
        ({"from": "a", "separator": "-"}, "go together"),
        ({"from": "a", "separator": "--", "part": 1}, "one character"),
        ({"from": "a", "separator": "x", "part": 1}, "one character"),
        ({"from": "a", "codes": {}}, "codes names no value"),
        ({"from": "a", "type": "float"}, "expected decimal"),
        ({"from": "a", "type": "decimal(2,3)"}, "out of TiDB's bounds"),
        ({"from": "a", "scale": 0}, "greater than or equal to 1"),
        ({"from": "a", "expression": "b + 1"}, "Extra inputs"),
    ],
)
def test_the_vocabulary_is_closed(column: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        route(columns={"x": column})


def test_no_interleaved_keys_beside_it() -> None:
    with pytest.raises(ValidationError, match="exclude each other"):
        route(key_collision="interleave")


def back(**values: str | None) -> dict[str, str]:
    """A row of the target as the shard has it, as verification would write it there."""
    row = {"payment_no": "1", "user_id": "1", "amount": "1.00", "status": "INIT", "bank": "a", "bank_no": "b",
           "fee": "1.00", "kind": "ORDER"} | values  # fmt: skip
    return written_back(made(), row, lambda name: f"'{row[name]}'")


def column(name: str) -> Column:
    return made().definition.column(name)


@given(st.integers(-(2**63), 2**63 - 1))
@example(2**53 + 1)
@example(-(2**63))
@example(-1)
@example(0)
def test_cents_are_exact_both_ways(cents: int) -> None:
    text = forward(column("amount"))(str(cents).encode())
    assert text is not None
    with localcontext(prec=60):
        assert Decimal(text.decode()) == Decimal(cents) / 100
    assert len(text.partition(b".")[2]) == 2
    assert back(amount=text.decode())["amount_cents"] == str(cents)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**15), max_value=10**15))
def test_decimals_are_exact_or_refused(value: Decimal) -> None:
    with localcontext(prec=60):
        fits = value == value.quantize(Decimal("0.01")) and abs(value) < 10**8
    try:
        text = forward(column("fee"))(f"{value:f}".encode())
    except ValueError:
        assert not fits
    else:
        assert fits
        assert text is not None
        assert Decimal(text.decode()) == value
        assert not text.startswith(b"-0.00")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
@example("-")
@example("--")
@example("中-文")
def test_parts_are_joined_to_the_original_or_refused(text: str) -> None:
    first, second = (forward(column(name)) for name in ("bank", "bank_no"))
    if text.count("-") != 1:
        with pytest.raises(ValueError, match="parts between"):
            first(text.encode())
        return
    parts = {"bank": first(text.encode()), "bank_no": second(text.encode())}
    assert None not in parts.values()
    row = {name: value.decode() for name, value in parts.items() if value is not None}
    assert back(**row)["channel_no"] == literal(text)


def test_codes_and_nulls() -> None:
    status = forward(column("status"))
    assert status(b"1") == b"PAID"
    for unknown in (b"2", b"01", b""):
        with pytest.raises(ValueError, match="none of its codes"):
            status(unknown)
    with pytest.raises(ValueError, match="it is NULL"):
        status(None)
    assert forward(column("amount"))(None) is None
    assert forward(column("kind"))(None) == b"ORDER"


def test_the_way_back() -> None:
    table = made()
    assert irreversible(table) == ["column legacy isn't carried, is NOT NULL and has no default"]
    codes = {"0": "INIT", "1": "PAID", "2": "PAID"}
    twice = made(columns=COLUMNS | {"status": {"from": "state", "codes": codes}})
    assert "column state: PAID stands for several codes" in irreversible(twice)
    assert back(status="PAID", bank=None, bank_no=None) == {
        "order_no": "'1'", "user_id": "'1'", "amount_cents": "100", "state": literal("1"), "channel_no": "NULL",
        "fee": "'1.00'",
    }  # fmt: skip
    for values, words in (
        ({"kind": "TOPUP"}, "kind is 'TOPUP', and 'ORDER' for each row"),
        ({"amount": "0.005"}, "amount is 0.005, which has more than 2 digits"),
        ({"bank": "a-b"}, "can't be joined"),
        ({"bank": None}, "can't be joined"),
        ({"status": "NEW"}, "'NEW', which no code becomes"),
    ):
        with pytest.raises(NoGo, match=words):
            back(**values)


def test_only_what_can_go_wrong_is_asked_for() -> None:
    assert misfit_sql(column("amount")) != ""  # a DECIMAL by CAST: cut off if it doesn't fit
    assert misfit_sql(column("kind")) == ""
    wide = made(columns=COLUMNS | {"user": {"from": "user_id", "type": "bigint"}})
    assert misfit_sql(wide.definition.column("user")) == ""
    narrow = made(columns=COLUMNS | {"user": {"from": "user_id", "type": "int unsigned"}})
    assert misfit_sql(narrow.definition.column("user")) == (
        "IFNULL(CAST(`user_id` AS DECIMAL(20,0)) NOT BETWEEN 0 AND 4294967295, FALSE)"
    )


def test_what_is_kept_of_a_definition_is_the_table_as_it_stands() -> None:
    assert definition_from_json(definition_to_json(SOURCE)) == SOURCE
    assert "origin" not in definition_to_json(SOURCE)
    same = replace(SOURCE.columns[0], origin=Constant("1"))
    assert repr(same) == repr(SOURCE.columns[0])
