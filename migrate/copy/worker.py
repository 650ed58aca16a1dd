"""What a worker does with a shard: plan its chunks, copy one, export one, load one. Each process has its own
connections and keeps them; each task is safe to repeat."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import zstandard

from migrate.config import Endpoint
from migrate.copy.keyset import predicate, walk
from migrate.copy.loader import load_lines
from migrate.copy.reader import ShardReader, Sink
from migrate.copy.rowformat import RowSelect
from migrate.db import Session, patiently
from migrate.errors import ConnectionLost, NoGo, OutcomeUnknown, TryAgain, naming
from migrate.faults import fault_point
from migrate.model import Chunk, ShardTable, Target, quote
from migrate.state import State

T = TypeVar("T")
_BATCH = 500
_CHUNK_BYTES = 16 << 20  # what a chunk may hold by the server's estimate: a transaction of TiDB, memory of a worker


@dataclass(frozen=True)
class ShardJob:
    """Everything that a worker needs to know of a shard."""

    migration: str
    source: Endpoint
    target: Endpoint
    patience_s: int
    table: ShardTable
    into: Target
    select: RowSelect
    chunk_rows: int

    @property
    def rows_per_chunk(self) -> int:
        """The configured number of rows, less where the rows are large."""
        average = self.table.data_bytes // max(self.table.rows, 1)
        return max(1, min(self.chunk_rows, _CHUNK_BYTES // max(average, 1)))

    def source_rows(self, chunk: Chunk) -> str:
        """The FROM clause of a chunk."""
        index = self.table.definition.key
        force = f" FORCE INDEX ({quote(index.name)})" if index and (chunk.lower or chunk.upper) else ""
        where = predicate(self.table.definition, chunk)
        return f"{self.table.shard.sql}{force}{' WHERE ' + where if where else ''}"


@dataclass(frozen=True)
class Done:
    """What became of a chunk: the rows and bytes of its lines, and the hash of its file where one was written."""

    chunk: Chunk
    rows: int
    bytes: int
    sha256: str = ""


class _Connections(threading.local):
    """The connections of a thread: a worker of a Dask cluster may have several."""

    def __init__(self) -> None:
        self.open: dict[tuple[type, Endpoint], Any] = {}


_connections = _Connections()


def _connection(kind: type[T], endpoint: Endpoint) -> T:
    found = _connections.open.get((kind, endpoint))
    if found is None:
        found = _connections.open[kind, endpoint] = kind(endpoint)  # type: ignore[call-arg]
    return cast(T, found)


def _disconnect() -> None:
    for connection in _connections.open.values():
        connection.close()
    _connections.open.clear()


def _steadfast(patience_s: float, work: Callable[[], T]) -> T:
    """Does the work, again if a connection was lost or the target asked for it; it must be safe to repeat.

    OutcomeUnknown if a COMMIT went unanswered and patience ended before the state could be read.
    """
    unknown: OutcomeUnknown | None = None

    def attempt() -> T:
        nonlocal unknown
        try:
            return work()
        except (ConnectionLost, OutcomeUnknown) as error:
            unknown = error if isinstance(error, OutcomeUnknown) else unknown
            _disconnect()
            raise

    try:
        return patiently(patience_s, attempt, ConnectionLost, TryAgain, OutcomeUnknown)
    except ConnectionLost:
        if unknown is not None:
            raise unknown from None
        raise


def _state(job: ShardJob) -> State:
    return State(job.migration, _connection(Session, job.target))


def plan_shards(jobs: Sequence[ShardJob]) -> list[Chunk]:
    """Plans what is not planned yet of these shards, durably; gives their chunks that aren't in."""
    return _steadfast(jobs[0].patience_s, partial(_plan_shards, jobs))


def _plan_shards(jobs: Sequence[ShardJob]) -> list[Chunk]:
    state = _state(jobs[0])
    batch: list[Chunk] = []
    for job in jobs:
        last = state.last_chunk(job.table.shard)
        if last is not None and last.upper is None:
            continue
        source = _connection(Session, job.source)
        for chunk in walk(source, job.table.shard, job.table.definition, job.rows_per_chunk, last):
            batch.append(chunk)
            if len(batch) >= _BATCH:
                state.add_chunks(batch)
                batch = []
    if batch:
        state.add_chunks(batch)
    fault_point("after_shard_planned")
    return [chunk for job in jobs for chunk in state.pending_chunks(job.table.shard)]


