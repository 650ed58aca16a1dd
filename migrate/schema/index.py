"""The indexes of the target: the source's, where TiDB has the like and its keys are not too long."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from migrate.model import BINARIES, TEXTS, Column, Index, TableDef

MAX_KEY_BYTES = 3072  # TiDB's max-index-length
_BYTES = {"tinyint": 1, "smallint": 2, "mediumint": 3, "int": 4, "bigint": 8, "float": 4, "double": 8, "date": 3,
          "year": 1, "time": 6, "timestamp": 7, "datetime": 8, "enum": 2, "set": 8, "bit": 8}  # fmt: skip

Part = tuple[str | None, int | None]


@dataclass(frozen=True)
class TargetIndex:
    """The index as it will be (None: dropped), what changes, and why the table can't be carried with it."""

    index: Index | None
    change: str | None = None
    refusal: str | None = None


def target_index(source: Index, table: TableDef) -> TargetIndex:
    """What becomes of an index over the target's columns."""
    if source.kind not in ("BTREE", "HASH"):
        return TargetIndex(None, f"{source.kind} index {source.name} is dropped: TiDB has none")
    if None in (c for c, _ in source.parts):
        if source.unique:
            return TargetIndex(
                None, refusal=f"unique index {source.name} is over an expression: make it a generated column"
            )
        return TargetIndex(None, f"index {source.name} is over an expression and is dropped: create it after the load")
    sizes = [_part_bytes(table.column(str(c)), p) for c, p in source.parts]
    over = sum(sizes) - MAX_KEY_BYTES
    if over <= 0:
        return TargetIndex(replace(source, kind="BTREE"))
    too_long = f"would be {sum(sizes)} bytes long in utf8mb4, TiDB has at most {MAX_KEY_BYTES}"
    if source.unique:
        return TargetIndex(source, refusal=f"unique index {source.name} {too_long}: shorten its columns on the source")
    longest = sizes.index(max(sizes))
    parts = list(source.parts)
    column = table.column(str(parts[longest][0]))
    width = 4 if column.type in TEXTS else 1
    shorter = (sizes[longest] - over) // width
    if shorter < 1:
        return TargetIndex(None, f"index {source.name} {too_long}, and is dropped")
    parts[longest] = column.name, shorter
    return TargetIndex(
        replace(source, parts=tuple(parts), kind="BTREE"),
        f"index {source.name} {too_long}: it takes the first {shorter} of {column.name} only",
    )


def _part_bytes(column: Column, prefix: int | None) -> int:
    numbers = [int(n) for n in re.findall(r"\d+", column.full_type)] if column.type not in ("enum", "set") else []
    length = prefix or (numbers[0] if numbers else 0)
    if column.type in TEXTS and column.type not in ("enum", "set"):
        return length * 4
    if column.type in BINARIES:
        return length
    return length // 2 + 2 if column.type == "decimal" else _BYTES.get(column.type, 8)
