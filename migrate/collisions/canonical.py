"""A key as the target will compare it, computed by the source: SQL expressions for equal keys, equal text."""

from __future__ import annotations

from typing import Literal

from migrate.model import BINARIES, INTEGERS, TEXTS, Column, Index, Interleave, TableDef
from migrate.schema.collation import NO_PAD

Hash = Literal["MD5", "SHA2"]


def canonical(index: Index, target: TableDef, shard: TableDef, remap: dict[str, Interleave]) -> str:
    """The index's key of a row as one ASCII text: two rows have the same exactly if the target takes them for equal.

    `target` is the merged table's shape: its collations decide; `shard` that of the shard's rows: the column may stand
    there under another name. NULLs must be filtered out (`never_null`).
    """
    parts = [_part(shard.column(str(c)).sql, target.column(str(c)), prefix, remap) for c, prefix in index.parts]
    return f"CONCAT_WS(',', {', '.join(parts)})"


def _part(name: str, column: Column, prefix: int | None, remap: dict[str, Interleave]) -> str:
    value = f"LEFT({name}, {prefix})" if prefix else name
    if column.type in BINARIES:
        return f"HEX({value})"
    if column.type in TEXTS and column.type not in ("enum", "set"):
        return _text(value, column.collation or "utf8mb4_bin")
    if column.name in remap:
        step = remap[column.name]
        return f"CAST({name} AS DECIMAL(40,0)) * {1 << step.bits} + {step.number}"
    if column.type == "double":  # bare: MySQL 9.7 rounds a computed one to 22 characters, 5.6 doesn't; -0 equals 0
        return f"IF({name} = 0, '0', {name})"
    if column.type == "float":  # bare it shows six digits only; without its sign the product has 22 characters at most
        return f"SIGN({name}), ABS({name} * 1e0)"
    if column.type in INTEGERS | {"decimal", "bit", "enum", "set", "year"}:
        return f"{name} + 0"  # without the zeros of ZEROFILL; members by their number, as an index has them
    return f"CAST({name} AS CHAR)"


def _text(value: str, collation: str) -> str:
    # TiDB cuts off spaces (U+0020 only, before it looks at weights) and compares weights that are MySQL's, character
    # by character; MySQL pads by weight, so that U+2003 may end a text unseen there, but not here.
    wide = f"CONVERT({value} USING utf8mb4)"
    if collation not in NO_PAD:
        wide = f"RTRIM({wide})"
    if collation.endswith("_bin"):
        return f"HEX({wide})"
    return f"HEX(WEIGHT_STRING({wide} COLLATE {collation}))"


def hashed(expression: str, function: Hash) -> str:
    """64 bits of the hash of a text, as an unsigned number."""
    digest = f"MD5({expression})" if function == "MD5" else f"SHA2({expression}, 256)"
    return f"CAST(CONV(LEFT({digest}, 16), 16, 10) AS UNSIGNED)"  # 5.6 cuts a CONV in a derived table to 16 digits


def never_null(index: Index, shard: TableDef) -> str:
    """The condition that no part of the key is NULL: a unique index takes any number of rows with one."""
    parts = [f"{shard.column(c).sql} IS NOT NULL" for c in index.columns if shard.column(c).nullable]
    return " AND ".join(parts) or "TRUE"


def integer_key(index: Index, target: TableDef) -> Column | None:
    """The index's one column if it is an integer: such keys are compared as they are."""
    if len(index.parts) == 1 and target.column(index.columns[0]).type in INTEGERS:
        return target.column(index.columns[0])
    return None
