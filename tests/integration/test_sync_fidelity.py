"""Every value of the matrix through the binlog: decoded, it is on the target as on the source, or refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from migrate.copy.rowformat import RowRefused
from migrate.model import Target
from migrate.sandbox import Sandbox, Server
from migrate.sync.stream import DELETE, INSERT
from migrate.sync.writer import Writer
from tests import fidelity_cases as cases
from tests.binlog import Replay, position, shown, store, writing
from tests.fidelity import Case, assert_same, configured, create_target, make_keys, make_table, read, rows, run
from tests.integration.test_fidelity_mysql97 import GROUPS as GROUPS97
from tests.integration.test_fidelity_types import GROUPS, KEYS


@pytest.fixture(params=["5.6", "9.7"])
def place(request: pytest.FixtureRequest) -> tuple[Server, Server]:
    """A source and a target."""
    sandbox: Sandbox = request.getfixturevalue("servers" if request.param == "5.6" else "sandbox97")
    return sandbox.sources[0], sandbox.target


def arrives(
    writer: Writer, source: Server, target: Server, into: Target, replay: Replay, cases: Sequence[Case]
) -> None:
    """Inserted rows are on the target as they are on the source, and `unlike` tells each from every other."""
    decoder, images = replay.decoder(into.table), replay.images(into.table, INSERT)
    store(writer, into, decoder, images)
    assert_same(source, target, into.schema, into.table, cases)
    held, found = read(target, into.schema, into.table), shown(writer, into, decoder, "TRUE ORDER BY id")
    for i, image in enumerate(images):
        for j, row in enumerate(found):
            expected = {n for n in held[i] if (held[i][n], type(held[i][n])) != (held[j][n], type(held[j][n]))}
            assert set(decoder.unlike(image, row)) == expected, (into, i, j)


def test_every_value_arrives(place: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = place
    schema, since = "sync_types", position(source)
    groups = GROUPS if source.version().startswith("5.6") else GROUPS97
    for table, group in groups.items():
        make_table(source, schema, table, group)
    create_target(configured(tmp_path, [source], target, schema))
    before = Replay(source, schema, since)
    with writing(target) as writer:
        for table, group in groups.items():
            arrives(writer, source, target, Target(schema, table), before, group)
    again = position(source)
    for table in groups:
        run(source, f"UPDATE {schema}.{table} SET id = id + 1000", f"DELETE FROM {schema}.{table}")
    after = Replay(source, schema, again)
    for table in groups:
        inserted = before.images(table, INSERT)
        pairs, deleted = after.pairs(table), after.images(table, DELETE)
        assert [old for old, _ in pairs] == inserted and [new for _, new in pairs] == deleted
        assert len({*inserted, *deleted}) == 2 * len(inserted)
        assert [(old[0] + 1000, *old[1:]) for old in inserted] == deleted


def test_every_type_arrives_as_a_key(place: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = place
    schema, since = "sync_keys", position(source)
    make_keys(source, schema, KEYS)
    create_target(configured(tmp_path, [source], target, schema))
    replay = Replay(source, schema, since)
    with writing(target) as writer:
        for table, case in KEYS.items():
            decoder, into, images = replay.decoder(table), Target(schema, table), replay.images(table, INSERT)
            store(writer, into, decoder, images)
            assert_same(source, target, schema, table)
            assert len({decoder.key(image) for image in images}) == len(case.literals)
            for image in images:
                (row,) = shown(writer, into, decoder, f"k IN ({decoder.key_literal(image)})")
                assert decoder.unlike(image, row) == (), (table, decoder.key_literal(image))
                assert row == decoder.texts(image), (table, decoder.key_literal(image))
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


def test_times_in_the_formats_of_before_5_6(servers: Sandbox, tmp_path: Path) -> None:
    """As a server that was upgraded since still has them: the definition of a MyISAM table is changed beneath it."""
    source, target, schema = servers.sources[0], servers.target, "sync_old_times"
    run(source, f"CREATE DATABASE {schema}",
        f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, d BIGINT NOT NULL, s INT UNSIGNED NOT NULL, "
        "h MEDIUMINT NOT NULL, n BIGINT NULL) ENGINE=MyISAM", "FLUSH TABLES")  # fmt: skip
    file = Path(rows(source, "SELECT @@datadir")[0][0]) / schema / "t.frm"
    form, types = bytearray(file.read_bytes()), [3, 8, 3, 9, 8]
    (at,) = (i for i in range(len(form) - 85) if [form[i + 17 * k + 13] for k in range(5)] == types)
    for k, (code, length) in enumerate([(12, 19), (7, 19), (11, 10), (12, 19)], 1):
        form[at + 17 * k + 13], form[at + 17 * k + 3] = code, length
    file.write_bytes(form)
    run(source, "FLUSH TABLES")
    since = position(source)
    run(source, f"INSERT INTO {schema}.t VALUES (1, '2024-02-29 12:34:56', '2023-11-14 22:13:20', '-838:59:59', NULL), "
                "(2, '0000-00-00', '0000-00-00', '00:01:02', '9999-12-31 23:59:59')")  # fmt: skip
    replay = Replay(source, schema, since)
    assert list(replay.events["t"][0].table_map.types) == [3, 12, 7, 11, 12]
    create_target(configured(tmp_path, [source], target, schema))
    with writing(target) as writer:
        arrives(writer, source, target, Target(schema, "t"), replay, ())
