"""Chunks tile the key space of every kind of key on real servers: each row lies in exactly one chunk."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from migrate.catalog import read_catalog
from migrate.config import Config, parse_url
from migrate.copy.exporter import export
from migrate.copy.keyset import predicate, walk
from migrate.copy.manifest import parts_of, read_manifest
from migrate.db import Session
from migrate.model import ShardTable
from migrate.sandbox import Sandbox, Server
from migrate.source import read_routing
from tests.fidelity import assert_same, configured, move, run, text
from tests.integration.shards import config_for, route

ROWS, CHUNK = 250, 9
LETTERS = "aAbBzZäÄöéÉßÿ ñ'\"\\,-_0"
WIDE = LETTERS + "中文ſıİΣσς\u0301😀\u3000\t\n"


def _texts(draw: random.Random, letters: str) -> list[str]:
    return [text("".join(draw.choices(letters, k=draw.randint(0, 4)))) for _ in range(ROWS)]


def _latin(draw: random.Random) -> list[str]:
    return [f"_latin1 X'{bytes(draw.choices(range(256), k=draw.randint(1, 3))).hex()}'" for _ in range(ROWS)]


def _bytes(draw: random.Random, most: int) -> list[str]:
    some = (0, 1, 0x20, 0x5C, 0x61, 0xFF)
    return [f"X'{bytes(draw.choices(some, k=draw.randint(1, most))).hex()}'" for _ in range(ROWS)]


def _numbers(draw: random.Random, low: int, high: int) -> list[str]:
    return [str(n) for n in (low, high, 0, *(draw.randint(low, high) for _ in range(ROWS)))]


def _times(draw: random.Random, years: range) -> list[str]:
    return [f"'{draw.choice(years):04}-{draw.randint(1, 12):02}-{draw.randint(1, 28):02} {draw.randint(0, 23):02}:00:"
            f"{draw.randint(0, 59):02}.{draw.randint(0, 999999):06}'" for _ in range(ROWS)]  # fmt: skip


def _tables(draw: random.Random) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Per table: the types of its key columns, and for each column the values to draw from."""
    return {
        "signed": (["BIGINT"], [_numbers(draw, -(2**63), 2**63 - 1)]),
        "unsigned": (["BIGINT UNSIGNED"], [_numbers(draw, 2**63 - 99, 2**64 - 1)]),
        "amounts": (["DECIMAL(65,30)"], [[f"{n}.{draw.randint(0, 10**30 - 1):030}" for n in _numbers(draw, -9, 9)]]),
        "general_ci": (["VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"], [_texts(draw, WIDE)]),
        "unicode_ci": (["VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"], [_texts(draw, WIDE)]),
        "utf8_bin": (["VARCHAR(9) CHARACTER SET utf8 COLLATE utf8_bin"], [_texts(draw, WIDE.replace("😀", ""))]),
        "padded": (["CHAR(9) CHARACTER SET utf8 COLLATE utf8_general_ci"], [_texts(draw, LETTERS + "\t")]),
        "latin": (["VARCHAR(9) CHARACTER SET latin1 COLLATE latin1_swedish_ci"], [_latin(draw)]),
        "latin_german": (["CHAR(9) CHARACTER SET latin1 COLLATE latin1_german2_ci"], [_latin(draw)]),
        "gbk_ci": (["VARCHAR(9) CHARACTER SET gbk COLLATE gbk_chinese_ci"], [_texts(draw, "abAB中文一丁 \\\t")]),
        "ucs": (["VARCHAR(9) CHARACTER SET ucs2"], [_texts(draw, WIDE.replace("😀", ""))]),
        "bytes_fixed": (["BINARY(4)"], [_bytes(draw, 4)]),
        "bytes": (["VARBINARY(9)"], [_bytes(draw, 5)]),
        "moments": (["DATETIME(6)"], [["'0000-00-00'", *_times(draw, range(1, 9999))]]),
        "stamps": (["TIMESTAMP(6)"], [["'0000-00-00'", *_times(draw, range(1971, 2037))]]),
        "days": (["DATE"], [["'0000-00-00'", *_times(draw, range(1, 9999))]]),
        "clocks": (["TIME(3)"], [[f"'{draw.randint(-838, 838)}:00:{n % 60:02}.{n}'" for n in range(ROWS)]]),
        "years": (["YEAR"], [["0", *map(str, range(1901, 2156))]]),
        "composite": (["VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", "INT", "VARBINARY(3)"],
                      [_texts(draw, "aAäb "), ["-1", "0", "7"], _bytes(draw, 2)]),
        "composite_times": (["DATE", "DECIMAL(9,2) UNSIGNED", "CHAR(2) CHARACTER SET latin1"],
                            [["'2024-01-01'", "'0000-00-00'"], ["0", "1.5", "9999999.99"], _latin(draw)]),
    }  # fmt: skip


