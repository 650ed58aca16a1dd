"""Every type of MySQL 5.6 at its ends and at its oddest: on the target as on the source, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrate.copy.copier import copy
from migrate.copy.exporter import export
from migrate.copy.rowformat import RowRefused
from migrate.sandbox import Sandbox
from tests import fidelity_cases as cases
from tests.fidelity import Case, Way, assert_same, configured, make_keys, make_table, move, read, rows, run

GROUPS = {
    "numbers": cases.NUMBERS,
    "floats": cases.FLOATS,
    "bits": cases.BITS,
    "binaries": cases.BINARIES,
    "times": cases.TIMES,
    "texts": cases.TEXTS,
    "members": cases.MEMBERS,
}
KEYS = {
    "int_signed": Case("INT", ["-2147483648", "-1", "0", "1", "2147483647"]),
    "auto_zero": Case("BIGINT AUTO_INCREMENT", ["0", "-5", "7"]),
    "big_unsigned": Case("BIGINT UNSIGNED", ["0", "1", "9223372036854775807", "9223372036854775808",
    "18446744073709551615"]),
    "decimals": Case("DECIMAL(65,30)", [f"-{'9' * 35}.{'9' * 30}", "0", f"0.{'0' * 29}1", f"{'9' * 35}.{'9' * 30}"]),
    "floats": Case("FLOAT", ["-1", "0", "0.1", "3.4028234663852886e38", "1.401298464324817e-45"]),
    "doubles": Case("DOUBLE", ["-0.1", "0", "4.9406564584124654e-324", "0.1", "0.30000000000000004", "1e308"]),
    "bits": Case("BIT(64)", ["b'0'", "b'1'", f"b'{'1' * 64}'", "0x5C4E", "0x220A"]),
    "binary_8": Case("BINARY(8)", ["''", "X'61'", "X'6100000000000001'", "X'FFFFFFFFFFFFFFFF'", "X'5C4E'"]),
    "varbinary_8": Case("VARBINARY(300)", ["''", "X'00'", "X'0000'", "X'61'", "X'6100'", "X'6120'", cases.EVERY_BYTE]),
    "enums": Case("ENUM('z','a','')", ["1", "2", "3"]),
    "sets": Case("SET('z','a')", ["0", "1", "2", "3"]),
    "years": Case("YEAR", ["0", "1901", "2155"]),
    "dates": Case("DATE", ["'0000-00-00'", "'1000-01-01'", "'9999-12-31'"]),
    "datetimes": Case("DATETIME(6)", ["'0000-00-00'", "'2024-01-01 00:00:00.000001'", "'9999-12-31 23:59:59.999999'"]),
    "timestamps": Case("TIMESTAMP(3)", ["'0000-00-00'", "'1970-01-01 00:00:01'", "'2024-10-27 00:30:00.001'",
                                        "'2024-10-27 01:30:00.001'"]),
    "times": Case("TIME(6)", ["'-838:59:59'", "'-00:00:00.000001'", "'00:00:00'", "'838:59:59'"]),
    "latin": Case("VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_bin", ["''", "_latin1 X'80'", "_latin1 X'81'",
    "'\\\\'"]),
    "wide_bin": Case("VARCHAR(150) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", cases.texts(*sorted({
        t.rstrip(" ") for t in cases.TRICKY}))),
    "wide_ci": Case("VARCHAR(150) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", cases.texts("", "a", "B", "中",
    "😀", "\\N")),
    "gbk": Case("CHAR(9) CHARACTER SET gbk COLLATE gbk_bin", ["''", "_gbk X'815C'", "_gbk X'CEC4'"]),
}  # fmt: skip


@pytest.mark.parametrize("way", ["copy", "files", "zstd"])
def test_every_value_arrives(servers: Sandbox, tmp_path: Path, way: Way) -> None:
    schema = f"types_{way}"
    source = servers.sources[0]
    for table, group in GROUPS.items():
        make_table(source, schema, table, group)
    move(configured(tmp_path, servers.sources, servers.target, schema), way, tmp_path)
    for table, group in GROUPS.items():
        assert_same(source, servers.target, schema, table, group)


@pytest.mark.parametrize("way", ["copy", "files"])
def test_every_type_arrives_as_a_key(servers: Sandbox, tmp_path: Path, way: Way) -> None:
    schema = f"keys_{way}"
    source = servers.sources[0]
    make_keys(source, schema, KEYS)
    move(configured(tmp_path, servers.sources, servers.target, schema), way, tmp_path)
    for table, case in KEYS.items():
        assert_same(source, servers.target, schema, table)
        assert len(read(servers.target, schema, table)) == len(case.literals), table


@pytest.mark.parametrize(("kind", "literal", "words"), cases.REFUSED, ids=[f"{k} {v}" for k, v, _ in cases.REFUSED])
def test_what_the_target_cannot_hold_is_refused_by_table_row_and_column(
    servers: Sandbox, tmp_path: Path, kind: str, literal: str, words: str
) -> None:
    schema = f"refused_{cases.REFUSED.index((kind, literal, words))}"
    make_table(servers.sources[0], schema, "t", [Case("VARCHAR(9)", ["'a\nb'", "'good'", "'\\\\'", "'bad'"])])
    name = f"`{schema}`.`t`"
    run(servers.sources[0], f"ALTER TABLE {name} ADD odd {kind}", f"UPDATE {name} SET odd = {literal} WHERE id = 3")
    config = configured(tmp_path, servers.sources[:1], servers.target, schema)
    with pytest.raises(RowRefused) as refused:
        move(config, "copy", tmp_path)
    told = str(refused.value)
    assert f"`{schema}`.`t`" in told or f"{schema}.t would not take" in told
    assert "row 4 of it (id = 3)" in told and "column odd" in told and words in told
    assert not rows(servers.target, f"SELECT 1 FROM {name}")
    run(servers.sources[0], f"DELETE FROM {name} WHERE id = 3")
    copy(config, 1)  # mended on the source, the same migration goes on
    assert_same(servers.sources[0], servers.target, schema, "t")


def test_an_export_holds_nothing_that_other_loaders_would_change(servers: Sandbox, tmp_path: Path) -> None:
    schema = "export_refused"
    make_table(servers.sources[0], schema, "t", [Case("DOUBLE", ["1", "-0e0"])])
    config, out = configured(tmp_path, servers.sources[:1], servers.target, schema), tmp_path / "out"
    with pytest.raises(RowRefused, match=r"(?s)`t`.*row 2 of it \(id = 1\).*column c0_null: it is a negative zero"):
        export(config, out, 1)
    assert not list(out.glob("*.csv")) and not (out / "manifest.json").exists()
