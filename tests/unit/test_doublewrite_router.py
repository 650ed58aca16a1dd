"""Rows find their shards, by formulas and by the low bits of interleaved keys, and the way back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate.doublewrite.errors import Refused
from migrate.doublewrite.outbox import row_hash
from migrate.doublewrite.router import Router
from migrate.doublewrite.sharding import Sharding, formula, load_sharding
from migrate.errors import ConfigError
from migrate.model import Column, Index, Interleave, MergedTable, Shard, ShardTable, TableDef, Target


def table(target: str, names: list[tuple[str, str, str]], *columns: str, interleaved: str | None = None) -> MergedTable:
    definition = TableDef(
        tuple(Column(c, "bigint", "bigint", nullable=False) for c in columns),
        (Index("PRIMARY", True, ((columns[0], None),)),), "utf8mb4", "utf8mb4_bin",
    )  # fmt: skip
    shards = tuple(ShardTable(Shard(*name), definition) for name in names)
    bits = (len(shards) - 1).bit_length()
    remap = {s.shard: {interleaved: Interleave(bits, i)} for i, s in enumerate(shards)} if interleaved else {}
    return MergedTable(Target(*target.split(".")), shards, "interleave" if interleaved else "error", remap)


NAMES = [(f"m{1 + n % 2}", f"p_{n % 2}", f"account_{n:02}") for n in range(4)]


def test_a_formula_chooses_the_shard_by_the_number_in_its_name() -> None:
    router = Router([table("p.account", NAMES, "id")], [Sharding(number="key % shards", keys={"p.account": "id"})])
    assert router.shard("p.account", 7).shard.table == "account_03"
    assert router.locate("p.account", {"id": "9"}).table == "account_01"
    assert router.instance(9) == "m2"


def test_databases_that_number_their_tables_alike() -> None:
    names = [("m1", f"p_{d}", f"account_{n}") for d in range(2) for n in range(2)]
    tables = [table("p.account", names, "id")]
    rule = Sharding(number="key % 2", schema="key // 2 % 2", keys={"p.account": "id"})
    assert Router(tables, [rule]).shard("p.account", 6).shard == Shard("m1", "p_1", "account_0")
    with pytest.raises(ConfigError, match="same numbers"):
        Router(tables, [Sharding(number="key % 2", keys={"p.account": "id"})])


@given(st.integers(0, 2**60), st.integers(0, 2))
def test_interleaving_is_undone(value: int, number: int) -> None:
    router = Router([table("p.account", NAMES[:3], "id", interleaved="id")])
    shard = router.tables["p.account"].shards[number].shard
    row = router.forward(shard, {"id": str(value)})
    assert row["id"] == str(value * 4 + number)
    assert router.locate("p.account", row) == shard
    assert router.back(shard, row) == {"id": str(value)}


def test_rows_without_a_place_are_refused() -> None:
    interleaved = Router([table("p.account", NAMES[:3], "id", interleaved="id")])
    with pytest.raises(Refused, match="name 0 shards"):
        interleaved.locate("p.account", {"id": "3"})
    both = Router(
        [table("p.account", NAMES, "id", "user", interleaved="id")],
        [Sharding(number="key % shards", keys={"p.account": "user"})],
    )
    assert both.locate("p.account", {"id": "1", "user": "5"}).table == "account_01"
    with pytest.raises(Refused, match="name 0 shards"):
        both.locate("p.account", {"id": "2", "user": "5"})
    with pytest.raises(Refused, match="no sharding is declared"):
        Router([table("p.account", NAMES, "id")]).locate("p.account", {"id": "1"})
    with pytest.raises(Refused, match="there is none"):
        Router([table("p.account", NAMES, "id")], [Sharding(number="key", keys={"p.account": "id"})]).shard(
            "p.account", 9
        )


@pytest.mark.parametrize("text", ["key.real", "__import__('os')", "key ** 9", "key % 2.5", "open(key)", "k", "key %"])
def test_what_is_no_formula(text: str) -> None:
    with pytest.raises(ValueError, match="formula"):
        formula(text)


def test_formulas() -> None:
    assert formula("(key >> 22 & 15) * 2 + key % shards")(1 << 23, 8) == 4
    assert formula("crc32(key) % shards")("abc", 1000) == 891568578 % 1000  # SELECT CRC32('abc')


def test_the_payment_pack_declares_its_sharding() -> None:
    assert load_sharding("payment")[0].keys["payment.account_entry"] == "account_id"


def test_equal_keys_have_equal_hashes_whatever_the_collation() -> None:
    assert row_hash("a.b", ["Ünïté "]) == row_hash("a.b", ["unite"])
    assert row_hash("a.b", ["1"]) != row_hash("a.b", ["2"])
