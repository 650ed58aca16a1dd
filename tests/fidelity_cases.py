"""The values of the matrix, by type: minimum, maximum, zero, empty, and what has been known to break."""

from __future__ import annotations

from tests.fidelity import Case

EVERY_BYTE = f"X'{bytes(range(256)).hex()}'"
# Looks like NULL, like an escape, like the end of a field or of a line.
TRICKY = ("\\N", "NULL", "N", "\\", "\\\\", "a\\", '"', '""', '\\"', "'", ",", '","', "\t", "\r", "\n", "\r\n",
    "\n\n", "\0",
          "\x1a", "\\0", "\\n", "a\nb", " ", "a ", " a", "", '\n"', "\\N\n", "中文", "ÿþ")  # fmt: skip


def literal(value: str, charset: str = "utf8mb4") -> str:
    """The text as a literal that no sql_mode can misread."""
    return f"_utf8mb4 X'{value.encode().hex()}'" if value else "''"


def texts(*values: str) -> list[str]:
    return [literal(v) for v in values]


def _integers() -> list[Case]:
    found = []
    for name, bits in (("TINYINT", 8), ("SMALLINT", 16), ("MEDIUMINT", 24), ("INT", 32), ("BIGINT", 64)):
        found.append(Case(name, [str(v) for v in (-(2 ** (bits - 1)), -1, 0, 1, 2 ** (bits - 1) - 1)]))
        found.append(Case(f"{name} UNSIGNED", [str(v) for v in (0, 1, 2 ** (bits - 1), 2**bits - 1)]))
    return found


NUMBERS = [
    *_integers(),
    Case("TINYINT(1)", ["0", "1", "-128", "127"]),
    Case("INT(6) ZEROFILL", ["0", "42", "4294967295"]),
    Case("DECIMAL(65,30)", ["0", f"{'9' * 35}.{'9' * 30}", f"-{'9' * 35}.{'9' * 30}", f"0.{'0' * 29}1",
                            f"-0.{'0' * 29}1"]),
    Case("DECIMAL(65,0)", ["9" * 65, "-" + "9" * 65, "0"]),
    Case("DECIMAL(20,4) UNSIGNED", ["0", "9999999999999999.9999", "0.0001"]),
    Case("DECIMAL(10,2) ZEROFILL", ["0", "1.50", "99999999.99"]),
    Case("DECIMAL(30,30)", [f"0.{'9' * 30}", f"-0.{'9' * 30}", "0"]),
    Case("DECIMAL", ["1", "-9999999999"]),
]  # fmt: skip

FLOATS = [
    Case("FLOAT", ["0", "1", "0.1", "-0.1", "3.4028234663852886e38", "-3.4028234663852886e38", "1.17549435e-38",
                   "1.401298464324817e-45", "1e-40", "16777217", "123456.789", "1e30", "3.3333333"]),
    Case("FLOAT(10,2)", ["0", "12345.67", "-99999.99", "0.01"]),
    Case("FLOAT UNSIGNED", ["0", "0.1", "3.4028234663852886e38"]),
    Case("DOUBLE", ["0", "1", "0.1", "-0.1", "1.7976931348623157e308", "-1.7976931348623157e308",
                    "2.2250738585072014e-308", "4.9406564584124654e-324", "1e-310", "9007199254740993",
                    "0.30000000000000004",
                    "1e22", "1e23", "123456789.123456789", "5e-324", "1e15", "1e16", "1e17", "1.5e300"]),
    Case("DOUBLE(20,5)", ["0", "123456789.12345", "-0.00001"]),
    Case("REAL", ["0.1", "1e100"]),
]  # fmt: skip

BITS = [Case(f"BIT({n})", [f"b'{'1' * n}'", "b'0'", f"b'1{'0' * (n - 1)}'", "b'1'"]) for n in range(1, 65)]

