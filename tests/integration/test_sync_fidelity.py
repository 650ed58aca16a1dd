"""Every value of the matrix through the binlog: decoded, it is on the target as on the source, or refused by name."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from migrate.catalog import read_catalog
from migrate.config import Config, parse_url
from migrate.copy.loader import load_lines
from migrate.copy.rowformat import RowRefused, no_json_text
from migrate.db import Session
from migrate.errors import MigrateError
from migrate.model import Chunk, Interleave, ShardTable, Target
from migrate.sandbox import Sandbox, Server
from migrate.sync.image import RowDecoder
from migrate.sync.jsonb import Unsayable
from migrate.sync.writer import Writer
from tests import fidelity_cases as cases
from tests.binlog import Rows, changes, position
from tests.fidelity import Case, assert_same, configured, create_target, make_keys, make_table, read, rows, run, text
from tests.integration.test_fidelity_mysql97 import GROUPS as GROUPS97
from tests.integration.test_fidelity_mysql97 import JSONS, OPAQUE
from tests.integration.test_fidelity_types import GROUPS, KEYS

INSERT, UPDATE, DELETE = 1, 2, 3


@pytest.fixture(params=["5.6", "9.7"])
def place(request: pytest.FixtureRequest) -> tuple[Server, Server]:
    """A source and a target."""
    sandbox: Sandbox = request.getfixturevalue("servers" if request.param == "5.6" else "sandbox97")
    return sandbox.sources[0], sandbox.target


class Replay:
    """The row events of a schema since a position, by table, with decoders by its definitions now."""

    def __init__(self, source: Server, schema: str, since: dict[str, str], remap: dict[str, Interleave] | None = None):
        with Session(parse_url(source.url, source.name)) as session:
            self.tables = {t.shard.table: t for t in read_catalog(session, source.name, [schema])}
        self.events: dict[str, list[Rows]] = {name: [] for name in self.tables}
        for event in changes(source, since, schema):
            self.events[event.table_map.table].append(event)
        self._remap = remap or {}

    def decoder(self, table: str) -> RowDecoder:
        found: ShardTable = self.tables[table]
        told = self.events[table][0].table_map
        decoder = RowDecoder(found.shard, found.definition, told, self._remap)
        for event in self.events[table]:
            decoder.require_full(event.before, event.after)
        return decoder

    def images(self, table: str, operation: int) -> list[tuple[Any, ...]]:
        decoder = self.decoder(table)
        events = [e for e in self.events[table] if e.operation == operation]
        return [image for e in events for image in decoder.images(e.data, e.start, e.stop)]

    def pairs(self, table: str) -> list[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        decoder = self.decoder(table)
        events = [e for e in self.events[table] if e.operation == UPDATE]
        return [pair for e in events for pair in decoder.pairs(e.data, e.start, e.stop)]


def store(config: Config, target: Target, decoder: RowDecoder, images: Sequence[tuple[Any, ...]], path: Path) -> None:
    """Loads the images' lines, with everything that the target says against them as an error."""
    path.write_bytes(b"".join(map(decoder.line, images)))
    with Session(config.target) as session, session.transaction():
        load_lines(session, target, decoder.columns, path, len(images), Chunk(decoder.shard, 0))


def shown(writer: Writer, target: Target, decoder: RowDecoder, where: str) -> list[tuple[bytes | None, ...]]:
    """Rows of the target as `unlike` takes them."""
    return writer.rows(f"SELECT {decoder.select} FROM {target.sql} WHERE {where}")


@pytest.fixture
def writers() -> Iterator[Any]:
    opened = []

    def open_(server: Server) -> Writer:
        opened.append(Writer(parse_url(server.url, server.name)))
        return opened[-1]

    yield open_
    for writer in opened:
        writer.close()


def _arrive(source: Server, target: Server, schema: str, group: dict[str, Sequence[Case]], path: Path, writer: Writer,
            since: dict[str, str], order: str = "id") -> None:  # fmt: skip
    """Inserted, updated and deleted rows of every table: as they are on the target, and told from other rows."""
    config = configured(path, [source], target, schema)
    create_target(config)
    replay = Replay(source, schema, since)
    for table, listed in group.items():
        into, decoder = Target(schema, table), replay.decoder(table)
        images = replay.images(table, INSERT)
        store(config, into, decoder, images, path / "lines")
        assert_same(source, target, schema, table, listed, order=order)
        held = read(target, schema, table, order)
        at = {row[order]: i for i, row in enumerate(held)}
        found = shown(writer, into, decoder, f"TRUE ORDER BY {order}")
        ordered = sorted(images, key=lambda image: at[_plain(decoder, image, order)]) if order == "id" else images
        for i, image in enumerate(ordered):
            for j, row in enumerate(found):
                expected = {n for n in held[i] if held[i][n] != held[j][n] or type(held[i][n]) is not type(held[j][n])}
                assert set(decoder.unlike(image, row)) == expected, (table, i, j)


