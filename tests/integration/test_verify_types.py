"""Every type at its limits: both servers' SQL gives the text that the Python model gives, and the same digest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from migrate.config import Config
from migrate.db import connect
from migrate.sandbox import Sandbox
from tests.verify_lab import Lab
from tests.verify_model import Value, digest, encode
from verify.encoding import Kind
from verify.model import Totals
from verify.readers import Readers
from verify.run import verify_checksum, verify_rows
from verify.tables import load

# name, type on the source, type on the target (None: the same), and values: as they are inserted, or that and what
# the row then holds
LIMITS: list[tuple[str, str, str | None, list[Any]]] = [
    ("ti", "TINYINT", None, [-128, 127]),
    ("tu", "TINYINT UNSIGNED", None, [0, 255]),
    ("si", "SMALLINT", None, [-32768, 32767]),
    ("mi", "MEDIUMINT UNSIGNED", None, [0, 16777215]),
    ("i", "INT", None, [-2147483648, 2147483647]),
    ("z", "INT(10) UNSIGNED ZEROFILL", None, [7, 4294967295]),
    ("bi", "BIGINT", None, [-(2**63), 2**63 - 1]),
    ("bu", "BIGINT UNSIGNED", None, [0, 2**64 - 1]),
    ("d1", "DECIMAL(65,30)", None, ["-" + "9" * 35 + "." + "9" * 30, ("0", "0." + "0" * 30)]),
    ("d2", "DECIMAL(20,4)", None, [("-0.00001", "0.0000"), ("0.5", "0.5000")]),
    ("d3", "DECIMAL(10,0)", None, ["-9999999999", "1"]),
    ("d4", "DECIMAL(10,2) ZEROFILL", None, [("1.5", "1.50"), "99999999.99"]),
    ("da", "DATE", None, ["0000-00-00", "9999-12-31"]),
    ("dt", "DATETIME", None, ["1000-01-01 00:00:00", "9999-12-31 23:59:59"]),
    ("d6", "DATETIME(6)", None, ["0000-00-00 00:00:00.000000", "2026-02-28 23:59:59.999999"]),
    ("ts", "TIMESTAMP(3) NULL", None, ["1970-01-01 00:00:01.000", "2038-01-19 03:14:07.999"]),
    ("tm", "TIME", None, ["-838:59:59", "838:59:59"]),
    ("t6", "TIME(6)", None, ["-00:00:00.000001", "23:59:59.999999"]),
    ("y", "YEAR", None, [("0000", 0), ("2155", 2155)]),
    ("b1", "BIT(1)", None, [(b"\x00", 0), (b"\x01", 1)]),
    ("b64", "BIT(64)", None, [(b"\x00", 0), (b"\xff" * 8, 2**64 - 1)]),
    ("ch", "CHAR(5)", None, [("a  ", "a"), "快递柜"]),
    ("vc", "VARCHAR(40)", None, ["a,b  ", "😀\0\\'\"\n"]),
    ("ci", "VARCHAR(20) COLLATE utf8mb4_unicode_ci", None, ["Straße", "STRASSE"]),
    ("l1", "VARCHAR(20) CHARACTER SET latin1", "VARCHAR(20)", ["é€ÿ", "N"]),
    ("u3", "VARCHAR(20) CHARACTER SET utf8", "VARCHAR(20)", ["柜", ""]),
    ("gb", "VARCHAR(20) CHARACTER SET gbk", "VARCHAR(20)", ["快递", "abc"]),
    ("as", "VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin", None, ["key-1", ""]),
    ("u2", "VARCHAR(20) CHARACTER SET ucs2", "VARCHAR(20)", ["柜a", ""]),
    ("en", "ENUM('a','b,c','é') CHARACTER SET latin1", "ENUM('a','b,c','é')", ["b,c", "é"]),
    ("st", "SET('x','y','z')", None, ["", "x,z"]),
    ("bn", "BINARY(4)", None, [(b"a", b"a\0\0\0"), b"\xff\0\xff\0"]),
    ("vb", "VARBINARY(20)", None, [b"", b"\0\xff,N \0"]),
    ("tb", "TINYBLOB", None, [b"", b"\xff\0"]),
    ("lb", "LONGBLOB", None, [b"\0" * 300000, bytes(range(256))]),
    ("tt", "TINYTEXT CHARACTER SET latin1", "TINYTEXT", ["é", ""]),
    ("tx", "TEXT", None, ["柜" * 10000, "N"]),
    ("lt", "LONGTEXT CHARACTER SET gbk", "LONGTEXT", ["快" * 100000, "a"]),
]
FLOATS: list[tuple[str, str, str | None, list[Any]]] = [
    ("f", "FLOAT", None, [("-1.4e-45", -1.401298464324817e-45), ("0.1", 0.10000000149011612)]),
    ("g", "FLOAT", None, [("3.4028234e38", 3.4028234663852886e38), ("16777217", 16777216.0)]),
    ("d", "DOUBLE", None, [("1e-323", 1e-323), ("4.9406564584124654e-324", 5e-324)]),
    ("e", "DOUBLE", None, [("1.7976931348623157e308", 1.7976931348623157e308), ("0.1", 0.1)]),
    ("k", "DOUBLE(10,2)", None, [("1.25", 1.25), ("-12345678.91", -12345678.91)]),
]  # fmt: skip

KINDS = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "year"), Kind.NUMBER),
    **dict.fromkeys(("date", "datetime", "timestamp", "time"), Kind.CLOCK),
    **dict.fromkeys(("char", "varchar", "enum", "set"), Kind.TEXT),
    **dict.fromkeys(("tinytext", "text", "longtext"), Kind.LARGE_TEXT),
    **dict.fromkeys(("tinyblob", "longblob"), Kind.LARGE_BYTES),
    **dict.fromkeys(("float", "double"), Kind.FLOAT),
    **dict.fromkeys(("binary", "varbinary"), Kind.BYTES),
    "bit": Kind.BITS,
}


def fill(
    lab: Lab, name: str, columns: list[tuple[str, str, str | None, list[Any]]]
) -> tuple[list[Kind], list[list[Value]]]:
    """The table with a row of each column's first value, one of its second, and one of NULLs; and what the model
    takes for them."""
    inserted: list[tuple[Any, ...]] = []
    held: list[list[Value]] = []
    for n in range(2):
        values = [v[n] if isinstance(v[n], tuple) else (v[n], v[n]) for *_, v in columns]
        inserted.append((n, *(given for given, _ in values)))
        held.append([n, *(kept for _, kept in values)])
    inserted.append((2, *[None] * len(columns)))
    held.append([2, *[None] * len(columns)])

    def ddl(target: bool) -> str:
        types = [
            f"`{c}` {(other if target else None) or own}{'' if 'NULL' in own else ' NULL'}"
            for c, own, other, _ in columns
        ]
        return "id INT NOT NULL PRIMARY KEY, " + ", ".join(types)

    lab.table(name, ddl(False), inserted, target_columns=ddl(True))
    kinds = [Kind.NUMBER, *(KINDS[own.split("(")[0].split(" ")[0].lower()] for _, own, *_ in columns)]
    return kinds, held


def check_against_the_model(config: Config, kinds: list[Kind], held: list[list[Value]], hash_name: str) -> None:
    with Readers(config) as readers:
        (pair,) = load(readers)
        assert [kind for _, kind in pair.columns] == kinds
        assert pair.hash.name == hash_name
        sides = [(config.source(t.shard.instance), pair.on_source(t)) for t in pair.merged.shards]
        found: dict[int, str] = {}
        totals = Totals()
        for endpoint, one in sides:
            with connect(endpoint) as session:
                found |= {int(i): _text(t) for i, t in session.query(f"SELECT id, {one.text} FROM {one.table}")}
                totals += one.totals(session)
        whole = pair.on_target()
        with connect(config.target) as session:
            on_target = {int(i): _text(t) for i, t in session.query(f"SELECT id, {whole.text} FROM {whole.table}")}
            target = whole.totals(session)
    inline = [k for k in kinds if not k.client]
    for number, row in enumerate(held):
        values = [v for k, v in zip(kinds, row, strict=True) if not k.client]
        expected = encode(inline, values, hash_name).split(",")
        assert found[number].split(",") == expected
        assert on_target[number].split(",") == expected
    expected_totals = Totals(len(held), sum(digest(kinds, row, hash_name) for row in held))
    assert totals == target == expected_totals


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@pytest.fixture(params=["5.6", "9.7"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    sandbox: Sandbox = request.getfixturevalue("servers" if request.param == "5.6" else "sandbox97")
    lab = Lab(sandbox.sources, sandbox.target, tmp_path, "vt" + request.param.replace(".", ""))
    yield lab
    lab.drop()


def hash_of(lab: Lab) -> str:
    return "MD5" if lab.sources[0].version().startswith("5.6") else "SHA2"


@pytest.mark.parametrize("columns", [LIMITS, FLOATS], ids=["exact", "floats"])
def test_every_type_at_its_limits(lab: Lab, columns: list[tuple[str, str, str | None, list[Any]]]) -> None:
    kinds, held = fill(lab, "types", columns)
    config = lab.config()
    for strong in (False, True):
        result = verify_checksum(config, strong=strong)
        assert result.ok, verify_rows(config).text()
    assert verify_rows(config, full=True).ok
    check_against_the_model(config, kinds, held, hash_of(lab))


@pytest.mark.parametrize(("name", "value"), [("f", "0"), ("d", "5e-324"), ("e", "1.7976931348623155e308")])
def test_the_last_bit_of_a_float_is_compared(servers: Sandbox, tmp_path: Path, name: str, value: str) -> None:
    lab = Lab(servers.sources, servers.target, tmp_path, "vf")
    try:
        fill(lab, "types", FLOATS)
        lab.on_target(f"UPDATE $.types SET `{name}` = {value} WHERE id = 0")
        found = verify_rows(lab.config()).mismatches
        assert [(m.key, m.columns) for m in found] == [({"id": "0"}, (name,))]
    finally:
        lab.drop()


def test_a_negative_zero_that_tidb_cannot_hold_is_told(servers: Sandbox, tmp_path: Path) -> None:
    lab = Lab(servers.sources, servers.target, tmp_path, "vz")
    try:
        lab.table("z", "id INT NOT NULL PRIMARY KEY, d DOUBLE", [(1, "-0"), (2, "0")])
        (found,) = verify_rows(lab.config()).mismatches
        assert (found.key, found.source, found.target_values) == ({"id": "1"}, {"d": "-0.0"}, {"d": "0.0"})
    finally:
        lab.drop()


DOCUMENTS = [
    '{"b": 1, "aa": 1.0, "c": [true, null, "é\\u0000😀/", 0.1, -0.0]}',
    "1e20",
    "18446744073709551615",
    "-9223372036854775808",
    "9007199254740993",
    "1.7976931348623157e308",
    "5e-324",
    '"N"',
    "null",
    "[]",
]


def test_json_is_compared_by_its_content(sandbox97: Sandbox, tmp_path: Path) -> None:
    lab = Lab(sandbox97.sources, sandbox97.target, tmp_path, "vj")
    try:
        rows: list[tuple[Any, ...]] = [(n, d) for n, d in enumerate(DOCUMENTS)]
        lab.table("j", "id INT NOT NULL PRIMARY KEY, j JSON NULL", [*rows, (99, None)])
        lab.table("keyless", "name VARCHAR(9), j JSON NULL, f FLOAT", [("a", d, 0.1) for d in DOCUMENTS])
        config = lab.config()
        assert verify_checksum(config, strong=True).ok, verify_rows(config).text()
        assert verify_rows(config, full=True).ok
        lab.on_target("UPDATE $.j SET j = '9007199254740992' WHERE id = 4", "UPDATE $.j SET j = 'null' WHERE id = 99")
        lab.on_target("DELETE FROM $.keyless WHERE j = CAST('[]' AS JSON)")
        found = verify_rows(config).mismatches
        assert sorted((m.kind, str(m.key)) for m in found) == [
            ("different", "{'id': '4'}"),
            ("different", "{'id': '99'}"),
            ("missing", "None"),
        ]
    finally:
        lab.drop()


def test_generated_columns_are_compared_where_the_target_has_them(sandbox97: Sandbox, tmp_path: Path) -> None:
    lab = Lab(sandbox97.sources, sandbox97.target, tmp_path, "vg")
    try:
        columns = "id INT NOT NULL PRIMARY KEY, twice INT GENERATED ALWAYS AS (id * 2) VIRTUAL"
        lab.table("g", columns)
        lab.table("h", columns, target_columns="id INT NOT NULL PRIMARY KEY")
        for name in ("g", "h"):
            lab.on_shard(0, f"INSERT INTO $.{name}_0 (id) VALUES (1), (2)")
            lab.on_target(f"INSERT INTO $.{name} (id) VALUES (1), (2)")
        assert verify_rows(lab.config(), full=True).ok
    finally:
        lab.drop()


def test_rows_as_long_as_mysql_allows_have_a_digest(lab: Lab) -> None:
    """Close to 65,535 bytes outside blobs: the text must not become NULL, which SUM would skip."""
    columns = "id INT NOT NULL PRIMARY KEY, v VARCHAR(60000) CHARACTER SET latin1, w VARBINARY(5000)"
    row = (1, "ÿ" * 60000, b"\xff" * 5000)
    wide = "id INT NOT NULL PRIMARY KEY, v TEXT, w VARBINARY(5000)"
    lab.table("wide", columns, [row], target_columns=wide.replace("TEXT", "MEDIUMTEXT"))
    assert verify_checksum(lab.config()).ok
    lab.on_target("UPDATE $.wide SET w = CONCAT(LEFT(w, 4999), 'x')")
    (found,) = verify_rows(lab.config()).mismatches
    assert found.columns == ("w",)
