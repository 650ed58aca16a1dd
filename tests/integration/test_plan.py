"""The plan: what it promises to others, and that nothing it should name is left out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from migrate.config import Config
from migrate.errors import ServerError
from migrate.plan import ROWS_PER_SECOND, make_plan
from tests.integration.shards import config_for, database, route, run


class Ledger:
    """Two instances with two shards each: ten rows, five of them on the last shard."""

    def __init__(self, servers: list[Any], target: Any, schema: str):
        self.servers, self.schema = servers, schema
        number = 0
        for server in servers:
            for _ in range(2):
                run(server, f"CREATE TABLE e_{number} (id BIGINT PRIMARY KEY, v VARCHAR(9)) DEFAULT CHARSET=utf8mb4 "
                    "COLLATE=utf8mb4_bin", database=schema)  # fmt: skip
                for row in range(5 if number == 3 else number + 1 if number < 2 else 2):
                    run(server, f"INSERT INTO e_{number} VALUES ({row * 4 + number}, 'x')", database=schema)
                number += 1
        self.config: Config = config_for(servers, target, schema, route(schema, r"e_\d+", f"{schema}.e"))


@pytest.fixture
def ledger(servers: Any) -> Iterator[Ledger]:
    with database(*servers.sources) as schema:
        yield Ledger(list(servers.sources), servers.target, schema)


def test_a_whole_plan(ledger: Ledger) -> None:
    plan = make_plan(ledger.config, exact=True)
    document = json.loads(json.dumps(plan.document()))
    assert document["ok"] and document["problems"] == []
    (table,) = document["tables"]
    assert table["target"] == f"{ledger.schema}.e"
    assert table["shards"] == [f"m{1 + n // 2}.{ledger.schema}.e_{n}" for n in range(4)]
    assert table["rows"] == document["rows"] == 10
    assert table["bytes"] == document["bytes"] > 0
    assert table["chunks"] == 4 and table["key"] == ["id"]
    assert document["hash"] == "MD5"
    assert document["estimated_seconds"] == round(10 / ROWS_PER_SECOND / 2, 1)
    assert "every table of every instance is routed or ignored" in plan.text()


def test_estimates_by_default(ledger: Ledger) -> None:
    plan = make_plan(ledger.config, scan=False)
    assert not plan.document()["rows_exact"] and "~" in plan.text()


def test_chunks_follow_the_config(ledger: Ledger) -> None:
    for number, server in ((0, ledger.servers[0]), (3, ledger.servers[1])):
        values = ", ".join(f"({row * 4 + number}, 'x')" for row in range(1000, 1250))
        run(server, f"INSERT INTO e_{number} VALUES {values}", database=ledger.schema)
    config = replace(ledger.config, run=ledger.config.run.model_copy(update={"chunk_rows": 100}))
    assert make_plan(config, exact=True).document()["chunks"] == 3 + 1 + 1 + 3


def test_problems_stop_it(ledger: Ledger) -> None:
    run(ledger.servers[0], "CREATE TABLE forgotten (id INT)", database=ledger.schema)
    run(ledger.servers[1], "ALTER TABLE e_3 ADD COLUMN more INT", database=ledger.schema)
    plan = make_plan(ledger.config)
    assert not plan.ok and not plan.document()["ok"]
    assert len(plan.problems) == 2
    assert "neither routed nor ignored" in plan.problems[0] and "column more" in plan.problems[1]
    assert "2 problems" in plan.text()


def test_colliding_keys_are_problems(ledger: Ledger) -> None:
    run(ledger.servers[1], "UPDATE e_2 SET id = 0 WHERE id = 2", database=ledger.schema)
    (problem,) = make_plan(ledger.config).problems
    assert "id = 0" in problem and "e_0" in problem and "e_2" in problem
    assert make_plan(ledger.config, scan=False).ok


def test_no_table_is_a_problem(ledger: Ledger) -> None:
    config = replace(ledger.config, routes=(route(ledger.schema, "nothing", "a.b"),))
    assert not make_plan(config).ok


def test_sha2_where_a_server_has_no_md5(servers: Any, mysql97: Any) -> None:
    with database(mysql97) as schema:
        run(mysql97, "CREATE TABLE e_0 (id BIGINT PRIMARY KEY)", database=schema)
        config = config_for([mysql97], servers.target, schema, route(schema, r"e_\d+", f"{schema}.e"))
        assert make_plan(config).document()["hash"] == "SHA2"


def test_an_unreachable_source(ledger: Ledger) -> None:
    gone = replace(ledger.config.sources[0], port=1)
    with pytest.raises(ServerError, match="m1"):
        make_plan(replace(ledger.config, sources=(gone, ledger.config.sources[1])))