def _plain(decoder: RowDecoder, image: tuple[Any, ...], name: str) -> str:
    return str(image[decoder.columns.index(name)])


def test_every_value_arrives(place: tuple[Server, Server], tmp_path: Path, writers: Any) -> None:
    source, target = place
    schema, since = "sync_types", position(source)
    groups = GROUPS if source.version().startswith("5.6") else GROUPS97
    for table, group in groups.items():
        make_table(source, schema, table, group)
    _arrive(source, target, schema, groups, tmp_path, writers(target), since)
    again = position(source)
    for table in groups:
        run(source, f"UPDATE {schema}.{table} SET id = id + 1000", f"DELETE FROM {schema}.{table}")
    before, after = Replay(source, schema, since), Replay(source, schema, again)
    for table in groups:
        inserted = before.images(table, INSERT)
        pairs, deleted = after.pairs(table), after.images(table, DELETE)
        assert [old for old, _ in pairs] == inserted and [new for _, new in pairs] == deleted
        assert len({*inserted, *deleted}) == 2 * len(inserted)
        assert [(old[0] + 1000, *old[1:]) for old in inserted] == deleted


def test_every_type_arrives_as_a_key(place: tuple[Server, Server], tmp_path: Path, writers: Any) -> None:
    source, target = place
    schema, since = "sync_keys", position(source)
    make_keys(source, schema, KEYS)
    config = configured(tmp_path, [source], target, schema)
    create_target(config)
    replay, writer = Replay(source, schema, since), writers(target)
    for table, case in KEYS.items():
        decoder, into = replay.decoder(table), Target(schema, table)
        images = replay.images(table, INSERT)
        store(config, into, decoder, images, tmp_path / "lines")
        assert_same(source, target, schema, table)
        assert len({decoder.key(image) for image in images}) == len(case.literals)
        for image in images:
            (row,) = shown(writer, into, decoder, f"k IN ({decoder.key_literal(image)})")
            assert decoder.unlike(image, row) == (), (table, decoder.key_literal(image))
        everything = ", ".join(map(decoder.key_literal, images))
        assert len(shown(writer, into, decoder, f"k IN ({everything})")) == len(images)


@pytest.mark.parametrize(
    ("kind", "literal"), [c[:2] for c in cases.REFUSED], ids=[" ".join(c[:2]) for c in cases.REFUSED]
)
def test_what_copy_refuses_is_refused_by_shard_key_and_column(
    place: tuple[Server, Server], kind: str, literal: str
) -> None:
    source, _ = place
    schema = f"sync_refused_{[c[:2] for c in cases.REFUSED].index((kind, literal))}"
    run(source, f"CREATE DATABASE {schema}", f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, v VARCHAR(9), odd {kind})")
    since = position(source)
    run(source, f"INSERT INTO {schema}.t VALUES (1, '\\\\', NULL), (3, 'good', {literal})")
    replay = Replay(source, schema, since)
    decoder, (good, bad) = replay.decoder("t"), replay.images("t", INSERT)
    assert decoder.line(good) == b'1,"\\\\",\\N\n'
    with pytest.raises(RowRefused) as refused:
        decoder.line(bad)
    told = str(refused.value)
    assert f"m1.{schema}.t" in told and "id = 3" in told and "column odd: " in told
    assert decoder.unlike(bad, (b"3", b"good", b"0")) == ("odd",)
    assert decoder.key_literal(bad) == "3"


def test_json_arrives_with_its_types(sandbox97: Sandbox, mysql97: Server, tmp_path: Path, writers: Any) -> None:
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
    config = configured(tmp_path, [mysql97], target, schema)
    create_target(config)
    replay, writer, into = Replay(mysql97, schema, since), writers(target), Target(schema, "t")
    decoder, images = replay.decoder("t"), replay.images("t", INSERT)
    store(config, into, decoder, images, tmp_path / "lines")
    with Session(config.target) as session:  # too deep for the reader of these tests
        assert session.value(f"SELECT COUNT(*) FROM {schema}.t") == len(images)
    run(mysql97, f"DELETE FROM {schema}.t WHERE id >= 1003")
    huge = [image for image in images if image[0] >= 1003]
    for image in huge:
        (row,) = shown(writer, into, decoder, f"id = {image[0]}")
        assert decoder.unlike(image, row) == ()
    run(target, f"DELETE FROM {schema}.t WHERE id >= 1003")
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


def test_generated_invisible_and_hidden_columns(
    sandbox97: Sandbox, mysql97: Server, tmp_path: Path, writers: Any
) -> None:
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
    config = configured(tmp_path, [mysql97], target, schema)
    create_target(config)
    replay = Replay(mysql97, schema, since)
    for table in ("t", "keyless"):
        store(config, Target(schema, table), replay.decoder(table), replay.images(table, INSERT), tmp_path / "lines")
        assert_same(mysql97, target, schema, table, order="id" if table == "t" else "my_row_id")
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
