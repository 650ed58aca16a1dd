"""One value, made three ways: by the copy's SQL, by sync in Python, and by verification's SQL. All agree, or refuse."""

from __future__ import annotations

import random
from contextlib import closing
from typing import Any

import pytest

from migrate.catalog import read_catalog
from migrate.config import Route, parse_url
from migrate.conversion import Text, forward, misfit_sql, value_sql
from migrate.db import connect
from migrate.mapped import mapped
from migrate.model import Column, quote
from migrate.sandbox import Sandbox
from verify.encoding import Hash, kind_of, piece

DDL = (
    "id INT NOT NULL PRIMARY KEY, cents BIGINT, minor INT UNSIGNED ZEROFILL, fee DECIMAL(24,6), small MEDIUMINT, "
    "big BIGINT UNSIGNED, code VARCHAR(6) CHARACTER SET utf8, number TINYINT ZEROFILL, parts VARCHAR(30), "
    "old VARCHAR(30) CHARACTER SET latin1"
)
COLUMNS: dict[str, Any] = {
    "amount": {"from": "cents", "scale": 2, "type": "decimal(18,2)"},
    "mills": {"from": "cents", "scale": 3, "type": "decimal(20,2)"},
    "whole": {"from": "minor", "scale": 2},
    "price": {"from": "fee", "type": "decimal(12,2)"},
    "tiny": {"from": "small", "type": "tinyint"},
    "exact": {"from": "big", "type": "decimal(20,2)"},
    "signed": {"from": "big", "type": "bigint"},
    "word": {"from": "code", "codes": {"a": "first", "A": "second", "": "none", "é ": "third"}},
    "state": {"from": "number", "codes": {"0": 10, "7": 20, "-1": 30}},
    "one": {"from": "parts", "separator": "|", "part": 1, "type": "varchar(5)"},
    "two": {"from": "parts", "separator": "|", "part": 2},
    "three": {"from": "parts", "separator": "|", "part": 3},
    "latin": {"from": "old", "type": "varchar(4)"},
}
DICE = random.Random(8)


def rows() -> list[tuple[Any, ...]]:
    """Values at the limits, and around what fits."""
    bigs = [0, 1, -1, 5, -99, 100, 2**53 + 1, -(2**53) - 1, 10**16, 10**18 - 1, 2**63 - 1, -(2**63), None]
    texts = ["a", "A", "", "é ", "é", "b", " a", "a ", None]
    parts = ["a|b|c", "||", "|", "", "a|b|c|d", "中文|é|'", "abcdef|x|y", '\\|"|,', None]
    fees = ["0", "-0.01", "0.005", "1.000000", "1.230001", "99999999.99", "9999999999.99", "10000000000", None]
    found = []
    for n in range(120):
        found.append((
            n, DICE.choice(bigs), DICE.choice([0, 1, 99, 2**32 - 1, None]), DICE.choice(fees),
            DICE.choice([0, 127, 128, -128, -129, None]), DICE.choice([0, 2**63 - 1, 2**63, 2**64 - 1, None]),
            DICE.choice(texts), DICE.choice([0, 7, 8, 99, None]), DICE.choice(parts),
            DICE.choice(["", "é", "abcd", "abcde", "ééééé", None]),
        ))  # fmt: skip
    return found


@pytest.mark.parametrize("version", ["5.6", "9.7"])
def test_the_ways_agree(request: pytest.FixtureRequest, version: str) -> None:
    sandbox: Sandbox = request.getfixturevalue("servers" if version == "5.6" else "sandbox97")
    server, schema = sandbox.sources[0], "mapping_values"
    given = rows()
    with closing(server.connect(charset="utf8mb4")) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {schema}")
        cursor.execute(f"CREATE DATABASE {schema}")
        cursor.execute(f"CREATE TABLE {schema}.t ({DDL}) DEFAULT CHARSET utf8mb4")
        cursor.executemany(f"INSERT INTO {schema}.t VALUES ({', '.join(['%s'] * len(given[0]))})", given)
    try:
        with connect(parse_url(server.url, "m1")) as session:
            (table,) = read_catalog(session, "m1", [schema])
            route = Route.model_validate({"schema": schema, "table": "t", "target": "s.t", "columns": COLUMNS})
            made, problems = mapped(table, route)
            assert problems == []
            refused = fitting = 0
            for column in (c for c in made.definition.columns if c.converted):
                for text, value, unfit, shown in session.query(_ways(column, f"{schema}.t")):
                    try:
                        expected = forward(column)(_bytes(text))
                    except ValueError:
                        assert unfit, (column.name, text)
                        refused += 1
                        continue
                    assert not unfit, (column.name, text)
                    assert _bytes(value) == expected, (column.name, text)
                    assert _bytes(shown) == _piece(column, expected), (column.name, text)
                    fitting += 1
            assert refused > 100
            assert fitting > 500
    finally:
        with closing(server.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {schema}")


def _ways(column: Column, table: str) -> str:
    """The source's text as the binlog would have it, the copy's value, whether it is refused, and verification's."""
    source = column.origin.source  # type: ignore[union-attr]
    plain = f"{quote(source.name)} + 0" if source.charset is None else quote(source.name)
    verified = piece(column, kind_of(column), "source", Hash("MD5"))
    return (
        f"SELECT CONVERT({plain} USING utf8mb4), CONVERT({value_sql(column)} USING utf8mb4), "
        f"{misfit_sql(column) or 'FALSE'}, {verified} FROM {table}"
    )


def _bytes(value: Any) -> Text:
    return None if value is None else value if isinstance(value, bytes) else str(value).encode()


def _piece(column: Column, text: Text) -> bytes:
    if text is None:
        return b"N"
    return text.hex().upper().encode() if column.type == "varchar" else text
