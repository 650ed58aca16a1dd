"""Statements read without a server: what is nothing, what is unknown, whose names are meant."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from migrate.model import Column, Index, TableDef
from migrate.sync.dialect import Dialect
from migrate.sync.history import History
from migrate.sync.lexer import ANSI_QUOTES, NO_BACKSLASH_ESCAPES, Token, Unreadable, tokens
from migrate.sync.shadow import shadow_of
from migrate.sync.widen import holds, widening

CHARSETS = {"utf8mb4": ("utf8mb4_general_ci", 4), "utf8": ("utf8_general_ci", 3), "latin1": ("latin1_swedish_ci", 1),
            "binary": ("binary", 1)}  # fmt: skip
COLLATIONS = {"utf8mb4_general_ci": "utf8mb4", "utf8mb4_bin": "utf8mb4", "utf8_general_ci": "utf8", "utf8_bin": "utf8",
              "latin1_swedish_ci": "latin1", "latin1_bin": "latin1", "binary": "binary"}  # fmt: skip
OLD = Dialect(50624, explicit_timestamps=False, default_collation="utf8mb4_general_ci", charsets=CHARSETS,
              collations=COLLATIONS, databases={"s": "utf8mb4_bin"})  # fmt: skip
NEW = replace(OLD, version=90700, explicit_timestamps=True)
T = TableDef(
    (Column("a", "int", "int(11)", False), Column("b", "varchar", "varchar(9)", True, "utf8mb4", "utf8mb4_bin")),
    (Index("PRIMARY", True, (("a", None),)),),
    "utf8mb4",
    "utf8mb4_bin",
)


def history(dialect: Dialect = OLD) -> History:
    return History("m1", {("s", "t"): T, ("s", "u"): T, ("other", "t"): T}, dialect)


@pytest.mark.parametrize(
    "sql",
    [
        "", ";", "-- only a comment", "/* nothing */", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT `x`", "XA START 'a'",
        "GRANT ALL ON s.t TO x@y", "REVOKE SELECT ON s.t FROM x", "CREATE USER t", "DROP USER t", "RENAME USER t TO u",
        "ALTER USER t IDENTIFIED BY 'x'", "SET PASSWORD FOR t = 'x'", "FLUSH TABLES t", "ANALYZE TABLE t",
        "OPTIMIZE TABLE t", "REPAIR TABLE t", "CREATE VIEW v AS SELECT * FROM t", "DROP VIEW t",
        "CREATE ALGORITHM=UNDEFINED DEFINER=`a`@`b` SQL SECURITY DEFINER VIEW v AS SELECT 1 FROM t",
        "CREATE OR REPLACE VIEW t AS SELECT 1", "ALTER VIEW v AS SELECT 1 FROM t",
        "CREATE DEFINER=`a`@`%` PROCEDURE p() UPDATE t SET a = 1", "DROP PROCEDURE IF EXISTS t",
        "CREATE FUNCTION f() RETURNS INT RETURN (SELECT a FROM t)", "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE "
        "FROM t", "ALTER EVENT e DISABLE", "CREATE DATABASE d CHARSET latin1", "CREATE TEMPORARY TABLE t (a INT)",
        "CREATE TEMPORARY TABLE t LIKE u", "DROP TEMPORARY TABLE IF EXISTS t",
        "DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `t`", "CREATE TABLE IF NOT EXISTS t (z INT)", "CREATE ROLE t",
        "DROP DATABASE nothing", "DROP TRIGGER nothing", "CREATE TRIGGER x AFTER INSERT ON elsewhere FOR EACH ROW SET "
        "@a = (SELECT 1 FROM t)", "DROP PREPARE t", "LOCK TABLES t WRITE", "UNLOCK TABLES",
        "INSTALL PLUGIN t SONAME 'x'",
    ],
)  # fmt: skip
@pytest.mark.parametrize("dialect", [OLD, NEW])
def test_what_does_nothing_to_tables(sql: str, dialect: Dialect) -> None:
    assert history(dialect).read("s", sql) == []


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("ALTER TABLE t ADD g INT AS (a + 1)", "generated"),
        ("ALTER TABLE t ADD g INT GENERATED ALWAYS AS (a) STORED", "generated"),
        ("ALTER TABLE t ADD g INT DEFAULT (a + 1)", "expression"),
        ("ALTER TABLE t ADD g TIMESTAMP DEFAULT '2020-01-01 00:00:00'", "default"),
        ("ALTER TABLE t ADD g INT DEFAULT '1.5'", "default"),
        ("ALTER TABLE t ADD g FLOAT DEFAULT 1e10", "default"),
        ("ALTER TABLE t ADD g DATE DEFAULT '20-1-1'", "default"),
        ("ALTER TABLE t ADD g ENUM('a') DEFAULT 'b'", "default"),
        ("ALTER TABLE t ADD g BINARY(3) DEFAULT 'a'", "default"),
        ("ALTER TABLE t ADD g VARBINARY(3) DEFAULT 0xff", "default"),
        ("ALTER TABLE t ADD g INT REFERENCES u (a)", "REFERENCES"),
        ("ALTER TABLE t ADD g VECTOR(3)", "the type VECTOR"),
        ("ALTER TABLE t ADD g POINT SRID 4326", "reference system"),
        ("ALTER TABLE t ADD g VARCHAR(30000)", "length"),
        ("ALTER TABLE t ADD g VARCHAR(3) CHARSET klingon", "no charset or collation klingon"),
        ("ALTER TABLE t ADD g VARCHAR(3) COLLATE klingon_ci", "no charset or collation klingon_ci"),
        ("ALTER TABLE t ADD KEY (nope)", "nope"),
        ("ALTER TABLE t ADD SPATIAL KEY (b)", "SPATIAL"),
        ("ALTER TABLE t DROP nope", "no column nope"),
        ("ALTER TABLE t DROP KEY nope", "no index nope"),
        ("ALTER TABLE t MODIFY nope INT", "no column nope"),
        ("ALTER TABLE t ADD c INT AFTER nope", "no column nope"),
        ("ALTER TABLE t ADD a INT", "columns"),
        ("ALTER TABLE t DROP a, ADD a INT", "anew"),
        ("ALTER TABLE t ADD COLUMN IF NOT EXISTS c INT", "IF NOT EXISTS"),
        ("ALTER TABLE t DROP COLUMN IF EXISTS c", "IF EXISTS"),
        ("ALTER TABLE t ENGINE=Wonder", "engine"),
        ("ALTER TABLE t WONDER", "WONDER"),
        ("ALTER TABLE t ADD c INT WONDER", "WONDER"),
        ("ALTER TABLE t ADD c INT, , ADD d INT", "near"),
        ("ALTER TABLE t ADD c ENUM(", "string"),
        ("ALTER TABLE t ADD c INT COMMENT 'open", "no end"),
        ("ALTER TABLE t ADD CONSTRAINT FOREIGN KEY name (a) REFERENCES u (a)", "foreign key"),
        ("ALTER TABLE t ADD PERIOD FOR SYSTEM_TIME (a, b)", "FOR"),
        ("ALTER TABLE t RENAME u, WONDER", "WONDER"),
        ("WONDER t", "WONDER"),
        ("CREATE WONDER ON t", "WONDER"),
        ("TRUNCATE t, u", ","),
        ("ALTER TABLE t /* open", "near"),
        ("ALTER TABLE t /*!50000 ADD c INT", "no end"),
    ],
)
def test_what_cannot_be_read_is_unknown_and_names_its_table(sql: str, reason: str) -> None:
    here = history(NEW)
    changes = here.read("s", sql)
    assert changes
    assert {c.kind for c in changes} <= {"unknown"}
    assert ("s", "t") in [(c.schema, c.table) for c in changes]
    assert any(reason in c.reason for c in changes)
    for change in changes:
        here.apply(change)
    assert here.definition("s", "t") is None  # rather none than a wrong one


def test_a_table_that_cannot_be_created_is_named() -> None:
    for sql in ("CREATE TABLE n AS SELECT * FROM t", "CREATE TABLE n LIKE nope", "CREATE TABLE n (a WONDER)"):
        (change,) = history().read("s", sql)
        assert (change.kind, change.schema, change.table) == ("unknown", "s", "n")


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("INSERT INTO t SELECT * FROM u", ["t"]),
        ("INSERT IGNORE `other`.`t` VALUES (1)", ["other.t"]),
        ("REPLACE LOW_PRIORITY INTO u SET a = 1", ["u"]),
        ("UPDATE t JOIN u USING (a) SET t.b = 1", ["t", "u"]),
        ("UPDATE other.t SET a = 1", ["other.t"]),
        ("DELETE FROM t WHERE a = 1", ["t"]),
        ("LOAD DATA LOCAL INFILE 'x' IGNORE INTO TABLE u FIELDS TERMINATED BY ','", ["u"]),
        ("WITH x AS (SELECT 1) DELETE FROM t", ["t"]),
        ("INSERT INTO elsewhere SELECT * FROM t", ["elsewhere"]),
        ("/* app */ UPDATE t SET b = 'u'", ["t"]),
    ],
)
def test_rows_logged_as_text(sql: str, tables: list[str]) -> None:
    changes = history().read("s", sql)
    assert {c.kind for c in changes} == {"dml"}
    names = [c.table if c.schema == "s" else f"{c.schema}.{c.table}" for c in changes]
    assert sorted(names) == tables


def test_names_are_compared_as_the_server_does() -> None:
    assert history().read("s", "DROP TABLE T")[0].before is None
    folded = history(replace(OLD, fold_names=True))
    assert folded.read("S", "DROP TABLE T")[0].before == T
    folded.apply(folded.read("S", "RENAME TABLE T TO V")[0])
    assert folded.definition("s", "v") == T
    assert folded.definition("s", "t") is None


def test_a_database_goes_with_its_tables() -> None:
    here = history()
    changes = here.read("x", "DROP DATABASE IF EXISTS `s`")
    assert [(c.kind, c.schema, c.table) for c in changes] == [("drop", "s", "t"), ("drop", "s", "u")]
    for change in changes:
        here.apply(change)
    assert here.names() == [("other", "t")]


def test_reading_changes_nothing() -> None:
    here = history()
    (first,) = here.read("s", "ALTER TABLE t ADD c INT")
    assert here.read("s", "ALTER TABLE t ADD c INT") == [first]
    assert here.definition("s", "t") == T
    here.apply(first)
    assert here.definition("s", "t") == first.after != T


def test_partitions_that_go_take_their_rows() -> None:
    for action in ("DROP PARTITION p0", "TRUNCATE PARTITION ALL", "EXCHANGE PARTITION p0 WITH TABLE u",
                   "DISCARD TABLESPACE", "IMPORT TABLESPACE"):  # fmt: skip
        (change,) = history().read("s", f"ALTER TABLE t {action}")
        assert (change.kind, change.after) == ("truncate", T)


def test_values_that_are_lost_are_named() -> None:
    here = history(NEW)
    for sql, lost in {
        "ALTER TABLE t DROP b": ("b",),
        "ALTER TABLE t CHANGE b c VARCHAR(9)": ("b",),
        "ALTER TABLE t RENAME COLUMN b TO c": ("b",),
        "ALTER TABLE t DROP b, ADD b VARCHAR(9)": ("b",),
        "ALTER TABLE t RENAME COLUMN a TO b, RENAME COLUMN b TO a": ("a", "b"),
        "ALTER TABLE t CHANGE a a BIGINT, CHANGE B B VARCHAR(10)": (),
    }.items():
        (change,) = here.read("s", sql)
        assert (change.kind, change.lost) == ("alter", lost)


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("_x_gho", "x"), ("_x_ghc", "x"), ("_x_del", "x"), ("_x_20240102030405_del", "x"), ("_x_new", "x"),
        ("__x_new", "x"), ("______x_new", "x"), ("_x_old", "x"), ("_x_old_20240102_030405", "x"), ("_x_chkpnt", "x"),
        ("__y_new", "_y"), ("___y_new", "_y"), ("__y_gho", "_y"), ("x", None), ("x_gho", None), ("_z_gho", None),
        ("_x_gh", None), ("x_new", None), ("_x_new_1", None), ("__x_gho", None), ("_k_new", None),
        ("_" + "l" * 59 + "_gho", "l" * 62), ("_x_20240102030405_old", None),
    ],
)  # fmt: skip
def test_shadows(name: str, table: str | None) -> None:
    assert shadow_of(name, ["x", "_y", "_k_new", "k", "l" * 62]) == table


@given(st.text(st.sampled_from("abc_'\"`\\/*!-# \n().,;0159éx") | st.characters(codec="utf-8"), max_size=60))
@example("/*!")
@example("'\\")
def test_any_text_is_read_or_refused(text: str) -> None:
    for dialect in (OLD, NEW):
        for change in history(dialect).read("s", text):
            assert change.kind in ("unknown", "dml", "alter", "create", "drop", "rename", "truncate")
        history(dialect).read("s", "ALTER TABLE t ADD c INT " + text)
        history(dialect).read("s", "CREATE TABLE n (c INT " + text)


@given(st.text(max_size=30))
def test_strings_and_names_come_back(text: str) -> None:
    names = {"\0": "\\0", "\\": "\\\\", "'": "\\'", "\n": "\\n", "\x1a": "\\Z"}
    assert tokens("'" + "".join(names.get(c, c) for c in text) + "'", OLD) == [Token("text", text)]
    assert tokens("'" + text.replace("\\", "\\\\").replace("'", "''") + "'", OLD) == [Token("text", text)]
    assert tokens("'" + text.replace("'", "''") + "'", OLD, NO_BACKSLASH_ESCAPES) == [Token("text", text)]
    assert tokens("`" + text.replace("`", "``") + "`", OLD) == [Token("quoted", text)]
    ansi = '"' + text.replace("\\", "\\\\").replace('"', '""') + '"'
    assert tokens(ansi, OLD, ANSI_QUOTES) == [Token("quoted", text)]


GAPS = st.sampled_from(
    [" ", "\n", "\t", "/* x */", " -- x\n", "#y\n", "/**/", "/*!99999 wrong */", "/*!99999 /* q */ */"]
)


@given(st.lists(GAPS, min_size=8, max_size=8))
def test_what_stands_between_words_does_not_count(gaps: list[str]) -> None:
    words = ["ALTER", "TABLE", "`t`", "ADD", "c", "INT", "DEFAULT", "5", ""]
    sql = "".join(w + g for w, g in zip(words, [*gaps, ""], strict=True))
    (change,) = history().read("s", sql)
    assert change.after == history().read("s", "ALTER TABLE t ADD c INT DEFAULT 5")[0].after


def test_what_a_version_runs() -> None:
    for sql, found in {
        "a /*!50600 b */ c": "a b c", "a /*!50700 b */ c": "a c", "a /*! b */ c": "a b c",
        "a /*M! b */ c": "a c", "a /*!100100 b */ c": "a c", "a /*!50100 b /* x */ */ c": "a b c",
    }.items():  # fmt: skip
        assert " ".join(t.value for t in tokens(sql, OLD)) == found
    maria = replace(OLD, version=101100, mariadb=True)
    for sql, found in {"a /*M! b */ c": "a b c", "a /*M!101100 b */": "a b", "a /*!50701 b */ c": "a c"}.items():
        assert " ".join(t.value for t in tokens(sql, maria)) == found
    for broken in ("'a", "/*!50100 x", "*/", "`a", '"'):
        with pytest.raises(Unreadable):
            tokens(broken, OLD)


def column(full: str, **more: object) -> Column:
    kind = full.partition("(")[0].split(" ")[0]
    return replace(Column("c", kind, full, True), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ladder", "aside"),
    [
        (["tinyint", "smallint", "mediumint", "int", "bigint"], ["int unsigned", "decimal(20,0)", "bit(8)"]),
        (["varchar(1)", "varchar(2)", "varchar(100)"], ["char(1)", "text", "varbinary(9)"]),
        (["decimal(10,2)", "decimal(12,2)"], ["decimal(12,4)", "decimal(12,2) unsigned", "double"]),
        (["enum('a')", "enum('a','b''c')", "enum('a','b''c','d')"], ["enum('b','a')", "set('a')"]),
        (["datetime(3)"], ["datetime(6)", "datetime", "timestamp(3)"]),
        (["binary(3)"], ["binary(4)", "varbinary(3)"]),
        (["bit(3)"], ["bit(4)"]),
        (["tinyblob", "blob", "longblob"], ["text"]),
    ],
)
def test_what_widens(ladder: list[str], aside: list[str]) -> None:
    for at, full in enumerate(ladder):
        for other, wide in enumerate(ladder):
            assert (widening(column(full), column(wide)) is None) == (other >= at)
            assert holds(column(wide), column(full)) == (other >= at)
        for different in aside:
            assert widening(column(full), column(different))
            assert widening(column(different), column(full))
    assert not holds(column("int", nullable=False), column("int"))
    assert holds(column("int"), column("int", nullable=False))
