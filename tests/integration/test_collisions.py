"""Equal keys are found, all of them and nothing else, on real servers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrate.catalog import read_catalog
from migrate.collisions import Collision, find_collisions
from migrate.collisions.canonical import canonical
from migrate.collisions.duplicates import Duplicates
from migrate.config import Config
from migrate.db import connect
from migrate.model import Column, Index, MergedTable, TableDef
from migrate.routes import resolve
from migrate.sandbox import Sandbox
from migrate.source import read_routing
from tests.integration.shards import Server, config_for, database, route, run

Found = set[tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]]]


@pytest.fixture(params=["5.6", "9.7"])
def source(request: pytest.FixtureRequest) -> Server:
    if request.param == "9.7":
        server: Server = request.getfixturevalue("mysql97")
        return server
    first: Server = request.getfixturevalue("servers").sources[0]
    return first


@pytest.fixture
def schema(source: Server) -> Iterator[str]:
    with database(source) as name:
        yield name


def merged(config: Config) -> list[MergedTable]:
    with connect(config.sources[0]) as session:
        return list(resolve(config, read_catalog(session, "m1")).checked())


def collide(source: Server, schema: str, *, memory_keys: int = 1000, **policy: str) -> list[Collision]:
    config = config_for([source], source, schema, route(schema, r"t_\d+", "merged.t", **policy))
    return find_collisions(config, merged(config), memory_keys=memory_keys)


def shards(source: Server, schema: str, columns: str, *rows: str) -> None:
    """Shards t_0, t_1 .. of these columns, each with its VALUES."""
    for number, values in enumerate(rows):
        table = f"CREATE TABLE t_{number} ({columns}) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"
        run(source, table, *([f"INSERT INTO t_{number} VALUES {values}"] if values else []), database=schema)


def told(collisions: list[Collision]) -> Found:
    return {(c.index, tuple(sorted(p.table for p in c.places)), tuple(sorted(c.values))) for c in collisions}


def test_equal_integer_keys(source: Server, schema: str) -> None:
    shards(source, schema, "id BIGINT PRIMARY KEY, v INT", "(1,1),(5,1),(9,1)", "(2,1),(5,2),(10,1)", "(9,1),(3,1)", "")
    found = collide(source, schema)
    assert told(found) == {
        ("PRIMARY", ("t_0", "t_1"), (("5",), ("5",))),
        ("PRIMARY", ("t_0", "t_2"), (("9",), ("9",))),  # identical rows are two rows all the same
    }
    assert str(found[0]) == f"merged.t: PRIMARY (id = 5) is on m1.{schema}.t_0 and on m1.{schema}.t_1"


def test_the_ends_of_the_integers(source: Server, schema: str) -> None:
    low, high = -(2**63), 2**63 - 1
    shards(source, schema, "id BIGINT PRIMARY KEY", f"({low}),(-1),(0)", f"({high}),({low}),(0)", f"({high}),(1)")
    assert {values[0] for _, _, values in told(collide(source, schema))} == {(str(low),), ("0",), (str(high),)}


def test_unsigned_keys(source: Server, schema: str) -> None:
    top = 2**64 - 1
    shards(source, schema, "id BIGINT UNSIGNED PRIMARY KEY", f"(0),({top}),(7)", f"({top}),({top - 1})")
    assert told(collide(source, schema)) == {("PRIMARY", ("t_0", "t_1"), ((str(top),), (str(top),)))}


def test_apart_ranges_are_not_read(servers: object) -> None:
    source: Server = servers.sources[0]  # type: ignore[attr-defined]
    with database(source) as schema:
        rows = [",".join(f"({shard * 10_000 + n})" for n in range(5000)) for shard in range(4)]
        shards(source, schema, "id BIGINT PRIMARY KEY", *rows)
        read = "SHOW GLOBAL STATUS LIKE 'Innodb_rows_read'"
        before = int(run(source, read)[0][1])
        assert collide(source, schema) == []
        assert int(run(source, read)[0][1]) - before < 5000


def test_many_keys_over_many_batches(source: Server, schema: str) -> None:
    """More keys than one query gives, more than memory may hold; exactly the planted ones are told."""
    ten = "(" + " UNION ALL ".join(f"SELECT {n} AS n" for n in range(10)) + ")"
    numbers = f"SELECT a.n+10*b.n+100*c.n+1000*d.n+10000*e.n AS n FROM {ten} a, {ten} b, {ten} c, {ten} d, {ten} e"
    shards(source, schema, "id BIGINT PRIMARY KEY, tag VARCHAR(20) UNIQUE", "", "")
    run(source, f"INSERT INTO t_0 SELECT n * 2, CONCAT('even', n) FROM ({numbers}) s",
        f"INSERT INTO t_1 SELECT n * 2 + 1, CONCAT('odd', n) FROM ({numbers}) s",
        "UPDATE t_1 SET id = 77776 WHERE id = 3", "UPDATE t_1 SET tag = 'even4321' WHERE id = 5",
        database=schema)  # fmt: skip
    for memory_keys in (10_000_000, 30_000):
        assert told(collide(source, schema, memory_keys=memory_keys)) == {
            ("PRIMARY", ("t_0", "t_1"), (("77776",), ("77776",))),
            ("tag", ("t_0", "t_1"), (("even4321",), ("even4321",))),
        }


def test_composite_keys_and_nulls(source: Server, schema: str) -> None:
    shards(
        source,
        schema,
        "id INT PRIMARY KEY, a INT NULL, b DECIMAL(10,2) NULL, UNIQUE KEY ab (a, b)",
        "(1, 1, 1.50), (2, NULL, 2), (3, 11, 1)",
        "(4, 1, 1.5), (5, NULL, 2), (6, 1, 11)",
    )
    assert told(collide(source, schema)) == {("ab", ("t_0", "t_1"), (("1", "1.50"), ("1", "1.50")))}


def test_dates_bits_bytes_and_members(source: Server, schema: str) -> None:
    shards(
        source,
        schema,
        "id INT PRIMARY KEY, d DATETIME(3) UNIQUE, b BIT(9) UNIQUE, h VARBINARY(9) UNIQUE, e ENUM('x','y') UNIQUE",
        "(1, '2020-01-01 00:00:00.001', b'101', X'00ff', 'x')",
        "(2, '2020-01-01 00:00:00.001', b'101', X'00ff', 'x'), (3, '2020-01-01', b'1', X'00', 'y')",
    )
    assert {index for index, _, _ in told(collide(source, schema))} == {"d", "b", "h", "e"}


def test_text_by_the_targets_collation(source: Server, schema: str) -> None:
    shards(
        source,
        schema,
        "id INT PRIMARY KEY, ci VARCHAR(20) CHARACTER SET utf8 COLLATE utf8_general_ci UNIQUE, "
        "bin VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin UNIQUE",
        "(1, 'Straße', 'Abc'), (2, 'x', 'pad'), (3, 'y', '中文')",
        "(4, 'STRASE', 'abc'), (5, 'x ', 'pad  '), (6, 'z', '中文 ')",
    )
    assert told(collide(source, schema)) == {
        ("ci", ("t_0", "t_1"), (("STRASE",), ("Straße",))),
        ("ci", ("t_0", "t_1"), (("x",), ("x ",))),
        ("bin", ("t_0", "t_1"), (("pad",), ("pad  ",))),
        ("bin", ("t_0", "t_1"), (("中文",), ("中文 ",))),
    }


def test_two_rows_of_one_shard_become_equal(source: Server, schema: str) -> None:
    """ü is y in latin1_swedish_ci, but u in the target's utf8mb4_general_ci."""
    shards(source, schema, "k VARCHAR(9) CHARACTER SET latin1 COLLATE latin1_swedish_ci PRIMARY KEY", "('u'), ('ü')")
    assert told(collide(source, schema)) == {("PRIMARY", ("t_0", "t_0"), (("u",), ("ü",)))}


