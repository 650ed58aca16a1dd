"""The line that the server builds says what the line says that is escaped here, whatever the row."""

from __future__ import annotations

import io
import random
from dataclasses import replace

import pytest

from migrate.catalog import read_catalog
from migrate.config import parse_url
from migrate.copy.reader import ShardReader, Sink
from migrate.copy.rowformat import row_select
from migrate.db import Session
from migrate.model import Interleave
from migrate.sandbox import Sandbox, Server
from tests.fidelity import rows, run, text
from tests.unit.test_rowformat import parse

PLAIN = "aZ ,';-_0/éÿ中\t\r\n\0\x1a"
ROWS = 300


def _types(draw: random.Random) -> dict[str, list[str]]:
    def words(letters: str) -> list[str]:
        return [text("".join(draw.choices(letters, k=draw.randint(0, 5)))) for _ in range(40)]

    return {
        "BIGINT": ["0", "-1", str(2**63 - 1), str(-(2**63))],
        "BIGINT UNSIGNED ZEROFILL": ["0", "7", str(2**64 - 1)],
        "DECIMAL(30,10)": ["0", "-0.0000000001", "12345678901234567890.0123456789"],
        "YEAR": ["0", "1901", "2155"],
        "DATE": ["'0000-00-00'", "'9999-12-31'"],
        "DATETIME(6)": ["'0000-00-00'", "'2024-02-29 01:02:03.000004'"],
        "TIMESTAMP": ["'0000-00-00'", "'2024-10-27 01:30:00'"],
        "TIME(3)": ["'-838:59:59'", "'00:00:00.001'"],
        "CHAR(9) CHARACTER SET utf8mb4": words(PLAIN + "😀"),
        "VARCHAR(9) CHARACTER SET utf8": words(PLAIN),
        "VARCHAR(9) CHARACTER SET ascii": words("aZ ,';\t\n"),
        "VARCHAR(9) CHARACTER SET latin1": [*words("aé ÿ\n"), "_latin1 X'80'", "_latin1 X'818D'"],
        "VARCHAR(9) CHARACTER SET gbk": [*words("a中\n"), "_gbk X'815C'", "_gbk X'C55C'"],
        "VARCHAR(9) CHARACTER SET ucs2": words(PLAIN),
        "TEXT CHARACTER SET utf8mb4": words(PLAIN),
        "TINYTEXT CHARACTER SET latin1": words("aé\n"),
        "ENUM('b','a','') CHARACTER SET utf8": ["1", "2", "3"],
        "SET('é','a','ö') CHARACTER SET latin1": ["0", "1", "5", "7"],
    }


def _fill(server: Server, schema: str) -> None:
    draw = random.Random(schema)
    types = _types(draw)
    columns, values = [], []
    for i, (kind, given) in enumerate(types.items()):
        columns += [f"n{i} {kind} NULL", f"c{i} {kind} NOT NULL"]
        values += [[*given, "NULL"], given]
    lines = [", ".join(draw.choice(v) for v in values) for _ in range(ROWS)]
    run(server, f"CREATE DATABASE {schema}", f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, {', '.join(columns)})",
        *(f"INSERT INTO {schema}.t VALUES ({i}, {line})" for i, line in enumerate(lines)))  # fmt: skip


def _both_ways_agree(server: Server, schema: str) -> None:
    _fill(server, schema)
    endpoint = parse_url(server.url, server.name)
    with Session(endpoint) as session:
        (table,) = read_catalog(session, server.name, [schema])
    select = row_select(table.definition, {"id": Interleave(4, 3)})
    assert select.fast
    reader = ShardReader(endpoint)
    fast, exact = io.BytesIO(), io.BytesIO()
    assert reader._read_fast(select, f"{table.shard.sql} ORDER BY id", Sink(fast)), (
        "a plain block was not taken as such"
    )
    reader.read(replace(select, fast=None), f"{table.shard.sql} ORDER BY id", Sink(exact))
    assert parse(fast.getvalue()) == parse(exact.getvalue())
    assert [line[0] for line in parse(fast.getvalue())] == [str(i * 16 + 3).encode() for i in range(ROWS)]
    # one special character anywhere, and the whole chunk is escaped
    run(server, f"UPDATE {schema}.t SET c14 = {text(chr(92))}, c10 = {text(chr(34))} WHERE id = {ROWS - 1}")
    again = io.BytesIO()
    sink = Sink(again)
    assert not reader._read_fast(select, f"{table.shard.sql} ORDER BY id", Sink(io.BytesIO()))
    reader.read(select, f"{table.shard.sql} ORDER BY id", sink)
    assert sink.rows == ROWS and parse(again.getvalue())[:-1] == parse(exact.getvalue())[:-1]
    reader.close()


def test_fast_lines_say_what_exact_ones_say(servers: Sandbox) -> None:
    _both_ways_agree(servers.sources[0], "agree56")


def test_fast_lines_say_what_exact_ones_say_on_mysql_9_7(mysql97: Server) -> None:
    _both_ways_agree(mysql97, "agree97")


@pytest.mark.parametrize("value", ["-2.2250738585072014e-308", "-1.7976931348623157e308", "-0.00012345678901234567"])
def test_doubles_keep_every_bit(mysql97: Server, value: str) -> None:
    run(mysql97, "CREATE DATABASE IF NOT EXISTS doubles", "DROP TABLE IF EXISTS doubles.t",
        "CREATE TABLE doubles.t (d DOUBLE NOT NULL)", f"INSERT INTO doubles.t VALUES ({value})")  # fmt: skip
    endpoint = parse_url(mysql97.url, mysql97.name)
    with Session(endpoint) as session:
        (table,) = read_catalog(session, mysql97.name, ["doubles"])
    file = io.BytesIO()
    ShardReader(endpoint).read(row_select(table.definition, {}), table.shard.sql, Sink(file))
    assert float(file.getvalue()) == float(value)
    assert rows(mysql97, "SELECT d FROM doubles.t") == [(float(value),)]
