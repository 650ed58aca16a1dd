"""Checks that only the data can answer, in one query a shard: values that wouldn't come out as they went in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from migrate.conversion import made_of
from migrate.copy.rowformat import no_json_text, no_text
from migrate.db import Session
from migrate.misfits import misfits_of
from migrate.model import FLOATS, TEXTS, Column, Interleave, MergedTable, ShardTable, quote
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
    fine = True
    for misfit in misfits_of(session, shard):
        fine = False
        yield failed("mapped_value", f"{shard.shard}.{misfit.source}", str(misfit), "mend the values on the source, or "
                     "the column in [route.columns]")  # fmt: skip
    if not questions:
        return
    answers = session.one(f"SELECT {', '.join(q.sql for q in questions)} FROM {shard.shard.sql}")
    for question, answer in zip(questions, answers, strict=True):
        verdict = question.judge(answer) if answer is not None else None
        if verdict:
            fine = False
            yield failed(question.name, f"{shard.shard}.{question.column}", *verdict)
    if fine:
        yield ok("data", str(shard.shard), f"{len(questions)} questions about its values, all well")


def _questions(table: MergedTable, shard: ShardTable, entry_bytes: int) -> Iterator[_Question]:
    carried = made_of(shard)
    columns = [c for c in shard.physical.stored_columns if c.name in carried]
    for column in columns:
        yield from _of_type(column)
        if column.type in TEXTS and column.charset not in _SAFE:
            yield _round_trip(column)
    for name, step in table.remap(shard.shard).items():
        yield from _reach(shard.definition.column(name), step)
    long = [c for c in columns if c.type in _LONG]
    if long:
        yield _row_size(long, entry_bytes)


def _of_type(column: Column) -> Iterator[_Question]:
    """The values that a type may hold, and TiDB wouldn't. (A TIMESTAMP is a moment or zero, and no other date.)"""
    name = quote(column.name)
    if column.type in FLOATS:
        yield _count("float_value", column, f"{name} = 0 AND LEFT({name}, 1) = '-'", "hold a negative zero, which TiDB "
                     "would store as 0", f"UPDATE .. SET {name} = 0 WHERE {name} = 0")  # fmt: skip
    elif column.type in ("date", "datetime"):
        days = f"DAYOFMONTH({name}) BETWEEN 1 AND DAYOFMONTH(LAST_DAY({name}))"
        wrong = f"DATE({name}) <> 0 AND IFNULL(NOT ({days}), TRUE)"
        yield _count("date_value", column, wrong, "hold a date that doesn't exist, which TiDB would store as "
                     "0000-00-00", f"UPDATE .. SET {name} = a date that exists, or NULL")  # fmt: skip
    elif column.type == "enum":
        yield _count("enum_value", column, f"{name} + 0 = 0", "hold the error value '' of an ENUM, number 0, "
                     "which TiDB doesn't take", f"UPDATE .. SET {name} = one of its members")  # fmt: skip
    elif column.type == "set" and (condition := no_text(column)):
        yield _count("set_value", column, condition, "hold the empty member of a SET, and look as if they didn't",
                     f"UPDATE .. SET {name} = other members")  # fmt: skip
    elif column.type == "json":
        yield _count("json_value", column, no_json_text(name), "hold dates, bytes or long decimals inside JSON, whose "
                     "text is another value", f"UPDATE .. SET {name} = CAST(CAST({name} AS CHAR) AS JSON) makes plain "
                     "text and numbers of them")  # fmt: skip


def _row_size(columns: Sequence[Column], entry_bytes: int) -> _Question:
    """Whether the longest row fits into one entry of TiDB."""

    def judge(value: Any) -> tuple[str, str] | None:
        if int(value) <= entry_bytes:
            return None
        enough = f"SET GLOBAL tidb_txn_entry_size_limit = {int(value) * 2}"
        return f"the longest row has {value} bytes, TiDB takes {entry_bytes}", f"on the target: {enough}"

    size = " + ".join(f"IFNULL(LENGTH({_as_utf8(c)}), 0)" for c in columns)
    return _Question("row_size", ", ".join(c.name for c in columns), f"MAX({size})", judge)


def _as_utf8(column: Column) -> str:
    return quote(column.name) if column.charset is None else f"CONVERT({quote(column.name)} USING utf8mb4)"


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
    """Whether bytes survive decoding and encoding. Through UTF-16, which no half of a surrogate pair survives."""
    name, charset = quote(column.name), column.charset or "utf8mb4"
    via = "utf8mb4" if charset.startswith("utf16") else "utf16"
    back = f"CONVERT(CONVERT({name} USING {via}) USING {charset})"
    lost = f"IFNULL(BINARY {back} <> BINARY {name}, {name} IS NOT NULL)"
    return _count("text_value", column, lost, f"hold bytes that aren't {charset}, and would be others as utf8mb4",
                  "find them (HEX), and mend them on the source")  # fmt: skip
