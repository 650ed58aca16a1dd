"""Rows of a mapped shard, there and back: what is mapped comes back as it was, and what can't be undone is refused."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from migrate.config import Route
from migrate.doublewrite.errors import Refused
from migrate.doublewrite.router import Router, obstacles
from migrate.doublewrite.sharding import Sharding
from migrate.errors import ConfigError
from migrate.mapped import mapped
from migrate.model import Column, Index, MergedTable, Shard, ShardTable, TableDef, Target
from migrate.translation import Translation, irreversible, not_carried

TEXT: dict[str, Any] = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}
PRIMARY = Index("PRIMARY", True, (("no", None),))
OLD = TableDef(
    columns=(
        Column("no", "bigint", "bigint(20) unsigned", False),
        Column("uid", "bigint", "bigint(20)", False),
        Column("cents", "bigint", "bigint(20)", True),
        Column("mills", "decimal", "decimal(12,1) unsigned", False),
        Column("wide", "decimal", "decimal(20,4)", True),
        Column("small", "int", "int(8) unsigned zerofill", False),
        Column("state", "tinyint", "tinyint(4)", False),
        Column("channel", "varchar", "varchar(12)", True, charset="latin1", collation="latin1_bin"),
        Column("flag", "char", "char(3)", True, charset="utf8", collation="utf8_bin"),
        Column("note", "varchar", "varchar(10)", True, **TEXT),
        Column("legacy", "int", "int(11)", False, default="7"),
    ),
    indexes=(PRIMARY,),
    charset="utf8mb4",
    collation="utf8mb4_bin",
)
COLUMNS: dict[str, Any] = {
    "payment_no": "no",
    "account_id": "uid",
    "amount": {"from": "cents", "scale": 2},
    "share": {"from": "mills", "scale": 3},
    "fee": {"from": "wide", "type": "decimal(18,2)"},
    "count": {"from": "small", "type": "bigint"},
    "status": {"from": "state", "codes": {"0": "INIT", "1": "PAID", "-1": "VOID"}},
    "bank": {"from": "channel", "separator": "-", "part": 1},
    "bank_no": {"from": "channel", "separator": "-", "part": 2},
    "flag": {"from": "flag", "type": "varchar(20)"},
    "remark": {"from": "note", "type": "varchar(30)"},
    "kind": {"value": "ORDER"},
}
ROW: dict[str, str | None] = {
    "payment_no": "1", "account_id": "7", "amount": "12.34", "share": "0.1000", "fee": "1.00", "count": "3",
    "status": "PAID", "bank": "ICBC", "bank_no": "001", "flag": "ab", "remark": "r", "kind": "ORDER",
}  # fmt: skip


def shard(name: str = "t_0", definition: TableDef = OLD, **more: Any) -> ShardTable:
    columns = {"columns": COLUMNS, "drop": ("legacy",)} | more
    route = Route.model_validate(
        {"schema": "s", "table": ".*", "target": "s.t", "key": ("kind", "payment_no")} | columns
    )
    table, problems = mapped(ShardTable(Shard("m1", "s", name), definition), route)
    assert problems == []
    return table


BOTH = Translation(shard())


def whole(most: int, least: int | None = None) -> st.SearchStrategy[str]:
    return st.integers(-most - 1 if least is None else least, most).map(str)


OLD_ROWS = st.fixed_dictionaries(
    {
        "no": whole(2**64 - 1, 0),
        "uid": whole(2**63 - 1),
        "cents": st.none() | whole(2**63 - 1),
        "mills": st.integers(0, 10**12 - 1).map(lambda n: f"{Decimal(n).scaleb(-1):f}"),
        "wide": st.none() | st.integers(-(10**18) + 1, 10**18 - 1).map(lambda n: f"{Decimal(n).scaleb(-2):f}00"),
        "small": st.integers(0, 2**32 - 1).map(lambda n: f"{n:08}"),
        "state": st.sampled_from(["0", "1", "-1"]),
        "channel": st.none() | st.from_regex(r"\A[a-zé ]{0,5}-[0-9ü]{0,6}\Z"),
        "flag": st.none() | st.from_regex(r"\A([a-z中]{0,3})\Z"),
        "note": st.none() | st.text(st.characters(exclude_categories=("Cs",)), max_size=10),
    }
)


@given(OLD_ROWS)
@example(
    {"no": str(2**64 - 1), "uid": str(-(2**63)), "cents": str(2**53 + 1), "mills": "99999999999.9",
     "wide": "-9999999999999999.9900", "small": "00000000", "state": "-1", "channel": "-", "flag": "", "note": ""}
)  # fmt: skip
def test_there_and_back(row: dict[str, str | None]) -> None:
    there = BOTH.forward(row)
    assert there["kind"] == "ORDER"
    assert there["amount"] == (None if row["cents"] is None else f"{Decimal(row['cents']).scaleb(-2):f}")
    again = BOTH.back(there)
    assert again.keys() == row.keys()
    assert {n: v for n, v in again.items() if n != "small"} == {n: v for n, v in row.items() if n != "small"}
    assert int(again["small"] or "") == int(row["small"] or "")  # its zeros are the server's
    assert BOTH.forward(again) == there


NEW_ROWS = st.fixed_dictionaries(
    {
        "payment_no": st.just("1"), "account_id": st.just("1"), "kind": st.just("ORDER"),
        "amount": st.none() | st.decimals(-(10**17), 10**17, places=3).map(str),
        "share": st.decimals(-1, 10**8, places=4).map(lambda d: f"{d:f}"),
        "fee": st.none() | st.decimals(-(10**16), 10**16, places=2).map(str),
        "count": whole(2**33),
        "status": st.sampled_from(["INIT", "PAID", "VOID", "paid", "NEW", ""]),
        "bank": st.none() | st.text("ab-é中", max_size=7), "bank_no": st.none() | st.text("12-", max_size=7),
        "flag": st.none() | st.text("ab 中\U0001f4e6", max_size=4),
        "remark": st.none() | st.text(max_size=12),
    }
)  # fmt: skip


@given(NEW_ROWS)
def test_back_and_there_or_refused(row: dict[str, str | None]) -> None:
    """Whatever the new application writes: the shard's row is one that becomes it again, or there is none."""
    try:
        back = BOTH.back(row)
    except ValueError:
        return
    there = BOTH.forward(back)
    numbers = {"amount", "share", "fee", "count"}
    assert {n: v and Decimal(v) for n, v in there.items() if n in numbers} == {
        n: v and Decimal(v) for n, v in row.items() if n in numbers
    }
    assert {n: v for n, v in there.items() if n not in numbers} == {n: v for n, v in row.items() if n not in numbers}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"amount": "0.005"}, "amount can't become cents exactly: 0.005 has more than 2 digits"),
        ({"amount": "92233720368547758.08"}, "9223372036854775808 is beyond bigint"),
        ({"share": "-0.1000"}, "beyond decimal.12,1. unsigned"),
        ({"share": "0.00001"}, "more than 4 digits"),
        ({"count": "-1"}, "beyond int.8. unsigned"),
        ({"count": str(2**32)}, "beyond int.8. unsigned"),
        ({"status": "CLOSED"}, "no code becomes 'CLOSED'"),
        ({"status": "paid"}, "no code becomes 'paid'"),
        ({"status": None}, "it is NULL, and the shard's column is NOT NULL"),
        ({"bank": None}, "bank and bank_no can't become channel exactly: one is NULL, the other isn't"),
        ({"bank": "a-b"}, "'a-b' has a '-' of its own"),
        ({"bank_no": "123456789"}, "more than 12 characters"),
        ({"bank": "中"}, "can't be written in latin1"),
        ({"flag": "a "}, "would lose the spaces"),
        ({"flag": "abcd"}, "more than 3 characters"),
        ({"flag": "\U0001f4e6"}, "can't be written in utf8"),
        ({"remark": "12345678901"}, "more than 10 characters"),
        ({"kind": "TOPUP"}, "kind is 'TOPUP', and 'ORDER' in every row"),
    ],
)  # fmt: skip
def test_what_the_shard_cannot_have(values: dict[str, str | None], words: str) -> None:
    assert BOTH.back(ROW)["cents"] == "1234"
    with pytest.raises(ValueError, match=words):
        BOTH.back(ROW | values)


