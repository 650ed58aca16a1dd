"""A column's default as DDL writes it, and as the catalogue has it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal

from migrate.model import INTEGERS, Column
from migrate.schema.column import members
from migrate.sync.dialect import Dialect
from migrate.sync.lexer import Cursor, Unreadable

_NOW = ("CURRENT_TIMESTAMP", "NOW", "LOCALTIME", "LOCALTIMESTAMP")
_ZERO_DATE = "0000-00-00"


@dataclass(frozen=True)
class Default:
    """`text`: the value; the digits of `now`; the expression."""

    kind: Literal["null", "text", "number", "bits", "now", "expression"]
    text: str = ""


def read_default(cursor: Cursor) -> Default:
    """Reads what stands behind DEFAULT or ON UPDATE."""
    token = cursor.take()
    word = token.value.upper() if token.kind == "word" else ""
    if word == "NULL":
        return Default("null")
    if word in _NOW:
        digits = ""
        if cursor.skip("("):
            digits = "" if cursor.sees(")") else str(cursor.integer())
            cursor.expect(")")
        return Default("now", digits if digits != "0" else "")
    if word in ("TRUE", "FALSE"):
        return Default("number", "1" if word == "TRUE" else "0")
    if token.kind == "text":
        return Default("text", token.value)
    if word.startswith("_UTF8") or word == "N":
        return Default("text", cursor.text())
    if token.kind == "bits":
        return Default("bits", token.value)
    if token.kind == "number":
        return Default("number", token.value)
    if token.kind == "punct" and token.value in "+-" and cursor.next.kind == "number":
        return Default("number", ("-" if token.value == "-" else "") + cursor.take().value)
    if token.kind == "punct" and token.value == "(":
        cursor.at -= 1
        inside = cursor.parenthesis()
        bare = "".join(t.value for t in inside).lower()
        if bare in ("uuid()", "now()", "rand()"):
            return Default("expression", bare)
        raise Unreadable("the server's own form of a default's expression isn't known")
    raise Unreadable(f"the default {token}")


def default_value(column: Column, given: Default | None, dialect: Dialect) -> tuple[str | None, bool]:
    """(COLUMN_DEFAULT, whether it is an expression). Unreadable if the server might write it in another way."""
    if given is None or given.kind == "null":
        return None, False
    if given.kind == "now":
        digits = f"({given.text})" if given.text else ""
        if dialect.mariadb:
            return f"current_timestamp({given.text})", True
        return f"CURRENT_TIMESTAMP{digits}", True
    if given.kind == "expression":
        if dialect.mariadb:
            raise Unreadable("a default that is an expression")
        return given.text, True
    text = _constant(column, given)
    if text is None:
        raise Unreadable(f"the default {given.text!r} of {column.name} {column.full_type}")
    return text, False


def _constant(column: Column, given: Default) -> str | None:
    kind, text = column.type, given.text
    if given.kind == "bits":
        value = int(text[2:] or "0", 16 if text[1] == "x" else 2)
        if kind == "bit":
            return f"b'{value:b}'"
        return str(value) if kind in INTEGERS else None
    if kind == "bit":
        return f"b'{int(text):b}'" if given.kind == "number" and text.isdigit() else None
    if kind in INTEGERS or kind == "decimal":
        return _number(column, text)
    if kind in ("float", "double"):
        plain = re.fullmatch(r"-?\d{1,6}(\.\d{1,5})?", text) and len(text.strip("-").replace(".", "")) <= 6
        return f"{Decimal(text).normalize():f}" if plain and "(" not in column.full_type else None
    if kind in ("char", "varchar"):
        limit = int(re.findall(r"\d+", column.full_type)[0])
        text = text.rstrip(" ") if kind == "char" else text
        return text if len(text) <= limit and (given.kind == "text" or re.fullmatch(r"-?\d{1,15}", text)) else None
    if kind == "enum":
        return next((m for m in members(column.full_type) if m.lower() == text.lower().rstrip(" ")), None)
    if kind == "set":
        chosen = [c.lower() for c in text.split(",")] if text else []
        known = members(column.full_type)
        if not {*chosen} <= {m.lower() for m in known}:
            return None
        return ",".join(m for m in known if m.lower() in chosen)
    if kind == "varbinary" and given.kind == "text" and text.isascii() and text.isprintable():
        return text
    return _time(column, text)


def _number(column: Column, text: str) -> str | None:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return None
    scale = 0
    if column.type == "decimal":
        scale = int(re.findall(r"\d+", column.full_type)[1])
    if value != round(value, scale) or (value.is_signed() and value == 0):
        return None
    plain = f"{value:.{scale}f}"
    if "zerofill" not in column.full_type:
        return plain
    return plain.rjust(int(re.findall(r"\d+", column.full_type)[0]), "0") if column.type in INTEGERS else None


def _time(column: Column, text: str) -> str | None:
    """Dates and times written in full; the rest depends on the session."""
    digits = int((re.findall(r"\((\d)\)", column.full_type) or ["0"])[0])
    fraction = "." + "0" * digits if digits else ""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)?(?:(?:^| )(\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?)?", text)
    date, time, part = match.groups() if match and text else (None, None, None)
    if part:
        if len(part.rstrip("0")) > digits:
            return None
        fraction = "." + part[:digits].ljust(digits, "0") if digits else ""
    match column.type:
        case "date" if date and time in (None, "00:00:00"):
            return date
        case "time" if time and not date:
            return time + fraction
        case "datetime" if date:
            return f"{date} {time or '00:00:00'}{fraction}"
        case "timestamp" if date == _ZERO_DATE:  # another is kept in UTC, and was written in the session's time zone
            return f"{date} 00:00:00{fraction}"
        case "year" if re.fullmatch(r"\d{4}", text):
            return text
    if text == "0" and column.type in ("datetime", "timestamp", "date"):
        return _ZERO_DATE if column.type == "date" else f"{_ZERO_DATE} 00:00:00{fraction}"
    return None
