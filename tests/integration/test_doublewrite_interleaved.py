"""Reverse into 4 instances with 8 shards each whose keys collided and were interleaved: each row in its own shard, byte
for byte, by transactions that a reader of the binlog knows for ours."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from migrate.config import Run
from migrate.copy.copier import copy
from migrate.db import connect
from migrate.doublewrite import DoubleWrite, Refused, fence
from migrate.doublewrite.phases import install_everywhere
from migrate.doublewrite.pump import reverse
from migrate.doublewrite.router import Router
from migrate.sandbox import Sandbox
from migrate.schema import create_schema
from migrate.source import read_routing
from tests.conftest import guarded_sandbox
from tests.integration.shards import config_for, database, route, run

ITEM = """(id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(30) CHARACTER SET latin1 NOT NULL, big BIGINT
    UNSIGNED NOT NULL, amount DECIMAL(30,10) NULL, ratio DOUBLE NOT NULL, little FLOAT NOT NULL, raw VARBINARY(20) NULL,
    bits BIT(40) NOT NULL, day DATE NOT NULL, at DATETIME(6) NOT NULL, stamp TIMESTAMP(3) NOT NULL DEFAULT
    CURRENT_TIMESTAMP(3), span TIME(2) NOT NULL, kind ENUM('a','b''','ü') NOT NULL, tags SET('x','y') NOT NULL,
    note TEXT NULL, UNIQUE KEY name (name, big))"""
DETAIL = "(id BIGINT NOT NULL PRIMARY KEY, item_id BIGINT NOT NULL, text_ VARCHAR(20) NOT NULL)"
HEX = ("CONCAT_WS('|', id, HEX(CONVERT(name USING utf8mb4)), big, IFNULL(amount, '~'), ratio * 1e0, little * 1e0, "
       "IFNULL(HEX(raw), '~'), bits + 0, day, at, stamp, span, kind + 0, tags + 0, "
       "IFNULL(HEX(CONVERT(note USING utf8mb4)), '~'))")  # fmt: skip


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with guarded_sandbox(tmp_path_factory.mktemp("four")) as sandbox:
        sandbox.up(instances=4, mysql="5.6")
        yield sandbox


def values(n: int, shard: int) -> str:
    name = ("é", "ÿ", "o'b\\", "x ")[n % 4] + str(n)
    return (
        f"'{name.replace(chr(92), chr(92) * 2).replace(chr(39), chr(39) * 2)}', {2**64 - 1 - n - 1000 * shard}, "
        f"{['NULL', '-0.0000000001', '12345678901234567890.0123456789'][n % 3]}, {n / 7!r}, {1 / (n + 3)!r}, "
        f"{['NULL', '0x00FF00', '0x20'][n % 3]}, {n + 2**39}, '{['0000-00-00', '2026-02-28'][n % 2]}', "
        f"'2026-01-02 03:04:05.{n:06}', '2026-03-29 01:59:59.{n % 1000:03}', '-{n % 800}:59:58.25', {1 + n % 3}, "
        f"{n % 4}, {['NULL', chr(39) * 2, chr(39) + '多😀' + chr(39)][n % 3]}"
    )


COLUMNS = "name, big, amount, ratio, little, raw, bits, day, at, stamp, span, kind, tags, note"


def dump(server: Any, table: str) -> dict[int, str]:
    rows = run(server, f"SELECT id, {HEX} FROM {table}", init_command="SET time_zone = '+00:00'")
    return {id: line.split("|", 1)[1] for id, line in rows}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_row_returns_to_its_shard(four: Sandbox) -> None:
    returned_to_their_shards(four, instances=4)


def returned_to_their_shards(four: Sandbox, instances: int) -> None:
    """32 shards on so many instances."""
    each = 32 // instances
    with database(*four.sources, four.target, prefix="il") as db:
        shards = [
            (server, f"{db}.item_{i * each + j:02}") for i, server in enumerate(four.sources) for j in range(each)
        ]
        for shard, (server, table) in enumerate(shards):  # every shard has the ids 1 to 6
            detail = table.replace("item", "detail")
            run(server, f"CREATE TABLE {table} {ITEM}", f"CREATE TABLE {detail} {DETAIL}",
                *(f"INSERT INTO {table} ({COLUMNS}) VALUES ({values(n, shard)})" for n in range(6)),
                f"INSERT INTO {detail} VALUES (1, 3, '{table}')",
                init_command="SET time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES'")  # fmt: skip
        references = {"key_collision": "interleave", "references": (f"{db}.detail.item_id",)}
        config = config_for(
            four.sources, four.target, db, route(db, r"item_\d+", f"{db}.item", **references),
            route(db, r"detail_\d+", f"{db}.detail", key_collision="interleave"),
        )  # fmt: skip
        config = replace(config, run=Run(workers=2, patience_s=5))
        with connect(config.target) as session:
            create_schema(session, read_routing(config).checked(), execute=True)
        copy(config, 2)
        install_everywhere(config)
        fence.fence(config)
        fence.switch(config, "reversed")
        before = {table: dump(server, table) for server, table in shards}
        ledger = DoubleWrite(config)
        write(ledger, db, random.Random(1))
        router = Router.of(config)
        report = reverse(config, router, workers=4).run(until_empty=True, seconds=200)
        assert report.ok, report.text()
        assert report.applied > 150
        on_target = dump(four.target, f"{db}.item")
        for number, (server, table) in enumerate(shards):
            expected = {id >> 5: line for id, line in on_target.items() if id & 31 == number}
            assert dump(server, table) == expected, table
            assert before[table] != expected, "nothing was changed in this shard"
            texts = run(server, f"SELECT id, item_id FROM {table.replace('item', 'detail')} ORDER BY id")
            assert texts == [(1, 3), (2, 4)], table
        for server in four.sources:
            first_events_are_marks(server, config.name)


def write(ledger: DoubleWrite, db: str, rng: random.Random) -> None:
    """Updates, inserts and deletes in all shards, within transactions that span many."""
    for local in (1, 2, 3, 4, 7, 8):
        with ledger.session(1) as session:
            session.execute(text("SET time_zone = '+08:00'"))
            for number in rng.sample(range(32), 32):
                id = (local << 5) + number
                if local in (1, 2):
                    change = "amount = amount + 1, note = 'neu', stamp = '2026-06-01 00:00:00.5'"
                    session.execute(text(f"UPDATE item SET {change} WHERE id = :id"), {"id": id})
                elif local == 3:
                    session.execute(text(f"INSERT INTO {db}.detail VALUES (:id, :item, 'new')"),
                                    {"id": (2 << 5) + number, "item": (4 << 5) + number})  # fmt: skip
                elif local == 4:
                    session.execute(text(f"DELETE FROM {db}.item WHERE id = :id"), {"id": id})
                else:
                    new = values(local * 100, number).replace("0000-00-00", "2026-01-01")
                    session.connection().exec_driver_sql(f"INSERT INTO item (id, {COLUMNS}) VALUES ({id}, {new})")
    with ledger.session(1) as session:  # unique values change hands within one transaction
        one, other = (5 << 5) + 1, (6 << 5) + 1
        session.execute(text("UPDATE item SET big = 0 WHERE id = :id"), {"id": one})
        session.execute(
            text(f"UPDATE item SET name = 'é4', big = {2**64 - 1 - 4 - 1000} WHERE id = :id"), {"id": other}
        )
    with pytest.raises(Refused, match=r"name 0 shards"), ledger.session(1) as session:
        session.execute(text(f"INSERT INTO {db}.detail VALUES (:id, {(4 << 5) + 2}, 'x')"), {"id": (9 << 5) + 1})


def first_events_are_marks(server: Any, migration: str) -> None:
    """Of every transaction that writes `applied`, the first row event is about it."""
    files = run(server, "SHOW BINARY LOGS")
    events = [e for (name, *_) in files for e in run(server, f"SHOW BINLOG EVENTS IN '{name}'")]
    transaction: list[str] = []
    ours = 0
    for event in events:
        kind, info = event[2], str(event[5])
        if kind == "Query" and info == "BEGIN":
            transaction = []
        elif kind == "Table_map":
            transaction.append(info.split("(")[1].rstrip(")"))
        elif kind == "Xid" and "migrate_outbox.applied" in transaction:
            assert transaction[0] == "migrate_outbox.applied", transaction
            ours += 1
    assert ours > 0
