"""The definitions of one instance's tables, as in force at the position of its stream."""

from __future__ import annotations

from collections.abc import Mapping

from migrate.model import TableDef
from migrate.sync.change import Change
from migrate.sync.dialect import Dialect

Name = tuple[str, str]


class History:
    """Definitions by (schema, table), names compared as the server does. `read` looks, only `apply` changes them."""

    def __init__(self, instance: str, definitions: Mapping[Name, TableDef], dialect: Dialect):
        self.instance = instance
        self.dialect = dialect
        self._known = {dialect.name(*name): (name, definition) for name, definition in definitions.items()}

    def definition(self, schema: str, table: str) -> TableDef | None:
        """The table's definition, or None if there is no such table (or none is known)."""
        found = self._known.get(self.dialect.name(schema, table))
        return found[1] if found else None

    def read(self, schema: str, sql: str, sql_mode: int = 0) -> list[Change]:
        """What the statement does, with `schema` as the default database, table by table in order."""
        return []

    def apply(self, change: Change) -> None:
        """Takes the change's outcome for what is in force from here on."""
