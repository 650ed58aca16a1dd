"""What a transaction changes, row by row: the images before its first change are read before that change, under lock,
and those after its last change before COMMIT. So nothing that happens between has to be followed."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from migrate.doublewrite.errors import Refused
from migrate.doublewrite.image import key_text
from migrate.doublewrite.outbox import Change, row_hash
from migrate.doublewrite.plan import Plan, Value
from migrate.doublewrite.router import Image
from migrate.doublewrite.server import Server, Written
from migrate.doublewrite.sharding import Key
from migrate.model import Index, quote

MOST_ROWS = 10_000  # of one statement: their images are held in memory, and their locks until COMMIT
_AT_ONCE = 500
_NAMED = re.compile(r"%\(\w+\)s")
RowKey = tuple[str, ...]


class Capture:
    """The changes of one transaction. `cursor` runs statements on its connection."""

    def __init__(self, server: Server, cursor: Any, key: Key | None):
        self._server, self._cursor, self._key = server, cursor, key
        self._seen: dict[tuple[str, RowKey], tuple[Written, Image | None]] = {}
        self._savepoints: dict[str, int] = {}

    def savepoint(self, name: str) -> None:
        self._savepoints[name] = len(self._seen)

    def back_to(self, name: str) -> None:
        """What was first seen after the savepoint is as if it had not been."""
        self._seen = dict(islice(self._seen.items(), self._savepoints.get(name, len(self._seen))))

    def run(self, cursor: Any, plan: Plan, written: Written, args: Any) -> Any:
        """Runs a change on the application's cursor, and captures it."""
        if plan.kind in ("update", "delete"):
            return self._change(cursor, plan, written, args)
        return self._insert(cursor, plan, written, args)

    def run_many(self, cursor: Any, plan: Plan, written: Written, rows: Sequence[Any]) -> Any:
        """Runs an INSERT for many rows at once where their keys are known; else one by one."""
        if plan.kind == "insert":
            keys = [key for args in rows for key in self._new_keys(plan, written, args)]
            if all(isinstance(key, tuple) for key in keys):
                result = cursor.executemany(self._rendered(plan), rows)
                for key in keys:
                    self._see(written, key, None)  # type: ignore[arg-type]
                return result
        changed = 0
        for args in rows:
            self.run(cursor, plan, written, args)
            changed += max(0, cursor.rowcount)
        return changed

    def changes(self, epoch: int) -> list[Change]:
        """What has changed, read under lock just before COMMIT. Refused if a row has no place on the other side."""
        by_table: dict[str, tuple[Written, dict[RowKey, Image | None]]] = {}
        for (sql, key), (written, before) in self._seen.items():
            by_table.setdefault(sql, (written, {}))[1][key] = before
        txn, made = uuid.uuid4().hex, list[Change]()
        for written, rows in by_table.values():
            now = self._current(written, list(rows))
            for key, before in rows.items():
                after = now.pop(key, None)
                if written.images.unlike(before, after):
                    made.append(self._made(written, key, before, after, txn, len(made), epoch))
            if now:
                raise Refused(f"{written.sql}: rows {list(now)[:3]} aren't those that were changed: keys equal by "
                              "collation; spell them as they are stored")  # fmt: skip
        return made

    def _made(
        self, written: Written, key: RowKey, before: Image | None, after: Image | None, txn: str, no: int, epoch: int
    ) -> Change:  # fmt: skip
        router = self._server.router
        merged = before, after
        if written.shard is not None:
            shard = written.shard
            merged = before and router.forward(shard, before), after and router.forward(shard, after)
            places = [router.locate(written.target, image) for image in merged if image is not None]
            if any(place != shard for place in places):
                raise Refused(
                    f"{written.sql} {key}: its sharding key belongs to {places}: it can't move between shards"
                )
        else:
            places = [router.locate(written.target, image) for image in (before, after) if image is not None]
            shard = places[0]
            if places[0] != places[-1]:
                raise Refused(f"{written.target} {key}: it can't move from {places[0]} to {places[-1]}: delete and "
                              "insert it under another key")  # fmt: skip
            for image in (before, after):
                if image is not None:
                    router.back(shard, image)
        named = (*router.same(shard), *key) if written.shard else key
        money, currency = written.at_stake(*merged)
        return Change(
            self._server.name, 0, written.target, str(shard), key, row_hash(written.target, named), before, after, txn,
            no, f"{txn}-{no}", epoch, money, currency,
        )  # fmt: skip

    def _see(self, written: Written, key: RowKey, before: Image | None) -> None:
        self._seen.setdefault((written.sql, key), (written, before))

    def _change(self, cursor: Any, plan: Plan, written: Written, args: Any) -> Any:
        """UPDATE and DELETE: the rows are read and locked first, and only those are changed."""
        images = written.images
        if plan.kind == "update":
            _refuse_key_change(plan, written)
        if known := self._known_key(plan, written, args):
            if (written.sql, known) not in self._seen:
                self._read(written, *self._tail(plan, args))
            return _execute(cursor, self._rendered(plan), args)
        rows = self._read(written, *self._tail(plan, args))
        keys = [images.key_of(image) for image in rows]
        head = self._part(plan, args, 0, plan.tail)
        condition, values = self._part(plan, args, *plan.where) if plan.where else ("", [])
        only, chosen = images.where(keys) if keys else ("1 = 0", [])
        if condition:
            only = f"({condition}\n) AND {only}"
        return cursor.execute(f"{head[0]} WHERE {only}", [*head[1], *values, *chosen])

    def _tail(self, plan: Plan, args: Any) -> tuple[str, list[Any]]:
        return self._part(plan, args, plan.tail, len(plan.text.rstrip().rstrip(";")))

    def _part(self, plan: Plan, args: Any, start: int, end: int) -> tuple[str, list[Any]]:
        """A part of the statement as a text with %s, and its parameters."""
        text = plan.render(lambda name: self._server.rename(name, self._key), start, end)
        if args is None:
            return text.replace("%", "%%"), []
        return _NAMED.sub("%s", text), plan.parameters(args, start, end)

    def _rendered(self, plan: Plan) -> str:
        return plan.render(lambda name: self._server.rename(name, self._key))

    def _known_key(self, plan: Plan, written: Written, args: Any) -> RowKey | None:
        """The key that WHERE names, if it names one whole key by parameters and nothing else."""
        wanted = {name.lower(): holder for name, holder in plan.equal.items()}
        if len(wanted) != len(written.images.key) or plan.kind not in ("update", "delete"):
            return None
        parts = []
        for column in written.images.key:
            holder = wanted.get(column.name.lower())
            _, name = plan.holders[holder] if holder is not None else (0, None)
            text = None if holder is None else key_text(column, args[name] if name else args[holder])
            if text is None:
                return None
            parts.append(text)
        return tuple(parts)

    def _insert(self, cursor: Any, plan: Plan, written: Written, args: Any) -> Any:
        """INSERT and REPLACE. Where they may meet rows that are there, those are read and locked first."""
        keys = self._new_keys(plan, written, args)
        if None in keys and len(keys) > 1:
            raise Refused(f"{written.sql}: several rows whose keys the server makes: insert them one by one")
        if plan.kind != "insert":
            _refuse_key_change(plan, written)
            for row in range(len(keys)):
                for index in written.definition.unique_indexes:
                    if rival := self._rival(plan, written, args, row, index):
                        self._read(written, *rival)
        result = _execute(cursor, self._rendered(plan), args)
        for key in keys:
            if key is None and cursor.lastrowid:
                self._see(written, (str(cursor.lastrowid),), None)
            elif isinstance(key, _Condition):
                for image in self._select(written, key.text, key.values):
                    self._see(written, written.images.key_of(image), None)
            elif key is not None:
                self._see(written, key, None)
        return result

    def _new_keys(self, plan: Plan, written: Written, args: Any) -> list[RowKey | _Condition | None]:
        """Per row its key, or how to find it, or None where the server makes it: an AUTO_INCREMENT that isn't given."""
        keys: list[RowKey | _Condition | None] = []
        for row in range(len(plan.rows)):
            parts: list[str | None] = []
            for column in written.images.key:
                value = self._value(plan, written, row, column.name)
                if value is not None and not value.simple:
                    raise Refused(f"{written.sql}: the key {column.name} of a new row must be a plain value")
                text = None if value is None or value.default else key_text(column, self._given(plan, args, value))
                if value is None or value.default or (column.auto_increment and text == "0"):
                    if not column.auto_increment or len(written.images.key) > 1:
                        raise Refused(f"{written.sql}: a new row needs a value for its key {column.name}")
                    keys.append(None)
                    break
                parts.append(text)
            else:
                known = tuple(p for p in parts if p is not None)
                own = written.definition.key
                whole = own is None or len(known) == len(parts)
                keys.append(known if whole or own is None else self._rival(plan, written, args, row, own))
        return keys

    def _rival(self, plan: Plan, written: Written, args: Any, row: int, index: Index) -> _Condition | None:
        """How to find the row that a new one meets by that unique index; None if it can't meet one."""
        terms: list[str] = []
        values: list[Any] = []
        for name in index.columns:
            column = written.definition.column(name)
            value = self._value(plan, written, row, name)
            absent = value is None or value.default
            if absent and column.default is None and (column.nullable or column.auto_increment):
                return None
            if value is None or absent or not value.simple or any(c is None for c, _ in index.parts):
                raise Refused(f"{written.sql}: {name} is unique and has no plain value: which row the new one meets "
                              "can't be told")  # fmt: skip
            text, some = self._part(plan, args, value.start, value.end)
            terms.append(f"{quote(name)} = {text}")
            values += some
        return _Condition(f"WHERE {' AND '.join(terms)}", values)

    def _given(self, plan: Plan, args: Any, value: Value) -> Any:
        """A plain value: the parameter, or a number's digits; None for a text in quotes."""
        if args is not None and (given := plan.parameters(args, value.start, value.end)):
            return given[0]
        text = plan.text[value.start : value.end].replace(" ", "")
        return text if text.lstrip("-").isdigit() else None

    def _value(self, plan: Plan, written: Written, row: int, column: str) -> Value | None:
        names = plan.columns or tuple(c.name for c in written.definition.columns if not c.invisible)
        if len(names) != len(plan.rows[row]):
            raise Refused(f"{written.sql}: {len(plan.rows[row])} values for {len(names)} columns")
        lower = [n.lower() for n in names]
        return plan.rows[row][lower.index(column.lower())] if column.lower() in lower else None

    def _read(self, written: Written, tail: str, args: Sequence[Any]) -> list[Image]:
        """Rows, read and locked, as they are before the first change."""
        images = self._select(written, tail, args)
        for image in images:
            self._see(written, written.images.key_of(image), image)
        return images

    def _select(self, written: Written, tail: str, args: Sequence[Any]) -> list[Image]:
        self._cursor.execute(f"SELECT {written.images.select} FROM {written.sql} {tail} FOR UPDATE", list(args))
        rows = self._cursor.fetchmany(MOST_ROWS + 1)
        if len(rows) > MOST_ROWS:
            raise Refused(f"{written.sql}: a statement that changes more than {MOST_ROWS:,} rows: cut it into several")
        return [written.images.read(tuple(r.values()) if isinstance(r, dict) else r) for r in rows]

    def _current(self, written: Written, keys: list[RowKey]) -> dict[RowKey, Image]:
        found: dict[RowKey, Image] = {}
        for i in range(0, len(keys), _AT_ONCE):
            condition, values = written.images.where(keys[i : i + _AT_ONCE])
            found |= {written.images.key_of(r): r for r in self._select(written, f"WHERE {condition}", values)}
        return found


@dataclass(frozen=True)
class _Condition:
    text: str
    values: list[Any]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.text, self.values))


def _execute(cursor: Any, sql: str, args: Any) -> Any:
    return cursor.execute(sql) if args is None else cursor.execute(sql, args)


def _refuse_key_change(plan: Plan, written: Written) -> None:
    sets = plan.columns if plan.kind == "update" else tuple(plan.equal) if plan.kind == "upsert" else ()
    for name in sets or ():
        if name.lower() in {n.lower() for n in written.images.key_names}:
            raise Refused(f"{written.sql}: the key {name} of rows is changed: delete and insert them instead")
