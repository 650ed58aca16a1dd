"""Writes lines of CSV into a target table, by LOAD DATA LOCAL inside a transaction, and trusts no silence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from migrate.db import Session
from migrate.errors import MigrateError, ServerError
from migrate.model import Chunk, Target, quote

_COUNTS = re.compile(r"Records: (\d+)\s+Deleted: (\d+)\s+Skipped: (\d+)\s+Warnings: (\d+)")
_ROW = re.compile(r"\bat row (\d+)|\brow (\d+)\b", re.IGNORECASE)
_SHOWN = 5


class RowRefused(MigrateError):
    """The target would have changed, skipped or replaced a row."""


def load_lines(
    session: Session,
    target: Target,
    columns: Sequence[str],
    path: Path,
    rows: int,
    origin: Chunk,
    *,
    head: bool = False,
) -> None:
    """Loads the file's lines (without its first one, if that is a `head`) inside the session's open transaction.

    The target must take `rows` rows, each as it is: RowRefused names table, row and the server's reason if it
    warned, skipped or deleted anything; the caller rolls back.
    """
    try:
        session.execute(
            f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE {target.sql} CHARACTER SET utf8mb4 "
            "FIELDS TERMINATED BY ',' ENCLOSED BY '\"' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' "
            f"{'IGNORE 1 LINES ' if head else ''}({', '.join(quote(c) for c in columns)})"
        )
    except ServerError as error:
        if type(error) is not ServerError:
            raise
        raise RowRefused(f"{target} refuses rows of {origin}: {error.message} (error {error.number})") from None
    counts = _COUNTS.search(session.last_message)
    if counts is None:
        raise RowRefused(f"{target}: LOAD DATA gave no counts: {session.last_message!r}")
    records, deleted, skipped, warnings = (int(n) for n in counts.groups())
    if (records, deleted, skipped, warnings) == (rows, 0, 0, 0):
        return
    said = session.query("SHOW WARNINGS")
    reasons = [f"  {_shorten(str(message))}{_where(str(message), path, head)}" for _, _, message in said[:_SHOWN]]
    raise RowRefused(
        f"{target} would not take the rows of {origin} as they are: {rows} sent, {records} read, {skipped} skipped, "
        f"{deleted} deleted, {warnings} warnings; the transaction was rolled back\n" + "\n".join(reasons)
    )


def _where(message: str, path: Path, head: bool) -> str:
    """The start of the line that a warning speaks of, so that the row can be found by its key."""
    match = _ROW.search(message)
    if not match:
        return ""
    number = int(match[1] or match[2])
    with open(path, "rb") as file:
        line = next(islice(file, number - 1 + head, None), b"")
    return f"\n    row {number}: {_shorten(line.decode(errors='replace').rstrip())}" if line else ""


def _shorten(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else text[:limit] + " …"
