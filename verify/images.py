"""Rows as they are acted on: read whole by their keys, compared column by column with what was seen, and written.

An image is what a row shows (as in a Mismatch), and the bytes of its TEXT and BLOB columns, which a Mismatch has only
the hash of. Values of the source are as the target must have them: interleaved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from migrate.db import Session
from migrate.errors import NoGo
from migrate.model import Column, ShardTable, quote
from verify.encoding import Kind, finish, piece_of, show
from verify.mapped import not_carried, over, written_back
from verify.meta import as_text
from verify.model import Values
from verify.offenders import text_of
from verify.tables import Pair

Key = tuple[str | None, ...]
_LARGE = (Kind.LARGE_TEXT, Kind.LARGE_BYTES)


@dataclass(frozen=True, slots=True)
class Image:
    """A row. `large`: the bytes of the large columns as hex, None where NULL."""

    values: Values
    large: dict[str, str | None]

    def document(self) -> dict[str, Any]:
        return {"values": self.values, "large": self.large}

    @classmethod
    def of(cls, document: Mapping[str, Any] | None) -> Image | None:
        return cls(dict(document["values"]), dict(document["large"])) if document else None


class Place:
    """One physical table, on a shard or (a shard of None) on the target, with its session."""

    def __init__(self, session: Session, pair: Pair, shard: ShardTable | None):
        self.session, self.pair, self.shard = session, pair, shard
        self.table = shard.shard.sql if shard else pair.merged.target.sql
        self._definition = shard.definition if shard else pair.definition
        self._remap = {n.lower(): r for n, r in pair.merged.remap(shard.shard).items()} if shard else {}
        self._large = [name for name, kind in pair.columns if kind in _LARGE]
        if not pair.key:
            raise NoGo(f"{pair.name}: it has no key to find its rows by; mend them by hand")

    def __str__(self) -> str:
        return str(self.shard.shard) if self.shard else f"target {self.pair.name}"

    @property
    def written(self) -> list[str]:
        """The columns that a writer gives values for."""
        return [name for name, _ in self.pair.columns if self._definition.column(name).generated is None]

    def read(self, keys: Iterable[Key], lock: bool = False) -> dict[Key, Image]:
        """The rows of those keys, by key. Locked till the transaction's end if asked for."""
        wanted = list(keys)
        if not wanted:
            return {}
        columns = [self.pair.piece(name, self.shard) for name, _ in self.pair.columns]
        columns += [f"HEX({self._utf8(name)})" for name in self._large]
        where = " OR ".join(f"({self._where(key)})" for key in wanted)
        found: dict[Key, Image] = {}
        asked = set(wanted)
        for row in self.session.query(
            f"SELECT {', '.join(columns)} FROM {self.table} WHERE {where}{' FOR UPDATE' if lock else ''}"
        ):
            values = {
                name: show(kind, finish(kind, value) if kind.client else as_text(value))
                for (name, kind), value in zip(self.pair.columns, row, strict=False)
            }
            large = dict(zip(self._large, map(text_of, row[len(self.pair.columns) :]), strict=True))
            key = tuple(values[name] for name in self.pair.key)
            if key in asked:  # a collation may take others for equal
                found[key] = Image(values, large)
        return found

    def insert(self, image: Image) -> None:
        row = self._row(image)
        names, values = list(row), ", ".join(row.values())
        self.session.execute(f"INSERT INTO {self.table} ({', '.join(map(quote, names))}) VALUES ({values})")

    def update(self, before: Image, after: Image) -> None:
        """Writes what differs where the row still is as it was before."""
        was = self._row(before)
        sets = ", ".join(f"{quote(name)} = {value}" for name, value in self._row(after).items() if was[name] != value)
        self._one(f"UPDATE {self.table} SET {sets} WHERE {self._exactly(before)}")

    def _row(self, image: Image) -> dict[str, str]:
        """The columns that a writer gives values for, as this side has them, each with its value as SQL."""
        if self.shard is not None and self.shard.mapped:
            return written_back(self.shard, image.values, lambda name: self._literal(name, image))
        return {name: self._literal(name, image) for name in self.written}

    def delete(self, before: Image) -> None:
        if self.shard is not None and (lost := not_carried(self.shard)):
            raise NoGo(f"{self}: {', '.join(lost)} of the row could not be brought back by an undo; delete it by hand")
        self._one(f"DELETE FROM {self.table} WHERE {self._exactly(before)}")

    def _one(self, sql: str) -> None:
        changed = self.session.execute(sql)
        if changed != 1:
            raise NoGo(f"{self}: {changed} rows changed instead of one; nothing was kept")

    def key_of(self, values: Values) -> Key:
        return tuple(values[name] for name in self.pair.key)

    def _where(self, key: Key) -> str:
        return " AND ".join(
            f"{over(self.shard, quote(name))} = {self._value(name, value, None)}"
            for name, value in zip(self.pair.key, key, strict=True)
        )

    def _exactly(self, before: Image) -> str:
        """That row, and only while every column is as it was: NULL-safe, and by bytes, not by collation."""
        tests = [self._where(self.key_of(before.values))]
        for name, kind in self.pair.columns:
            if not kind.client:  # compared when it was read, and locked since
                sql = f"CAST({self.pair.piece(name, self.shard)} AS CHAR)"
                tests.append(f"{sql} = '{piece_of(kind, before.values[name])}'")
        return " AND ".join(tests)

    def _literal(self, name: str, image: Image) -> str:
        return self._value(name, image.values[name], image.large.get(name))

    def _value(self, name: str, value: str | None, large: str | None) -> str:
        """A column's value as SQL, as this side has it."""
        kind = self.pair.kind(name)
        if value is None:
            return "NULL"
        remap = self._remap.get(name.lower())
        if remap:
            return str((int(value) - remap.number) >> remap.bits)
        if kind in (Kind.NUMBER, Kind.BITS):
            return value
        if kind in (Kind.CLOCK, Kind.FLOAT):  # as a number, -0.0 would lose its sign in TiDB
            return f"'{value}'"
        if kind in (Kind.BYTES, Kind.LARGE_BYTES):
            digits = large if kind is Kind.LARGE_BYTES else value.removeprefix("0x")
            return f"X'{digits}'" if digits else "''"
        digits = large if kind is Kind.LARGE_TEXT else value.encode().hex()
        text = f"CONVERT(X'{digits}' USING utf8mb4)" if digits else "''"
        return f"CAST({text} AS JSON)" if kind is Kind.JSON else text

    def _utf8(self, name: str) -> str:
        column: Column = self._definition.column(name)
        text = self.pair.kind(name) is Kind.LARGE_TEXT and self.shard is not None
        value = over(self.shard, quote(column.name))
        return f"CONVERT({value} USING utf8mb4)" if text else value


def differing(one: Image | None, seen: Values | None) -> Sequence[str]:
    """The columns in which a row isn't what was seen; all of them if only one of the two is there."""
    if one is None or seen is None:
        return () if one is None and seen is None else tuple((one.values if one else seen) or ())
    return tuple(name for name, value in one.values.items() if seen.get(name) != value)
