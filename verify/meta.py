"""What verification keeps on the target, in migrate_meta: how its tables are made, and how their texts are read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from migrate.db import Session

NAME = "VARCHAR(64) COLLATE utf8mb4_bin NOT NULL"  # of a migration
TARGET = "target VARCHAR(200) COLLATE utf8mb4_bin NOT NULL"


def make(session: Session, tables: Iterable[str]) -> None:
    """Makes those tables (each as its name and what follows it) where they are missing."""
    session.execute("CREATE DATABASE IF NOT EXISTS migrate_meta CHARSET utf8mb4 COLLATE utf8mb4_bin")
    for table in tables:
        session.execute(f"CREATE TABLE IF NOT EXISTS migrate_meta.{table}")


def as_text(value: Any) -> str:
    """What a server gave, as text."""
    return value.decode() if isinstance(value, bytes) else str(value)
