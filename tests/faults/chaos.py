"""A writer that changes rows in every way that a binlog shows: keys, unique values, moves, large and undone ones."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pymysql

from migrate.sandbox import Server

_TABLE = """(id BIGINT NOT NULL PRIMARY KEY, tag VARCHAR(40) COLLATE utf8mb4_bin NULL, n INT UNSIGNED NOT NULL, amount
    DECIMAL(18,4) NOT NULL, memo VARCHAR(200) NULL, at DATETIME(6) NOT NULL, UNIQUE KEY tag (tag))
    ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"""
_COLUMNS = "id, tag, n, amount, memo, at"
_DUPLICATE = 1062
_ROWS = 120  # of each shard, about

Row = tuple[Any, ...]


class Chaos:
    """Writes to `shards` (a server and a table each) until it is stopped; a server that is away is waited for.

    `did` counts the transactions. What it knows it reads from the shards, so an answer that was lost does no harm.
    """

    def __init__(self, shards: Sequence[tuple[Server, str]], tps: float, seed: int):
        self._shards, self._pause, self._dice = shards, 1 / tps, random.Random(seed)
        self._fresh = itertools.count(1 + seed * 1_000_000)
        self._open: dict[str, pymysql.Connection[Any]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos")
        self.broken: BaseException | None = None
        self.far = False  # whether rows move between instances
        self.did = 0

    @staticmethod
    def create(shards: Sequence[tuple[Server, str]]) -> None:
        for server, table in shards:
            with server.connect() as connection, connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE IF NOT EXISTS {table.split('.')[0]} DEFAULT CHARSET utf8mb4")
                cursor.execute(f"CREATE TABLE {table} {_TABLE}")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends it; raises what broke it."""
        self._ended.set()
        self._thread.join()
        if self.broken:
            raise self.broken

    def _run(self) -> None:
        try:
            while not self._ended.wait(self._pause):
                server, table = self._dice.choice(self._shards)
                try:
                    self._act(server, table)
                    self.did += 1
                except pymysql.Error:
                    self._lose(server)
        except BaseException as error:
            self.broken = error
        finally:
            for connection in self._open.values():
                with suppress(pymysql.Error):
                    connection.close()

    def _act(self, server: Server, table: str) -> None:
        connection = self._session(server)
        rows = self._rows(connection, table)
        acts: list[Callable[[Any, str, list[Row]], None]] = [self._insert] * 2
        if len(rows) > 3:
            acts = [self._update, self._rekey, self._again, self._swap_tags, self._rotate_keys, self._undone,
                    self._move_near, self._twice]  # fmt: skip
            acts += [self._delete] * 3 if len(rows) > 5 and self._count(connection, table) > _ROWS else [self._insert]
            if self._dice.random() < 0.02:
                acts = [self._large]
            elif self.far and self._dice.random() < 0.06 and any(s.name != server.name for s, _ in self._shards):
                self._move_far(server, table, rows[0])
                return
        act = self._dice.choice(acts)
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            act(cursor, table, rows)
            cursor.execute("COMMIT")

    # -- what it does -------------------------------------------------------------------------------------------------

    def _insert(self, cursor: Any, table: str, rows: list[Row]) -> None:
        self._put(cursor, table, [self._new() for _ in range(self._dice.randint(1, 8))])

    def _update(self, cursor: Any, table: str, rows: list[Row]) -> None:
        cursor.execute(f"UPDATE {table} SET n = n + 1, amount = amount + 0.01, at = NOW(6) WHERE id >= {rows[0][0]} "
                       f"ORDER BY id LIMIT {self._dice.randint(1, 20)}")  # fmt: skip

    def _delete(self, cursor: Any, table: str, rows: list[Row]) -> None:
        cursor.execute(f"DELETE FROM {table} WHERE id IN ({', '.join(str(r[0]) for r in rows)})")

    def _rekey(self, cursor: Any, table: str, rows: list[Row]) -> None:
        cursor.execute(f"UPDATE {table} SET id = {next(self._fresh)} WHERE id = {rows[0][0]}")

    def _again(self, cursor: Any, table: str, rows: list[Row]) -> None:
        """Deleted and inserted with other values, in one transaction or in two."""
        cursor.execute(f"DELETE FROM {table} WHERE id = {rows[0][0]}")
        if self._dice.random() < 0.5:
            cursor.execute("COMMIT")
            cursor.execute("BEGIN")
        self._put(cursor, table, [(rows[0][0], rows[0][1], *self._new()[2:])])

    def _swap_tags(self, cursor: Any, table: str, rows: list[Row]) -> None:
        one, other = rows[:2]
        for tag, id in (None, one[0]), (one[1], other[0]), (other[1], one[0]):
            cursor.execute(f"UPDATE {table} SET tag = %s, n = n + 1 WHERE id = %s", (tag, id))

    def _rotate_keys(self, cursor: Any, table: str, rows: list[Row]) -> None:
        ids = [r[0] for r in rows[:3]]
        for old, new in (ids[0], -1), (ids[1], ids[0]), (ids[2], ids[1]), (-1, ids[2]):
            cursor.execute(f"UPDATE {table} SET id = {new} WHERE id = {old}")

    def _twice(self, cursor: Any, table: str, rows: list[Row]) -> None:
        """A row that comes and goes, and one that changes to and fro."""
        row = self._new()
        self._put(cursor, table, [row])
        cursor.execute(f"UPDATE {table} SET n = n + 1 WHERE id IN ({row[0]}, {rows[0][0]})")
        cursor.execute(f"DELETE FROM {table} WHERE id = {row[0]}")
        cursor.execute(f"UPDATE {table} SET n = n - 1 WHERE id = {rows[0][0]}")

    def _undone(self, cursor: Any, table: str, rows: list[Row]) -> None:
        """Half of it is rolled back to a savepoint, or all of it."""
        self._update(cursor, table, rows)
        cursor.execute("SAVEPOINT half")
        self._delete(cursor, table, rows)
        self._insert(cursor, table, rows)
        cursor.execute("ROLLBACK TO half" if self._dice.random() < 0.5 else "ROLLBACK")

    def _large(self, cursor: Any, table: str, rows: list[Row]) -> None:
        cursor.execute(f"UPDATE {table} SET n = n + 1, memo = REPEAT('länger ', {self._dice.randint(0, 20)})")

    def _move_near(self, cursor: Any, table: str, rows: list[Row]) -> None:
        """To another shard of the instance, the row leaving before it arrives or after."""
        server = next(s for s, t in self._shards if t == table)
        other = self._dice.choice([t for s, t in self._shards if s.name == server.name and t != table])
        leave = f"DELETE FROM {table} WHERE id = {rows[0][0]}"
        if early := self._dice.random() < 0.5:
            cursor.execute(leave)
        self._put(cursor, other, rows[:1])
        if not early:
            cursor.execute(leave)

    def _move_far(self, server: Server, table: str, row: Row) -> None:
        """To another instance, where it arrives after it left."""
        with self._session(server).cursor() as cursor:
            if not cursor.execute(f"DELETE FROM {table} WHERE id = {row[0]}"):
                return
        there, other = self._dice.choice([(s, t) for s, t in self._shards if s.name != server.name])
        while True:
            try:
                with self._session(there).cursor() as cursor:
                    self._put(cursor, other, [row])
                return
            except pymysql.Error as error:
                if error.args[0] == _DUPLICATE or self._ended.is_set():
                    return
                self._lose(there)

    # -- connections and rows -----------------------------------------------------------------------------------------

    def _session(self, server: Server) -> pymysql.Connection[Any]:
        if server.name not in self._open:
            self._open[server.name] = server.connect()
        return self._open[server.name]

    def _lose(self, server: Server) -> None:
        """Begins anew with a server, whose transaction rolls back."""
        with suppress(pymysql.Error, KeyError):
            self._open.pop(server.name).close()
        self._ended.wait(0.1)

    def _rows(self, connection: pymysql.Connection[Any], table: str) -> list[Row]:
        """Some rows, in no order."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {_COLUMNS} FROM {table} ORDER BY RAND() LIMIT 6")
            return list(cursor.fetchall())

    def _count(self, connection: pymysql.Connection[Any], table: str) -> int:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT COUNT(*) FROM {table}")
            return int(cursor.fetchall()[0][0])

    def _new(self) -> Row:
        id, dice = next(self._fresh), self._dice
        tag = None if dice.random() < 0.1 else f"tag {id}"
        memo = dice.choice([None, "", 'a "quote", a \\ and a\nline', "Zahlung für 𠮷"])
        return id, tag, dice.randrange(10, 1 << 31), f"{dice.randrange(10**9)}.{dice.randrange(10**4):04}", memo, \
            "2024-02-29 23:59:59.999999"  # fmt: skip

    @staticmethod
    def _put(cursor: Any, table: str, rows: Sequence[Row]) -> None:
        one = "(%s, %s, %s, %s, %s, %s)"
        cursor.execute(f"INSERT INTO {table} ({_COLUMNS}) VALUES {', '.join([one] * len(rows))}",
                       [value for row in rows for value in row])  # fmt: skip