def test_prefix_indexes_compare_the_prefix(source: Server, schema: str) -> None:
    shards(
        source,
        schema,
        "id INT PRIMARY KEY, v TEXT, w BLOB, UNIQUE KEY v3 (v(3)), UNIQUE KEY w2 (w(2))",
        "(1, '中文字one', 'abX')",
        "(2, '中文字two', 'acX'), (3, '中文', 'ab')",
    )
    assert {index for index, _, _ in told(collide(source, schema))} == {"v3", "w2"}


CLOSE = ["-2.2250738585072014e-308", "-2.2250738585072019e-308", "2.2250738585072014e-308", "2.2250738585072019e-308",
         "-1.7976931348623157e308", "-1.7976931348623155e308", "2.5554814295801276e-288", "2.5554814295801280e-288",
         "-4.9406564584124654e-324", "4.9406564584124654e-324", "-0.1", "0.1"]  # fmt: skip
CLOSE_FLOATS = ["16777215", "16777214", "-1.4147822690790642e-29", "-1.4147821188213e-29", "1.401298464324817e-45",
                "-1.401298464324817e-45", "-3.4028234663852886e38", "-3.4028232635611926e38", "0.1",
                "-0.1"]  # fmt: skip


@pytest.mark.parametrize(("kind", "close"), [("DOUBLE", CLOSE), ("FLOAT", CLOSE_FLOATS)])
def test_a_float_key_is_all_its_bits(source: Server, schema: str, kind: str, close: list[str]) -> None:
    """MySQL 9.7 rounds what it computes to 22 characters, which long negative doubles have more of."""
    here, there = (", ".join(f"({v}, {v})" for v in close[start::2]) for start in (0, 1))
    shards(source, schema, f"f {kind} PRIMARY KEY, u {kind} UNIQUE", here, there)
    assert collide(source, schema) == []
    for value in close[::2]:
        run(source, f"INSERT INTO t_1 VALUES ({value}, {value})", database=schema)
    found = collide(source, schema)
    assert len(found) == len(close) and all(len(set(c.places)) == 2 for c in found)  # each in both indexes


