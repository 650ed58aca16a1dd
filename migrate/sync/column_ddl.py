"""A column as DDL writes it, and the definition that the server makes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from migrate.model import BINARIES, TEXTS, Column
from migrate.schema.column import members
from migrate.sync.default_ddl import Default, default_value, read_default
from migrate.sync.dialect import Dialect
from migrate.sync.lexer import Cursor, Unreadable
from migrate.sync.type_ddl import WrittenType, full_type, read_type


@dataclass
class Written:
    """A column as the statement has it; what it leaves open is None."""

    name: str
    type: WrittenType
    nullable: bool | None = None
    default: Default | None = None
    on_update: str | None = None
    auto_increment: bool = False
    invisible: bool = False
    comment: str = ""
    key: str | None = None  # PRIMARY or UNIQUE
    checks: tuple[str | None, ...] = ()  # their names


def read_column(cursor: Cursor, name: str, dialect: Dialect) -> Written:
    """Reads the type and the attributes behind a column's name. Unreadable if one can't be told for certain."""
    column = Written(name, read_type(cursor, dialect))
    if column.type.serial:
        column.nullable, column.auto_increment, column.key = False, True, "UNIQUE"
    while True:
        if cursor.skip("NOT", "NULL"):
            column.nullable = False
        elif cursor.skip("NULL"):
            column.nullable = True
        elif cursor.skip("DEFAULT"):
            column.default = read_default(cursor)
        elif cursor.skip("ON", "UPDATE"):
            column.on_update = _now(cursor, dialect)
        elif cursor.one_of("AUTO_INCREMENT"):
            column.auto_increment = True
        elif cursor.skip("SERIAL", "DEFAULT", "VALUE"):
            column.nullable, column.auto_increment, column.key = False, True, column.key or "UNIQUE"
        elif cursor.skip("COMMENT"):
            column.comment = cursor.text()
        elif cursor.skip("PRIMARY", "KEY") or cursor.skip("KEY"):
            column.key = "PRIMARY"
        elif cursor.skip("UNIQUE"):
            cursor.skip("KEY")
            column.key = column.key or "UNIQUE"
        elif cursor.skip("COLLATE"):
            cursor.skip("=")
            column.type = replace(column.type, collation=cursor.take().value)
        elif cursor.one_of("VISIBLE", "INVISIBLE") or cursor.one_of("COLUMN_FORMAT", "STORAGE"):
            _option(cursor, column)
        elif cursor.sees("CHECK") or cursor.sees("CONSTRAINT"):
            column.checks += (read_check(cursor),)
        elif cursor.skip("REFERENCES"):
            _references(cursor)
        elif cursor.sees("GENERATED") or cursor.sees("AS"):
            raise Unreadable(f"column {name} is generated: the server's own form of the expression isn't known")
        else:
            return column


def _option(cursor: Cursor, column: Written) -> None:
    cursor.at -= 1
    word = cursor.take().value.upper()
    if word in ("VISIBLE", "INVISIBLE"):
        column.invisible = word == "INVISIBLE"
    else:
        cursor.name()


def read_check(cursor: Cursor) -> str | None:
    """The name of a [CONSTRAINT [name]] CHECK (..) [[NOT] ENFORCED], or None if it has none."""
    name = None
    if cursor.skip("CONSTRAINT") and not cursor.sees("CHECK"):
        name = cursor.name()
    cursor.expect("CHECK")
    cursor.parenthesis()
    if not cursor.skip("ENFORCED"):
        cursor.skip("NOT", "ENFORCED")
    return name


def _references(cursor: Cursor) -> None:
    """A column's own REFERENCES clause: MySQL reads it and makes nothing of it; newer ones and MariaDB may."""
    raise Unreadable("a REFERENCES clause of a column means different things to different versions")


def _now(cursor: Cursor, dialect: Dialect) -> str:
    given = read_default(cursor)
    if given.kind != "now":
        raise Unreadable(f"ON UPDATE {given.text}")
    digits = f"({given.text})" if given.text else "()" if dialect.mariadb else ""
    return f"CURRENT_TIMESTAMP{digits}"


def made_column(written: Written, collation: str, dialect: Dialect) -> Column:
    """The column as the server's catalogue has it, in a table of that default collation."""
    kind, full, charset, collated = _texts(written.type, collation, dialect)
    timestamp_not_null = kind == "timestamp" and not dialect.explicit_timestamps and written.nullable is None
    nullable = written.nullable is not False and not written.auto_increment and not timestamp_not_null
    column = Column(
        name=written.name,
        type=kind,
        full_type=full,
        nullable=nullable,
        charset=charset,
        collation=collated,
        on_update=written.on_update,
        auto_increment=written.auto_increment,
        invisible=written.invisible,
        comment=written.comment,
    )
    default, is_expression = default_value(column, written.default, dialect)
    return replace(column, default=default, default_is_expression=is_expression)


def _texts(given: WrittenType, default: str, dialect: Dialect) -> tuple[str, str, str | None, str | None]:
    """(type, full type, charset, collation)."""
    kind = given.kind
    if kind not in TEXTS:
        if kind == "json" and dialect.mariadb:
            return "longtext", "longtext", "utf8mb4", "utf8mb4_bin"
        full = full_type(given, 1, dialect)
        return re.split(r"[ (]", full)[0], full, None, None
    charset, collation = column_collation(given.charset, given.collation, default, dialect)
    if given.binary and given.collation is None:
        collation = f"{charset}_bin"
    if charset == "binary" and kind not in ("enum", "set"):
        kind = {"char": "binary", "varchar": "varbinary"}.get(kind, kind.replace("text", "blob"))
        full = full_type(replace(given, kind=kind), 1, dialect)
        return re.split(r"[ (]", full)[0], full, None, None
    width = dialect.charsets[charset][1]
    full = full_type(given, width, dialect)
    return re.split(r"[ (]", full)[0], full, charset, collation


def column_collation(charset: str | None, collation: str | None, default: str, dialect: Dialect) -> tuple[str, str]:
    """(charset, collation) of what is written, or of the default collation. Unreadable if the server has none such."""
    try:
        if collation is not None and collation.upper() != "DEFAULT":
            found = dialect.collation(collation)
            return dialect.collations[found], found
        if charset is not None and charset.upper() != "DEFAULT":
            name = dialect.charset(charset)
            return name, dialect.charsets[name][0]
        return dialect.collations[default], default
    except KeyError as error:
        raise Unreadable(f"the server has no charset or collation {error.args[0]}") from None


def implicit_default(column: Column, dialect: Dialect) -> str | None:
    """What servers before 5.7 give a column of the primary key that wasn't written NOT NULL."""
    if column.auto_increment:
        return None
    if column.type == "enum":
        return members(column.full_type)[0]
    if column.type == "binary":
        return "\0" * int(re.findall(r"\d+", column.full_type)[0])
    if column.type in TEXTS | BINARIES:
        return ""
    return default_value(column, Default("number", "0"), dialect)[0]
