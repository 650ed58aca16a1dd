"""Tries the target as the application will use it, before it may."""

from __future__ import annotations

from collections.abc import Sequence

from migrate.db import Session
from migrate.errors import NoGo
from migrate.model import MergedTable, quote


def smoke(session: Session, tables: Sequence[MergedTable]) -> str:
    """Locks, deletes and rewrites a row of every target table in a transaction that is rolled back, and commits one in
    migrate_meta. NoGo names what the target refused."""
    tried = 0
    for table in tables:
        columns = ", ".join(quote(c.name) for c in table.definition.stored_columns)
        keys = table.definition.key_columns
        if not keys:
            continue
        where = " AND ".join(f"{quote(c.name)} = %s" for c in keys)
        session.execute("BEGIN PESSIMISTIC")
        try:
            rows = session.query(f"SELECT {columns} FROM {table.target.sql} LIMIT 1 FOR UPDATE")
            if rows:
                names = [c.name for c in table.definition.stored_columns]
                key = [rows[0][names.index(c.name)] for c in keys]
                if session.execute(f"DELETE FROM {table.target.sql} WHERE {where}", key) != 1:
                    raise NoGo(f"smoke: {table.target} doesn't find its own row by its key, {key}")
                marks = ", ".join(["%s"] * len(names))
                session.execute(f"INSERT INTO {table.target.sql} ({columns}) VALUES ({marks})", rows[0])
                tried += 1
        finally:
            session.rollback()
    return f"{tried} of {len(tables)} target tables took a row in a transaction that was rolled back"