BINARIES = [
    Case("BINARY(1)", ["X'00'", "X'FF'", "X'20'", "X'5C'", "X'22'", "X'0A'"]),
    Case("BINARY(8)", ["X'0000000000000000'", "X'6100000000000000'", "X'61'", "X'2020'", "''", "X'FFFFFFFFFFFFFFFF'"]),
    Case("BINARY(255)", ["''", f"X'{bytes(range(255)).hex()}'", f"X'{bytes(range(1, 256)).hex()}'"]),
    *(Case(kind, ["''", EVERY_BYTE, "X'00'", "X'6100'", "X'5C4E'", "X'22'", "X'5C'", "X'5C22'", "X'0D0A'", "X'1A'",
                  "X'C3'", "X'FFFE'", "X'EDA080'", "X'F0908080'", "X'C080'", "X'20'", "X'6120'", "'中文'"])
      for kind in ("VARBINARY(512)", "BLOB", "MEDIUMBLOB", "LONGBLOB")),
    Case("TINYBLOB", ["''", f"X'{'FF' * 255}'", f"X'{'00' * 255}'", f"X'{'5C' * 255}'"]),
]  # fmt: skip

TIMES = [
    Case("YEAR", ["0", "1901", "2155", "2000", "1999"]),
    Case("DATE", ["'0000-00-00'", "'1000-01-01'", "'9999-12-31'", "'2024-02-29'", "'0000-05-01'",
                  "'0001-01-01'"]),
    Case("DATETIME", ["'0000-00-00 00:00:00'", "'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'",
                      "'2024-03-31 02:30:00'"]),
    Case("DATETIME(6)", ["'0000-00-00 00:00:00.000000'", "'9999-12-31 23:59:59.999999'", "'2024-01-01 00:00:00.000001'",
                         "'2024-01-01 00:00:00'"]),
    Case("DATETIME(3)", ["'2024-01-01 00:00:00.001'", "'2024-12-31 23:59:59.999'"]),
    Case("TIMESTAMP", ["'0000-00-00 00:00:00'", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'",
                       "'2024-10-27 00:30:00'",
                       "'2024-10-27 01:30:00'", "'2024-11-03 05:30:00'", "'2024-11-03 06:30:00'",
                       "'2024-03-31 01:30:00'"]),
    Case("TIMESTAMP(6)", ["'0000-00-00 00:00:00'", "'1970-01-01 00:00:01.000000'", "'2038-01-19 03:14:07.999999'",
                          "'2024-10-27 01:30:00.000001'"]),
    Case("TIME", ["'00:00:00'", "'-838:59:59'", "'838:59:59'", "'-00:00:01'", "'24:00:00'", "'23:59:59'"]),
    Case("TIME(6)", ["'00:00:00'", "'-838:59:58.999999'", "'838:59:58.999999'", "'-00:00:00.000001'", "'100:00:00.5'"]),
    Case("TIME(2)", ["'-12:00:00.25'", "'12:00:00.99'"]),
]  # fmt: skip

