"""What must hold before the first row is loaded. Preflight says more; this can't be passed by."""

from __future__ import annotations

from collections.abc import Sequence

from migrate.config import Config
from migrate.db import Session
from migrate.errors import NoGo
from migrate.misfits import find_misfits
from migrate.model import MergedTable
from migrate.schema import create_schema, shards_apart


def check_shapes(tables: Sequence[MergedTable]) -> None:
    """NoGo if the shards of a table aren't of one shape: their rows would not mean the same."""
    problems = [problem for table in tables for problem in shards_apart(table)]
    if problems:
        raise NoGo("shards of one table differ; alter them to one shape first:\n  " + "\n  ".join(problems))


def check_target(session: Session, tables: Sequence[MergedTable]) -> None:
    """NoGo if a target table is missing, of another shape, or holds rows already."""
    report = create_schema(session, tables, execute=False)
    missing = [str(schema.target) for schema, state in report.tables if state == "missing"]
    if missing:
        raise NoGo(f"missing on the target: {', '.join(missing)}: run `migrate schema --execute`")
    full = [str(t.target) for t in tables if session.query(f"SELECT 1 FROM {t.target.sql} LIMIT 1")]
    if full:
        raise NoGo(
            f"not empty: {', '.join(full)}: rows that this migration didn't write can't be told from its own; "
            "empty the tables, or route elsewhere"
        )


def check_values(config: Config, tables: Sequence[MergedTable], workers: int) -> None:
    """NoGo if a mapping can't carry some row exactly, by a scan of the mapped shards."""
    misfits = find_misfits(config, tables, workers)
    if misfits:
        lines = "\n  ".join(map(str, misfits[:20]))
        more = f"\n  and {len(misfits) - 20} columns more" if len(misfits) > 20 else ""
        raise NoGo(f"values can't be mapped exactly; mend them, or the route's columns:\n  {lines}{more}")


def check_keys(config: Config, tables: Sequence[MergedTable], workers: int) -> None:
    """NoGo if a primary or unique key stands on two shards, by a scan of the data."""
    from migrate.collisions import find_collisions  # numpy takes a tenth of a second, which an export doesn't need

    collisions = find_collisions(config, tables, workers=workers)
    if collisions:
        lines = "\n  ".join(str(c) for c in collisions[:20])
        more = f"\n  and {len(collisions) - 20} more" if len(collisions) > 20 else ""
        raise NoGo(
            f"{len(collisions)} keys would be lost in the merge:\n  {lines}{more}\n"
            'mend the data, or set key_collision = "interleave" on the route'
        )
