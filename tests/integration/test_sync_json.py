"""JSON through the binlog: the target holds the value that copy would have put there, or it is refused."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from migrate.copy.rowformat import RowRefused, no_json_text
from migrate.model import Target
from migrate.sandbox import Sandbox, Server
from migrate.sync.jsonb import Unsayable
from migrate.sync.stream import INSERT
from tests.binlog import Replay, position, shown, store, writing
from tests.fidelity import assert_same, configured, create_target, read, rows, run, text
from tests.integration.test_fidelity_mysql97 import JSONS, OPAQUE


def test_json_arrives_with_its_types(sandbox97: Sandbox, mysql97: Server, tmp_path: Path) -> None:
    schema, target, since = "sync_json", sandbox97.target, position(mysql97)
    members = ", ".join(f"'key {i}', {i * 99999}" for i in range(5000))
    more = [
        "JSON_ARRAY(CAST(12.34 AS JSON), 18446744073709551615, -0.0e0)",
        "CAST(-12345678901234567000 AS JSON)",
        "JSON_OBJECT('d', CAST(0.10 AS DECIMAL(9,2)))",
        f"JSON_ARRAY({', '.join(map(str, range(20000)))}, REPEAT('x', 70000), NULL, TRUE, 1e300, 4294967295)",
        f"JSON_OBJECT({members})",
    ]
    run(mysql97, f"CREATE DATABASE {schema}", f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, j JSON, n JSON NOT NULL)",
        *(f"INSERT INTO {schema}.t VALUES ({i}, {text(j)}, {text(j)})" for i, j in enumerate(JSONS)),
        *(f"INSERT INTO {schema}.t VALUES ({1000 + i}, NULL, {j})" for i, j in enumerate(more)))  # fmt: skip
    create_target(configured(tmp_path, [mysql97], target, schema))
    replay, into = Replay(mysql97, schema, since), Target(schema, "t")
    decoder, images = replay.decoder("t"), replay.images("t", INSERT)
    large = [image for image in images if image[0] >= 1003]  # the reader of these tests asks for each number's type
    with writing(target) as writer:
        store(writer, into, decoder, images)
        for image in large:
            (row,) = shown(writer, into, decoder, f"id = {image[0]}")
            assert decoder.unlike(image, row) == ()
        for server in (mysql97, target):
            run(server, f"DELETE FROM {schema}.t WHERE id >= 1003")
        assert_same(mysql97, target, schema, "t")
        held, found = read(target, schema, "t"), shown(writer, into, decoder, "TRUE ORDER BY id")
    for i, image in enumerate(i for i in images if i[0] < 1003):
        for j, row in list(enumerate(found))[i % 5 :: 5]:  # its own is one of them
            expected = {name for c, name in enumerate(held[i]) if _told(held[i][name]) != _told(held[j][name])
                        or (found[i][c] is None) != (row[c] is None)}  # fmt: skip
            assert set(decoder.unlike(image, row)) == expected, (image, row)


def _told(value: Any) -> Any:
    """What the target's text tells of a JSON value: not the type of a number."""
    if isinstance(value, tuple) and value[0] in ("double", "integer"):
        kind, digits = value
        return "number", Decimal(repr(float.fromhex(digits)) if kind == "double" else digits)
    if isinstance(value, tuple | list):
        return type(value), [_told(v) for v in value]
    return type(value), value


def test_decimals_in_json_are_refused_where_copy_refuses_them(mysql97: Server) -> None:
    schema, draw, since = "sync_json_decimals", random.Random(1), position(mysql97)
    numbers = [f"{draw.choice(('', '-'))}{draw.randint(0, 10 ** draw.randint(1, 30))}.{draw.randint(0, 10**n):0{n}}"
               for n in (draw.randint(1, 20) for _ in range(400))]  # fmt: skip
    numbers += [str(n) for n in (2**53 + 1, 2**63, 2**64 - 1, 2**64, 2**64 + 1, -(2**63), -(2**63) - 1, 10**30, 10**40)]
    run(mysql97, f"CREATE DATABASE {schema}", f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, j JSON)",
        *(f"INSERT INTO {schema}.t VALUES ({i}, CAST(CAST({n} AS DECIMAL(65,{len(n.partition('.')[2])})) AS JSON))"
          for i, n in enumerate(numbers)))  # fmt: skip
    refused = {r[0] for r in rows(mysql97, f"SELECT id FROM {schema}.t WHERE {no_json_text('j')}")}
    replay = Replay(mysql97, schema, since)
    images = replay.images("t", INSERT)
    found = {i for i, j in images if isinstance(j, Unsayable)}
    assert found == refused and 0 < len(refused) < len(numbers), [numbers[i] for i in found ^ refused]


@pytest.mark.parametrize("kind", OPAQUE)
def test_what_json_text_cannot_say_is_refused(mysql97: Server, kind: str) -> None:
    schema, since = f"sync_opaque_{kind}", position(mysql97)
    run(mysql97, f"CREATE DATABASE {schema}", f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, j JSON)",
        f"INSERT INTO {schema}.t VALUES (7, {OPAQUE[kind]})")  # fmt: skip
    replay = Replay(mysql97, schema, since)
    with pytest.raises(RowRefused, match=r"(?s)id = 7.*column j: .* no JSON text"):
        replay.decoder("t").line(*replay.images("t", INSERT))


def test_json_changed_in_place_is_equal_to_the_same_value_written_whole(mysql97: Server) -> None:
    schema, since = "sync_json_in_place", position(mysql97)
    run(mysql97, f"CREATE DATABASE {schema}", f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, j JSON)",
        f"INSERT INTO {schema}.t VALUES (1, JSON_OBJECT('a', REPEAT('x', 100), 'b', 1, 'c', 'keep'))",
        f"UPDATE {schema}.t SET j = JSON_SET(j, '$.a', 'y')", f"UPDATE {schema}.t SET j = JSON_REMOVE(j, '$.b')",
        f"INSERT INTO {schema}.t VALUES (2, JSON_OBJECT('a', 'y', 'c', 'keep'))")  # fmt: skip
    replay = Replay(mysql97, schema, since)
    (_, changed), (_, whole) = replay.pairs("t")[-1][1], replay.images("t", INSERT)[-1]
    assert changed == whole == b'{"a": "y", "c": "keep"}'
