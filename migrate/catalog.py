"""What tables a server has and what shape they are: information_schema, read once per instance."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from migrate.db import Session
from migrate.errors import ServerError
from migrate.model import Column, Index, Shard, ShardTable, TableDef

SYSTEM_SCHEMAS = ("mysql", "information_schema", "performance_schema", "sys", "metrics_schema", "inspection_schema",
                  "migrate_meta", "migrate_outbox")  # fmt: skip

_FOREIGN_KEYS = (
    "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONCAT(CONSTRAINT_NAME, ' -> ', REFERENCED_TABLE_NAME) "
    "FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA"
)
_CHECKS = (
    "SELECT TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME FROM information_schema.TABLE_CONSTRAINTS "
    "WHERE CONSTRAINT_TYPE = 'CHECK' AND TABLE_SCHEMA"
)
_TRIGGERS = (
    "SELECT EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE, TRIGGER_NAME FROM information_schema.TRIGGERS "
    "WHERE EVENT_OBJECT_SCHEMA"
)

_Name = tuple[str, str]


def read_catalog(session: Session, instance: str, schemas: Iterable[str] | None = None) -> list[ShardTable]:
    """Every base table outside the system schemas (or in `schemas` only), with its definition and size estimate."""
    if schemas is None:
        where = f"NOT IN ({', '.join(repr(s) for s in SYSTEM_SCHEMAS)})"
        args: tuple[str, ...] = ()
    else:
        args = tuple(schemas)
        if not args:
            return []
        where = f"IN ({', '.join(['%s'] * len(args))})"
    if session.query("SHOW VARIABLES LIKE 'information_schema_stats_expiry'"):
        session.execute("SET SESSION information_schema_stats_expiry = 0")
    tables = session.query(
        "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE, TABLE_ROWS, DATA_LENGTH, TABLE_COLLATION, TABLE_COMMENT, "
        f"CREATE_OPTIONS FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA {where}",
        args,
    )
    columns, indexes = _columns(session, where, args), _indexes(session, where, args)
    foreign, checks, triggers = (_texts(session, sql, where, args) for sql in (_FOREIGN_KEYS, _CHECKS, _TRIGGERS))
    found = []
    for schema, table, engine, rows, size, collation, comment, options in tables:
        name = (schema, table)
        definition = TableDef(
            columns=tuple(columns[name]),
            indexes=tuple(indexes[name]),
            charset=(collation or "utf8mb4").split("_")[0],
            collation=collation or "utf8mb4_bin",
            comment=comment or "",
            engine=engine or "",
            partitioned="partitioned" in (options or "").lower(),
            foreign_keys=tuple(sorted(foreign[name])),
            checks=tuple(sorted(checks[name])),
            triggers=tuple(sorted(triggers[name])),
        )
        found.append(ShardTable(Shard(instance, schema, table), definition, int(rows or 0), int(size or 0)))
    return sorted(found, key=lambda t: natural(t.shard))


def natural(shard: Shard) -> tuple[object, ...]:
    """A sort key by which entry_2 comes before entry_10."""

    def pieces(text: str) -> tuple[tuple[int, str], ...]:
        return tuple((int(p), "") if p.isdigit() else (0, p) for p in re.split(r"([0-9]+)", text))

    return shard.instance, pieces(shard.schema), pieces(shard.table), shard.schema, shard.table


def _columns(session: Session, where: str, args: tuple[str, ...]) -> dict[_Name, list[Column]]:
    modern = bool(
        session.query(
            "SELECT 1 FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'information_schema' "
            "AND TABLE_NAME = 'COLUMNS' AND COLUMN_NAME = 'GENERATION_EXPRESSION'"
        )
    )
    generation = "GENERATION_EXPRESSION" if modern else "NULL"
    version = str(session.value("SELECT VERSION()"))
    tidb, mariadb = "TiDB" in version, "MariaDB" in version
    found: dict[_Name, list[Column]] = defaultdict(list)
    rows = session.query(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE, CHARACTER_SET_NAME, "
        f"COLLATION_NAME, COLUMN_DEFAULT, EXTRA, COLUMN_COMMENT, {generation} FROM information_schema.COLUMNS "
        f"WHERE TABLE_SCHEMA {where} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION",
        args,
    )
    for (
        schema,
        table,
        name,
        data_type,
        written,
        nullable,
        charset,
        collation,
        given,
        extras,
        comment,
        expression,
    ) in rows:
        kind, extra = data_type.lower(), (extras or "").lower()
        full = written if isinstance(written, str) else written.decode()
        if tidb and kind in ("enum", "set"):  # TiDB writes a member's backslash once, MySQL escapes it
            full = full.replace("\\", "\\\\")
        default, computed = _mariadb_default(given) if mariadb else (given, "default_generated" in extra)
        if default and "?" in default and charset and not computed and not tidb:
            exact = session.defaults(schema, table)[name]  # information_schema has it for a character of four bytes
            default = exact.decode() if exact is not None else None
        update = re.search(r"on update (\S+)", extra)
        now = bool(default and re.match(r"current_timestamp(\(\d*\))?$", str(default), re.IGNORECASE))
        found[schema, table].append(
            Column(
                name=name,
                type=kind,
                full_type=full,
                nullable=nullable == "YES",
                charset=charset,
                collation=collation,
                default=default,
                default_is_expression=computed or (now and kind in ("timestamp", "datetime")),
                on_update=update[1].upper() if update else None,
                auto_increment="auto_increment" in extra,
                invisible="invisible" in extra,
                generated=expression or None,
                stored="stored generated" in extra,
                comment=comment or "",
            )
        )
    return found


def _mariadb_default(default: str | None) -> tuple[str | None, bool]:
    """(the default as MySQL would give it, whether it is an expression): MariaDB writes NULL and quotes out."""
    if default is None or default == "NULL":
        return None, False
    if quoted := re.fullmatch(r"'(.*)'", default, re.DOTALL):
        names = {"0": "\0", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}
        return re.sub(r"''|\\(.)", lambda m: names.get(m[1], m[1]) if m[1] else "'", quoted[1]), False
    return default, not re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?|b'[01]*'", default, re.IGNORECASE)


def _indexes(session: Session, where: str, args: tuple[str, ...]) -> dict[_Name, list[Index]]:
    # an expression's COLUMN_NAME is NULL, which is all that we need to know of it
    parts: dict[tuple[str, str, str, int, str], list[tuple[str | None, int | None]]] = defaultdict(list)
    for schema, table, name, non_unique, kind, column, prefix in session.query(
        "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, NON_UNIQUE, INDEX_TYPE, COLUMN_NAME, SUB_PART "
        f"FROM information_schema.STATISTICS WHERE TABLE_SCHEMA {where} "
        "ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX",
        args,
    ):
        parts[schema, table, name, int(non_unique), kind].append((column, int(prefix) if prefix else None))
    found: dict[_Name, list[Index]] = defaultdict(list)
    for (schema, table, name, non_unique, kind), columns in parts.items():
        found[schema, table].append(Index(name, not non_unique, tuple(columns), kind))
    for indexes in found.values():  # the primary key first, as SHOW CREATE TABLE has it
        indexes.sort(key=lambda i: (not i.primary, not i.unique, i.name))
    return found


def _texts(session: Session, sql: str, where: str, args: tuple[str, ...]) -> dict[_Name, list[str]]:
    found: dict[_Name, list[str]] = defaultdict(list)
    for schema, table, text in session.query(f"{sql} {where}", args):
        found[schema, table].append(text)
    return found


def has_md5(session: Session) -> bool:
    """Whether the server computes MD5(): recent MySQL doesn't, unless a component brings it."""
    try:
        return session.value("SELECT MD5('')") is not None
    except ServerError as error:
        if error.number in (1046, 1305, 1370):  # not built in, nor in the current database or for lack of one
            return False
        raise
