"""The target DDL, made by TiDB and read back: what stands there is what was meant, and rows fit in unaltered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from migrate.catalog import read_catalog
from migrate.db import Session, connect
from migrate.errors import NoGo
from migrate.model import Interleave, MergedTable, Target
from migrate.schema import SchemaReport, create_schema, differences, target_ddl
from tests.integration.shards import Server, database, endpoint, run

EVERYTHING_56 = """
CREATE TABLE t (
 id BIGINT(20) UNSIGNED NOT NULL AUTO_INCREMENT COMMENT 'it''s \\\\ an id', z INT(6) ZEROFILL,
 f FLOAT(10,2) DEFAULT '1.5',
 d DECIMAL(20,4) NOT NULL DEFAULT '0.00', e ENUM('a\\\\b','x''y','c,d','ü','u') CHARACTER SET latin1 DEFAULT 'c,d',
 s SET('a','b') NOT NULL DEFAULT '', bi BINARY(4) DEFAULT 'ab', vb VARBINARY(9) DEFAULT 'abc', b BIT(9) DEFAULT b'101',
 vl VARCHAR(20000) CHARACTER SET latin1 NOT NULL DEFAULT 'x', tt TINYTEXT CHARACTER SET latin1,
 tx TEXT CHARACTER SET gbk, mt MEDIUMTEXT CHARACTER SET latin1, u3 VARCHAR(255) CHARACTER SET utf8 COLLATE
 utf8_unicode_ci DEFAULT 'a\\n''b\\\\c', u4 VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_520_ci,
 ts TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
 t6 DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
 t0 TIMESTAMP NOT NULL DEFAULT '0000-00-00 00:00:00', tn TIMESTAMP NULL DEFAULT NULL, y YEAR DEFAULT '2020',
 dt DATE DEFAULT '0000-00-00', ti TIME(3) DEFAULT '-01:02:03.5', l1 VARCHAR(250) CHARACTER SET latin1,
 l2 VARCHAR(100) CHARACTER SET latin1 COLLATE latin1_general_cs, t1 TINYINT(1) DEFAULT '1',
 si SMALLINT(5) UNSIGNED DEFAULT '7', `a``b.c中` INT, `{long}` INT, dbl DOUBLE DEFAULT '1e10', dc DECIMAL(65,30),
 lb LONGBLOB, c0 CHAR(0), r VARCHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
 PRIMARY KEY (id), KEY kl (l2, l1), FULLTEXT KEY ft (u3), UNIQUE KEY uu (r, z), KEY `k``1` (`a``b.c中`),
 KEY kv (vl(100)), KEY kh (si) USING HASH
) ENGINE=InnoDB DEFAULT CHARSET=latin1 COMMENT='tab ''le'
""".replace("{long}", "中文列名" * 16)

EVERYTHING_97 = """
CREATE TABLE t (
 a INT PRIMARY KEY, g1 VARCHAR(20) AS (CONCAT(a, 'x\\\\y''z')), g2 INT AS (a + 1) STORED,
 u VARCHAR(36) DEFAULT (uuid()),
 cd DATE DEFAULT (curdate()), n INT DEFAULT (7), s VARCHAR(10) DEFAULT ('ab'), t TEXT DEFAULT ('x'),
 j JSON DEFAULT (json_object()), j2 JSON DEFAULT (json_array(1)), r DOUBLE DEFAULT (rand()),
 dt DATETIME DEFAULT (now()),
 dt6 DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6), inv INT INVISIBLE,
 e ENUM('a\\\\b','x''y'), dd VARCHAR(10) DEFAULT 'x\\n\\\\y', ub VARBINARY(16) DEFAULT (uuid_to_bin(uuid())),
 bi BINARY(4) DEFAULT 0x00ff00ff, bj BINARY(4) DEFAULT 'ab', KEY ((a + 1)), KEY kk (s DESC), CHECK (n > 0),
 g5 VARCHAR(10) AS (CASE WHEN s = 'a' THEN 'b' ELSE 'c' END) NOT NULL, g6 JSON AS (json_extract(j, '$.x')),
 g7 INT AS (j->>'$.y'), s2 VARCHAR(30) COLLATE utf8mb4_0900_as_cs, s4 VARCHAR(30) COLLATE utf8mb4_de_pb_0900_ai_ci,
 s5 VARCHAR(30) COLLATE utf8mb4_0900_bin
) COMMENT '表'
"""


class Place:
    """A schema on a source and one on the target."""

    def __init__(self, source: Server, target: Server, schema: str, sessions: tuple[Session, Session]):
        self.server, self.schema = source, schema
        self.source, self.target = sessions
        self.there = target

    def table(self, ddl: str) -> MergedTable:
        """The merged table of one shard `t` that this DDL makes."""
        run(self.server, "SET sql_mode = ''", ddl, database=self.schema)
        (shard,) = read_catalog(self.source, "m1", [self.schema])
        return MergedTable(Target(self.schema, "t"), (shard,))

    def create(self, table: MergedTable, execute: bool = True) -> SchemaReport:
        return create_schema(self.target, [table], execute)

    def exists(self) -> bool:
        return bool(run(self.there, "SHOW TABLES", database=self.schema))


@pytest.fixture
def place56(servers: Any) -> Iterator[Place]:
    yield from place(servers.sources[0], servers.target)


@pytest.fixture
def place97(servers: Any, mysql97: Server) -> Iterator[Place]:
    yield from place(mysql97, servers.target)


def place(source: Server, target: Server) -> Iterator[Place]:
    with (
        database(source, target) as schema,
        connect(endpoint(source, "m1")) as one,
        connect(endpoint(target, "target")) as other,
    ):
        yield Place(source, target, schema, (one, other))


def state(report: SchemaReport) -> str:
    ((_, found),) = report.tables
    return found


def changes(table: MergedTable) -> str:
    return "\n".join(target_ddl(table).changes)


def test_everything_of_56(place56: Place) -> None:
    table = place56.table(EVERYTHING_56)
    assert state(place56.create(table, execute=False)) == "missing"
    assert not place56.exists()
    assert state(place56.create(table)) == "created"
    assert state(place56.create(table)) == "exists"
    told = changes(table)
    for piece in ("id: AUTO_INCREMENT", "z: ZEROFILL", "vl: varchar(20000) becomes text",
                  "vl: its default 'x' is dropped", "tt: tinytext becomes text",
                  "tx: text becomes mediumtext", "mt: mediumtext becomes longtext",
                  "u3: utf8_unicode_ci becomes utf8mb4_unicode_ci: compares as before",
                  "e: latin1_swedish_ci becomes utf8mb4_bin: compares byte for byte",
                  "FULLTEXT index ft is dropped"):  # fmt: skip
        assert piece in told


def test_everything_of_97(place97: Place) -> None:
    table = place97.table(EVERYTHING_97)
    assert state(place97.create(table)) == "created"
    assert state(place97.create(table)) == "exists"
    told = changes(table)
    for piece in ("t: its default", "j2: its default", "inv: becomes visible", "bi: its default", "CHECK constraint",
                  "s2: utf8mb4_0900_as_cs becomes utf8mb4_0900_bin",
                  "index functional_index is over an expression"):  # fmt: skip
        assert piece in told


def test_defaults_and_generated_columns_give_the_same_values(place97: Place) -> None:
    table = place97.table(EVERYTHING_97)
    place97.create(table)
    columns = "a, g1, g2, n, s, j, e, dd, bj, g5, g6, g7"
    insert = "INSERT INTO t (a, e, j) VALUES (-5, 'a\\\\b', '{\"x\": [1], \"y\": 3}')"
    rows = [
        run(server, insert, f"SELECT {columns} FROM t", database=place97.schema)
        for server in (place97.server, place97.there)
    ]
    assert rows[0] == rows[1]


def test_the_longest_texts_fit(place56: Place) -> None:
    """A latin1 text that fills its column needs up to three bytes a character in utf8mb4."""
    columns = "id INT PRIMARY KEY, a TINYTEXT, b TEXT, c VARCHAR(21000), g TEXT CHARACTER SET gbk"
    table = place56.table(f"CREATE TABLE t ({columns}) DEFAULT CHARSET=latin1")
    place56.create(table)
    values = "(1, REPEAT('€', 255), REPEAT('€', 65535), REPEAT('€', 21000), REPEAT('中', 32767))"
    lengths = [
        run(server, f"INSERT INTO t VALUES {values}", "SELECT CHAR_LENGTH(a), CHAR_LENGTH(b), CHAR_LENGTH(c), "
            "CHAR_LENGTH(g) FROM t", database=place56.schema)
        for server in (place56.server, place56.there)
    ]  # fmt: skip
    assert lengths[0] == lengths[1] == [(255, 65535, 21000, 32767)]


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("p POINT", "TiDB has no type like point"),
        ("g GEOMETRY NOT NULL", "TiDB has no type like geometry"),
        ("_tidb_rowid INT", "TiDB keeps this name for itself"),
        ("u VARCHAR(769) CHARACTER SET latin1, UNIQUE KEY (u)", "3076 bytes"),
    ],
)
def test_what_cannot_be_carried_is_refused_before_anything_is_made(place97: Place, column: str, reason: str) -> None:
    table = place97.table(f"CREATE TABLE t (id INT PRIMARY KEY, {column})")
    with pytest.raises(NoGo, match="can't be carried faithfully") as error:
        place97.create(table)
    assert reason in str(error.value) and place97.schema in str(error.value)
    assert not place97.exists()


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("x VARCHAR(99) AS (INET6_NTOA(b)), b VARBINARY(16)", "inet6_ntoa()"),
        ("x VARCHAR(99) AS (HEX(l)), l VARCHAR(9) CHARACTER SET latin1", "sees the bytes of a text"),
        ("x VARCHAR(99) AS (CONVERT(l USING gbk)), l VARCHAR(9)", "names a charset"),
        ("v VECTOR(3)", "no type like vector"),
        ("c VARCHAR(9), UNIQUE KEY fx ((LOWER(c)))", "unique index fx is over an expression"),
    ],
)
def test_what_newer_servers_have_and_tidb_has_not(place97: Place, column: str, reason: str) -> None:
    table = place97.table(f"CREATE TABLE t (id INT PRIMARY KEY, {column})")
    assert any(reason in refusal for refusal in target_ddl(table).refusals)


def test_an_index_that_got_too_long_is_cut(place97: Place) -> None:
    table = place97.table(
        "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(900), b INT, KEY k (b, a)) DEFAULT CHARSET=latin1"
    )
    assert "takes the first 767 of a only" in changes(table)
    place97.create(table)


def test_keys_are_clustered(place56: Place) -> None:
    table = place56.table("CREATE TABLE t (a VARCHAR(20), b INT, PRIMARY KEY (a, b))")
    place56.create(table)
    assert "CLUSTERED" in run(place56.there, "SHOW CREATE TABLE t", database=place56.schema)[0][1].replace("NON", "no")
    found = run(place56.there, "SELECT TIDB_PK_TYPE FROM information_schema.TABLES WHERE TABLE_NAME = 't' AND "
                f"TABLE_SCHEMA = '{place56.schema}'")  # fmt: skip
    assert found == [("CLUSTERED",)]


def test_a_table_without_a_key(place56: Place) -> None:
    table = place56.table("CREATE TABLE t (a INT, b INT)")
    assert state(place56.create(table)) == "created"
    assert "no key identifies its rows" in changes(table)


def test_interleaved_columns_get_the_room_they_need(place56: Place) -> None:
    table = place56.table("CREATE TABLE t (id INT UNSIGNED PRIMARY KEY, other INT)")
    moved = replace(table, interleaved={table.shards[0].shard: {"id": Interleave(3, 1), "other": Interleave(3, 1)}})
    assert state(place56.create(moved)) == "created"
    types = run(place56.there, "SELECT COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = "
                f"'{place56.schema}' ORDER BY ORDINAL_POSITION")  # fmt: skip
    assert types == [("bigint unsigned",), ("bigint",)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("ADD COLUMN more INT", "column more is there in addition"),
        ("DROP KEY k", "index k (v) is missing"),
        ("MODIFY v VARCHAR(11) COLLATE utf8mb4_bin", "column v: type is varchar(11), not varchar(10)"),
        ("MODIFY n INT NULL DEFAULT 3", "column n: default is 3, not 2"),
        ("ADD UNIQUE KEY more (n)", "index more (unique n) is there in addition"),
    ],
)
def test_another_shape_on_the_target(place56: Place, change: str, told: str) -> None:
    columns = "id INT PRIMARY KEY, v VARCHAR(10), n INT DEFAULT 2, KEY k (v)"
    table = place56.table(f"CREATE TABLE t ({columns}) CHARSET=utf8mb4 COLLATE=utf8mb4_bin")
    place56.create(table)
    run(place56.there, f"ALTER TABLE t {change}", database=place56.schema)
    for execute in (False, True):
        with pytest.raises(NoGo, match="another shape") as error:
            place56.create(table, execute)
        assert told in str(error.value)


def test_the_same_table_reads_the_same_on_all_servers(place56: Place, place97: Place) -> None:
    now = "CURRENT_TIMESTAMP(3)"
    ddl = (
        "CREATE TABLE t (id BIGINT(20) PRIMARY KEY, y YEAR(4), e ENUM('a','b\\\\') DEFAULT 'a', t TINYINT(1), "
        "d DECIMAL(10,2) DEFAULT 0, s SMALLINT(6), b BINARY(3) DEFAULT 'x', "
        f"w DATETIME(3) DEFAULT {now} ON UPDATE {now}, KEY k (y, s)) DEFAULT CHARSET=utf8 COLLATE=utf8_bin"
    )
    old, new = place56.table(ddl).definition, place97.table(ddl).definition
    assert differences(old, new) == differences(new, old) == []


def test_what_is_printed_can_be_run_by_hand(place56: Place) -> None:
    table = place56.table(EVERYTHING_56)
    report = place56.create(table, execute=False)
    assert "nothing was written" in report.text()
    lines = [line for line in report.text().splitlines() if line and not line.startswith("--")]
    run(place56.there, *"\n".join(lines).rstrip(";").split(";\n"))
    assert state(place56.create(table)) == "exists"
    assert report.document()["tables"][0]["target"] == f"{place56.schema}.t"
