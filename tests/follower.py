"""A small sync for the tests of cuts: it replays the statements of one instance's binlog on the target and stands still
as the table `migrate_meta.halt` says. The writers of these tests log statements, so SHOW BINLOG EVENTS tells all."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

from migrate.sandbox import Server
from migrate.state import State


class Follower(threading.Thread):
    """Applies the transactions of one instance, one by one. `lag_s`: how long each takes at least."""

    def __init__(self, name: str, source: Server, target: Server, migration: str, lag_s: float = 0.0):
        super().__init__(daemon=True)
        self.instance, self._migration, self._lag_s = name, migration, lag_s
        self._source, self._target = source.connect(), target.connect()
        self._ended = threading.Event()
        self.error: BaseException | None = None
        (file, offset, *_), *_ = self._ask(self._source, "SHOW MASTER STATUS")
        self.file, self.offset = str(file), int(offset)
        self.applied = 0
        self._beaten = 0.0

    def __enter__(self) -> Self:
        self._beat()
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self.join()
        self._ask(self._target, f"DELETE FROM migrate_meta.sync_status WHERE migration = '{self._migration}'")
        if self.error:
            raise self.error

    def run(self) -> None:
        try:
            while not self._ended.is_set():
                self._beat()
                for statements, end in self._transactions():
                    if not self._may_pass(end):
                        break
                    if statements:
                        self._apply(statements)
                    self.offset = end
                    self.applied += 1
                    if self._ended.wait(self._lag_s):
                        return
                self._ended.wait(0.01)
        except BaseException as error:
            self.error = error

    def _may_pass(self, end: int) -> bool:
        """Whether the transaction that ends there may be applied now; says that we stand if not."""
        self._beat()
        rows = self._ask(
            self._target,
            "SELECT position, reached_at IS NOT NULL FROM migrate_meta.halt WHERE `until` > NOW(6) AND "
            f"migration = '{self._migration}' AND instance = '{self.instance}'",
        )
        if not rows:
            return True
        (position, reached), *_ = rows
        wanted = json.loads(position) if position else None
        if wanted and (wanted["file"], end) <= (self.file, int(wanted["offset"])):
            return True
        if not reached:
            assert not wanted or self.offset == int(wanted["offset"]), "a position inside a transaction"
            here = json.dumps({"file": self.file, "offset": str(self.offset)})
            self._ask(
                self._target,
                f"UPDATE migrate_meta.halt SET reached_at = NOW(6), reached = '{here}' WHERE "
                f"migration = '{self._migration}' AND instance = '{self.instance}' AND "
                + (f"position = CAST('{position}' AS JSON)" if position else "position IS NULL"),
            )
        return False

    def _transactions(self) -> Iterator[tuple[list[str], int]]:
        statements: list[str] = []
        inside = False
        rows = self._ask(self._source, f"SHOW BINLOG EVENTS IN '{self.file}' FROM {self.offset} LIMIT 500")
        for _, _, kind, _, end, info in rows:
            if kind == "Query" and info == "BEGIN":
                inside = True
            elif kind == "Query" and inside:
                statements.append(re.sub(r"^use `\w+`; ", "", info))
            elif kind in ("Query", "Xid"):  # DDL, or a transaction's end
                yield statements, int(end)
                statements, inside = [], False
        if not rows:
            self._may_pass(self.offset + 1)

    def _apply(self, statements: list[str]) -> None:
        self._ask(self._target, "BEGIN")
        for statement in statements:
            if re.match(r"(INSERT|UPDATE|DELETE)", statement) and "_lab" in statement:
                self._ask(self._target, re.sub(r"(\w+_lab\w*\.\w+?)_\d+\b", r"\1", statement))
        self._ask(self._target, "COMMIT")

    def _beat(self) -> None:
        if time.monotonic() - self._beaten > 0.5:
            self._ask(
                self._target,
                "REPLACE INTO migrate_meta.sync_status "
                f"VALUES ('{self._migration}', '{self.instance}', NOW(6), '{{}}')",
            )
            self._beaten = time.monotonic()

    @staticmethod
    def _ask(connection: Any, sql: str) -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())


def await_true(condition: Callable[[], bool]) -> None:
    """Waits until it is. AssertionError after a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "a minute has passed"
        time.sleep(0.02)


class Writers:
    """Threads that move money between accounts of two shards a server in transactions of several statements."""

    def __init__(self, servers: list[Server], schema: str, shards: int, tps: float = 25.0):
        self._servers, self._schema, self._shards, self._tps = servers, schema, shards, tps
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(len(servers) * 2)]
        self.done = 0
        self.errors: list[BaseException] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def await_done(self, transactions: int) -> None:
        """Waits until so many are done in all."""
        await_true(lambda: self.done >= transactions or bool(self.errors))

    def _work(self, number: int) -> None:
        rng = random.Random(number)
        index = number % len(self._servers)
        own = [n for n in range(self._shards) if n % len(self._servers) == index]
        with self._servers[index].connect(autocommit=False) as connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION binlog_format = 'STATEMENT'")
            entry = 1_000_000 * (number + 1)
            while not self._stop.wait(rng.expovariate(self._tps / 2)):
                try:
                    for n in sorted(rng.sample(own, min(2, len(own)))):
                        account = n + self._shards * rng.randrange(50)
                        entry += 1
                        amount = rng.randrange(-500, 500)
                        table = f"{self._schema}.account_{n}"
                        cursor.execute(f"UPDATE {table} SET balance = balance + {amount} WHERE id = {account}")
                        self._stop.wait(rng.random() * 0.01)
                        id = entry * self._shards + n
                        cursor.execute(f"INSERT INTO {self._schema}.entry_{n} VALUES ({id}, {account}, {amount}, 'é,')")
                        if rng.random() < 0.2:
                            cursor.execute(f"DELETE FROM {self._schema}.entry_{n} WHERE id = {id - 4 * self._shards}")
                    connection.commit()
                    self.done += 1
                except BaseException as error:
                    connection.rollback()
                    if getattr(error, "args", (0,))[0] != 1213:
                        self.errors.append(error)
                        return


def make_state(config: Any) -> None:
    """The tables of migrate_meta."""
    with State.open(config):
        pass
