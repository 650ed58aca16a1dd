"""The rules of the target schema, one by one; what TiDB makes of them is tested on a TiDB."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate.catalog import _mariadb_default
from migrate.model import Column, Index, Interleave, MergedTable, Shard, ShardTable, TableDef, Target
from migrate.schema import TargetSchema, differences, target_ddl
from migrate.schema.collation import TIDB_COLLATIONS, char_width, comparison_change, target_collation, text_growth
from migrate.schema.column import members
from migrate.schema.expression import target_expression, unescape

ID = Column("id", "bigint", "bigint(20)", False, auto_increment=True)
PRIMARY = Index("PRIMARY", True, (("id", None),))


def text(full: str, charset: str = "utf8mb4", collation: str = "utf8mb4_bin", **more: Any) -> Column:
    return Column("c", full.partition("(")[0], full, True, charset, collation, **more)


def made(*columns: Column, indexes: tuple[Index, ...] = (PRIMARY,), **more: Any) -> TargetSchema:
    shape = TableDef((ID, *columns), indexes, "utf8mb4", "utf8mb4_bin", **more)
    shard = ShardTable(Shard("m1", "s", "t"), shape)
    return target_ddl(MergedTable(Target("s", "t"), (shard,)))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("utf8_general_ci", "utf8mb4_general_ci"),
        ("utf8mb3_unicode_ci", "utf8mb4_unicode_ci"),
        ("utf8_bin", "utf8mb4_bin"),
        ("utf8mb4_0900_ai_ci", "utf8mb4_0900_ai_ci"),
        ("utf8mb4_0900_bin", "utf8mb4_0900_bin"),
        ("utf8mb4_0900_as_cs", "utf8mb4_0900_bin"),
        ("utf8mb4_zh_0900_as_cs", "utf8mb4_0900_bin"),
        ("utf8mb4_de_pb_0900_ai_ci", "utf8mb4_0900_ai_ci"),
        ("utf8mb4_unicode_520_ci", "utf8mb4_unicode_ci"),
        ("utf8mb4_uca1400_ai_ci", "utf8mb4_unicode_ci"),
        ("latin1_swedish_ci", "utf8mb4_general_ci"),
        ("latin1_general_cs", "utf8mb4_bin"),
        ("latin1_bin", "utf8mb4_bin"),
        ("gbk_chinese_ci", "utf8mb4_general_ci"),
        ("ascii_bin", "utf8mb4_bin"),
        ("utf8mb4_nopad_bin", "utf8mb4_0900_bin"),
    ],
)
def test_collations(source: str, target: str) -> None:
    assert target_collation(source) == target
    assert target in TIDB_COLLATIONS
    assert target_collation(target) == target
    assert comparison_change(source, target)


CHARSETS = ["latin1", "gbk", "big5", "sjis", "cp932", "ujis", "euckr", "gb2312", "cp1251", "utf16", "koi8r", "ascii"]


@given(st.sampled_from(CHARSETS), st.text(max_size=50))
def test_no_text_outgrows_what_its_charset_is_given(charset: str, value: str) -> None:
    """MySQL's charsets by Python's codecs of the same repertoire."""
    codec = {"latin1": "cp1252", "sjis": "shift_jis", "ujis": "euc_jp", "euckr": "euc_kr", "koi8r": "koi8_r",
             "utf16": "utf-16-be"}.get(charset, charset)  # fmt: skip
    there = value.encode(codec, "ignore")
    wide = there.decode(codec).encode()
    assert len(wide) <= text_growth(charset) * len(there)
    assert len(wide) <= char_width(charset) * len(there.decode(codec))


@pytest.mark.parametrize(
    ("full", "charset", "becomes"),
    [
        ("varchar(16383)", "latin1", "varchar(16383)"),
        ("varchar(16384)", "latin1", "text"),
        ("varchar(65000)", "latin1", "mediumtext"),
        ("varchar(65000)", "ascii", "text"),
        ("varchar(21000)", "utf8", "text"),
        ("tinytext", "latin1", "text"),
        ("tinytext", "utf8", "tinytext"),
        ("text", "gbk", "mediumtext"),
        ("mediumtext", "latin1", "longtext"),
        ("longtext", "latin1", "longtext"),
    ],
)
def test_texts_get_the_room_they_need(full: str, charset: str, becomes: str) -> None:
    schema = made(text(full, charset, f"{charset}_bin"))
    assert schema.definition.column("c").full_type == becomes
    assert (f"c: {full} becomes" in str(schema.changes)) == (full != becomes)


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=8), min_size=1, max_size=6))
def test_members_are_read_as_mysql_writes_them(names: list[str]) -> None:
    escapes = {"\\": "\\\\", "\0": "\\0", "\n": "\\n", "\r": "\\r", "\x1a": "\\Z", "'": "''"}
    written = ",".join("'" + "".join(escapes.get(c, c) for c in name) + "'" for name in names)
    assert members(f"enum({written})") == tuple(names)


@pytest.mark.parametrize(
    ("column", "sql"),
    [
        (Column("c", "int", "int(11)", True, default="5"), "`c` int NULL DEFAULT '5'"),
        (Column("c", "int", "int(6) unsigned zerofill", True), "`c` int unsigned NULL"),
        (Column("c", "tinyint", "tinyint(1)", False, default="0"), "`c` tinyint(1) NOT NULL DEFAULT '0'"),
        (Column("c", "decimal", "decimal(9,4)", False, default="0.0000"), "`c` decimal(9,4) NOT NULL DEFAULT '0.0000'"),
        (Column("c", "float", "float(10,2)", True), "`c` float NULL"),
        (Column("c", "year", "year(4)", True), "`c` year NULL"),
        (Column("c", "bit", "bit(3)", True, default="b'101'"), "`c` bit(3) NULL DEFAULT b'101'"),
        (Column("c", "varbinary", "varbinary(9)", True, default="0x6162"), "`c` varbinary(9) NULL DEFAULT 'ab'"),
        (Column("c", "varbinary", "varbinary(9)", True, default="0xff"), "`c` varbinary(9) NULL,"),
        (
            Column("c", "datetime", "datetime(3)", False, default="CURRENT_TIMESTAMP(3)", default_is_expression=True,
                   on_update="CURRENT_TIMESTAMP(3)"),
            "`c` datetime(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3)",
        ),
        (Column("c", "datetime", "datetime(3)", True, default="now()", default_is_expression=True),
         "`c` datetime(3) NULL,"),
        (Column("c", "varchar", "varchar(36)", False, "utf8mb4", "utf8mb4_bin", "uuid()", True),
         "`c` varchar(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT (uuid())"),
        (Column("c", "varchar", "varchar(9)", True, "utf8mb4", "utf8mb4_bin", "it's \\ \n"),
         "`c` varchar(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT 'it''s \\\\ \n'"),
        (Column("a`b", "int", "int", True, comment="it's"), "`a``b` int NULL COMMENT 'it''s'"),
    ],
)  # fmt: skip
def test_columns(column: Column, sql: str) -> None:
    schema = made(column)
    assert f"  {sql}" in schema.sql
    assert not schema.refusals


@pytest.mark.parametrize("kind", ["point", "geometry", "vector", "inet6"])
def test_types_that_tidb_has_not(kind: str) -> None:
    (refusal,) = made(Column("c", kind, kind, True)).refusals
    assert refusal == f"s.t.c: TiDB has no type like {kind}"


def test_a_two_digit_year() -> None:
    assert "YEAR(2)" in made(Column("c", "year", "year(2)", True)).refusals[0]


def test_what_is_left_behind_is_told() -> None:
    fulltext = Index("ft", False, (("c", None),), "FULLTEXT")
    schema = made(text("varchar(9)"), indexes=(PRIMARY, fulltext), foreign_keys=("fk -> parent",), checks=("ck",),
                  triggers=("tr",), partitioned=True)  # fmt: skip
    told = "\n".join(schema.changes)
    for piece in ("foreign key fk -> parent", "CHECK constraint ck", "trigger tr", "partitioning", "FULLTEXT index ft",
                  "id: AUTO_INCREMENT"):  # fmt: skip
        assert piece in told
    assert "PRIMARY KEY (`id`) /*T![clustered_index] CLUSTERED */" in schema.sql
    assert "ft" not in schema.sql and not schema.refusals


def test_members_that_would_be_equal_keep_their_difference() -> None:
    assert made(text("enum('u','ü')", "latin1", "latin1_swedish_ci")).definition.column("c").collation == "utf8mb4_bin"
    assert made(text("enum('u','x')", "latin1", "latin1_swedish_ci")).definition.column("c").collation != "utf8mb4_bin"


def test_interleaved_columns_hold_64_bits() -> None:
    shape = TableDef((replace(ID, type="int", full_type="int(11)"),), (PRIMARY,), "utf8mb4", "utf8mb4_bin")
    shard = ShardTable(Shard("m1", "s", "t"), shape)
    schema = target_ddl(MergedTable(Target("s", "t"), (shard,), "interleave", {shard.shard: {"id": Interleave(1, 0)}}))
    assert "`id` bigint NOT NULL AUTO_INCREMENT" in schema.sql
    assert "int becomes bigint" in str(schema.changes)


def test_index_lengths() -> None:
    long = text("varchar(1000)", "latin1", "latin1_bin")
    cut = made(long, indexes=(PRIMARY, Index("k", False, (("c", None),))))
    assert "KEY `k` (`c`(768))" in cut.sql and not cut.refusals
    assert (
        "unique index k would be 4000 bytes"
        in made(long, indexes=(PRIMARY, Index("k", True, (("c", None),)))).refusals[0]
    )
    assert not made(long, indexes=(PRIMARY, Index("k", True, (("c", 768),)))).refusals


@pytest.mark.parametrize(
    ("given_", "meant"),
    [
        (r"concat(`a`,_utf8mb4\'x\\\\y\\\'z\')", r"concat(`a`,_utf8mb4'x\\y\'z')"),
        (r"concat(`a`,'x')", r"concat(`a`,'x')"),
        ("(`a` + 1)", "(`a` + 1)"),
    ],
)
def test_expressions_are_unescaped(given_: str, meant: str) -> None:
    assert unescape(given_) == meant


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("`a` + 1", None),
        ("(case when (`a` = _utf8mb4'x') then 1 else 2 end)", None),
        ("json_unquote(json_extract(`j`,_utf8mb4'$.a'))", None),
        ("concat(`a`,_latin1'x')", None),
        ("concat(`a`,_latin1'é')", "letters in another charset"),
        ("inet_ntoa(`a`)", "inet_ntoa()"),
        ("concat(`inet_ntoa (x)`,_utf8mb4'md5(1)')", None),
        ("(upper(`a`) collate latin1_general_cs)", "names a charset or a collation"),
        ("convert(`a` using gbk)", "names a charset or a collation"),
        ("convert(`a` using utf8mb4)", None),
        ("md5(`a`)", "sees the bytes"),
    ],
)
def test_generated_columns(expression: str, reason: str | None) -> None:
    _, refusal = target_expression(text("varchar(9)", generated=expression), bytes_change=True)
    assert (refusal is None) if reason is None else (refusal is not None and reason in refusal)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (None, (None, False)),
        ("NULL", (None, False)),
        ("'NULL'", ("NULL", False)),
        ("'it''s \\\\ x'", ("it's \\ x", False)),
        ("1.50", ("1.50", False)),
        ("-1", ("-1", False)),
        ("b'101'", ("b'101'", False)),
        ("uuid()", ("uuid()", True)),
        ("(1 + 1)", ("(1 + 1)", True)),
        ("current_timestamp(6)", ("current_timestamp(6)", True)),
    ],
)
def test_mariadbs_defaults(written: str | None, meant: tuple[str | None, bool]) -> None:
    assert _mariadb_default(written) == meant


OLD = TableDef(
    (ID, Column("y", "year", "year(4)", True), text("varchar(9)", "utf8", "utf8_bin")), (PRIMARY,), "utf8", "utf8_bin"
)


def test_what_servers_spell_differently_is_no_difference() -> None:
    new = replace(
        OLD,
        columns=(
            replace(ID, full_type="bigint"),
            Column("y", "year", "year", True),
            text("varchar(9)", "utf8mb3", "utf8mb3_bin"),
        ),
    )
    assert differences(OLD, new) == differences(new, OLD) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"columns": OLD.columns[:2]}, "column c is missing"),
        ({"columns": (OLD.columns[1], OLD.columns[0], OLD.columns[2])},
         "the columns are in another order: y, id, c, not id, y, c"),
        ({"columns": (ID, OLD.columns[1], text("varchar(9)", "utf8", "utf8_general_ci"))},
         "column c: collation is utf8mb3_general_ci, not utf8mb3_bin"),
        ({"columns": (replace(ID, full_type="bigint(20) unsigned"), *OLD.columns[1:])},
         "column id: type is bigint unsigned, not bigint"),
        ({"columns": (replace(ID, nullable=True), *OLD.columns[1:])}, "column id: nullability is NULL, not NOT NULL"),
        ({"indexes": ()}, "index PRIMARY (unique id) is missing"),
        ({"indexes": (PRIMARY, Index("k", False, (("c", 3), ("y", None))))}, "index k (c(3), y) is there in addition"),
        ({"indexes": (Index("PRIMARY", True, (("id", None), ("y", None))),)},
         "index PRIMARY is unique id, y, not unique id"),
    ],
)  # fmt: skip
def test_differences_are_readable(change: dict[str, Any], told: str) -> None:
    assert differences(OLD, replace(OLD, **change)) == [told]
