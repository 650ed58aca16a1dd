"""Odd columns through the binlog: generated, invisible, hidden, remapped, missing, and of types that TiDB lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrate.copy.rowformat import RowRefused
from migrate.errors import MigrateError
from migrate.model import Interleave, Target
from migrate.sandbox import Sandbox, Server
from migrate.sync.stream import INSERT
from tests.binlog import Replay, position, store, writing
from tests.fidelity import assert_same, configured, create_target, run


@pytest.fixture(params=["5.6", "9.7"])
def place(request: pytest.FixtureRequest) -> tuple[Server, Server]:
    """A source and a target."""
    sandbox: Sandbox = request.getfixturevalue("servers" if request.param == "5.6" else "sandbox97")
    return sandbox.sources[0], sandbox.target


def test_generated_invisible_and_hidden_columns(sandbox97: Sandbox, mysql97: Server, tmp_path: Path) -> None:
    schema, target, since = "sync_columns", sandbox97.target, position(mysql97)
    run(mysql97, f"CREATE DATABASE {schema}",
        f"CREATE TABLE {schema}.t (id BIGINT AUTO_INCREMENT PRIMARY KEY, hidden VARCHAR(9) INVISIBLE, "
        "twice BIGINT AS (a * 2) VIRTUAL, a INT NOT NULL DEFAULT 5, thrice BIGINT AS (a * 3) STORED, "
        "name VARCHAR(300) AS (CONCAT('n', a)) STORED, nothing VARCHAR(9) AS (NULL) VIRTUAL, shown VARCHAR(900) AS "
        "(REPEAT('x', a)) VIRTUAL, long_one MEDIUMTEXT AS (REPEAT('y', a)) STORED, j JSON, UNIQUE KEY (name))",
        f"INSERT INTO {schema}.t (id, hidden, a, j) VALUES (0, 'h', 1, '[]'), (-1, NULL, 2, NULL)",
        f"INSERT INTO {schema}.t (id, hidden, a, j) VALUES (9, '\\\\', 200, '1')",
        "SET SESSION sql_generate_invisible_primary_key = 1",
        f"CREATE TABLE {schema}.keyless (id VARCHAR(9))",
        f"INSERT INTO {schema}.keyless (id) VALUES ('a'), ('a')")  # fmt: skip
    create_target(configured(tmp_path, [mysql97], target, schema))
    replay = Replay(mysql97, schema, since)
    for table, order in (("t", "id"), ("keyless", "my_row_id")):
        with writing(target) as writer:
            store(writer, Target(schema, table), replay.decoder(table), replay.images(table, INSERT))
        assert_same(mysql97, target, schema, table, order=order)
    assert replay.decoder("keyless").columns == ("my_row_id", "id")
    assert replay.decoder("keyless").key((3, b"a")) == 3


def test_functional_indexes_bring_no_columns(mysql97: Server) -> None:
    schema, since = "sync_functional", position(mysql97)
    run(mysql97, f"CREATE DATABASE {schema}",
        f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, a INT, j JSON, KEY ((a * 2)), KEY ((LOWER(HEX(a)))), "
        "KEY ((CAST(j->'$' AS UNSIGNED ARRAY))))",
        f"INSERT INTO {schema}.t VALUES (1, 2, '[3, 4]'), (2, NULL, NULL)")  # fmt: skip
    assert Replay(mysql97, schema, since).images("t", INSERT) == [(1, 2, b"[3, 4]"), (2, None, None)]


@pytest.mark.parametrize("kind", ["POINT", "GEOMETRY", "VECTOR(3)"])
def test_a_type_that_the_target_lacks_is_refused_by_name(mysql97: Server, kind: str) -> None:
    schema, since = f"sync_lacking_{kind[:5].lower()}", position(mysql97)
    run(mysql97, f"CREATE DATABASE {schema}", f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, place {kind})",
        f"INSERT INTO {schema}.t VALUES (1, NULL)")  # fmt: skip
    with pytest.raises(MigrateError, match=rf"m1\.{schema}\.t, column place: TiDB has no type like"):
        Replay(mysql97, schema, since).decoder("t")


def test_interleaved_columns_are_remapped_while_they_are_read(place: tuple[Server, Server]) -> None:
    source, _ = place
    schema, since = "sync_interleave", position(source)
    run(source, f"CREATE DATABASE {schema}",
        f"CREATE TABLE {schema}.t (id MEDIUMINT PRIMARY KEY, entry_id BIGINT UNSIGNED, v VARCHAR(9))",
        f"INSERT INTO {schema}.t VALUES (-8388608, NULL, 'a'), (0, 0, ''), (7, {2**61}, 'b')",
        f"CREATE TABLE {schema}.far (id BIGINT PRIMARY KEY)", f"INSERT INTO {schema}.far VALUES ({-(2**60)})",
        f"INSERT INTO {schema}.far VALUES (1), ({-(2**60) - 1})")  # fmt: skip
    both = {"id": Interleave(3, 5), "entry_id": Interleave(2, 1)}
    replay = Replay(source, schema, since, both)
    decoder, found = replay.decoder("t"), replay.images("t", INSERT)
    assert found == [(-8388608 * 8 + 5, None, b"a"), (5, 1, b""), (61, 2**63 + 1, b"b")]
    assert [decoder.key_literal(image) for image in found] == ["-67108859", "5", "61"]
    assert decoder.line(found[2]) == b'61,"9223372036854775809","b"\n'
    far = Replay(source, schema, since, {"id": Interleave(3, 5)})
    event, beyond = far.events["far"]
    assert far.decoder("far").images(event.data, event.start, event.stop) == [(-(2**63) + 5,)]
    with pytest.raises(RowRefused, match=rf"{schema}\.far: .*id = {-(2**60) - 1}.*\n.*column id: .* beyond BIGINT"):
        far.decoder("far").images(beyond.data, beyond.start, beyond.stop)


@pytest.mark.parametrize("image", ["MINIMAL", "NOBLOB"])
def test_row_images_without_columns_are_refused(place: tuple[Server, Server], image: str) -> None:
    source, _ = place
    schema, since = f"sync_{image.lower()}", position(source)
    run(source, f"CREATE DATABASE {schema}", f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, v VARCHAR(9), b BLOB)",
        f"SET SESSION binlog_row_image = {image}", f"INSERT INTO {schema}.t VALUES (1, 'a', 'b')",
        f"UPDATE {schema}.t SET v = 'c'")  # fmt: skip
    with pytest.raises(MigrateError, match=rf"m1\.{schema}\.t: .* without .*b; SET GLOBAL binlog_row_image = FULL"):
        Replay(source, schema, since).decoder("t")
