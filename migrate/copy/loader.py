"""Writes lines of CSV into a target table, by LOAD DATA LOCAL inside a transaction, and trusts no silence."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from migrate.copy.culprit import SKIPPED, Culprit, find_culprit, split_lines
from migrate.copy.rowformat import RowRefused
from migrate.db import Session
from migrate.errors import ServerError
from migrate.model import Chunk, Target, quote

_COUNTS = re.compile(r"Records: (\d+)\s+Deleted: (\d+)\s+Skipped: (\d+)\s+Warnings: (\d+)")
# A server may have the checks off globally; and every warning counts.
_CHECKED = "SET SESSION tidb_skip_utf8_check = 0, tidb_skip_ascii_check = 0, max_error_count = 65535"
_DUPLICATE = 1062
_SHOWN = 5


def load_lines(
    session: Session,
    target: Target,
    columns: Sequence[str],
    path: Path,
    rows: int,
    origin: Chunk,
    may_skip: Callable[[int], bool],
) -> int:
    """Loads the file's lines inside the session's open transaction; gives the number of rows that were skipped.

    The target must take `rows` rows, each as it is, but for those whose keys or unique values are there already, if
    `may_skip` agrees to so many. RowRefused names table, row, column and the server's reason if it warned, skipped or
    deleted anything else; the transaction is rolled back.
    """
    session.execute(_CHECKED)
    reasons, skipped = _load(session, target, columns, path, rows)
    if not reasons or (skipped and may_skip(skipped)):
        return skipped
    session.rollback()
    raise RowRefused(
        f"{target} would not take the rows of {origin} as they are; the transaction was rolled back\n"
        + "\n".join(_explained(session, target, columns, path) or reasons[:_SHOWN])
    )


def _load(session: Session, target: Target, columns: Sequence[str], path: Path, rows: int) -> tuple[list[str], int]:
    """Loads; gives what the target said against it, or what its counts say, or nothing if all is well; and how many
    rows it skipped, if that is all it did, each for being there already."""
    names = ", ".join(c if c is SKIPPED else quote(c) for c in columns)
    try:
        session.execute(
            f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE {target.sql} CHARACTER SET utf8mb4 "
            "FIELDS TERMINATED BY ',' ENCLOSED BY '\"' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' "
            f"({names})"
        )
    except ServerError as error:
        if type(error) is not ServerError:
            raise
        return [f"{error.message} (error {error.number})"], 0
    counts = _COUNTS.search(session.last_message)
    if counts is None:
        return [f"LOAD DATA gave no counts: {session.last_message!r}"], 0
    records, deleted, skipped, warnings = (int(n) for n in counts.groups())
    if (records, deleted, skipped, warnings) == (rows, 0, 0, 0):
        return [], 0
    said = [(int(number), str(message)) for _, number, message in session.query("SHOW WARNINGS")]
    there = (records, deleted) == (rows, 0) and [n for n, _ in said] == [_DUPLICATE] * warnings and skipped == warnings
    reasons = [message for _, message in said]
    counts_say = f"{rows} sent, {records} read, {skipped} skipped, {deleted} deleted, {warnings} warnings"
    return reasons or [counts_say], skipped if there else 0


def _explained(session: Session, target: Target, columns: Sequence[str], path: Path) -> list[str]:
    """The row and the columns at fault, in lines; nothing if they can't be found."""

    def attempt(lines: Sequence[bytes], into: Sequence[str]) -> list[str]:
        with tempfile.NamedTemporaryFile() as file:
            file.writelines(lines)
            file.flush()
            return _load(session, target, into, Path(file.name), len(lines))[0]

    try:
        culprit = find_culprit(session, split_lines(path.read_bytes()), columns, attempt)
        key = [row[4] for row in session.query(f"SHOW KEYS FROM {target.sql} WHERE Key_name = 'PRIMARY'")]
    except ServerError:
        return []
    return _told(culprit, key) if culprit else []


def _told(culprit: Culprit, key: Sequence[str]) -> list[str]:
    where = ", ".join(f"{c} = {culprit.fields[c]}" for c in key if c in culprit.fields)
    lines = [f"  row {culprit.number} of it{f' ({where})' if where else ''}:"]
    lines += [f"    column {c} = {culprit.fields.get(c)}" for c in culprit.columns]
    return [*lines, *(f"    {reason}" for reason in culprit.reasons[:_SHOWN])]
