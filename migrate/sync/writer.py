"""One connection to the target through which changes are read, compared and written, in transactions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import mysql.vendor
from _mysql_connector import MySQL, MySQLInterfaceError

from migrate.config import Endpoint
from migrate.db import PINNED, Session
from migrate.errors import ConnectionLost, OutcomeUnknown, classify
from migrate.model import Target, quote

_PLUGINS = os.path.join(next(iter(mysql.vendor.__path__)), "plugin")
_AUTH_NEEDS_TLS = 2061
# A server may have these off globally; then it would let in what is no text.
_CHECKED = "SET SESSION tidb_skip_utf8_check = 0, tidb_skip_ascii_check = 0"

RawRow = tuple[bytes | None, ...]


class Writer:
    """MySQL Connector's C extension rather than PyMySQL: it reads rows and sends files without holding Python's lock,
    at a tenth of the cost. Errors are ServerError's subclasses. Used by one thread."""

    def __init__(self, endpoint: Endpoint):
        self.endpoint = endpoint
        self._connection = self._open()
        try:
            for statement in (*PINNED, _CHECKED):
                self.execute(statement)
        except BaseException:
            self.close()
            raise

    def _open(self) -> Any:
        try:
            return self._connected()
        except MySQLInterfaceError as error:
            if error.errno != _AUTH_NEEDS_TLS or not self.endpoint.plain:
                raise classify(error.errno, str(error.msg), str(self.endpoint)) from None
        Session(self.endpoint).close()  # puts the account into the server's cache without TLS, by its public key
        try:
            return self._connected()
        except MySQLInterfaceError as error:
            raise classify(error.errno, str(error.msg), str(self.endpoint)) from None

    def _connected(self) -> Any:
        connection = MySQL(
            buffered=False, raw=True, charset_name="utf8mb4", connection_timeout=10, plugin_dir=_PLUGINS
        )  # fmt: skip
        connection.connect(
            host=self.endpoint.host,
            port=self.endpoint.port,
            user=self.endpoint.user,
            password=self.endpoint.password,
            ssl_disabled=self.endpoint.plain,
            local_infile=True,
            **dict(self.endpoint.tls),
        )
        return connection

    def execute(self, sql: str) -> int:
        """Runs a statement without a result; gives the number of affected rows."""
        connection = self._connection
        try:
            connection.query(sql.encode(), raw=True, buffered=False, raw_as_string=False)
            if connection.have_result_set:
                connection.free_result()
            return int(connection.affected_rows())
        except MySQLInterfaceError as error:
            raise classify(error.errno, str(error.msg), str(self.endpoint)) from None

    def rows(self, sql: str) -> list[RawRow]:
        """All rows of a result, each value as the server's bytes."""
        connection = self._connection
        try:
            connection.query(sql.encode(), raw=True, buffered=False, raw_as_string=False)
            found = list(iter(connection.fetch_row, None))
            connection.free_result()
        except MySQLInterfaceError as error:
            raise classify(error.errno, str(error.msg), str(self.endpoint)) from None
        return found

    def load(self, target: Target, columns: Sequence[str], lines: Sequence[bytes], *, replace: bool) -> tuple[int, int]:
        """Loads lines of CSV; gives (affected rows, warnings). A row that is replaced by another one counts once, and
        once more for every further row that it displaces; one that is there already as it is doesn't count."""
        file = os.memfd_create("lines")
        try:
            with open(file, "wb", closefd=False) as out:
                out.write(b"".join(lines))
            affected = self.execute(
                f"LOAD DATA LOCAL INFILE '/proc/self/fd/{file}' {'REPLACE ' if replace else ''}INTO TABLE {target.sql} "
                "CHARACTER SET utf8mb4 FIELDS TERMINATED BY ',' ENCLOSED BY '\"' ESCAPED BY '\\\\' "
                f"LINES TERMINATED BY '\\n' ({', '.join(map(quote, columns))})"
            )
            return affected, int(self._connection.warning_count())
        finally:
            os.close(file)

    def warnings(self) -> list[str]:
        """What the server said against the last statement."""
        return [(message or b"").decode(errors="replace") for _, _, message in self.rows("SHOW WARNINGS")]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Optimistic: no row is locked, who else changes the same keys is found at COMMIT. OutcomeUnknown if the
        answer to COMMIT was lost."""
        self.execute("BEGIN OPTIMISTIC")
        try:
            yield
        except BaseException:
            with suppress(Exception):
                self.execute("ROLLBACK")
            raise
        try:
            self.execute("COMMIT")
        except ConnectionLost as error:
            raise OutcomeUnknown(f"{error}; the answer to COMMIT was lost") from None

    def close(self) -> None:
        """Closes; never fails."""
        with suppress(MySQLInterfaceError):
            self._connection.close()
