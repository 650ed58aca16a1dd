"""Creates the target tables, and reads them back: what stands there must be what was meant."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from migrate.catalog import read_catalog
from migrate.db import SQL_MODE, Session
from migrate.errors import NoGo
from migrate.model import MergedTable, TableDef, Target, quote
from migrate.schema.ddl import TargetSchema, target_ddl
from migrate.schema.shape import differences

State = Literal["missing", "created", "exists"]


@dataclass(frozen=True)
class SchemaReport:
    """What `create_schema` found and did, by table."""

    tables: tuple[tuple[TargetSchema, State], ...]

    def document(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "tables": [
                {"target": str(s.target), "state": state, "ddl": s.sql, "changes": list(s.changes)}
                for s, state in self.tables
            ]
        }

    def text(self) -> str:
        """The DDL and what changes, ready to be read, or to be fed to a client."""
        databases = sorted({s.target.schema for s, _ in self.tables})
        head = [f"SET SESSION sql_mode = '{SQL_MODE}';", *(f"{_database(name)};" for name in databases)]
        pieces = ["\n".join(head)]
        for schema, state in self.tables:
            notes = [f"-- {schema.target}: {state}", *(f"--   {change}" for change in schema.changes)]
            pieces.append("\n".join([*(n.replace("\n", " ") for n in notes), schema.sql + ";"]))
        missing = sum(state == "missing" for _, state in self.tables)
        if missing:
            pieces.append(f"-- nothing was written: {missing} of {len(self.tables)} tables are missing; use --execute")
        return "\n\n".join(pieces)


def create_schema(session: Session, tables: Sequence[MergedTable], execute: bool) -> SchemaReport:
    """Creates the tables that are missing on the target (with `execute`; else it only looks).

    A table of the same shape may stand there already. NoGo, before anything is written, if a table can't be carried
    or one of another shape stands there; NoGo after it if TiDB made something else of the DDL.
    """
    schemas = [target_ddl(table) for table in tables]
    refusals = [refusal for schema in schemas for refusal in schema.refusals]
    if refusals:
        raise NoGo("these can't be carried faithfully:\n  " + "\n  ".join(refusals))
    there = _read_back(session, schemas)
    rebuilt = {table.target for table in tables if table.mapped}
    _compare("stands on the target with another shape; drop it, or route elsewhere", schemas, there, rebuilt)
    missing = [s for s in schemas if s.target not in there]
    if execute:
        for schema in missing:
            session.execute(_database(schema.target.schema))
            session.execute(schema.sql)
        there = _read_back(session, schemas)
        _compare("was created, but is not what was meant", missing, there, rebuilt)
    return SchemaReport(
        tuple((s, "exists" if s not in missing else "created" if execute else "missing") for s in schemas)
    )


def _database(name: str) -> str:
    return f"CREATE DATABASE IF NOT EXISTS {quote(name)} DEFAULT CHARSET utf8mb4"


def _read_back(session: Session, schemas: Sequence[TargetSchema]) -> dict[Target, TableDef]:
    names = {str(s.target).lower(): s.target for s in schemas}
    found = read_catalog(session, "target", sorted({s.target.schema for s in schemas}))
    return {names[key]: t.definition for t in found if (key := f"{t.shard.schema}.{t.shard.table}".lower()) in names}


def _compare(
    what: str, schemas: Sequence[TargetSchema], there: dict[Target, TableDef], rebuilt: Collection[Target]
) -> None:
    problems = [
        f"{schema.target} {what}: {difference}"
        for schema in schemas
        if schema.target in there
        for difference in differences(
            schema.definition, there[schema.target], expressions=False, rebuilt=schema.target in rebuilt
        )
    ]
    if problems:
        raise NoGo("\n  ".join(problems))