def test_a_row_that_lacks_columns_is_turned_as_far_as_it_goes() -> None:
    assert BOTH.back({"kind": "ORDER", "payment_no": "5"}) == {"no": "5"}
    assert BOTH.forward({"no": "5", "legacy": "1"}) == {"kind": "ORDER", "payment_no": "5"}
    assert BOTH.back({"bank": "a"}) == {}
    assert not_carried(shard()) == ["legacy"]


def test_a_column_of_which_two_are_made() -> None:
    both = Translation(shard(columns=COLUMNS | {"cents": "cents"}))
    assert both.forward({"cents": "1234"}) == {"kind": "ORDER", "amount": "12.34", "cents": "1234"}
    assert both.back({"amount": "12.34", "cents": "1234"}) == {"cents": "1234"}
    with pytest.raises(ValueError, match="they say different things: 1234, 1235"):
        both.back({"amount": "12.34", "cents": "1235"})


def test_codes_are_what_the_column_shows() -> None:
    """A code that no value of the old column is would be stored as another one."""
    shown = Column("sort", "enum", "enum('a','b')", True, **TEXT)
    old = replace(OLD, columns=(*OLD.columns, shown))
    both = Translation(
        shard(
            definition=old,
            columns=COLUMNS | {
                "status": {"from": "state", "codes": {"0": "INIT", "01": "PAID", "x": "VOID"}},
                "sort": {"from": "sort", "codes": {"a": 1, "B": 2}},
                "version": {"value": "01", "type": "int"},
            },
        )
    )  # fmt: skip
    assert both.back({"status": "INIT"}) == {"state": "0"}
    assert both.back({"sort": "1"}) == {"sort": "a"}
    assert both.back({"version": "1"}) == {}
    for value in ({"status": "PAID"}, {"status": "VOID"}, {"sort": "2"}):
        with pytest.raises(ValueError, match="no code becomes"):
            both.back(value)
    alike = shard(columns=COLUMNS | {"status": {"from": "state", "codes": {"0": "1", "1": "01"}, "type": "int"}})
    assert irreversible(alike) == ["column state: 1 stands for several codes"]


