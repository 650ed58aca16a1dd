"""What one statement of a shard's binlog does to one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from migrate.model import TableDef

Kind = Literal["create", "alter", "rename", "drop", "truncate", "dml", "unknown"]


@dataclass(frozen=True, slots=True)
class Change:
    """A table that a statement is about, as it stands before and after (None: it doesn't exist, or isn't known).

    `truncate` stands for rows that vanish without row events, `dml` for a statement that changes rows and was logged
    as text, `unknown` for one that can't be read safely (`reason` says why): what the table is like after it isn't
    known. `lost` are the columns of `before` whose values don't live on under their own name: dropped, renamed, or
    dropped and added anew. A `rename` has the new name in `renamed_to`.
    """

    kind: Kind
    schema: str
    table: str
    before: TableDef | None
    after: TableDef | None
    statement: str
    renamed_to: tuple[str, str] | None = None
    lost: tuple[str, ...] = ()
    reason: str = ""
