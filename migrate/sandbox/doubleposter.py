"""Posts as an application on the library does: to whichever side is primary, waiting while a fence is up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pymysql
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from migrate.config import Config
from migrate.doublewrite import DoubleWrite, Fenced, NotOnBothSides
from migrate.doublewrite.epoch import Side
from migrate.errors import ConnectionLost, MigrateError, OutcomeUnknown, classify
from migrate.model import quote
from migrate.sandbox.jobs import Part, Row
from migrate.sandbox.poster import Poster, Writer
from migrate.sandbox.traffic import MakePoster
from migrate.sandbox.workload import Workload

_AGAIN_S = 0.02


@contextmanager
def posters(config: Config, workers: int) -> Iterator[MakePoster]:
    """Makes the posters of one application, whose pools they share. ConfigError if the double write isn't installed."""
    ledger = DoubleWrite(config, pool_size=workers, max_overflow=workers)

    for name in ledger.servers:
        event.listen(ledger.engine_of(name), "connect", _in_utc)

    def make(workload: Workload, give_up: threading.Event, on_error: Callable[[str], None]) -> Poster:
        return DoublePoster(ledger, workload, give_up, on_error)

    try:
        yield make
    finally:
        ledger.close()


def _in_utc(connection: Any, record: Any) -> None:
    del record
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION time_zone = '+00:00'")


class DoublePoster(Poster):
    """A poster of one thread. Tables are named as on the target; the library knows where they are."""

    def __init__(
        self, ledger: DoubleWrite, workload: Workload, give_up: threading.Event, on_error: Callable[[str], None]
    ):
        super().__init__(workload, give_up, on_error)
        self._ledger, self._ended = ledger, give_up

    def table(self, part: Part, target: str) -> str:
        return ".".join(map(quote, target.split(".")))

    def rows(self, part: Part, session: Writer) -> Iterator[tuple[str, Row]]:
        """A document that is rebuilt is written in the old words to a shard, in the new ones to the target."""
        if not part.rebuilt:
            return super().rows(part, session)
        if isinstance(session, _Statements) and session.side == "target":
            return ((self.table(part, table), row) for table, row in part.rebuilt)
        return ((part.place.table(table), row) for table, row in part.rows)

    def _commit(self, part: Part) -> None:
        """As an application does it: refused by a fence, the same transaction again, until it is let in."""
        while True:
            try:
                return super()._commit(part)
            except Fenced:
                self.fenced += 1
                if self._ended.wait(_AGAIN_S):
                    raise

    @contextmanager
    def transaction(self, part: Part) -> Iterator[Writer]:
        # The layout puts a row on the shard set that its sharding key names, modulo their number. Any of the part's
        # tables will do: all lie together.
        key = part.legs[0].account if part.legs else part.place.number
        tables = [*(table for table, _ in part.rebuilt or part.rows), *(change.table for change in part.changes)]
        target = self._account_table if part.legs else tables[0]
        server = self._ledger.server(key, target)
        connection = None
        try:
            with _errors(server):
                connection = self._ledger.connect(key, target=target)
                cursor = connection.cursor()
            yield _Statements(cursor, server, connection.dbapi_connection.side)
            with _errors(server, commits=True):
                connection.commit()
        except NotOnBothSides:  # committed; phase strict reports that the other side is late
            return
        except (ConnectionLost, OutcomeUnknown):
            if connection is not None:
                connection.invalidate()
            raise
        finally:
            if connection is not None:
                connection.close()


class _Statements:
    """The statements of one transaction, with the toolkit's errors."""

    def __init__(self, cursor: Any, server: str, side: Side):
        self._cursor, self._server, self.side = cursor, server, side

    def query(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with _errors(self._server):
            self._cursor.execute(sql, args or None)
            return list(self._cursor.fetchall())

    def execute(self, sql: str, args: Sequence[Any] = ()) -> int:
        with _errors(self._server):
            self._cursor.execute(sql, args or None)
            return int(self._cursor.rowcount)


@contextmanager
def _errors(server: str, commits: bool = False) -> Iterator[None]:
    """Turns the driver's errors into the toolkit's."""
    try:
        yield
    except MigrateError:
        raise
    except (DBAPIError, pymysql.Error, OSError) as error:
        raw = error.orig if isinstance(error, DBAPIError) else error
        number, text = (*getattr(raw, "args", ()), 0, str(raw))[:2] if isinstance(raw, pymysql.Error) else (0, str(raw))
        made = classify(int(number) if isinstance(number, int) else 0, str(text), server)
        if commits and isinstance(made, ConnectionLost):
            raise OutcomeUnknown(f"the answer to COMMIT was lost: {made}") from None
        raise made from None
