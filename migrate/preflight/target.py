"""Checks that the target takes the data: LOAD DATA, tables that are empty or ours, shapes that fit, and room here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from migrate.catalog import read_catalog
from migrate.db import Session
from migrate.model import MergedTable
from migrate.preflight.report import Check, failed, ok, skipped
from migrate.preflight.server import Server
from migrate.schema import differences, target_ddl


def local_infile(server: Server) -> Iterator[Check]:
    """LOAD DATA LOCAL, by which rows come in."""
    if server.variable("local_infile", "ON") == "ON":
        yield ok("local_infile", server.name, "LOAD DATA LOCAL is permitted")
    else:
        yield failed("local_infile", server.name, "LOAD DATA LOCAL is switched off", "SET GLOBAL local_infile = ON")


def begun(session: Session, migration: str) -> bool:
    """Whether rows of this migration may be on the target already, by the toolkit's own record."""
    if not session.query("SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'migrate_meta' "
                         "AND TABLE_NAME = 'chunk'"):  # fmt: skip
        return False
    return bool(session.query("SELECT 1 FROM migrate_meta.chunk WHERE migration = %s LIMIT 1", [migration]))


def target_tables(server: Server, tables: Sequence[MergedTable], resuming: bool) -> Iterator[Check]:
    """Target tables: missing ones will be made; those that stand there must have our shape, and no strange rows."""
    there = {
        str(t.shard).removeprefix("target.").lower(): t.definition
        for t in read_catalog(server.session, "target", sorted({t.target.schema for t in tables}))
    }
    for table in tables:
        name = str(table.target)
        if name.lower() not in there:
            yield ok("target_table", name, "isn't there yet")
            continue
        schema = target_ddl(table)
        apart = differences(schema.definition, there[name.lower()], expressions=False, rebuilt=table.mapped)
        if apart:
            yield failed("target_shape", name, f"stands on the target with another shape: {'; '.join(apart)}",
                         "drop it there, or route to another table; `migrate schema` shows what is meant")  # fmt: skip
        elif resuming:
            yield ok("target_table", name, "is of this migration, which goes on")
        elif server.session.query(f"SELECT 1 FROM {table.target.sql} LIMIT 1"):
            yield failed("target_empty", name, "has rows that this migration didn't bring",
                         "empty it (TRUNCATE TABLE), or route to another table")  # fmt: skip
        else:
            yield ok("target_table", name, "is empty")


def disk(tables: Sequence[MergedTable], folder: Path | None) -> Iterator[Check]:
    """Room for the files of an export."""
    if folder is None:
        yield skipped("disk", "here", "no export folder was named")
        return
    needed = sum(t.data_bytes for m in tables for t in m.shards) * 5 // 4
    existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    message = f"{needed / 2**30:.1f} GiB needed at most, {free / 2**30:.1f} GiB free"
    if needed > free:
        yield failed("disk", str(folder), message, "export to a larger disk, or use `migrate copy`, which needs none")
    else:
        yield ok("disk", str(folder), message)