def test_what_stands_in_the_way_is_known_before() -> None:
    assert irreversible(shard()) == []
    hidden = replace(OLD, columns=(*OLD.columns[:-1], replace(OLD.columns[-1], default=None)))
    assert irreversible(shard(definition=hidden)) == ["column legacy isn't carried, is NOT NULL and has no default"]
    shape = replace(OLD, columns=(*OLD.columns[:-1], Column("legacy", "point", "point", True)))
    assert irreversible(shard(definition=shape)) == ["column legacy isn't carried, and point can't be kept as it is"]
    codes = {"0": "INIT", "1": "PAID", "2": "PAID"}
    twice = shard(columns=COLUMNS | {"status": {"from": "state", "codes": codes}})
    assert irreversible(twice) == ["column state: PAID stands for several codes"]
    with pytest.raises(ValueError, match="'PAID' may stand for several codes"):
        Translation(twice).back(ROW)
    unique = replace(
        OLD, indexes=(PRIMARY, Index("channel", True, (("channel", None),)), Index("u", True, (("uid", None),)))
    )
    assert irreversible(shard(definition=unique)) == ["the unique key channel (channel) isn't on the target"]


# -- which shard ------------------------------------------------------------------------------------------------------

TOPUPS = COLUMNS | {"kind": {"value": "TOPUP"}, "remark": {"from": "note", "type": "varchar(30)"}}
RULE = Sharding(number="key % shards", keys={"s.t": "account_id"})


def merged(*families: dict[str, Any]) -> MergedTable:
    names = [(f"{'abc'[n]}_{i}", columns) for n, columns in enumerate(families) for i in range(2)]
    return MergedTable(Target("s", "t"), tuple(shard(name, columns=columns) for name, columns in names))


def test_a_row_finds_its_shard_by_its_constant_and_its_renamed_sharding_key() -> None:
    router = Router([merged(COLUMNS, TOPUPS)], [RULE])
    assert obstacles(merged(COLUMNS, TOPUPS), [RULE]) == []
    assert router.locate("s.t", ROW).table == "a_1"
    assert router.locate("s.t", ROW | {"kind": "TOPUP", "account_id": "8"}).table == "b_0"
    assert router.instance(7) == "m1"
    with pytest.raises(Refused, match="rows with kind = 'REFUND' belong to 0 of the tables"):
        router.locate("s.t", ROW | {"kind": "REFUND"})
    with pytest.raises(Refused, match=r"has rows in m1\.s\.a_1, m1\.s\.b_1"):
        router.shard("s.t", 7)
    with pytest.raises(Refused, match=r"s\.t and m1\.s\.a_1: amount can't become cents"):
        router.back(Shard("m1", "s", "a_1"), ROW | {"amount": "0.001"})
    with pytest.raises(Refused, match="state can't become status exactly: '5' is none of its codes"):
        router.forward(Shard("m1", "s", "a_1"), {"state": "5"})


def test_what_has_no_place_is_known_before() -> None:
    sorted_ = COLUMNS | {"sort": {"value": "X"}}
    (said,) = obstacles(merged(COLUMNS, sorted_), [RULE])
    assert said == "nothing tells rows of m1.s.a_0 from those of m1.s.b_0: give both routes a constant"
    assert "no sharding is declared" in obstacles(merged(COLUMNS), [])[0]
    by_amount = Sharding(number="key % shards", keys={"s.t": "count"})
    assert "s.t.count is no column of the shards" in obstacles(merged(COLUMNS), [by_amount])[0]
    with pytest.raises(ConfigError, match="no column of the shards"):
        Router([merged(COLUMNS)], [Sharding(number="key % shards", keys={"s.t": "kind"})])
    assert obstacles(replace(merged(COLUMNS), shards=merged(COLUMNS).shards[:1]), []) == []
