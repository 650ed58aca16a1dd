"""One column of the target: the source's, as TiDB can hold it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace

from migrate.model import BINARIES, FLOATS, INTEGERS, SPATIAL, TEXTS, Column
from migrate.schema.collation import char_width, target_collation, text_growth
from migrate.schema.expression import target_default, target_expression

MAX_VARCHAR = 16383  # characters of utf8mb4
_TEXT_BYTES = {"tinytext": 255, "text": 65535, "mediumtext": 2**24 - 1, "longtext": 2**32 - 1}
_KNOWN = INTEGERS | TEXTS | BINARIES | {"decimal", "float", "double", "bit", "date", "datetime", "timestamp", "time",
                                        "year", "json"}  # fmt: skip


@dataclass(frozen=True)
class TargetColumn:
    """The column as it will be, what changes (sentences without the column's name), and why it can't be carried."""

    column: Column
    changes: tuple[str, ...] = ()
    refusal: str | None = None


def target_column(source: Column, *, interleaved: bool, bytes_change: bool) -> TargetColumn:
    """What becomes of a column. `interleaved`: its values are remapped, so it must hold 64 bits."""
    if source.type in SPATIAL or source.type not in _KNOWN:
        return TargetColumn(source, refusal=f"TiDB has no type like {source.full_type}")
    if source.full_type.lower() == "year(2)":
        return TargetColumn(source, refusal="YEAR(2) holds two digits only; make it YEAR on the source")
    if source.name.lower() == "_tidb_rowid":
        return TargetColumn(source, refusal="TiDB keeps this name for itself")
    changes: list[str] = []
    column = _numbers(source, interleaved, changes)
    if source.type in TEXTS:
        column = _texts(source, changes)
    if source.invisible:
        column = replace(column, invisible=False)
        changes.append("becomes visible, TiDB has no invisible columns: SELECT * shows it")
    if source.auto_increment:
        changes.append("AUTO_INCREMENT counts on from the highest merged value: re-seed it at cutover")
    refusal = None
    if source.generated is not None:
        expression, refusal = target_expression(source, bytes_change)
        column = replace(column, generated=expression)
        if refusal:
            refusal = f"it is generated as {expression}, and {refusal}"
    default, is_expression, dropped = target_default(column)
    if dropped:
        changes.append(dropped)
    if column.on_update:
        column = replace(column, on_update=column.on_update.replace("()", ""))
    return TargetColumn(replace(column, default=default, default_is_expression=is_expression), tuple(changes), refusal)


def _numbers(source: Column, interleaved: bool, changes: list[str]) -> Column:
    full = source.full_type.lower() if source.type not in TEXTS else source.full_type
    if "zerofill" in full:
        full = full.replace(" zerofill", "")
        changes.append("ZEROFILL is dropped: the same number, without the zeros that the server shows before it")
    if source.type in INTEGERS:
        one_bit = full == "tinyint(1)"  # drivers take it for a boolean
        full = full if one_bit else re.sub(r"\(\d+\)", "", full)
    if source.type == "year":
        full = "year"
    if source.type in FLOATS and "(" in full:
        full = re.sub(r"\(.*\)", "", full)
        changes.append(
            f"{source.full_type} becomes {full}: TiDB would round to its digits what the source holds unrounded"
        )
    if interleaved and source.type != "bigint":
        wide = "bigint unsigned" if source.unsigned else "bigint"
        changes.append(f"{full} becomes {wide}: its interleaved values need the room")
        return replace(source, type="bigint", full_type=wide)
    return replace(source, full_type=full)


def _texts(source: Column, changes: list[str]) -> Column:
    kind, full = source.type, source.full_type
    if kind == "varchar":
        length = int(re.findall(r"\d+", full)[0])
        if length > MAX_VARCHAR:
            kind = full = _roomy(length * char_width(source.charset))
            changes.append(f"{source.full_type} becomes {kind}: utf8mb4 has at most varchar({MAX_VARCHAR})")
    elif kind in _TEXT_BYTES:
        kind = full = _roomy(int(_TEXT_BYTES[kind] * text_growth(source.charset)))
        if kind != source.type:
            changes.append(f"{source.type} becomes {kind}: its limit is in bytes, and utf8mb4 takes more of them")
    collation = target_collation(source.collation or "utf8mb4_bin")
    if kind in ("enum", "set") and collation.endswith("_ci") and _alike(full):
        collation = "utf8mb4_bin"
    return replace(source, type=kind, full_type=full, charset="utf8mb4", collation=collation)


def _roomy(length: int) -> str:
    return next((kind for kind, limit in _TEXT_BYTES.items() if length <= limit), "longtext")


def members(full_type: str) -> tuple[str, ...]:
    """The members of an ENUM or SET, in order, of its type as information_schema writes it."""
    found = re.findall(r"'((?:[^'\\]|''|\\.)*)'", full_type, re.DOTALL)
    names = {"0": "\0", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}
    return tuple(
        re.sub(r"''|\\(.)", lambda m: "'" if m[0] == "''" else names.get(m[1], m[1]), text, flags=re.DOTALL)
        for text in found
    )


def _alike(full_type: str) -> bool:
    """Whether two members might be equal in a case- and accent-insensitive collation, which TiDB refuses."""
    folded = [
        "".join(c for c in unicodedata.normalize("NFKD", m) if not unicodedata.combining(c)).casefold().rstrip()
        for m in members(full_type)
    ]
    return len(set(folded)) < len(folded)
