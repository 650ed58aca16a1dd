"""Routing: nothing left out, nothing taken twice, and interleaving that tells shards apart."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate.catalog import natural
from migrate.config import Config, Endpoint, Ignore, Route, Run
from migrate.errors import NoGo
from migrate.model import Column, Index, Interleave, Shard, ShardTable, TableDef
from migrate.routes import resolve

ID = Column("id", "bigint", "bigint", False)
PRIMARY = Index("PRIMARY", True, (("id", None),))
SHAPE = TableDef((ID, Column("order_id", "bigint", "bigint", True)), (PRIMARY,), "utf8mb4", "utf8mb4_bin")


def table(name: str, shape: TableDef = SHAPE) -> ShardTable:
    return ShardTable(Shard(*name.split(".")), shape)


def config(*routes: Route, ignores: tuple[Ignore, ...] = ()) -> Config:
    here = Endpoint("m1", "h", 1, "u")
    return Config(Path("x"), "test", None, (here,), here, routes, ignores, Run())


def route(schema: str, pattern: str, target: str, **options: Any) -> Route:
    return Route(schema=schema, table=pattern, target=target, **options)


def test_shards_flow_together_in_natural_order() -> None:
    names = ["m1.pay_10.e_2", "m1.pay_2.e_10", "m1.pay_2.e_9", "m2.pay_1.e_1"]
    catalog = sorted((table(n) for n in reversed(names)), key=lambda t: natural(t.shard))
    (merged,) = resolve(config(route(r"pay_\d+", r"e_\d+", "pay.e")), catalog).checked()
    assert [str(t.shard) for t in merged.shards] == ["m1.pay_2.e_9", "m1.pay_2.e_10", "m1.pay_10.e_2", "m2.pay_1.e_1"]
    assert str(merged.target) == "pay.e" and merged.remap(merged.shards[0].shard) == {}


def test_patterns_must_match_the_whole_name() -> None:
    routing = resolve(config(route("pay", "e_[0-9]", "pay.e")), [table("m1.pay.e_1"), table("m1.pay.e_12")])
    assert routing.problems == ("m1.pay.e_12 is neither routed nor ignored: add a [[route]] or an [[ignore]] for it",)
    with pytest.raises(NoGo, match="routing is not complete"):
        routing.checked()


def test_a_route_that_matches_nothing() -> None:
    routing = resolve(config(route("pay", "e", "pay.e"), route("pay", "f", "pay.f")), [table("m1.pay.e")])
    assert len(routing.problems) == 1 and "route[1] matches no table" in routing.problems[0]


def test_two_routes_for_one_table() -> None:
    routing = resolve(config(route("pay", "e", "pay.e"), route("pay", ".", "pay.f")), [table("m1.pay.e")])
    assert "m1.pay.e is matched by route[0] to pay.e and by route[1] to pay.f" in routing.problems[0]


def test_a_route_and_an_ignore_for_one_table() -> None:
    routing = resolve(config(route("pay", "e", "pay.e"), ignores=(Ignore(schema="pay"),)), [table("m1.pay.e")])
    assert "by an ignore" in routing.problems[0]


def test_an_ignore_may_match_nothing() -> None:
    routing = resolve(
        config(route("pay", "e", "pay.e"), ignores=(Ignore(schema="none"), Ignore(schema="x"))),
        [table("m1.pay.e"), table("m1.x.y")],
    )
    assert routing.problems == () and [str(s) for s in routing.ignored] == ["m1.x.y"]
    assert routing.table("pay.e").shards[0].shard.table == "e"


@given(
    st.lists(
        st.tuples(st.sampled_from(["pay_1", "pay_2", "log"]), st.sampled_from(["e_1", "e_2", "f_1", "tmp"])),
        unique=True,
    )
)
def test_every_table_is_routed_ignored_or_a_problem(names: list[tuple[str, str]]) -> None:
    catalog = [table(f"m1.{schema}.{name}") for schema, name in names]
    routes = (route(r"pay_\d", r"e_\d", "pay.e"), route(r"pay_\d", r"f_\d", "pay.f"))
    routing = resolve(config(*routes, ignores=(Ignore(schema="log"), Ignore(schema=".*", table="tmp"))), catalog)
    routed = [t.shard for merged in routing.tables for t in merged.shards]
    told = {m[0] for p in routing.problems if (m := re.match(r"m1\.\S+", p))}
    assert sorted([*map(str, routed), *map(str, routing.ignored), *told]) == sorted(str(t.shard) for t in catalog)


@pytest.mark.parametrize(("shards", "bits"), [(1, 0), (2, 1), (3, 2), (8, 3), (9, 4), (256, 8)])
def test_interleaving_is_a_bijection(shards: int, bits: int) -> None:
    catalog = [table(f"m1.pay.e_{n}") for n in range(shards)]
    (merged,) = resolve(config(route("pay", r"e_\d+", "pay.e", key_collision="interleave")), catalog).checked()
    steps = [merged.remap(t.shard)["id"] for t in merged.shards]
    assert steps == [Interleave(bits, n) for n in range(shards)]
    values = {old * 2**step.bits + step.number for step in steps for old in range(-3, 4)}
    assert len(values) == 7 * shards


def test_references_follow_their_shard() -> None:
    catalog = [table(f"m{i}.pay_{i}.{name}_{n:02d}") for i in (1, 2) for name in ("order", "refund") for n in (1, 2)]
    routing = resolve(
        config(
            route(
                r"pay_\d", r"order_\d+", "pay.order", key_collision="interleave", references=("pay.refund.ORDER_ID",)
            ),
            route(r"pay_\d", r"refund_\d+", "pay.refund"),
        ),
        catalog,
    )
    orders, refunds = routing.checked()
    assert [orders.remap(t.shard)["id"].number for t in orders.shards] == [0, 1, 2, 3]
    assert [refunds.remap(t.shard) for t in refunds.shards] == [{"order_id": Interleave(2, n)} for n in range(4)]


@pytest.mark.parametrize(
    ("reference", "catalog", "told"),
    [
        ("pay.none.order_id", ["m1.pay.order_1", "m1.pay.refund_1"], "no route leads to pay.none"),
        ("pay.refund.none", ["m1.pay.order_1", "m1.pay.refund_1"], "has no column none"),
        ("pay.refund.order_id", ["m1.pay.order_1", "m1.pay.refund_2"], "can't tell which shard"),
        ("pay.refund.order_id", ["m1.pay.order_1", "m2.pay.refund_1"], "can't tell which shard"),
    ],
)
def test_references_that_cannot_be_followed(reference: str, catalog: list[str], told: str) -> None:
    routing = resolve(
        config(
            route("pay", r"order_\d+", "pay.order", key_collision="interleave", references=(reference,)),
            route("pay", r"refund_\d+", "pay.refund"),
        ),
        [table(name) for name in catalog],
    )
    assert any(told in problem for problem in routing.problems)


@pytest.mark.parametrize(
    "key", [(("id", None), ("order_id", None)), (("name", None),)], ids=["two columns", "no integer"]
)
def test_interleaving_needs_one_integer(key: tuple[tuple[str, None], ...]) -> None:
    shape = TableDef(
        (*SHAPE.columns, Column("name", "varchar", "varchar(9)", False)), (Index("PRIMARY", True, key),), "", ""
    )
    routing = resolve(config(route("pay", "e", "pay.e", key_collision="interleave")), [table("m1.pay.e", shape)])
    assert "interleave needs a key of one integer column" in routing.problems[0]


def test_routes_to_one_target_must_agree() -> None:
    routes = (route("pay", "e", "pay.e"), route("pay", "f", "pay.e", key_collision="interleave"))
    routing = resolve(config(*routes), [table("m1.pay.e"), table("m1.pay.f")])
    assert "the routes to pay.e differ" in routing.problems[0]


def test_references_without_interleaving() -> None:
    routing = resolve(config(route("pay", "e", "pay.e", references=("a.b.c",))), [table("m1.pay.e")])
    assert "its key_collision is 'error'" in routing.problems[0]
