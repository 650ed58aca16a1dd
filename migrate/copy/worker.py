"""What a worker does with a shard: plan its chunks, copy one, export one, load one. Each process has its own
connections and keeps them; each task is safe to repeat."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import zstandard

from migrate.config import Endpoint
from migrate.copy.keyset import KeyOfRow, chunk_columns, key_of_row, key_order, predicate, walk
from migrate.copy.loader import load_lines
from migrate.copy.manifest import ExportFile
from migrate.copy.reader import PART_BYTES, Part, ShardReader, Sink
from migrate.copy.rowformat import RowSelect, header
from migrate.db import Session, patiently
from migrate.errors import ConnectionLost, NoGo, OutcomeUnknown, TryAgain, naming
from migrate.faults import fault_point
from migrate.model import Chunk, Interleave, ShardTable, Target, quote
from migrate.state import State

T = TypeVar("T")
_BATCH = 500
FILE_ROWS = 100_000


@dataclass(frozen=True)
class ShardJob:
    """Everything that a worker needs to know of a shard."""

    migration: str
    source: Endpoint
    target: Endpoint
    patience_s: int
    table: ShardTable
    into: Target
    remap: dict[str, Interleave]
    select: RowSelect
    chunk_rows: int

    @property
    def rows_per_chunk(self) -> int:
        """The configured number of rows, less where the rows are large."""
        return self.few(self.chunk_rows)

    def few(self, rows: int) -> int:
        """That many rows, or fewer where so many would be too large, by the server's estimate."""
        average = self.table.data_bytes // max(self.table.rows, 1)
        return max(1, min(rows, PART_BYTES // max(average, 1)))

    @property
    def key(self) -> KeyOfRow | None:
        """How to tell a row's key from what was selected of it, if it can be told."""
        return key_of_row(self.table.definition, self.remap)

    def source_rows(self, chunk: Chunk, limit: int | None = None) -> str:
        """The FROM clause of a chunk, or of its first `limit` rows in the order of the key."""
        index = self.table.definition.key
        force = f" FORCE INDEX ({quote(index.name)})" if index and (chunk.lower or chunk.upper or limit) else ""
        where = predicate(self.table.definition, chunk)
        order = f" ORDER BY {key_order(self.table.definition)} LIMIT {limit}" if limit else ""
        return f"{self.table.shard.sql}{force}{' WHERE ' + where if where else ''}{order}"


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


def copy_chunk(job: ShardJob, chunk: Chunk) -> int:
    """Reads the chunk and writes it, with its checkpoint, in one transaction of the target. Gives the rows that came
    in by it."""
    return _steadfast(job.patience_s, partial(_copy_chunk, job, chunk))


def _copy_chunk(job: ShardJob, chunk: Chunk) -> int:
    # A file of the system's temporary folder and not memory: a chunk may be larger than its estimate.
    with naming(f"the folder for temporary files, {tempfile.gettempdir()}"), tempfile.TemporaryFile() as file:
        sink = Sink(cast(BinaryIO, file))
        _connection(ShardReader, job.source).read(job.select, job.source_rows(chunk), sink)
        file.flush()
        fault_point("after_chunk_read")
        return _commit_lines(job, chunk, file.fileno(), sink.rows)


def _commit_lines(job: ShardJob, chunk: Chunk, lines: int, rows: int) -> int:
    """Loads the lines of an open file and marks the chunk as in, in one transaction; nothing if it is in already."""
    state = _state(job)
    # Optimistic: no row is locked while it is written, which takes a fifth of TiDB's work off. Who else writes the same
    # keys or the same checkpoint meanwhile is found at COMMIT, as a write conflict.
    with state.session.transaction("BEGIN OPTIMISTIC"):
        if not state.claim(chunk, rows):
            return 0
        fault_point("after_chunk_claimed")
        if rows:
            path = Path(f"/proc/self/fd/{lines}")  # it has no name
            load_lines(state.session, job.into, job.select.columns, path, rows, chunk)
        fault_point("after_chunk_loaded")
    fault_point("after_chunk_commit")
    return rows


def plan_export(job: ShardJob) -> list[Chunk]:
    """The chunks of a shard, for files, by a walk along its key."""

    def work() -> list[Chunk]:
        source = _connection(Session, job.source)
        return list(walk(source, job.table.shard, job.table.definition, job.few(FILE_ROWS)))

    return _steadfast(job.patience_s, work)


def export_chunk(job: ShardJob, chunk: Chunk, path: Path, compress: bool) -> ExportFile:
    """Writes the chunk as a file, whole or not at all. Of a chunk that is open above no more rows than a file should
    have: if there may be more, the file's chunk ends where they begin."""
    key = job.key
    limit = job.few(FILE_ROWS) if key and chunk.upper is None else None
    part_rows = job.rows_per_chunk if key or not chunk_columns(job.table.definition) else None

    def work() -> ExportFile:
        unfinished = path.with_name(path.name + ".unfinished")
        with naming(unfinished):
            with open(unfinished, "wb") as file:
                sink = Sink(file, header(job.select.columns), part_rows=part_rows, key=key)
                _connection(ShardReader, job.source).read(job.select, job.source_rows(chunk, limit), sink)
            upper = sink.parts[-1].upper if limit and sink.rows >= limit else chunk.upper
            size, digest = _compressed(unfinished) if compress else (sink.bytes, sink.sha256)
            os.replace(unfinished, path)
        fault_point("after_file_written")
        found = replace(chunk, upper=upper)
        return ExportFile(path.name, job.into, found, sink.rows, size, digest, tuple(sink.parts))

    return _steadfast(job.patience_s, work)


def _compressed(path: Path) -> tuple[int, str]:
    squeezed = path.with_name(path.name + ".zst")
    with open(path, "rb") as source, open(squeezed, "wb") as target:
        zstandard.ZstdCompressor().copy_stream(source, target)
    os.replace(squeezed, path)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return path.stat().st_size, digest


def load_file(job: ShardJob, path: Path, sha256: str, parts: Sequence[tuple[Chunk | None, Part]]) -> int:
    """Loads an exported file part by part, each in one transaction with its checkpoint, the chunk's; a part without one
    is in already. NoGo if the file isn't what was exported. Gives the rows that came in."""
    with naming(path), open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise NoGo(f"{path} is not the file that was exported: SHA-256 {found}, expected {sha256}")
        file.seek(0)
        lines = zstandard.ZstdDecompressor().stream_reader(file) if path.suffix == ".zst" else file
        lines.read(len(header(job.select.columns)))
        rows = 0
        for chunk, part in parts:
            data = lines.read(part.bytes)
            if chunk is not None:
                rows += _load_part(job, chunk, data, part.rows)
        return rows


def _load_part(job: ShardJob, chunk: Chunk, data: bytes, rows: int) -> int:
    with open(os.memfd_create(str(chunk)), "wb", buffering=0) as file:
        file.write(data)
        return _steadfast(job.patience_s, lambda: _commit_lines(job, chunk, file.fileno(), rows))
