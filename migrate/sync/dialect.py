"""What a server takes for granted in a DDL statement that doesn't say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from migrate.db import Session


@dataclass(frozen=True)
class Dialect:
    """A server's version and defaults. `collations` gives the charset of each, `charsets` (default collation, bytes
    of its longest character), `databases` the default collation of each database."""

    version: int  # 50624, 90700, as versioned comments have it
    mariadb: bool = False
    explicit_timestamps: bool = True
    fold_names: bool = False
    engine: str = "InnoDB"
    default_collation: str = "utf8mb4_0900_ai_ci"
    charsets: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    collations: Mapping[str, str] = field(default_factory=dict)
    databases: Mapping[str, str] = field(default_factory=dict)

    def name(self, schema: str, table: str) -> tuple[str, str]:
        """What equal names of a table have in common on this server."""
        return (schema.lower(), table.lower()) if self.fold_names else (schema, table)

    def charset(self, name: str) -> str:
        """The charset as this server calls it: utf8 is utf8mb3 on newer ones. KeyError if it has none like it."""
        name = name.lower()
        other = {"utf8": "utf8mb3", "utf8mb3": "utf8"}.get(name, name)
        return name if name in self.charsets else other if other in self.charsets else _missing(name)

    def collation(self, name: str) -> str:
        """The collation as this server calls it. KeyError if it has none like it."""
        name = name.lower()
        other = re.sub(r"^utf8_", "utf8mb3_", name)
        other = re.sub(r"^utf8mb3_", "utf8_", name) if other == name else other
        return name if name in self.collations else other if other in self.collations else _missing(name)

    def runs(self, number: int) -> bool:
        """Whether the server runs what stands in a comment of that version, /*!50100 .. */; 0 for /*! .. */."""
        if self.mariadb and 50700 <= number <= 50999:
            return False
        return number <= self.version


def _missing(name: str) -> str:
    raise KeyError(name)


def read_dialect(session: Session) -> Dialect:
    """What the server behind the session takes for granted now."""
    text = str(session.value("SELECT VERSION()"))
    numbers = [int(n) for n in re.findall(r"\d+", text)[:3]]
    settings = {
        str(name): str(value)
        for name, value in session.query(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('explicit_defaults_for_timestamp', "
            "'lower_case_table_names', 'default_storage_engine', 'collation_server')"
        )
    }
    collations = {str(r[0]): str(r[1]) for r in session.query("SHOW COLLATION") if r[1]}
    charsets = {str(r[0]): (str(r[2]), int(r[3])) for r in session.query("SHOW CHARACTER SET")}
    databases = session.query("SELECT SCHEMA_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA")
    return Dialect(
        version=numbers[0] * 10000 + numbers[1] * 100 + numbers[2],
        mariadb="MariaDB" in text,
        explicit_timestamps=settings.get("explicit_defaults_for_timestamp", "ON") == "ON",
        fold_names=settings.get("lower_case_table_names", "0") != "0",
        engine=settings["default_storage_engine"],
        default_collation=settings["collation_server"],
        charsets=charsets,
        collations=collations,
        databases={str(name): str(collation) for name, collation in databases},
    )
