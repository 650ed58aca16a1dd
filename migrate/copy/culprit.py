"""Finds the row and the columns that a target refuses, by loading ever fewer lines of the refused file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from migrate.copy.rowformat import FIELD
from migrate.copy.rowformat import fields as fields_of
from migrate.db import Session

# What the target says against some lines, loaded into those columns; nothing if it takes them as they are.
Attempt = Callable[[Sequence[bytes], Sequence[str]], list[str]]

SKIPPED = "@skipped"  # as a column of an attempt: read, and not stored
# Optimistic: two workers that search at the same time try the same defaults, and must not wait for each other's locks;
# TiDB would ask for the file once more after such a wait, which no client expects.
_BEGIN = "BEGIN OPTIMISTIC"
_LINE = re.compile(rb"(?:%b)(?:,(?:%b))*\n" % (FIELD, FIELD), re.DOTALL)
_SHOWN = 80


@dataclass(frozen=True)
class Culprit:
    """A row by its number in the file, from 1; its fields by column; the columns at fault; the target's words."""

    number: int
    fields: dict[str, str]
    columns: tuple[str, ...]
    reasons: tuple[str, ...]


def split_lines(data: bytes) -> list[bytes]:
    """The lines of a CSV, each with its end; a field in quotes may hold line ends of its own."""
    return [match[0] for match in _LINE.finditer(data)]


def find_culprit(session: Session, lines: Sequence[bytes], columns: Sequence[str], attempt: Attempt) -> Culprit | None:
    """The first line that the target refuses; None if it takes each of them, and only not all together.

    Inside a transaction of its own, which is rolled back.
    """
    low, high = 0, len(lines)
    session.execute(_BEGIN)
    try:
        while high - low > 1:  # lines before `low` are in, since a row may be refused because of one of them
            middle = (low + high) // 2
            session.execute("SAVEPOINT culprit")
            if attempt(lines[low:middle], columns):
                session.execute("ROLLBACK TO SAVEPOINT culprit")
                high = middle
            else:
                low = middle
        reasons = attempt(lines[low:high], columns)
        if not reasons:
            return None
        session.execute("ROLLBACK")
        session.execute(_BEGIN)
        guilty = [c for i, c in enumerate(columns) if _helps(session, lines[low], columns, i, reasons, attempt)]
        fields = dict(zip(columns, map(_shown, fields_of(lines[low])), strict=False))
        return Culprit(low + 1, fields, tuple(guilty), tuple(reasons))
    finally:
        session.rollback()


def _helps(
    session: Session, line: bytes, columns: Sequence[str], skipped: int, reasons: Sequence[str], attempt: Attempt
) -> bool:
    """Whether the target has less to say against a line without that column."""
    fewer = attempt([line], [*columns[:skipped], SKIPPED, *columns[skipped + 1 :]])
    session.execute("ROLLBACK")
    session.execute(_BEGIN)
    return bool(Counter(map(_without_numbers, reasons)) - Counter(map(_without_numbers, fewer)))


def _without_numbers(reason: str) -> str:
    return re.sub(r"\d+", "", reason)


def _shown(field: bytes) -> str:
    text = field[: 4 * _SHOWN].decode(errors="backslashreplace")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(field)} bytes)"
