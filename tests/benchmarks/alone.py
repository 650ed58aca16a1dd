"""What the target alone can do: the statements of a catch-up, recorded, and then sent as they are, with nobody who
reads a binlog, decodes and merges. Over as many connections, into copies of the tables as they were before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

from migrate.config import Config, Endpoint, load_config
from migrate.db import Session, connect
from migrate.model import Target
from migrate.position import capture
from migrate.state import State
from migrate.sync.follow import follow
from migrate.sync.run import _begin, _ready
from migrate.sync.writer import RawRow, Writer

_SCHEMA = "alone"
_TABLES = ("account", "account_entry")
Step = Callable[[Writer], object]


class _Recorder(Writer):
    """A writer that keeps what it was asked for, by connection."""

    all: list[list[Step]] = []  # noqa: RUF012 - of all of them

    def __init__(self, endpoint: Endpoint):
        super().__init__(endpoint)
        self._steps: list[Step] = []
        self._loading = False
        _Recorder.all.append(self._steps)

    def execute(self, sql: str) -> int:
        if not self._loading:
            moved = _moved(sql)
            self._steps.append(lambda writer: writer.execute(moved))
        return super().execute(sql)

    def rows(self, sql: str) -> list[RawRow]:
        moved = _moved(sql)
        self._steps.append(lambda writer: writer.rows(moved))
        return super().rows(sql)

    def load(self, target: Target, columns: Sequence[str], lines: Sequence[bytes], *, replace: bool) -> tuple[int, int]:
        there, joined = Target(_SCHEMA, target.table), [b"".join(lines)]
        self._steps.append(lambda writer: writer.load(there, columns, joined, replace=replace))
        self._loading = True
        try:
            return super().load(target, columns, lines, replace=replace)
        finally:
            self._loading = False


def _moved(sql: str) -> str:
    return sql.replace("`payment`.", f"`{_SCHEMA}`.")


def replay(file: Path) -> tuple[int, float]:
    """Lets sync catch up and records it, then sends the same to copies of the tables; changes, and seconds of that."""
    config = load_config(file)
    with connect(config.target) as session:
        _copy_tables(session)
    _Recorder.all.clear()
    with patch("migrate.sync.appliers.Writer", _Recorder):
        changes = _catch_up(config)
    writers = [Writer(config.target) for _ in _Recorder.all]
    begin = threading.Barrier(len(writers) + 1)

    def send(writer: Writer, steps: list[Step]) -> None:
        begin.wait()
        for step in steps:
            step(writer)

    with ThreadPoolExecutor(len(writers)) as pool:
        running = [pool.submit(send, w, s) for w, s in zip(writers, _Recorder.all, strict=True)]
        begin.wait()
        began = time.monotonic()
        for future in running:
            future.result()
        seconds = time.monotonic() - began
    with connect(config.target) as session:
        for table in _TABLES:
            there, here = (session.value(f"SELECT COUNT(*) FROM {schema}.{table}") for schema in (_SCHEMA, "payment"))
            assert there == here, f"{table}: {there} rows came by the statements alone, {here} by sync"
    return changes, seconds


def _copy_tables(session: Session) -> None:
    session.execute(f"DROP DATABASE IF EXISTS {_SCHEMA}")
    session.execute(f"CREATE DATABASE {_SCHEMA}")
    for table in _TABLES:
        session.execute(f"CREATE TABLE {_SCHEMA}.{table} LIKE payment.{table}")
        session.execute(f"INSERT INTO {_SCHEMA}.{table} SELECT * FROM payment.{table}")


def _catch_up(config: Config) -> int:
    with Session(config.sources[0]) as source:
        until = capture(source, "m1")
    State.settled(config, lambda state: _begin(state, _ready(state, ["m1"])))
    return follow(config, "m1", until).changes