@pytest.mark.parametrize(("kind", "close"), [("DOUBLE", CLOSE), ("FLOAT", CLOSE_FLOATS)])
def test_a_float_key_is_the_same_on_old_and_new_servers(
    servers: Sandbox, mysql97: Server, kind: str, close: list[str]
) -> None:
    sources = [servers.sources[0], mysql97]
    with database(*sources) as schema:
        for number, source in enumerate(sources):
            run(source, f"CREATE TABLE t_{number} (f {kind} PRIMARY KEY)",
                f"INSERT INTO t_{number} VALUES {', '.join(f'({v})' for v in close)}", database=schema)  # fmt: skip
        config = config_for(sources, servers.target, schema, route(schema, r"t_\d+", "merged.t"))
        found = find_collisions(config, read_routing(config).checked())
        assert len(found) == len(close)
        assert all({p.instance for p in c.places} == {"m1", "m2"} for c in found)


def test_the_two_zeros_are_one_key(source: Server, schema: str) -> None:
    shards(source, schema, "d DOUBLE PRIMARY KEY, f FLOAT UNIQUE", "(0, 0)", "(-0e0, -0e0)")
    assert {index for index, _, _ in told(collide(source, schema))} == {"PRIMARY", "f"}


def test_interleaved_keys_are_apart_but_others_are_not(source: Server, schema: str) -> None:
    shards(source, schema, "id INT PRIMARY KEY, tag INT UNIQUE, v INT, UNIQUE KEY iv (id, v)",
           "(1, 10, 1), (2, 20, 1)", "(1, 10, 1), (2, 30, 1)")  # fmt: skip
    assert {i for i, _, _ in told(collide(source, schema))} == {"PRIMARY", "tag", "iv"}
    assert told(collide(source, schema, key_collision="interleave")) == {("tag", ("t_0", "t_1"), (("10",), ("10",)))}


def test_odd_names(source: Server, schema: str) -> None:
    for number in range(2):
        run(source, f"CREATE TABLE t_{number} (`a``b.c 中` BIGINT PRIMARY KEY, `%s` VARCHAR(9) UNIQUE)",
            f"INSERT INTO t_{number} VALUES (1, 'x%s')", database=schema)  # fmt: skip
    assert {i for i, _, _ in told(collide(source, schema))} == {"PRIMARY", "%s"}


