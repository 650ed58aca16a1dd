"""Checks that only the data can answer, in one query a shard: values that wouldn't come out as they went in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from migrate.db import Session
from migrate.model import TEXTS, Column, Interleave, MergedTable, ShardTable, quote
from migrate.preflight.report import Check, failed, ok

ENTRY_BYTES = 6 << 20  # the txn-entry-size-limit of TiDB's config, unless a variable overrules it
_LONG = frozenset({"mediumtext", "longtext", "mediumblob", "longblob", "json"})

# Every byte of these is a character, so that nothing in them can be lost.
_SAFE = frozenset({"latin1", "binary"})


@dataclass(frozen=True)
class _Question:
    """An aggregate of a shard, and what its value says: a sentence and its remedy, or None if all is well."""

    name: str
    column: str
    sql: str
    judge: Callable[[Any], tuple[str, str] | None]


def scan_shard(session: Session, table: MergedTable, shard: ShardTable, entry_bytes: int) -> Iterator[Check]:
    """Reads one shard once, whole. A check for each thing that is wrong, with its column; one if all is well.

    `entry_bytes`: the longest row that the target takes.
    """
    questions = list(_questions(table, shard, entry_bytes))
    if not questions:
        return
    answers = session.one(f"SELECT {', '.join(q.sql for q in questions)} FROM {shard.shard.sql}")
    fine = True
    for question, answer in zip(questions, answers, strict=True):
        verdict = question.judge(answer) if answer is not None else None
        if verdict:
            fine = False
            yield failed(question.name, f"{shard.shard}.{question.column}", *verdict)
    if fine:
        yield ok("data", str(shard.shard), f"{len(questions)} questions about its values, all well")


def _questions(table: MergedTable, shard: ShardTable, entry_bytes: int) -> Iterator[_Question]:
    columns = shard.definition.stored_columns
    for column in columns:
        name = quote(column.name)
        if column.type == "enum":
            yield _count("enum_value", column, f"{name} + 0 = 0", "hold the error value '' of an ENUM, number 0, "
                         "which TiDB doesn't take", f"UPDATE .. SET {name} = one of its members")  # fmt: skip
        elif column.type in TEXTS - {"set"} and column.charset not in _SAFE:
            yield _round_trip(column)
        elif column.type == "json":
            condition = f"CAST({name} AS CHAR) LIKE '%base64:type%'"
            yield _count("json_value", column, condition, "hold binary parts inside JSON, which only travel as text",
                         "store them as text or in a column of their own")  # fmt: skip
    for name, step in table.remap(shard.shard).items():
        yield from _reach(shard.definition.column(name), step)
    long = [c for c in columns if c.type in _LONG]
    if long:
        yield _row_size(long, entry_bytes)


def _row_size(columns: Sequence[Column], entry_bytes: int) -> _Question:
    """Whether the longest row fits into one entry of TiDB."""

    def judge(value: Any) -> tuple[str, str] | None:
        if int(value) <= entry_bytes:
            return None
        enough = f"SET GLOBAL tidb_txn_entry_size_limit = {int(value) * 2}"
        return f"the longest row has {value} bytes, TiDB takes {entry_bytes}", f"on the target: {enough}"

    size = " + ".join(f"IFNULL(LENGTH({quote(c.name)}), 0)" for c in columns)
    return _Question("row_size", ", ".join(c.name for c in columns), f"MAX({size})", judge)


def _reach(column: Column, step: Interleave) -> Iterator[_Question]:
    """Whether the interleaved values stay within 64 bits, at both ends."""
    low, high = (0, 2**64 - 1) if column.unsigned else (-(2**63), 2**63 - 1)

    def judge(value: Any) -> tuple[str, str] | None:
        moved = int(value) * 2**step.bits + step.number
        if low <= moved <= high:
            return None
        remedy = "use key_collision = 'error' for this route, or renumber the rows"
        return f"interleaved, {value} becomes {moved}, beyond BIGINT", remedy

    for end in ("MIN", "MAX"):
        yield _Question("interleave_range", column.name, f"{end}({quote(column.name)})", judge)


def _count(name: str, column: Column, condition: str, message: str, remedy: str) -> _Question:
    return _Question(
        name,
        column.name,
        f"SUM({condition})",
        lambda rows: (f"{int(rows)} rows {message}", remedy) if rows else None,
    )


def _round_trip(column: Column) -> _Question:
    """Whether bytes survive decoding and encoding: through utf8mb4, or where it is that, through UTF-32."""
    name, charset = quote(column.name), column.charset or "utf8mb4"
    via = "utf32" if charset in ("utf8", "utf8mb3", "utf8mb4") else "utf8mb4"
    back = f"CONVERT(CONVERT({name} USING {via}) USING {charset})"
    return _count("text_value", column, f"BINARY {back} <> BINARY {name}", f"hold bytes that aren't {charset}, and "
                  "would be others as utf8mb4", "find them (HEX), and mend them on the source")  # fmt: skip