def copy_chunk(job: ShardJob, chunk: Chunk) -> Done:
    """Reads the chunk and writes it, with its checkpoint, in one transaction of the target."""
    return _steadfast(job.patience_s, partial(_copy_chunk, job, chunk))


def _copy_chunk(job: ShardJob, chunk: Chunk) -> Done:
    # A file of the system's temporary folder and not memory: a chunk may be larger than its estimate.
    with naming(f"the folder for temporary files, {tempfile.gettempdir()}"), tempfile.TemporaryFile() as file:
        sink = Sink(cast(BinaryIO, file))
        _connection(ShardReader, job.source).read(job.select, job.source_rows(chunk), sink)
        file.flush()
        fault_point("after_chunk_read")
        return commit_lines(job, chunk, _opened(file), sink.rows, sink.bytes)


def _opened(file: Any) -> Path:
    """A path to a file that is open: one without a name, or whatever its name, the very one that was checked."""
    return Path(f"/proc/self/fd/{file.fileno()}")


def commit_lines(job: ShardJob, chunk: Chunk, path: Path, rows: int, size: int, *, head: bool = False) -> Done:
    """Loads a file of lines and marks the chunk as in, in one transaction; nothing if it is in already."""
    state = _state(job)
    # Optimistic: no row is locked while it is written, which takes a fifth of TiDB's work off. Who else writes the same
    # keys or the same checkpoint meanwhile is found at COMMIT, as a write conflict.
    with state.session.transaction("BEGIN OPTIMISTIC"):
        if not state.claim(chunk, rows):
            return Done(chunk, 0, 0)
        fault_point("after_chunk_claimed")
        if rows:
            load_lines(state.session, job.into, job.select.columns, path, rows, chunk, head=head)
        fault_point("after_chunk_loaded")
    fault_point("after_chunk_commit")
    return Done(chunk, rows, size)


def plan_export(job: ShardJob) -> list[Chunk]:
    """The chunks of a shard, for files. A shard that the server says is small is one, without a look."""
    if 0 < job.table.rows <= job.rows_per_chunk:
        return [Chunk(job.table.shard, 0)]

    def work() -> list[Chunk]:
        source = _connection(Session, job.source)
        return list(walk(source, job.table.shard, job.table.definition, job.rows_per_chunk))

    return _steadfast(job.patience_s, work)


def export_chunk(job: ShardJob, chunk: Chunk, path: Path, head: bytes, compress: bool) -> Done:
    """Writes the chunk as a file, whole or not at all. Bytes and hash are the file's, compressed or not."""

    def work() -> Done:
        unfinished = path.with_name(path.name + ".unfinished")
        with naming(unfinished):
            with open(unfinished, "wb") as file:
                sink = Sink(file, head)
                _connection(ShardReader, job.source).read(job.select, job.source_rows(chunk), sink)
            done = Done(chunk, sink.rows, sink.bytes, sink.sha256)
            if compress:
                done = _compressed(unfinished, done)
            os.replace(unfinished, path)
        fault_point("after_file_written")
        return done

    return _steadfast(job.patience_s, work)


def _compressed(path: Path, done: Done) -> Done:
    squeezed = path.with_name(path.name + ".zst")
    with open(path, "rb") as source, open(squeezed, "wb") as target:
        zstandard.ZstdCompressor().copy_stream(source, target)
    os.replace(squeezed, path)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Done(done.chunk, done.rows, path.stat().st_size, digest)


def load_file(job: ShardJob, chunk: Chunk, path: Path, rows: int, sha256: str) -> Done:
    """Loads an exported file, with its checkpoint, in one transaction. NoGo if the file isn't what was exported."""
    with naming(path), open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise NoGo(f"{path} is not the file that was exported: SHA-256 {found}, expected {sha256}")
        size = file.tell()
        if path.suffix != ".zst":
            return _steadfast(job.patience_s, lambda: commit_lines(job, chunk, _opened(file), rows, size, head=True))
        file.seek(0)
        with naming(f"the folder for temporary files, {tempfile.gettempdir()}"), tempfile.TemporaryFile() as plain:
            zstandard.ZstdDecompressor().copy_stream(file, plain)
            plain.flush()
            return _steadfast(job.patience_s, lambda: commit_lines(job, chunk, _opened(plain), rows, size, head=True))
