"""Two rows that the target takes for one, by a collation that isn't their shards': neither may take the other's
place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from migrate.conversion import source_of
from migrate.copy.culprit import split_lines
from migrate.copy.job import ShardJob
from migrate.copy.rowformat import fields
from migrate.db import Session
from migrate.model import BINARIES, INTEGERS, Column, Index, TableDef, literal, quote

Texts = tuple[str, ...]
_BARE = INTEGERS | {"decimal", "year"}
_ROWS = 1000  # in one statement


def may_fold(definition: TableDef) -> list[Index]:
    """The unique indexes whose values the target may take for equal where the shard doesn't."""
    return [
        index
        for index in definition.unique_indexes
        if all(column is not None and prefix is None for column, prefix in index.parts)
        and any(definition.column(name).charset not in (None, "binary") for name in index.columns)
    ]


def unlike(source: Session, columns: Sequence[Column], ours: Texts, theirs: Texts) -> bool:
    """Whether values that the target takes for equal are two for the source, by the collations of its columns."""
    for column, mine, other in zip(columns, ours, theirs, strict=True):
        if mine == other or column.charset in (None, "binary"):
            continue
        made_of = source_of(column)
        if made_of is None or made_of.charset is None:
            return True
        one, two = (
            f"CONVERT(_utf8mb4 X'{text.encode().hex()}' USING {made_of.charset}) COLLATE {made_of.collation}"
            for text in (mine, other)
        )
        if not source.value(f"SELECT {one} = {two}"):
            return True
    return False


def twin(target: Session, source: Session, job: ShardJob, lines: Path) -> str:
    """In words: a row of a file of lines that the target, which has skipped it, takes for another one that its own
    source tells from it; '' if there is none."""
    definition, columns = job.table.definition, job.select.columns
    rows = [_texts(line) for line in split_lines(lines.read_bytes())]
    for index in may_fold(definition):
        places = [columns.index(definition.column(name).name) for name in index.columns]
        parts = [definition.column(name) for name in index.columns]
        for row in _absent(target, job, parts, places, rows):
            ours = tuple(str(row[place]) for place in places)
            found = _holder(target, job, definition, parts, ours)
            if found and unlike(source, parts, ours, found[0]):
                names = [columns.index(c.name) for c in definition.key_columns]
                key = ", ".join(str(row[place]) for place in names)
                shown = ", ".join(index.columns)
                return (
                    f"key {key} of {job.table.shard} has {shown} = {', '.join(ours)}, and key {found[1]}, which came "
                    f"before it, {shown} = {', '.join(found[0])}: they are two for their shards, and one for the "
                    "target's collation"
                )
    return ""


def _absent(
    target: Session, job: ShardJob, parts: Sequence[Column], places: Sequence[int], rows: Sequence[Sequence[str | None]]
) -> list[Sequence[str | None]]:
    """The rows whose values aren't on the target exactly as they are."""
    names = ", ".join(quote(c.name) for c in parts)
    absent, waiting = [], (row for row in rows if all(row[place] is not None for place in places))
    while some := list(islice(waiting, _ROWS)):
        values = ", ".join(sql_values(parts, [row[place] for place in places]) for row in some)
        there = {
            tuple(map(str, found))
            for found in target.query(f"SELECT {names} FROM {job.into.sql} WHERE ({names}) IN ({values})")
        }
        absent += [row for row in some if tuple(str(row[place]) for place in places) not in there]
    return absent


def _holder(
    target: Session, job: ShardJob, definition: TableDef, parts: Sequence[Column], ours: Texts
) -> tuple[Texts, str] | None:
    """The values that the target takes for these, and the key of their row."""
    names = ", ".join(quote(c.name) for c in parts)
    keys = ", ".join(quote(c.name) for c in definition.key_columns)
    found = target.query(
        f"SELECT {names}, {keys} FROM {job.into.sql} WHERE ({names}) = ({sql_values(parts, ours)}) LIMIT 1"
    )
    if not found:
        return None
    return tuple(map(str, found[0][: len(parts)])), ", ".join(map(str, found[0][len(parts) :]))


def sql_values(parts: Sequence[Column], texts: Sequence[str | None]) -> str:
    """Values as literals, in parentheses if they are several. None of them is NULL."""
    found = []
    for column, text in zip(parts, texts, strict=True):
        assert text is not None
        if column.type in _BARE:
            found.append(text)
        else:
            found.append(
                f"X'{text.encode(errors='surrogateescape').hex()}'" if column.type in BINARIES else literal(text)
            )
    return found[0] if len(found) == 1 else f"({', '.join(found)})"


def _texts(line: bytes) -> list[str | None]:
    """The values of a line, None for NULL."""
    return [None if field == b"\\N" else _text(field) for field in fields(line)]


def _text(field: bytes) -> str:
    if field[:1] == b'"':
        field = re.sub(rb"\\(.)", rb"\1", field[1:-1], flags=re.DOTALL)
    return field.decode(errors="surrogateescape")  # of bytes that are no text, something that no text is
