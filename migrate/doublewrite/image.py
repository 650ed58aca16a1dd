"""Rows as exact text: what the outbox holds, the same on both sides, whatever the session's time zone or driver.

Integers and decimals are their digits, TIMESTAMP is UTC, bytes are hexadecimal, floats have all their digits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from migrate.doublewrite.errors import Refused
from migrate.doublewrite.router import Image
from migrate.model import BINARIES, FLOATS, INTEGERS, TEXTS, Column, TableDef, quote

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEYS = (INTEGERS | TEXTS | BINARIES | {"decimal", "date", "datetime", "time", "year"}) - {"enum", "set"}


class Images:
    """Reads and writes rows of one table shape."""

    def __init__(self, name: str, definition: TableDef, kept: frozenset[str] = frozenset()):
        """`kept`: columns that the other side doesn't have. Refused, naming the table, if its rows can't be told apart
        exactly."""
        self.columns = definition.stored_columns
        self._kept = kept
        self.key = definition.key_columns
        self.names = tuple(c.name for c in self.columns)
        self.key_names = tuple(c.name for c in self.key)
        if not self.key:
            raise Refused(f"{name} has no primary key, nor a unique one that is never NULL: its rows can't be captured")
        for column in self.key:
            if column.type not in _KEYS:
                raise Refused(f"{name}.{column.name}: rows keyed by {column.type} can't be captured exactly")
        self.select = ", ".join(_expression(c) for c in self.columns)
        self._unique = {n for i in definition.unique_indexes for n in i.columns}

    def read(self, row: Sequence[Any]) -> dict[str, str | None]:
        """The image of a row that `select` gave."""
        return {c.name: None if v is None else _text(c, v) for c, v in zip(self.columns, row, strict=True)}

    def key_of(self, image: Image) -> tuple[str, ...]:
        return tuple(str(image[name]) for name in self.key_names)

    def where(self, keys: Sequence[tuple[str, ...]]) -> tuple[str, list[Any]]:
        """A condition for those keys, with its parameters."""
        values = [_parameter(c, v) for key in keys for c, v in zip(self.key, key, strict=True)]
        if len(self.key) == 1:
            return f"{quote(self.key_names[0])} IN ({', '.join(['%s'] * len(keys))})", values
        one = f"({', '.join(['%s'] * len(self.key))})"
        names = ", ".join(map(quote, self.key_names))
        return f"({names}) IN ({', '.join([one] * len(keys))})", values

    def insert(self, table: str, images: Sequence[Image]) -> tuple[str, list[Any]]:
        """A statement that inserts those rows, with its parameters. What the other side doesn't have, and isn't known
        from an earlier row, gets its default."""
        places: list[str] = []
        values: list[Any] = []
        for image in images:
            given = [c for c in self.columns if c.name in image or c.name not in self._kept]
            values += [_value(c, image.get(c.name)) for c in given]
            marks = ["DEFAULT" if c.name in self._kept and c.name not in image else "%s" for c in self.columns]
            places.append(f"({', '.join(marks)})")
        return f"INSERT INTO {table} ({', '.join(map(quote, self.names))}) VALUES {', '.join(places)}", values

    def keeping(self, old: Image | None, new: Image | None) -> Image | None:
        """The row that `new` makes of `old`: what the other side doesn't have stays as it is."""
        if old is None or new is None or not self._kept:
            return new
        return {name: old[name] for name in self._kept if name in old} | dict(new)

    def unlike(self, one: Image | None, other: Image | None) -> tuple[str, ...]:
        """The columns that both sides have and in which two images differ; ("the whole row",) if only one is there."""
        if one is None or other is None:
            return () if one is other else ("the whole row",)
        return tuple(
            c.name
            for c in self.columns
            if c.name not in self._kept and not _same(c, one.get(c.name), other.get(c.name))
        )


def key_text(column: Column, value: Any) -> str | None:
    """The exact text of a key that the application gives, as the server will store it; None if only it can tell."""
    if column.type in INTEGERS and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return str(int(value))
        except ValueError:
            return None
    return None


def dump(image: Image | None) -> str | None:
    return None if image is None else json.dumps(image, ensure_ascii=False, separators=(",", ":"))


def load(text: str | None) -> dict[str, str | None] | None:
    return None if text is None else json.loads(text)


def _expression(column: Column) -> str:
    name = quote(column.name)
    if column.type == "timestamp":  # the moment itself: its text depends on the session's time zone
        return f"CAST(UNIX_TIMESTAMP({name}) AS CHAR)"
    if column.type in FLOATS:  # FLOAT prints six digits, its double product all
        return f"{name} * 1e0"
    if column.type in BINARIES:
        return f"HEX({name})"
    if column.type == "bit":
        return f"CAST({name} + 0 AS CHAR)"
    return name if column.type in TEXTS else f"CAST({name} AS CHAR)"


def _text(column: Column, value: Any) -> str:
    text = value.decode() if isinstance(value, bytes) else str(value)
    if column.type == "timestamp":
        return _utc(column, text)
    return repr(float(text)) if column.type in FLOATS else text


def _utc(column: Column, seconds: str) -> str:
    whole, _, fraction = seconds.partition(".")
    digits = int(column.full_type.partition("(")[2].rstrip(")") or 0) if "(" in column.full_type else 0
    tail = f".{fraction.ljust(digits, '0')[:digits]}" if digits else ""
    if int(whole) == 0 and not fraction.strip("0"):
        return f"0000-00-00 00:00:00{tail}"
    return (_EPOCH + timedelta(seconds=int(whole))).strftime("%Y-%m-%d %H:%M:%S") + tail


def _parameter(column: Column, text: str) -> Any:
    """A key's value as a parameter that compares exactly: a number compared to a text would be compared as a float."""
    if column.type in INTEGERS or column.type == "year":
        return int(text)
    return Decimal(text) if column.type == "decimal" else _value(column, text)


def _value(column: Column, text: str | None) -> Any:
    if text is None:
        return None
    if column.type == "bit":
        return int(text)
    return bytes.fromhex(text) if column.type in BINARIES else text


def _same(column: Column, one: str | None, other: str | None) -> bool:
    if one == other or one is None or other is None:
        return one == other
    if column.type in FLOATS:
        return float(one) == float(other)
    if column.type == "json":
        return bool(json.loads(one, parse_float=Decimal) == json.loads(other, parse_float=Decimal))
    return column.type in INTEGERS | {"decimal"} and Decimal(one) == Decimal(other)  # with or without ZEROFILL's zeros