def test_a_table_without_a_key_has_none_to_lose(source: Server, schema: str) -> None:
    shards(source, schema, "a INT, b INT", "(1, 1), (1, 1)", "(1, 1)")
    assert collide(source, schema) == []


TRICKY = ["", " ", "  ", "a", "A", "á", "a\u0301", "a ", "a  ", " a", "a\t", "a\u00a0", "a\u2003", "a \u2003",
          "a\u2003 ", "a\x01", "a \x01", "\x01", "ß", "s", "ss", "SS", "ü", "u", "y", "æ", "ae", "ﬁ", "fi", "中", "文",
          "中文", "中文 ", "😀", "😁", "😀 ", "\u200b", "a\u200b", "İ", "i", "I", "ı", "я", "Я", "ё", "е", "½", "1",
          "１", "\uffff", "z" * 180, "Z" * 180, "\0", "a\0", "a\0 ", "ﾊﾞ", "バ", "か", "が", "ガ", "क\u094d", "क",
          "e\u0327\u0301", "ȩ\u0301"]  # fmt: skip


COMMON = ["utf8mb4_bin", "utf8mb4_general_ci", "utf8mb4_unicode_ci"]


@pytest.mark.parametrize(
    ("source", "collation"),
    [
        *(pytest.param(version, name, id=f"{version} {name}") for version in ("5.6", "9.7") for name in COMMON),
        *(pytest.param("9.7", name, id=f"9.7 {name}") for name in ("utf8mb4_0900_ai_ci", "utf8mb4_0900_bin")),
    ],
    indirect=["source"],
)
def test_the_canonical_text_is_what_tidbs_index_compares(
    servers: Sandbox, source: Server, schema: str, collation: str
) -> None:
    """Every pair of tricky strings: equal for our scan exactly if TiDB holds them for equal keys."""
    target = servers.target
    column = Column("c", "varchar", "varchar(190)", False, "utf8mb4", collation)
    index = Index("u", True, (("c", None),))
    rows = ", ".join(f"({n}, _utf8mb4 X'{text.encode().hex()}')" for n, text in enumerate(TRICKY))
    with connect(config_for([source], source, schema).sources[0]) as session, database(target) as there:
        session.execute(f"CREATE TABLE {schema}.s (n INT PRIMARY KEY, c VARCHAR(190) COLLATE utf8mb4_bin NOT NULL)")
        session.execute(f"INSERT INTO {schema}.s VALUES {rows}")
        shape = TableDef((column,), (index,), "utf8mb4", collation)
        key = canonical(index, shape, shape, {})
        ours = defaultdict(set)
        for n, text in session.query(f"SELECT n, {key} FROM {schema}.s"):
            ours[text].add(n)
        run(target, f"CREATE TABLE s (n INT PRIMARY KEY, c VARCHAR(190) COLLATE {collation} NOT NULL, KEY (c))",
            f"INSERT INTO s VALUES {rows}", database=there)  # fmt: skip
        pairs = run(target, "SELECT a.n, b.n FROM s a JOIN s b ON a.c = b.c", database=there)
        theirs = {frozenset(b for a, b in pairs if a == n) for n in range(len(TRICKY))}
        assert {frozenset(s) for s in ours.values()} == theirs
        run(target, "CREATE TABLE u (c VARCHAR(190) COLLATE " + collation + " NOT NULL, UNIQUE KEY (c))",
            "INSERT IGNORE INTO u SELECT c FROM s", database=there)  # fmt: skip
        assert run(target, "SELECT COUNT(*) FROM u", database=there)[0][0] == len(ours)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 20), max_size=30), max_size=8), st.integers(1, 50))
def test_duplicates_in_memory_and_in_files(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]], memory_keys: int
) -> None:
    duplicates = Duplicates(Path(tmp_path_factory.mktemp("keys")), memory_keys)
    for batch in batches:
        duplicates.add(np.array(batch, dtype=np.uint64))
    keys = [key for batch in batches for key in batch]
    assert duplicates.find().tolist() == sorted({key for key in keys if keys.count(key) > 1})
