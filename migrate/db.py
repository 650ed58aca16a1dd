"""Connections. Every one is opened here, with charset, time zone, sql_mode and isolation pinned."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from functools import cache
from typing import Any, Self, TypeVar

import pymysql
from pymysql.constants import COMMAND, FIELD_TYPE
from pymysql.cursors import SSCursor

from migrate.config import Endpoint
from migrate.errors import ConnectionLost, Interrupted, OutcomeUnknown, ServerError, classify

log = logging.getLogger("migrate")

# Set by the signal handler of the command; every wait of the toolkit listens to it.
stop = threading.Event()

# NO_AUTO_VALUE_ON_ZERO: an id of 0 stays 0. No NO_ZERO_DATE: what the source holds is let in. No ANSI_QUOTES,
# no PAD_CHAR_TO_FULL_LENGTH: they change what our own statements mean.
SQL_MODE = "STRICT_TRANS_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION"

PINNED = (
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    f"SET SESSION sql_mode = '{SQL_MODE}', time_zone = '+00:00', net_read_timeout = 3600, net_write_timeout = 3600, "
    "wait_timeout = 28800, sql_safe_updates = 0, sql_select_limit = 18446744073709551615, "
    "group_concat_max_len = 1048576, div_precision_increment = 4, foreign_key_checks = 0",
)

# No floats and no dates objects: a zero date and a last bit must survive the driver.
_CONVERSIONS: dict[Any, Any] = {
    **{t: int for t in (FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.INT24, FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG)},
    **{t: Decimal for t in (FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL)},
    **{t: pymysql.converters.encoders[t] for t in pymysql.converters.encoders},
}

# AttributeError: PyMySQL goes on to use a socket that it has just dropped, when LOAD DATA loses its connection.
_DRIVER = (pymysql.Error, OSError, AttributeError)

_GREETING_S = 60  # for a server that accepts connections and then says nothing

Row = tuple[Any, ...]
T = TypeVar("T")


class _Connection(pymysql.connections.Connection):
    """PyMySQL's, with one TLS context for all connections that verify no certificate. One of its own would read all the
    system's authorities for each, in vain: 20 to 40 ms of processor time."""

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        own: ssl.SSLContext = super()._create_ssl_ctx(sslp) if sslp else _unverified()  # type: ignore[misc]
        return own