def _fill(server: Server, schema: str, more: dict[str, tuple[list[str], list[list[str]]]] | None = None) -> list[str]:
    draw = random.Random(schema)
    tables = _tables(draw) | (more or {})
    run(server, f"CREATE DATABASE {schema}")
    for name, (types, values) in tables.items():
        columns = [f"k{i}" for i in range(len(types))]
        lines = [", ".join([str(row), *(draw.choice(v) for v in values)]) for row in range(ROWS)]
        keys = ", ".join(f"{c} {t} NOT NULL" for c, t in zip(columns, types, strict=True))
        run(server, f"CREATE TABLE {schema}.{name} (id INT, {keys}, "
                    f"PRIMARY KEY ({', '.join(columns)})) DEFAULT CHARSET utf8mb4",
            f"INSERT IGNORE INTO {schema}.{name} VALUES ({'), ('.join(lines)})")  # fmt: skip
    return list(tables)


def _cut(session: Session, table: ShardTable) -> tuple[int, Counter[int]]:
    """The number of chunks, and how many of them hold each row."""
    found: Counter[int] = Counter()
    chunks = list(walk(session, table, CHUNK))
    for before, after in pairwise(chunks):
        assert before.upper == after.lower, f"{table.shard}: a gap"
    assert chunks[0].lower is None and chunks[-1].upper is None
    for chunk in chunks:
        where = predicate(table.definition, chunk) or "TRUE"
        found.update(r[0] for r in session.query(f"SELECT id FROM {table.shard.sql} WHERE {where}"))
    return len(chunks), found


def _tiles(server: Server, schema: str) -> None:
    with Session(parse_url(server.url, server.name)) as session:
        for table in read_catalog(session, server.name, [schema]):
            everything = [r[0] for r in session.query(f"SELECT id FROM {table.shard.sql}")]
            chunks, found = _cut(session, table)
            assert found == Counter(everything), table.shard
            assert chunks == len(everything) // CHUNK + 1, table.shard


