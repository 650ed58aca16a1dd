"""Which of TiDB's collations stands for a source's, and what that means for comparisons."""

from __future__ import annotations

import re

# What TiDB 8.5 has for utf8mb4. The other charsets it has are not used: every text becomes utf8mb4.
TIDB_COLLATIONS = frozenset({"utf8mb4_bin", "utf8mb4_0900_bin", "utf8mb4_general_ci", "utf8mb4_unicode_ci",
                             "utf8mb4_0900_ai_ci"})  # fmt: skip

NO_PAD = frozenset({"utf8mb4_0900_bin", "utf8mb4_0900_ai_ci"})

# The most bytes of utf8mb4 that one byte of a text in this charset can become.
_GROWTH = {"utf8mb4": 1.0, "utf8mb3": 1.0, "utf8": 1.0, "ascii": 1.0, "gb18030": 1.5, "gbk": 1.5, "gb2312": 1.5,
           "big5": 1.5, "euckr": 1.5, "cp949": 1.5, "utf16": 1.5, "utf16le": 1.5, "ucs2": 1.5,
           "utf32": 1.0}  # fmt: skip
# The most bytes of utf8mb4 that one character of it can become.
_WIDTH = {"ascii": 1, "utf8mb4": 4, "gb18030": 4, "utf16": 4, "utf16le": 4, "utf32": 4}


def target_collation(name: str) -> str:
    """The collation of TiDB that compares most like the given one, and pads like it."""
    wide = re.sub(r"^(utf8mb3|utf8)_", "utf8mb4_", name)
    if wide in TIDB_COLLATIONS:
        return wide
    no_pad = "_0900_" in wide or "nopad" in wide
    if wide.endswith(("_bin", "_cs")):
        return "utf8mb4_0900_bin" if no_pad else "utf8mb4_bin"
    if no_pad:
        return "utf8mb4_0900_ai_ci"
    return "utf8mb4_unicode_ci" if "_520_" in wide or "uca1400" in wide else "utf8mb4_general_ci"


def compares_alike(source: str, target: str) -> bool:
    """Whether the two take the same texts for equal, and sort them alike."""
    return re.sub(r"^(utf8mb3|utf8)_", "utf8mb4_", source) == target


def comparison_change(source: str, target: str) -> str:
    """What the step from one collation to the other means, as half a sentence."""
    if compares_alike(source, target):
        return "compares as before, and takes 4-byte characters"
    if source.endswith("_bin"):
        return "equal stays equal; sorts by Unicode code point"
    if target.endswith("_bin"):
        return "compares byte for byte: what the source held equal may differ now"
    return "accented and non-Latin letters may compare and sort differently; unique keys are checked by scanning them"


def text_growth(charset: str | None) -> float:
    """How much longer, at most, a text gets: bytes of utf8mb4 for each byte of that charset."""
    return _GROWTH.get(charset or "utf8mb4", 3.0)


def char_width(charset: str | None) -> int:
    """The most bytes of utf8mb4 that one character of that charset needs."""
    return _WIDTH.get(charset or "utf8mb4", 3)
