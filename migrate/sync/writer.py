"""One connection to the target through which changes are read, compared and written, in transactions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from _mysql_connector import MySQLInterfaceError

from migrate.config import Endpoint
from migrate.model import Target, quote
from migrate.raw import open_raw, raw_error

# A server may have these off globally; then it would let in what is no text.
_CHECKED = "SET SESSION tidb_skip_utf8_check = 0, tidb_skip_ascii_check = 0"

RawRow = tuple[bytes | None, ...]


class Writer:
    """Errors are ServerError's subclasses. Used by one thread."""

    def __init__(self, endpoint: Endpoint):
        self.endpoint = endpoint
        self._connection = open_raw(endpoint, [_CHECKED], local_infile=True)

    def execute(self, sql: str) -> int:
        """Runs a statement without a result; gives the number of affected rows."""
        connection = self._connection
        try:
            connection.query(sql.encode(), raw=True, buffered=False, raw_as_string=False)
            if connection.have_result_set:
                connection.free_result()
            return int(connection.affected_rows())
        except MySQLInterfaceError as error:
            raise raw_error(error, self.endpoint) from None

    def rows(self, sql: str) -> list[RawRow]:
        """All rows of a result, each value as the server's bytes."""
        connection = self._connection
        try:
            connection.query(sql.encode(), raw=True, buffered=True, raw_as_string=False)
            found = list(iter(connection.fetch_row, None))
            connection.free_result()
        except MySQLInterfaceError as error:
            raise raw_error(error, self.endpoint) from None
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

    def close(self) -> None:
        """Closes; never fails."""
        with suppress(MySQLInterfaceError):
            self._connection.close()
