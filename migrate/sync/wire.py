"""A connection over which a server sends its binlog: the request, and packets cut into checked events."""

from __future__ import annotations

import secrets
import select
import ssl
import struct
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from time import monotonic
from typing import Any
from uuid import NAMESPACE_OID, uuid5
from zlib import crc32

from migrate import db
from migrate.config import Endpoint
from migrate.db import Session
from migrate.errors import ConnectionLost, Interrupted, MigrateError, ServerError, classify
from migrate.sync.events import ARTIFICIAL_FLAG, FORMAT_DESCRIPTION, ROTATE, Event, format_description

_COM_BINLOG_DUMP, _COM_BINLOG_DUMP_GTID = 0x12, 0x1E
_NON_BLOCKING, _HEARTBEAT_V2 = 1, 2
_PACKET = struct.Struct("<IBIBIIIH")  # size and sequence number, status; then the event's common header
_LARGEST_PACKET = 0xFFFFFF
_CHECKED = 0x2144DF1C  # the CRC32 of anything that is followed by its own CRC32
_RECEIVE = 1 << 18
_QUIET_HEARTBEATS = 10
_FIRST_WAIT_MS, _LATER_WAIT_MS = 3, 50
_LOST, _NOT_AN_EVENT = 2013, 1220


class Wire(Session):
    """A session that turns into a stream of events. Ask what there is to ask before `dump` or `dump_gtids`.

    `file` and `offset` are where the stream stands, for messages.
    """

    def __init__(self, endpoint: Endpoint, *, server_id: int, heartbeat_s: float):
        super().__init__(endpoint)
        self.instance = endpoint.name
        self.file, self.offset = "", 0
        self._server_id, self._heartbeat_s = server_id, heartbeat_s
        self._checksums, self._blocking = False, True
        self._quiet_s = 0.0
        version = str(self.value("SELECT VERSION()"))
        self.mariadb = "MariaDB" in version
        self.version = tuple(
            int("".join(c for c in p if c.isdigit()) or 0) for p in version.split("-", maxsplit=1)[0].split(".")
        )
        self._register()

    def _register(self) -> None:
        ourselves = uuid5(NAMESPACE_OID, f"{self.instance} {self._server_id}")  # ends a dump that we left behind
        values = {"heartbeat_period": int(self._heartbeat_s * 1e9), "binlog_checksum": "'CRC32'"}
        settings = [f"@{side}_{name} = {value}" for side in ("master", "source") for name, value in values.items()]
        settings += [f"@{side}_uuid = '{ourselves}'" for side in ("slave", "replica")]
        self.execute(f"SET {', '.join(settings)}, @mariadb_slave_capability = 4")

    def event_begins(self, file: str, offset: int) -> bool:
        """Whether an event of that file begins at the offset."""
        self._connection.use_unicode = False  # the event may be a statement in any charset
        try:
            return bool(self.query("SHOW BINLOG EVENTS IN %s FROM %s LIMIT 1", (file, offset)))
        except ServerError as error:
            if error.number != _NOT_AN_EVENT:
                raise
            return False
        finally:
            self._connection.use_unicode = True

    def dump(self, file: str, offset: int, *, blocking: bool = True) -> None:
        """Asks for the events from that place on: all that will come, or all that are there now."""
        self.file, self.offset, self._blocking = file, offset, blocking
        flags = self._flags | (0 if blocking else _NON_BLOCKING)
        self._request(_COM_BINLOG_DUMP, struct.pack("<IHI", offset, flags, self._server_id) + file.encode())

    def dump_gtids(self, gtids: bytes) -> None:
        """Asks for all transactions that aren't in a set of GTIDs, encoded."""
        start = struct.pack("<HIIQI", self._flags, self._server_id, 0, 4, len(gtids))
        self._request(_COM_BINLOG_DUMP_GTID, start + gtids)

    @property
    def _flags(self) -> int:
        return 0 if self.mariadb or self.version < (8, 0, 26) else _HEARTBEAT_V2

    def _request(self, command: int, arguments: bytes) -> None:
        connection: Any = self._connection
        connection._execute_command(command, arguments)
        self._socket = connection._sock
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def events(self) -> Iterator[Event | None]:
        """The events, in order, without their checksums; None whenever there is nothing to read now.

        Ends only if the dump doesn't block. ConnectionLost if the server goes away or is silent for ten heartbeats,
        Interrupted on a request to stop, MigrateError if an event doesn't fit its checksum.
        """
        unpack, header = _PACKET.unpack_from, _PACKET.size
        data, at, view = b"", 0, memoryview(b"")
        while True:
            have = len(data)
            last = have - header
            while at <= last:
                size, status, when, kind, _, length, end, flags = unpack(data, at)
                stop = at + 5 + length
                if stop > have or status or size & 0xFFFFFF != length + 1:
                    break
                start, next_at = at + header, stop
                if kind in _LEARNED:
                    stop = self._learn(kind, flags, data, at, stop)
                elif self._checksums:
                    if crc32(view[at + 5 : stop]) != _CHECKED:
                        raise self._damaged(kind, end)
                    stop -= 4
                yield kind, when, end, flags, data, start, stop
                self.offset = end or self.offset
                at = next_at
            if have - at >= header and not data[at + 4] and _large(data, at):
                large, data = self._joined(data[at:])
                at, stop = 0, len(large)
                _, _, when, kind, _, length, end, flags = unpack(large)
                if length != stop - 5:
                    raise self._broken()
                if kind in _LEARNED:
                    stop = self._learn(kind, flags, large, 0, stop)
                elif self._checksums:
                    if crc32(memoryview(large)[5:]) != _CHECKED:
                        raise self._damaged(kind, end)
                    stop -= 4
                yield kind, when, end, flags, large, header, stop
                self.offset = end or self.offset
                del large
            else:
                if have - at >= 4 and have - at >= 4 + int.from_bytes(data[at : at + 3], "little"):
                    return self._answered(data[at + 4 :])
                while not (piece := self._receive()):
                    yield None
                data, at = data[at:] + piece, 0
            view = memoryview(data)

    def _joined(self, data: bytes) -> tuple[bytes, bytes]:
        """The event whose packets begin with `data`, as if it had come in one packet, and what came behind it."""
        whole = BytesIO()
        whole.write(data[:4])
        at = 0
        while True:
            while len(data) < at + 4:
                data += self._received()
            size = int.from_bytes(data[at : at + 3], "little")
            data = data[at + 4 :]
            at = 0
            left = size
            while left > len(data):
                whole.write(data)
                left -= len(data)
                data = self._received()
            whole.write(memoryview(data)[:left])
            at = left
            if size < _LARGEST_PACKET:
                return whole.getvalue(), data[at:]

    def _received(self) -> bytes:
        """What arrives next, waited for."""
        while not (piece := self._receive()):
            pass
        return piece

    def _receive(self) -> bytes:
        """What has arrived; nothing if nothing does within a moment."""
        while True:
            if db.stop.is_set():
                raise Interrupted("stopped on request")
            try:
                piece: bytes = self._socket.recv(_RECEIVE)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if not self._wait():
                    return b""
                continue
            except OSError as error:
                raise self.lost(str(error)) from None
            if not piece:
                raise self.lost("the server closed the connection")
            self._quiet_s = 0.0
            return piece

    def _wait(self) -> bool:
        """Whether something arrives within a moment. ConnectionLost if nothing has for too long."""
        begun = monotonic()
        if self._poll.poll(_LATER_WAIT_MS if self._quiet_s else _FIRST_WAIT_MS):
            return True
        self._quiet_s += monotonic() - begun  # the time of whoever reads us doesn't count
        if self._quiet_s > _QUIET_HEARTBEATS * self._heartbeat_s:
            raise self.lost(f"nothing came for {self._quiet_s:.0f} s, not even a heartbeat")
        return False

    def _learn(self, kind: int, flags: int, data: bytes, at: int, stop: int) -> int:
        """Takes from a FORMAT_DESCRIPTION or ROTATE what the wire must know; gives where its body ends."""
        start = at + _PACKET.size
        checked = crc32(memoryview(data)[at + 5 : stop]) == _CHECKED
        if kind == FORMAT_DESCRIPTION:
            self._checksums = format_description(data, start, stop).checksums
            if self._checksums and not checked:
                raise self._damaged(kind, 0)
            return stop
        if self._checksums and not checked and not flags & ARTIFICIAL_FLAG:
            raise self._damaged(kind, 0)
        stop -= 4 if checked else 0
        self.file = data[start + 8 : stop].decode()
        return stop

    def _answered(self, packet: bytes) -> None:
        """The server ended the stream: with an EOF, or with an error, which is raised."""
        if packet[:1] == b"\xff":
            number, text = int.from_bytes(packet[1:3], "little"), packet[3:].decode(errors="replace")
            raise classify(number, text[6:] if text[:1] == "#" else text, self._where)
        if packet[:1] != b"\xfe":
            raise self._broken()
        if self._blocking:
            raise self.lost("the server ended it: it stops, or another stream with our server_id began")

    @property
    def _where(self) -> str:
        return f"{self.endpoint} at {self.file}:{self.offset}"

    def lost(self, why: str) -> ConnectionLost:
        """The error of a stream that ended for that reason."""
        return ConnectionLost(_LOST, f"the binlog stream was lost: {why}", self._where)

    def _damaged(self, kind: int, end: int) -> MigrateError:
        return MigrateError(
            f"{self._where}: an event of type {kind} that ends at {end} doesn't fit its checksum: it was damaged on "
            f"the server's disk or on the way; start again, and if it stays, check {self.file} with mysqlbinlog "
            "--verify-binlog-checksum"
        )

    def _broken(self) -> MigrateError:
        return MigrateError(f"{self._where}: the server sent a packet that is no event; is a proxy in between?")


def file_created(endpoint: Endpoint, file: str, offset: int) -> int:
    """When a server made a binlog file (epoch seconds); `offset` is any event's in it, or its end."""
    with closing(Wire(endpoint, server_id=1 + secrets.randbelow(2**31), heartbeat_s=1)) as wire:
        wire.dump(file, offset, blocking=False)
        return next(event[1] for event in wire.events() if event and event[0] == FORMAT_DESCRIPTION)


_LEARNED = frozenset({FORMAT_DESCRIPTION, ROTATE})


def _large(data: bytes, at: int) -> bool:
    """Whether the event at `at` has several packets, or lacks more than a buffer's worth of bytes."""
    size = int.from_bytes(data[at : at + 3], "little")
    return size == _LARGEST_PACKET or at + 4 + size - len(data) > _RECEIVE
