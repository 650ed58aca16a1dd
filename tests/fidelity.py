"""Moving a schema of odd values, and reading both sides by means of our own: nothing here is the toolkit's code."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import mysql.connector
import pymysql

from migrate.config import Config, load_config
from migrate.copy.copier import copy, load
from migrate.copy.exporter import export
from migrate.db import connect
from migrate.sandbox import Server
from migrate.schema import create_schema
from migrate.source import read_routing

Way = Literal["copy", "files", "zstd"]
LAX = "ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO"  # takes what an old ledger took: zero dates, error values, bad bytes


@dataclass(frozen=True)
class Case:
    """A column's type and the SQL literals to put into it; NULL is added by itself."""

    type: str
    literals: Sequence[str]


def lax(server: Server, **options: Any) -> Any:
    """A connection that takes values which a strict one refuses, times in UTC."""
    return server.connect(sql_mode=LAX, init_command="SET time_zone = '+00:00'", charset="utf8mb4", **options)


def run(server: Server, *statements: str, **options: Any) -> None:
    """Runs statements on a lax connection."""
    with closing(lax(server, **options)) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def rows(server: Server, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    with closing(lax(server)) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def make_table(server: Server, schema: str, table: str, cases: Sequence[Case]) -> None:
    """A table with two columns a case, one that takes NULL and one that doesn't; row i holds its i-th literal."""
    columns = [f"c{i}_{kind} {case.type} {null}" for i, case in enumerate(cases)
               for kind, null in (("null", "NULL"), ("full", "NOT NULL"))]  # fmt: skip
    name = f"{quoted(schema)}.{quoted(table)}"
    height = max(len(c.literals) for c in cases) + 1
    lines = []
    for row in range(height):
        cells = []
        for case in cases:
            cells.append(case.literals[row] if row < len(case.literals) else "NULL")
            cells.append(case.literals[row % len(case.literals)])
        lines.append(f"({row}, {', '.join(cells)})")
    run(server, f"CREATE DATABASE IF NOT EXISTS {quoted(schema)}",
        f"CREATE TABLE {name} (id INT PRIMARY KEY, {', '.join(columns)}) DEFAULT CHARSET utf8mb4",
        *(f"INSERT INTO {name} VALUES {line}" for line in lines))  # fmt: skip


def make_keys(server: Server, schema: str, cases: dict[str, Case]) -> None:
    """A table for each case, with the column as its primary key."""
    run(server, f"CREATE DATABASE IF NOT EXISTS {quoted(schema)}")
    for name, case in cases.items():
        table = f"{quoted(schema)}.{quoted(name)}"
        run(server, f"CREATE TABLE {table} (k {case.type} NOT NULL, id INT, PRIMARY KEY (k)) DEFAULT CHARSET utf8mb4",
            *(f"INSERT INTO {table} VALUES ({v}, {i})" for i, v in enumerate(case.literals)))  # fmt: skip


def configured(
    folder: Path, sources: Sequence[Server], target: Server, schema: str, *, name: str = "", tables: Iterable[str] = (),
    into: str = "", extra: str = "", chunk_rows: int = 20_000, renamed: dict[str, str] | None = None,
) -> Config:  # fmt: skip
    """A config that sends every table of the schema, or those named, into tables of the same names."""
    found = tables or sorted({r[0] for s in sources for r in rows(s, "SELECT TABLE_NAME FROM information_schema.TABLES "
                              f"WHERE TABLE_SCHEMA = {text(schema)}")})  # fmt: skip
    parts = [f"[migration]\nname = {_toml(name or 'f_' + into + re.sub('[^a-z0-9_]', '', schema))}",
             *(f"[[source]]\nname = {_toml(s.name)}\nurl = {_toml(s.url)}" for s in sources),
             f"[target]\nurl = {_toml(target.url)}",
             *(f"[[route]]\nschema = {_toml(re.escape(schema))}\ntable = {_toml(re.escape(t))}\n"
               f"target = {_toml((renamed or {}).get(t, f'{into or schema}.{t}'))}\n{extra}" for t in found),
             f"[[ignore]]\nschema = {_toml(f'(?!{re.escape(schema)}$).*')}",
             f"[run]\npatience_s = 5\nchunk_rows = {chunk_rows}"]  # fmt: skip
    path = folder / f"{into or 'config'}.toml"
    path.write_text("\n".join(parts), encoding="utf-8")
    return load_config(path)


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def text(value: str) -> str:
    """A string as a literal that no sql_mode can misread."""
    return f"_utf8mb4 X'{value.encode().hex()}'" if value else "''"


def create_target(config: Config) -> None:
    """Creates the target's tables."""
    with connect(config.target) as session:
        create_schema(session, read_routing(config).checked(), True)


def move(config: Config, way: Way, folder: Path) -> None:
    """Creates the target's tables and moves the rows, straight or by files."""
    create_target(config)
    if way == "copy":
        copy(config, 2)
    else:
        export(config, folder / "out", 2, compress=way == "zstd")
        load(config, folder / "out", 2)


# -- the independent reader ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """How a column is read on one side, and how its text becomes a value that both sides share."""

    name: str
    type: str
    charset: str | None


def cells(server: Server, schema: str, table: str) -> list[Cell]:
    return [Cell(*row) for row in rows(server, "SELECT COLUMN_NAME, LOWER(DATA_TYPE), CHARACTER_SET_NAME FROM "
            f"information_schema.COLUMNS WHERE TABLE_SCHEMA = {text(schema)} AND TABLE_NAME = {text(table)} "
            "ORDER BY ORDINAL_POSITION")]  # fmt: skip


# The binary protocol has their bits, and no zeros of ZEROFILL.
_BINARY = ("float", "double", "tinyint", "smallint", "mediumint", "int", "bigint", "decimal")


def _expression(cell: Cell) -> str:
    name = quoted(cell.name)
    if cell.type in _BINARY:
        return name
    if cell.type == "enum":
        return f"CONCAT(CAST({name} AS UNSIGNED), ' ', HEX({name}))"
    if cell.type == "bit":
        return f"CAST(CAST({name} AS UNSIGNED) AS CHAR)"
    if cell.charset or cell.type.endswith(("binary", "blob")):
        return f"HEX({name})"
    return f"CAST({name} AS CHAR)"


def _decode(data: bytes, charset: str) -> str:
    if charset == "latin1":  # MySQL's: cp1252, and what that lacks is the code point of that number
        return "".join(bytes([b]).decode("cp1252") if b not in b"\x81\x8d\x8f\x90\x9d" else chr(b) for b in data)
    codec = {"utf8mb4": "utf-8", "utf8mb3": "utf-8", "utf8": "utf-8", "ucs2": "utf-16-be", "utf16": "utf-16-be"}
    return data.decode(codec.get(charset, charset), "surrogateescape")


def _value(cell: Cell, raw: Any) -> Any:
    if raw is None:
        return None
    if cell.type == "float":
        return struct.pack(">f", raw).hex()
    if cell.type == "double":
        return struct.pack(">d", raw).hex()
    if isinstance(raw, (int, Decimal)):
        return str(raw)
    shown = raw.decode() if isinstance(raw, (bytes, bytearray)) else str(raw)
    if cell.type == "enum":
        number, _, digits = shown.partition(" ")
        return int(number), _decode(bytes.fromhex(digits), cell.charset or "utf8mb4")
    if cell.charset:
        return _decode(bytes.fromhex(shown), cell.charset)
    if cell.type == "json":
        return json.loads(shown, parse_int=Decimal, parse_float=Decimal)
    return shown


Walk = Callable[[str], str]  # from a JSON path to what the server says is the type of the value there


def _typed(value: Any, path: str, type_of: Walk) -> Any:
    """A parsed JSON value with the server's own types of numbers: it tells 1 from 1.0, whatever it prints."""
    if isinstance(value, dict):
        return "object", sorted((k, _typed(v, f"{path}.{json.dumps(k)}", type_of)) for k, v in value.items())
    if isinstance(value, list):
        return "array", [_typed(v, f"{path}[{i}]", type_of) for i, v in enumerate(value)]
    if isinstance(value, Decimal):
        kind = type_of(path)  # a DECIMAL becomes the DOUBLE of that value
        return ("double", float(value).hex()) if kind in ("DOUBLE", "DECIMAL") else ("integer", str(value))
    return value


def _with_types(server: Server, name: str, order: str | None, cell: Cell, number: int, document: Any) -> Any:
    def type_of(path: str) -> str:
        value = f"JSON_TYPE(JSON_EXTRACT({quoted(cell.name)}, {text(path)}))"
        return str(rows(server, f"SELECT {value} FROM {name} ORDER BY {order} LIMIT 1 OFFSET {number}")[0][0])

    return _typed(document, "$", type_of)


def read(server: Server, schema: str, table: str, order: str | None = "id") -> list[dict[str, Any]]:
    """Every row, each value in a form that is equal on two servers only if the value is."""
    columns = cells(server, schema, table)
    name = f"{quoted(schema)}.{quoted(table)}"
    sql = f"SELECT {', '.join(_expression(c) for c in columns)} FROM {name}"
    sql += f" ORDER BY {order}" if order else ""
    match = re.fullmatch(r"mysql://([^:]+):([^@]*)@([^:]+):(\d+)", server.url)
    assert match
    with closing(mysql.connector.connect(user=match[1], password=match[2], host=match[3], port=int(match[4]),
                 use_pure=True, charset="utf8mb4", ssl_disabled=False)) as connection:  # fmt: skip
        connection.cmd_query("SET time_zone = '+00:00', sql_mode = ''")
        with closing(connection.cursor(prepared=True)) as cursor:
            cursor.execute(sql)
            found = cursor.fetchall()
    values = [{c.name: _value(c, v) for c, v in zip(columns, row, strict=True)} for row in found]
    for cell in (c for c in columns if c.type == "json"):
        for number, row in enumerate(values):
            row[cell.name] = _with_types(server, name, order, cell, number, row[cell.name])
    return values


def differences(one: list[dict[str, Any]], other: list[dict[str, Any]], cases: Sequence[Case] = ()) -> list[str]:
    """What differs, by column, with the type and the literal where there are cases."""
    found = [] if len(one) == len(other) else [f"{len(one)} rows became {len(other)}"]
    for number, (before, after) in enumerate(zip(one, other, strict=False)):
        if before.keys() != after.keys():
            return [*found, f"columns {list(before)} became {list(after)}"]
        for name, value in before.items():
            if after[name] != value or type(after[name]) is not type(value):
                match = re.match(r"c(\d+)_", name)
                case = cases[int(match[1])] if match and cases else None
                what = f"{case.type} {case.literals[number % len(case.literals)]}" if case else f"{name}, row {number}"
                found.append(f"{what}: {value!r} became {after[name]!r}")
    return found


def assert_same(source: Server, target: Server, schema: str, table: str, cases: Sequence[Case] = (), *, into: str = "",
                order: str | None = "id") -> None:  # fmt: skip
    """Fails with every value that isn't on the target as it is on the source."""
    before, after = read(source, schema, table, order), read(target, into or schema, table, order)
    if order is None:
        before, after = sorted(before, key=repr), sorted(after, key=repr)
    assert before, f"{schema}.{table} is empty"
    assert not (found := differences(before, after, cases)), "\n".join(found)


ERRORS = (pymysql.Error, mysql.connector.Error)