def _exported(config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Exports in files of 50 rows and parts of 20; the tables of which each file and part holds the rows of its bounds,
    by the server's own comparison, and no others."""
    monkeypatch.setattr("migrate.copy.files.FILE_ROWS", 50)
    monkeypatch.setattr("migrate.copy.reader._BLOCK", 10)
    config = replace(config, run=config.run.model_copy(update={"chunk_rows": 20}))
    export(config, folder, 2)
    _, exported, _ = read_manifest(folder)
    found = parts_of(exported)
    seen = set()
    with Session(config.sources[0]) as session:
        for member in (m for table in read_routing(config).checked() for m in table.shards):
            mine = sorted((f for f in exported if f.chunk.shard == member.shard), key=lambda f: f.chunk.number)
            assert [f.rows for f in mine[:-1]] == [50] * (len(mine) - 1)
            parts = [pair for f in mine for pair in found[f.name]]
            for (before, _), (after, _) in pairwise(parts):
                assert before.upper == after.lower, f"{member.shard}: a gap"
            assert parts[0][0].lower is None and parts[-1][0].upper is None
            for chunk, part in parts:
                where = predicate(member.definition, chunk) or "TRUE"
                held = session.value(f"SELECT COUNT(*) FROM {member.shard.sql} WHERE {where}")
                assert held == part.rows, f"{chunk}: {where}"
            assert sum(p.rows for _, p in parts) == session.value(f"SELECT COUNT(*) FROM {member.shard.sql}")
            seen.add(member.shard.table)
    return seen


def test_every_row_lies_in_one_chunk(servers: Sandbox, tmp_path: Path) -> None:
    source, schema = servers.sources[0], "cut"
    tables = _fill(source, schema)
    _tiles(source, schema)
    for table in tuple(tables):  # no collation of TiDB keeps apart all letters that Swedish and German ones do
        if table in ("latin", "latin_german", "composite_times"):
            run(source, f"DROP TABLE {schema}.{table}")
            tables.remove(table)
    move(configured(tmp_path, [source], servers.target, schema, chunk_rows=100), "copy", tmp_path)
    for table in tables:
        assert_same(source, servers.target, schema, table)


def test_files_and_their_parts_hold_the_rows_of_their_bounds(
    servers: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, schema = servers.sources[0], "filed"
    tables = _fill(source, schema)
    config = configured(tmp_path, [source], servers.target, schema)
    assert _exported(config, tmp_path / "out", monkeypatch) == set(tables)


def test_files_of_interleaved_keys(servers: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on the target isn't what the shard's key is compared with."""
    source, schema = servers.sources[0], "filed_interleaved"
    key = "k BIGINT PRIMARY KEY, v VARCHAR(9) CHARACTER SET utf8mb4"
    for number in (0, 1):
        values = "), (".join(f"{n}, 'v{n}'" for n in range(-number, 20 * ROWS, 7))
        run(source, f"CREATE DATABASE IF NOT EXISTS {schema}", f"CREATE TABLE {schema}.t_{number} ({key})",
            f"INSERT INTO {schema}.t_{number} VALUES ({values})")  # fmt: skip
    routed = route(schema, r"t_\d", f"{schema}.t", key_collision="interleave")
    config = config_for([source], servers.target, schema, routed)
    assert _exported(config, tmp_path / "out", monkeypatch) == {"t_0", "t_1"}


def test_every_row_lies_in_one_chunk_of_mysql_9_7(
    sandbox97: Sandbox, mysql97: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(7)
    wide = WIDE.replace("\u0301", "")
    more = {
        "no_pad": (["VARCHAR(9) COLLATE utf8mb4_0900_ai_ci"], [_texts(draw, wide)]),
        "no_pad_bin": (["CHAR(9) COLLATE utf8mb4_0900_bin"], [_texts(draw, wide)]),
        "accents": (["VARCHAR(9) COLLATE utf8mb4_0900_as_cs"], [_texts(draw, WIDE)]),
    }
    tables = _fill(mysql97, "cut", more)
    _tiles(mysql97, "cut")
    run(mysql97, "CREATE TABLE cut.doubled (id INT, k INT AS (id * 2) STORED PRIMARY KEY)",
        f"INSERT INTO cut.doubled (id) VALUES ({'), ('.join(map(str, range(ROWS)))})",
        "ANALYZE TABLE cut.doubled")  # fmt: skip
    config = configured(tmp_path, [mysql97], sandbox97.target, "cut")
    assert _exported(config, tmp_path / "out", monkeypatch) == {*tables, "doubled"}


@pytest.mark.parametrize("rows", [0, 1, CHUNK, CHUNK + 1])
def test_small_tables_are_cut_at_their_end(servers: Sandbox, rows: int) -> None:
    source, schema = servers.sources[0], f"cut_{rows}"
    run(source, f"CREATE DATABASE {schema}", f"CREATE TABLE {schema}.t (id INT PRIMARY KEY)",
        *(f"INSERT INTO {schema}.t VALUES ({n})" for n in range(rows)))  # fmt: skip
    _tiles(source, schema)
