"""Servers of a test's own whose binlogs it may break, and their streams read to the end."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep
from typing import Any

from migrate.config import Endpoint, parse_url
from migrate.db import Session
from migrate.position import Position, capture, reached
from migrate.sandbox.mysql import MySQLServer
from migrate.sync.stream import BEGIN, COMMIT, DELETE, INSERT, ROWS, STATEMENT, UPDATE, Stream
from tests.integration.shards import run

_GUARD = """\
import sys, psutil
sys.stdin.read()
for process in psutil.process_iter(["cmdline"]):
    if "--" + sys.argv[1] in (process.info["cmdline"] or ()):
        process.kill()
"""
_OPERATIONS = {INSERT: "insert", UPDATE: "update", DELETE: "delete"}


class LoneServer(MySQLServer):
    """A MySQL alone, with options of the test's own."""

    options: Mapping[str, object] = {}

    def command(self) -> Sequence[str]:
        return [*super().command(), *(f"--{key}={value}" for key, value in self.options.items())]

    def restart(self) -> None:
        self.request_stop()
        self.wait_stopped()
        self.start()
        self.wait_ready()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def lone_server(folder: Path, wanted: str, **options: object) -> Iterator[LoneServer]:
    """A server of that version in a folder that isn't there, gone at the end, even if the tests are killed."""
    server = LoneServer("m1", folder, free_port(), "secret", number=7, wanted=wanted)
    server.options = {"innodb-buffer-pool-size": "64M", **{k.replace("_", "-"): v for k, v in options.items()}}
    with running(server):
        yield server


@contextmanager
def running(server: Any) -> Iterator[None]:
    """Starts a server and kills it at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", _GUARD, server.marker[2:]], stdin=subprocess.PIPE, start_new_session=True
    ):
        try:
            server.start()
            server.wait_ready()
            yield
        finally:
            server.kill()
            shutil.rmtree(server.folder, ignore_errors=True)


def endpoint_of(server: Any, **changes: Any) -> Endpoint:
    endpoint = parse_url(server.url, "m1", {})
    return Endpoint(**{**endpoint.__dict__, **changes})


def position_of(server: Any) -> Position:
    with Session(endpoint_of(server)) as session:
        return capture(session, "m1")


def purge_before(server: Any, file: str) -> None:
    """Purges the binlogs before a file, once the server has noticed that no stream reads them any more."""
    for _ in range(100):
        if run(server, f"PURGE BINARY LOGS TO '{file}'", "SHOW BINARY LOGS")[0][0] == file:
            return
        sleep(0.1)
    raise AssertionError(f"{server.name} doesn't purge the binlogs before {file}")


@dataclass
class Transaction:
    """What a stream told of one transaction; rows as (operation, table, values of INT columns per image)."""

    gtid: str | None
    rows: list[Any] = field(default_factory=list)
    statements: list[tuple[str, str]] = field(default_factory=list)
    after: Position = field(default_factory=dict)


def follow(
    server: Any,
    start: Position,
    wanted: Callable[[str, str], bool] = lambda schema, table: True,
    *,
    until: Position | None = None,
    endpoint: Endpoint | None = None,
    server_id: int = 4711,
) -> list[Transaction]:
    """The transactions from a position to another, or to the server's present one."""
    goal = until or position_of(server)
    found: list[Transaction] = []
    with closing(Stream(endpoint or endpoint_of(server), start, wanted, server_id=server_id)) as stream:
        if reached(stream.position(), goal):
            return []
        for item in stream:
            if item[0] == BEGIN:
                found.append(Transaction(item[1]))
            elif item[0] == ROWS:
                found[-1].rows += images(item)
            elif item[0] == STATEMENT:
                found[-1].statements.append(item[1:3])
            elif item[0] == COMMIT:
                found[-1].after = stream.position()
                assert item[1] == found[-1].gtid
                assert (item[2], str(item[3])) == (found[-1].after["file"], found[-1].after["offset"])
            if reached(stream.position(), goal):
                break
    return found


def images(item: tuple[Any, ...]) -> list[Any]:
    """The images of a ROWS item of a table whose columns are INTs, all present; other images as bytes."""
    _, operation, table, data, at, stop, before, after = item
    name = f"{table.schema}.{table.table}"
    if set(table.types) != {3} or before or after:
        return [(_OPERATIONS[operation], name, data[at:stop])]
    found = []
    count = len(table.types)
    while at < stop:
        nulls = int.from_bytes(data[at : at + (count + 7) // 8], "little")
        at += (count + 7) // 8
        image: list[int | None] = []
        for column in range(count):
            null = nulls >> column & 1
            image.append(None if null else struct.unpack_from("<i", data, at)[0])
            at += 0 if null else 4
        found.append(tuple(image))
    pairs: list[Any] = list(zip(found[::2], found[1::2], strict=True)) if operation == UPDATE else found
    return [(_OPERATIONS[operation], name, image) for image in pairs]