@cache
def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Session:
    """One connection to one server. Integers come back as int, DECIMAL as Decimal, everything else as text or bytes.

    Errors are ServerError's subclasses, told apart by number. A session is used by one thread.
    """

    def __init__(self, endpoint: Endpoint, *, schema: str | None = None):
        self.endpoint = endpoint
        tls = dict(endpoint.tls)
        try:
            self._connection = _Connection(
                host=endpoint.host,
                port=endpoint.port,
                user=endpoint.user,
                password=endpoint.password,
                database=schema,
                charset="utf8mb4",
                autocommit=True,
                connect_timeout=min(10, endpoint.answer_s or 10),
                read_timeout=endpoint.answer_s or _GREETING_S,  # PyMySQL waits for the greeting without an end
                write_timeout=endpoint.answer_s or None,
                local_infile=True,
                conv=_CONVERSIONS,
                max_allowed_packet=1 << 30,
                ssl_disabled=endpoint.plain,
                ssl_ca=tls.get("ssl_ca"),
                ssl_cert=tls.get("ssl_cert"),
                ssl_key=tls.get("ssl_key"),
            )
        except pymysql.Error as error:
            raise self._error(error) from None
        _notice_dead_peers(self._connection)
        try:
            for statement in PINNED:
                self.execute(statement)
            vars(self._connection)["_read_timeout"] = endpoint.answer_s or None
        except BaseException:
            self.close()
            raise

    def _error(self, error: pymysql.Error) -> Exception:
        number, message = error.args[:2] if len(error.args) > 1 else (0, str(error) or "connection lost")
        if isinstance(error, pymysql.InterfaceError):  # PyMySQL's word for a closed connection is (0, '')
            number, message = 2006, "connection is closed"
        return classify(int(number), str(message), str(self.endpoint))

    def query(self, sql: str, args: Sequence[Any] = ()) -> list[Row]:
        """All rows of a statement's result."""
        with self._cursor(sql, args) as cursor:
            return list(cursor.fetchall())

    def one(self, sql: str, args: Sequence[Any] = ()) -> Row:
        """The first row. LookupError if there is none."""
        rows = self.query(sql, args)
        if not rows:
            raise LookupError(f"no row: {sql}")
        return rows[0]

    def value(self, sql: str, args: Sequence[Any] = ()) -> Any:
        """The first column of the first row, or None if there is no row."""
        rows = self.query(sql, args)
        return rows[0][0] if rows else None

    def execute(self, sql: str, args: Sequence[Any] = ()) -> int:
        """Runs a statement; gives the number of affected rows."""
        with self._cursor(sql, args) as cursor:
            return int(cursor.rowcount)

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Runs an INSERT .. VALUES for many rows, as multi-row statements; gives the number of affected rows."""
        cursor = self._connection.cursor()
        try:
            return int(cursor.executemany(sql, rows) or 0)
        except _DRIVER as error:
            raise self._translated(error) from None

    def stream(self, sql: str, args: Sequence[Any] = (), names: list[str] | None = None) -> Iterator[Row]:
        """The rows one by one, unbuffered: memory doesn't grow with the result. `names` gets the columns' names."""
        cursor = self._connection.cursor(SSCursor)
        try:
            cursor.execute(sql, args or None)
            if names is not None:
                names += [str(column[0]) for column in cursor.description or ()]
            while rows := cursor.fetchmany(1000):
                yield from rows
        except _DRIVER as error:
            raise self._translated(error) from None
        finally:
            if self._connection.open:
                cursor.close()

    def defaults(self, schema: str, table: str) -> dict[str, bytes | None]:
        """The default of each column, in utf8mb4, by COM_FIELD_LIST: the one place where MySQL shows the characters of
        four bytes in it, whether the table holds rows or not. The schema becomes the session's current one."""
        connection: Any = self._connection
        try:
            connection.select_db(schema)
            connection._execute_command(COMMAND.COM_FIELD_LIST, table.encode() + b"\0")
            found = {}
            while not (packet := connection._read_packet()).is_eof_packet():
                names = [packet.read_length_coded_string() for _ in range(6)]
                packet.advance(13)  # charset, length, type, flags, decimals and a filler
                found[names[4].decode()] = packet.read_length_coded_string()
            return found
        except _DRIVER as error:
            raise self._translated(error) from None

    @contextmanager
    def _cursor(self, sql: str, args: Sequence[Any]) -> Iterator[Any]:
        cursor = self._connection.cursor()
        try:
            cursor.execute(sql, args or None)
            yield cursor
        except _DRIVER as error:
            raise self._translated(error) from None
        finally:
            cursor.close()

    def _translated(self, error: Exception) -> Exception:
        if isinstance(error, pymysql.Error):
            return self._error(error)
        if isinstance(error, AttributeError) and self._connection.open:
            return error
        return ConnectionLost(2013, str(error), str(self.endpoint))

    @contextmanager
    def transaction(self, begin: str = "BEGIN") -> Iterator[None]:
        """Commits on leaving, rolls back on an error. OutcomeUnknown if the answer to COMMIT was lost."""
        self.execute(begin)
        try:
            yield
        except BaseException:
            self.rollback()
            raise
        try:
            self.execute("COMMIT")
        except ConnectionLost as error:
            raise OutcomeUnknown(f"the answer to COMMIT was lost: {error}") from None
        except ServerError:
            self.rollback()  # or the next BEGIN would commit what this COMMIT could not
            raise

    def rollback(self) -> None:
        """Rolls back; a lost connection has done so itself."""
        try:
            self.execute("ROLLBACK")
        except ConnectionLost:
            self.close()

    @property
    def last_message(self) -> str:
        """What the server said beside OK of the last statement, e.g. LOAD DATA's counts."""
        result: Any = self._connection._result  # type: ignore[attr-defined]
        message = result.message if result is not None else b""
        return message.decode(errors="replace") if isinstance(message, bytes) else str(message or "")

    @property
    def connection_id(self) -> int:
        return int(self._connection.thread_id())  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Closes; never fails."""
        with suppress(pymysql.Error, OSError):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _notice_dead_peers(connection: Any) -> None:
    """A peer that vanished without a word (power, network) is given up after a minute, not after hours."""
    sock = connection._sock
    for option, value in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3),
                          (socket.TCP_USER_TIMEOUT, 60_000)):  # fmt: skip
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def wait(seconds: float) -> None:
    """Sleeps, but not through a request to stop. Interrupted if there was one."""
    if stop.wait(seconds):
        raise Interrupted("stopped on request")


def patiently(patience_s: float, work: Callable[[], T], *errors: type[BaseException]) -> T:
    """Does the work; after one of those errors again, with growing waits up to 10 s, each with its reason in the log,
    and the error itself when `patience_s` seconds were waited. The time of the work itself doesn't count: a server
    that goes away in the tenth minute of it is waited for as long as one that is away at the start."""
    waited, pause = 0.0, 0.2
    while True:
        try:
            return work()
        except errors as error:
            if waited >= patience_s:
                raise
            log.warning("waiting: %s (next try in %.1f s)", error, pause)
        wait(pause)
        waited, pause = waited + pause, min(2 * pause, 10)


def connect(endpoint: Endpoint, *, patience_s: float = 0, schema: str | None = None) -> Session:
    """A session; a server that can't be reached is waited for up to `patience_s` seconds, a refusal isn't."""
    return patiently(patience_s, lambda: Session(endpoint, schema=schema), ConnectionLost)