_LATIN = f"_latin1 X'{bytes(range(256)).hex()}'"
TEXTS = [
    *(Case(f"{kind} CHARACTER SET utf8mb4", texts(*TRICKY, "😀", "e\u0301", "\U0010ffff", "\u2028", "\ufeffx", "ÿ"))
      for kind in ("VARCHAR(80)", "TINYTEXT", "TEXT", "MEDIUMTEXT", "LONGTEXT")),
    Case("CHAR(20) CHARACTER SET utf8mb4", texts(*TRICKY)),
    Case("VARCHAR(80) CHARACTER SET utf8", texts(*TRICKY, "\uffff")),
    Case("VARCHAR(80) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", texts(*TRICKY)),
    Case("VARCHAR(80) CHARACTER SET ascii", texts(*(t for t in TRICKY if t.isascii()))),
    Case("VARCHAR(300) CHARACTER SET latin1", [_LATIN, "_latin1 X'80'", "_latin1 X'81'", "_latin1 X'FF'",
                                               "_latin1 X'8D8F909D'",
                                              *texts(*(t for t in TRICKY if all(ord(c) < 256 for c in t)))]),
    Case("CHAR(5) CHARACTER SET latin1", ["_latin1 X'81'", "_latin1 X'A0'", "_latin1 X'80'", "''"]),
    Case("TEXT CHARACTER SET latin1", [_LATIN, "''"]),
    Case("VARCHAR(80) CHARACTER SET gbk", ["_gbk X'815C'", "_gbk X'C5845C'", "_gbk X'A1A1'", "_gbk X'D6D0CEC4'",
                                          "_gbk X'BF5C'", *texts(*(t for t in TRICKY if t != "ÿþ"))]),
    Case("TEXT CHARACTER SET gbk", ["_gbk X'815C'", "_gbk X'CEC4'"]),
    Case("VARCHAR(20) CHARACTER SET ucs2", texts("a", "中", "\\N")),
    Case("VARCHAR(20) CHARACTER SET utf16", texts("a", "😀")),
    Case("VARCHAR(20) CHARACTER SET binary", [EVERY_BYTE[:40] + "'", "X'815C'"]),
]  # fmt: skip

MEMBERS = [
    Case("ENUM('b','a','')", ["'a'", "'b'", "''", "1", "2", "3"]),
    Case("ENUM('\\\\','\"',',','N','NULL','x''y','\\\\N')", ["1", "2", "3", "4", "5", "6", "7"]),
    Case("ENUM('ä','中','é') CHARACTER SET utf8mb4", ["1", "2", "3"]),
    Case("ENUM('1','0','2')", ["1", "2", "3"]),
    Case("ENUM('ä','ö') CHARACTER SET latin1", ["1", "2"]),
    Case(f"ENUM({','.join(repr(f'm{i}') for i in range(300))})", ["1", "256", "300"]),
    Case("SET('b','a')", ["''", "'a'", "'b'", "'a,b'", "3"]),
    Case("SET('','a')", ["0", "2"]),
    Case(f"SET({','.join(repr(f'm{i}') for i in range(64))})", ["0", "1", "9223372036854775808",
                                                                "18446744073709551615"]),
    Case("SET('\\\\','\"','N')", ["0", "1", "2", "3", "4", "7"]),
    Case("SET('ä','ö') CHARACTER SET latin1", ["1", "2", "3"]),
]  # fmt: skip

# What TiDB can't hold: the type, the literal, and what the refusal says of it.
REFUSED = [
    ("FLOAT", "-0e0", "negative zero"),
    ("DOUBLE", "-0e0", "negative zero"),
    ("DATE", "'2024-00-00'", "2024-00-00"),
    ("DATE", "'2024-05-00'", "2024-05-00"),
    ("DATE", "'2023-02-31'", "2023-02-31"),
    ("DATETIME", "'2024-05-00 10:11:12'", "2024-05-00 10:11:12"),
    ("DATETIME(6)", "'2023-02-31 23:00:00'", "2023-02-31 23:00:00"),
    ("ENUM('b','a')", "'no member'", "Data truncated"),
    ("ENUM('b','a','')", "'no member'", "not to be told from its empty member"),
    ("ENUM('0','1')", "'no member'", "Data truncated"),
    ("SET('','a')", "1", "not to be told from its empty member"),
    ("SET('','a')", "3", "not to be told from its empty member"),
    ("ENUM('b','😀')", "2", "Data truncated"),
    ("VARCHAR(9) CHARACTER SET gbk", "_gbk X'FEA0'", "FEA0"),
    ("TEXT CHARACTER SET gbk", "_gbk X'61FEA0'", "61FEA0"),
    ("VARCHAR(9) CHARACTER SET ucs2", "_ucs2 X'D800'", "EDA080"),
]
