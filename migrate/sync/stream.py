"""The stream of one instance's binlog: its transactions as plain tuples, for the tables that are wanted."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from uuid import UUID

import zstandard

from migrate.config import Endpoint
from migrate.errors import MigrateError, NoGo, ServerError
from migrate.position import Position, server_uuid
from migrate.sync import events as e
from migrate.sync.events import Event, EventError
from migrate.sync.place import Place
from migrate.sync.query import query, query_sql, xid_of
from migrate.sync.start import check_created, refused, request
from migrate.sync.tablemap import TableMap, table_map_names
from migrate.sync.wire import Wire
from migrate.xa import in_sql

BEGIN, ROWS, STATEMENT, COMMIT, IDLE, HEARTBEAT, UNDONE = range(1, 8)
INSERT, UPDATE, DELETE = range(1, 4)
Item = tuple[Any, ...]

_V1, _V2 = 8, 10  # where the column count stands, but for what a V2 event has in between
_OPERATIONS = {
    e.WRITE: (INSERT, _V2), e.UPDATE: (UPDATE, _V2), e.DELETE: (DELETE, _V2),
    e.WRITE_V1: (INSERT, _V1), e.UPDATE_V1: (UPDATE, _V1), e.DELETE_V1: (DELETE, _V1),
}  # fmt: skip
_PASSED_OVER = frozenset({
    e.INTVAR, e.RAND, e.USER_VAR, e.IGNORABLE, e.ROWS_QUERY, e.TRANSACTION_CONTEXT,
    e.VIEW_CHANGE, e.ANNOTATE_ROWS, e.BEGIN_LOAD_QUERY, e.APPEND_BLOCK,
    e.DELETE_FILE,
})  # fmt: skip
_BETWEEN = frozenset({e.STOP, e.PREVIOUS_GTIDS, e.GTID_LIST, e.BINLOG_CHECKPOINT})
_ROWS = struct.Struct("<IHHH")  # table id, flags, and of V2 the length of what follows, itself included
_NO_TABLE = 0xFFFFFF
_MOST_TABLE_MAPS = 10_000
_UNREADABLE = (EventError, ValueError, IndexError, KeyError, struct.error, zlib.error, zstandard.ZstdError)
_SERVER_ERRORS = frozenset({1236, 29, 1595})

# how a transaction was opened: not, by its GTID alone, or so that only a COMMIT ends it
_CLOSED, _ANNOUNCED, _OPEN = range(3)


class Stream:
    """Follows the binlog of an instance from a position. Iterate it once; make a new one after an error.

    `server_id` is ours alone among the replicas of the instance; a stream with the same one ends when this begins.

    Items are tuples, their first element says what they are:

    - (BEGIN, gtid or None, when): a transaction starts; `when` it was committed on the source, in epoch seconds
    - (ROWS, operation, table map, data, start, stop, columns before, columns after): row images in data[start:stop];
      the columns are bitmaps, or None if all are there (or there is no such image)
    - (STATEMENT, schema, sql, flags): DDL, or DML that was logged as a statement; `flags` of the event, and times
      65536 the error with which it ended on the source
    - (UNDONE, first, last): of the transaction's ROWS, counted from 0, those from `first` up to but not `last` were
      rolled back, and stand in the binlog all the same (a temporary table took part, or one without transactions)
    - (COMMIT, gtid or None, file, offset behind it, when): it ends. DDL is a transaction of its own
    - (IDLE,): nothing is there to read now
    - (HEARTBEAT, file, offset): the server is alive, and stands there

    `wanted` is asked once for each table map. Errors: ConnectionLost (make a new stream at the position of what is
    applied), Interrupted, NoGo (what follows the position is lost or mustn't be passed over), MigrateError.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        start: Position,
        wanted: Callable[[str, str], bool],
        *,
        server_id: int,
        heartbeat_s: float = 1.0,
    ):
        self._start, self._wanted = start, wanted
        self._maps: dict[int, TableMap | None] = {}
        self._cache: dict[bytes, tuple[int, TableMap | None]] = {}
        self._state, self._touched = _CLOSED, 0
        self._savepoints: dict[bytes, int] = {}
        self._gtid: str | None = None
        self._origin, self._number = "", 0
        self._when: float | None = None
        self._origins: dict[bytes, str] = {}
        self._wire = Wire(endpoint, server_id=server_id, heartbeat_s=heartbeat_s)
        try:
            uuid = server_uuid(self._wire)
            self._place = Place(start, uuid, by_place=request(self._wire, start, uuid))
        except BaseException:
            self._wire.close()
            raise

    @staticmethod
    def server_id(*names: str) -> int:
        """One of its own for all that the names tell apart (a migration, an instance, and what its stream is for); far
        above what people choose."""
        return 0x7000_0000 | zlib.crc32("/".join(names).encode()) & 0x0FFF_FFFF

    def position(self) -> Position:
        """The position after the last COMMIT that was given out, or where the server said since then that it has
        nothing more; the start as long as there was neither."""
        return self._place.position()

    def close(self) -> None:
        """Ends the stream; never fails."""
        self._wire.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Item]:
        try:
            yield from self._items(self._wire.events())
        except _UNREADABLE as error:
            raise MigrateError(f"{self._where} can't be read: {error}") from error
        except ServerError as error:
            if error.number in _SERVER_ERRORS:
                raise refused(self._wire, self._start, error) from None
            raise

    def _items(self, events: Iterable[Event | None]) -> Iterator[Item]:
        maps, cache, operations = self._maps, self._cache, _OPERATIONS
        read_rows, idle = _ROWS.unpack_from, (IDLE,)
        for event in events:
            if event is None:
                yield idle
                continue
            kind, when, end, _, data, start, stop = event
            if kind in operations:
                number, high, _, extra = read_rows(data, start)
                try:
                    table = maps[number | high << 32]
                except KeyError:
                    self._check_dummy(number)
                    continue
                if table is not None:
                    operation, size = operations[kind]
                    yield self._rows(operation, table, data, start + size + (extra - 2 if size == _V2 else 0), stop)
            elif kind == e.TABLE_MAP:
                body = data[start:stop]
                number, table = cache.get(body) or self._table(body)
                maps[number] = table
            elif kind == e.XID:
                yield self._commit(when, end)
            elif kind == e.GTID:
                uuid, number, committed = e.gtid(data, start, stop)
                origin = self._origins.get(uuid) or self._origin_of(uuid)
                yield self._begin(f"{origin}:{number}", origin, number, committed, when)
            else:
                yield from self._other(event)

    def _rows(self, operation: int, table: TableMap, data: bytes, at: int, stop: int) -> Item:
        """The item of a rows event whose column count stands at `at`."""
        if self._state != _OPEN:
            raise EventError(f"rows of {table.schema}.{table.table} outside a transaction")
        self._touched += 1
        count, at = e.lenenc(data, at)
        if count != len(table.types):
            raise EventError(f"{count} columns, but {table.schema}.{table.table} has {len(table.types)}")
        size = (count + 7) >> 3
        first = data[at : at + size]
        at += size
        columns = None if first == table.complete or table.names_all(first) else first
        if operation == INSERT:
            return ROWS, INSERT, table, data, at, stop, None, columns
        if operation == DELETE:
            return ROWS, DELETE, table, data, at, stop, columns, None
        second = data[at : at + size]
        after = None if second == table.complete or table.names_all(second) else second
        return ROWS, UPDATE, table, data, at + size, stop, columns, after

    def _table_of(self, data: bytes, start: int) -> TableMap | None:
        number, high, _, _ = _ROWS.unpack_from(data, start)
        return self._maps[number | high << 32]

    def _check_dummy(self, number: int) -> None:
        if number != _NO_TABLE:  # which ends a statement that changed no table of ours
            raise EventError(f"rows of table number {number}, of which no table map was seen")

    def _table(self, body: bytes) -> tuple[int, TableMap | None]:
        schema, name, at = table_map_names(body, 0)
        table = TableMap(schema, name, body, at, len(body)) if self._wanted(schema, name) else None
        if len(self._cache) >= _MOST_TABLE_MAPS:
            self._cache.clear()
        self._cache[body] = entry = (int.from_bytes(body[:6], "little"), table)
        return entry

    def _origin_of(self, uuid: bytes) -> str:
        return self._origins.setdefault(uuid, str(UUID(bytes=uuid)))

    def _begin(self, gtid: str | None, origin: str, number: int, committed: float | None, when: int) -> Item:
        """A transaction is announced by its GTID, or opened by its BEGIN."""
        if self._state != _CLOSED:
            raise EventError("a transaction begins inside another")
        self._state, self._touched = _ANNOUNCED, 0
        self._gtid, self._origin, self._number, self._when = gtid, origin, number, committed
        if self._savepoints:
            self._savepoints.clear()
        return BEGIN, gtid, float(when) if committed is None else committed

    def _commit(self, when: int, end: int) -> Item:
        """The transaction ends: from here on the position is behind it."""
        if self._state == _CLOSED:
            raise EventError("a transaction ends whose beginning was not seen")
        self._state = _CLOSED
        self._maps.clear()
        if self._origin:
            self._place.gtids.add(self._origin, self._number)
        self._place.passed(end)
        committed = float(when) if self._when is None else self._when
        return COMMIT, self._gtid, self._place.file, self._place.offset, committed

    def _other(self, event: Event) -> Iterator[Item]:
        """The rarer events."""
        kind, when, end, flags, data, start, stop = event
        if kind in (e.QUERY, e.QUERY_COMPRESSED, e.EXECUTE_LOAD_QUERY):
            yield from self._query(event)
        elif kind in (e.HEARTBEAT, e.HEARTBEAT_V2):
            file, offset = e.heartbeat(kind, end, data, start, stop)
            if self._state == _CLOSED:
                self._place.heard(file, offset)
            yield HEARTBEAT, file, offset
        elif kind == e.TRANSACTION_PAYLOAD:
            yield from self._items(e.payload_events(data, start, stop, end))
        elif kind == e.ANONYMOUS_GTID:
            yield self._begin(None, "", 0, e.gtid(data, start, stop)[2], when)
        elif kind == e.TAGGED_GTID:
            origin, number, committed = e.tagged_gtid(data, start, stop)
            yield self._begin(f"{origin}:{number}", origin, number, committed, when)
        elif kind == e.MARIADB_GTID:
            text, standalone = e.mariadb_gtid(data, start)
            yield self._begin(text, "", 0, None, when)
            self._state = _ANNOUNCED if standalone else _OPEN
        elif kind in e.COMPRESSED_ROWS:
            if self._table_of(data, start):
                yield from self._items([e.plain_rows(event)])
        elif kind == e.PARTIAL_UPDATE:
            if table := self._table_of(data, start):
                self._refuse_partial(table)
        elif kind == e.XA_PREPARE:
            yield self._xa_prepare(event)
        elif kind == e.FORMAT_DESCRIPTION:
            self._describe(when, end)
        elif kind == e.ROTATE:
            self._place.file = data[start + 8 : stop].decode()
        elif kind == e.INCIDENT:
            text = data[start + 3 : stop].decode(errors="replace")
            raise self.refusal(f"the server lost events here ({text or 'an incident'})", "copy again from here on")
        elif kind == e.START_ENCRYPTION:
            raise self.refusal("the binlog is encrypted in a way that its server doesn't undo", "turn encryption off")
        elif kind in _BETWEEN:
            if self._state == _CLOSED:
                self._place.between(end)
        elif kind not in _PASSED_OVER and not flags & e.IGNORABLE_FLAG:
            raise self.refusal(f"event type {kind} isn't known", "it may change data, so it is not passed over")

    def _query(self, event: Event) -> Iterator[Item]:
        """A statement: one that opens or ends a transaction, or one to be given out."""
        kind, when, end, flags, data, start, stop = event
        if kind == e.QUERY and data[query_sql(data, start) : stop] == b"BEGIN":
            yield from self._open(when)
            return
        statement = query(data, start, stop, kind=kind)
        verb = statement.sql[:20].upper()
        if statement.sql == b"COMMIT":
            yield self._commit(when, end)
        elif statement.sql == b"ROLLBACK":
            if self._touched:
                yield UNDONE, 0, self._touched
            yield self._commit(when, end)
        elif verb.startswith(b"ROLLBACK TO"):
            first = self._savepoints.get(_savepoint(statement.sql))
            if first is None and self._touched:
                raise self.refusal(
                    "a transaction is rolled back to a savepoint that isn't in the binlog",
                    "what of it holds can't be told; copy again from behind it",
                )
            if first is not None and first < self._touched:
                yield UNDONE, first, self._touched
        elif verb.startswith(b"SAVEPOINT "):
            self._savepoints[_savepoint(statement.sql)] = self._touched
        elif verb.startswith((b"XA START ", b"XA BEGIN ")):
            yield from self._open(when)
        elif verb.startswith((b"XA COMMIT ", b"XA ROLLBACK ")):
            if self._state == _CLOSED:
                yield self._begin(None, "", 0, None, when)
            self._end_prepared(xid_of(statement.sql), committed=verb.startswith(b"XA COMMIT"))
            yield self._commit(when, end)
        elif not verb.startswith((b"RELEASE SAVEPOINT ", b"XA END ")):
            self._cache.clear()  # after a restart, a table map may be equal to one of a table that was changed
            if self._state == _CLOSED:
                yield self._begin(None, "", 0, None, when)
            yield STATEMENT, statement.schema, statement.text, flags | statement.error << 16
            if self._state == _ANNOUNCED:
                yield self._commit(when, end)

    def _open(self, when: int) -> Iterator[Item]:
        if self._state == _CLOSED:
            yield self._begin(None, "", 0, None, when)
        elif self._state == _OPEN:
            raise EventError("a transaction begins inside another")
        self._state = _OPEN

    def _xa_prepare(self, event: Event) -> Item:
        _, when, end, _, data, start, _ = event
        one_phase, xid = e.xa_prepare(data, start)
        if not one_phase:
            if self._touched:
                raise self.refusal(
                    f"the XA transaction {in_sql(xid)} is prepared after it changed routed tables",
                    "whether it commits stands further on; sync doesn't follow XA transactions on routed tables: let "
                    "the application use plain ones until the cutover, then copy again under another name",
                )
            self._place.prepared.add(xid)
        return self._commit(when, end)

    def _end_prepared(self, xid: str, *, committed: bool) -> None:
        if committed and xid not in self._place.prepared:
            raise self.refusal(
                f"the XA transaction {in_sql(xid)} is committed, but was prepared before the position of the copy",
                "what it changed stands before that, and the copy may have read it or not: copy again under another "
                "name, which waits for such transactions to end (`migrate check` shows them)",
            )
        self._place.prepared.discard(xid)

    def _refuse_partial(self, table: TableMap) -> None:
        raise self.refusal(
            f"an update of {table.schema}.{table.table} has only the changed parts of its JSON",
            "SET GLOBAL binlog_row_value_options = '', let every client connect anew, and copy again",
        )

    def _describe(self, when: int, end: int) -> None:
        """A file begins, or the one in which the stream starts is described."""
        if self._state != _CLOSED:
            raise self.refusal("the binlog ends inside a transaction", "the server crashed there; copy again")
        self._cache.clear()
        if self._place.describe(when, end):
            check_created(self._wire, self._start, when)

    @property
    def _where(self) -> str:
        return f"{self._wire.endpoint}: the binlog at {self._wire.file}:{self._wire.offset}"

    def refusal(self, what: str, then: str) -> NoGo:
        """The error that ends sync where the stream stands."""
        return NoGo(f"{self._where}: {what}; {then}")


def _savepoint(sql: bytes) -> bytes:
    """The name in SAVEPOINT or ROLLBACK TO, as the server compares it."""
    return sql.split(None, 2 if sql.upper().startswith(b"ROLLBACK") else 1)[-1].strip(b' `"').lower()
