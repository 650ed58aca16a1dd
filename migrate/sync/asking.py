"""What a follower asks the sources, over sessions that notice when one of them stalls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from migrate.config import Config, Endpoint
from migrate.copy.rowformat import RowRefused, RowSelect, escaped_line
from migrate.db import Session

ANSWER_S = 10.0  # of a question that costs the server next to nothing
STREAM_S = 60.0  # of what is asked before a binlog is sent: the server may have to look through thousands of files


def impatient(endpoint: Endpoint, seconds: float) -> Endpoint:
    """The endpoint, of which each answer is waited for so long at most."""
    return replace(endpoint, answer_s=min(endpoint.answer_s or seconds, seconds))


class Asking(Session):
    """A session to an instance. ConnectionLost, with its name, if it doesn't answer: a source that stalls is a reason
    to tell and to try again, not to hang."""

    def __init__(self, config: Config, instance: str):
        super().__init__(impatient(config.source(instance), ANSWER_S))

    def lines(self, select: RowSelect, source: str) -> list[bytes]:
        """The rows of `source` (a FROM clause with its WHERE) as lines of CSV. RowRefused for a value that can't be
        carried as it is."""
        columns = ", ".join(select.exact)
        line, lines = escaped_line(select.kinds), []
        for row in self._raw(f"SELECT {columns} FROM {source}"):
            try:
                lines.append(line(row) + b"\n")
            except ValueError as error:
                number, reason = error.args
                raise RowRefused(
                    f"{self.endpoint.name}: a row of {source} can't be carried as it is\n"
                    f"    column {select.columns[number]}: {reason}"
                ) from None
        return lines

    def _raw(self, sql: str) -> list[tuple[bytes | None, ...]]:
        """Rows as the server's bytes, each text in its column's charset: a conversion would replace what isn't valid
        in it by question marks."""
        connection: Any = self._connection
        decoders, charset = connection.decoders, "SET character_set_results = "
        self.execute(f"{charset}NULL")
        connection.decoders, connection.use_unicode = {}, False
        try:
            rows = self.query(sql)
        finally:
            connection.decoders, connection.use_unicode = decoders, True
        self.execute(f"{charset}utf8mb4")
        return rows
