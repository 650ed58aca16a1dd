"""The definitions of one instance's tables, as in force at the position of its stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from migrate.model import TableDef
from migrate.sync.change import Change
from migrate.sync.ddl import Reader
from migrate.sync.dialect import Dialect

Name = tuple[str, str]


class History:
    """Definitions by (schema, table), names compared as the server does. `read` looks, only `apply` changes them.

    The defaults of databases aren't kept with the definitions: they are the server's when `dialect` was read, and what
    CREATE and ALTER DATABASE made of them since.
    """

    def __init__(self, instance: str, definitions: Mapping[Name, TableDef], dialect: Dialect):
        self.instance = instance
        self.dialect = dialect
        self._known = {dialect.name(*name): (name, definition) for name, definition in definitions.items()}
        self._databases = {dialect.name(name, "")[0]: collation for name, collation in dialect.databases.items()}

    def definition(self, schema: str, table: str) -> TableDef | None:
        """The table's definition, or None if there is no such table (or none is known)."""
        found = self._known.get(self.dialect.name(schema, table))
        return found[1] if found else None

    def names(self) -> Iterable[Name]:
        """All tables that are known."""
        return [name for name, _ in self._known.values()]

    def collation(self, schema: str) -> str:
        """The default collation of a database."""
        return self._databases.get(self.dialect.name(schema, "")[0], self.dialect.default_collation)

    def database(self, schema: str, collation: str | None) -> None:
        """Takes note of a database's default collation; None: it is gone."""
        key = self.dialect.name(schema, "")[0]
        if collation is None:
            self._databases.pop(key, None)
        else:
            self._databases[key] = collation

    def read(self, schema: str, sql: str, sql_mode: int = 0) -> list[Change]:
        """What the statement does, table by table in order, with `schema` as the default database and the sql_mode
        (bits) of its session. An empty list: nothing, to no table. A statement that can't be read safely gives an
        `unknown` change for each table that it is about, or else for each known table that its text names."""
        return Reader(self, schema, sql).read(sql_mode)

    def apply(self, change: Change) -> None:
        """Takes the change's outcome for what is in force from here on.

        After an `unknown` change the table's definition isn't known any more: read it from the server's catalogue as
        of that position, and apply it as `replace(change, kind="alter", after=...)`.
        """
        key = self.dialect.name(change.schema, change.table)
        if change.kind in ("rename", "drop", "unknown"):
            self._known.pop(key, None)
        if change.after is not None and change.kind != "unknown":
            name = change.renamed_to or (change.schema, change.table)
            self._known[self.dialect.name(*name)] = (name, change.after)
