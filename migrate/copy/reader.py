"""Reads a chunk of a shard as CSV, through MySQL Connector's C extension, unbuffered."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, BinaryIO

from _mysql_connector import MySQLInterfaceError

from migrate.config import Endpoint
from migrate.copy.keyset import KeyOfRow
from migrate.copy.rowformat import RowRefused, RowSelect, escaped_line, is_plain
from migrate.errors import MigrateError
from migrate.model import Key
from migrate.raw import open_raw, raw_error

PART_BYTES = 16 << 20  # what a chunk or a part may hold: a transaction of TiDB, memory of a worker
_BLOCK = 1000  # rows joined, checked and hashed at once: many for the work per block, few for the processor's cache


@dataclass(frozen=True)
class Part:
    """Lines of a file that are loaded in one transaction; `upper` is the key of the last one, None where rows have none
    that they could be told by."""

    rows: int
    bytes: int
    upper: Key | None


class Sink:
    """Where lines go: a file, counted and hashed on the way, and cut into parts of about `part_rows` rows."""

    def __init__(self, file: BinaryIO, head: bytes = b"", *, part_rows: int | None = None, key: KeyOfRow | None = None):
        self._file = file
        self._head = head
        self._part_rows = part_rows
        self._key = key
        self.restart()

    def restart(self) -> None:
        """Forgets everything written so far."""
        self.rows = self.bytes = 0
        self.parts: list[Part] = []
        self._part = (0, 0)
        self._sha = hashlib.sha256()
        self._file.seek(0)
        self._file.truncate()
        self._put(self._head)

    def write(self, block: bytes, rows: int, last: bytes | Sequence[bytes | None]) -> None:
        """Appends lines; `last` is the last one of them, or its row's values."""
        self.rows += rows
        self._put(block)
        self._last = last
        part_rows, part_bytes = self._part[0] + rows, self._part[1] + len(block)
        self._part = part_rows, part_bytes
        if self._part_rows and (part_rows >= self._part_rows or part_bytes >= PART_BYTES):
            self._cut()

    def _put(self, data: bytes) -> None:
        self.bytes += len(data)
        self._sha.update(data)
        self._file.write(data)

    def _cut(self) -> None:
        self.parts.append(Part(*self._part, self._key.of(self._last) if self._key else None))
        self._part = (0, 0)

    def end(self) -> None:
        """All lines are written: ends the last part."""
        if self._part[0]:
            self._cut()

    @property
    def sha256(self) -> str:
        return self._sha.hexdigest()


class ShardReader:
    """One connection to a source that reads chunks. Errors are ServerError's subclasses."""

    def __init__(self, endpoint: Endpoint):
        self.endpoint = endpoint
        # No conversion of results: it would replace what isn't valid in a column's charset by question marks.
        self._connection = open_raw(endpoint, ["SET character_set_results = NULL"])

    def read(self, select: RowSelect, source: str, sink: Sink) -> None:
        """Writes the rows of `source` (a FROM clause with its WHERE) to the sink."""
        if select.fast is None or not self._read_fast(select, source, sink):
            self._read_exact(select, source, sink)
        sink.end()

    def _read_fast(self, select: RowSelect, source: str, sink: Sink) -> bool:
        sink.restart()
        for rows in self._blocks(f"SELECT {select.fast} FROM {source}"):
            lines = list(chain.from_iterable(rows))
            try:
                block = b"".join(lines)
                # Line by line is twice as fast as the block: up to its first special character a line is only scanned.
                valid = block.isascii() or all(map(bytes.decode, lines))
                plain = valid and is_plain(block, len(lines), select.quoted)
            except (TypeError, UnicodeDecodeError):  # a NULL: CONCAT over max_allowed_packet; or a text that is none
                plain = False
            if not plain:
                self._drop()
                return False
            sink.write(block, len(lines), lines[-1])
        return True

    def _read_exact(self, select: RowSelect, source: str, sink: Sink) -> None:
        sink.restart()
        line = escaped_line(select.kinds)
        width = len(select.exact)
        for rows in self._blocks(f"SELECT {', '.join(select.exact)} FROM {source}"):
            if len(rows[0]) != width:
                raise MigrateError(f"{source}: expected {width} columns, got {len(rows[0])}")
            lines: list[bytes] = []
            try:
                lines.extend(map(line, rows))
            except ValueError as error:
                self._drop()
                raise self._refused(select, source, sink.rows + len(lines), rows[len(lines)], error) from None
            lines.append(b"")
            sink.write(b"\n".join(lines), len(rows), rows[-1])

    def _refused(
        self, select: RowSelect, source: str, before: int, row: tuple[bytes | None, ...], error: ValueError
    ) -> RowRefused:
        number, reason = error.args
        shown = "NULL" if row[0] is None else row[0][:80].decode(errors="backslashreplace")
        return RowRefused(
            f"{self.endpoint.name}: a row of {source} can't be carried as it is\n"
            f"  row {before + 1} of it ({select.columns[0]} = {shown}):\n    column {select.columns[number]}: {reason}"
        )

    def _blocks(self, sql: str) -> Iterator[list[tuple[Any, ...]]]:
        fetch = self._connection.fetch_row
        try:
            self._connection.query(sql.encode(), raw=True, buffered=False, raw_as_string=False)
            rows = iter(fetch, None)
            while block := list(islice(rows, _BLOCK)):
                yield block
            self._connection.free_result()
        except MySQLInterfaceError as error:
            raise raw_error(error, self.endpoint) from None

    def _drop(self) -> None:
        """Reads a half-read result to its end, so that the connection can be used again."""
        self._connection.free_result()

    def close(self) -> None:
        """Closes; never fails."""
        with suppress(MySQLInterfaceError):
            self._connection.close()
