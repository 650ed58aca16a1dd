"""What a worker does with chunks: plans a shard's, copies one, loads those of an exported file."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from migrate.copy.folded import twin
from migrate.copy.job import ShardJob
from migrate.copy.keyset import walk
from migrate.copy.loader import load_lines
from migrate.copy.reader import Part, ShardReader, Sink
from migrate.copy.rowformat import header
from migrate.copy.worker import connection, steadfast
from migrate.db import Session
from migrate.errors import NoGo, naming
from migrate.faults import fault_point
from migrate.model import Chunk
from migrate.state import State

log = logging.getLogger("migrate")

_BATCH = 500


def _state(job: ShardJob) -> State:
    return State(job.migration, connection(Session, job.target))


def plan_shards(jobs: Sequence[ShardJob]) -> list[Chunk]:
    """Plans what is not planned yet of these shards, durably; gives their chunks that aren't in."""
    return steadfast(jobs[0].patience_s, partial(_plan_shards, jobs))


def _plan_shards(jobs: Sequence[ShardJob]) -> list[Chunk]:
    state = _state(jobs[0])
    batch: list[Chunk] = []
    for job in jobs:
        last = state.last_chunk(job.table.shard)
        if last is not None and last.upper is None:
            continue
        source = connection(Session, job.source)
        for chunk in walk(source, job.table, job.rows_per_chunk, last):
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
    return steadfast(job.patience_s, partial(_copy_chunk, job, chunk))


def _copy_chunk(job: ShardJob, chunk: Chunk) -> int:
    # A file of the system's temporary folder and not memory: a chunk may be larger than its estimate.
    with naming(f"the folder for temporary files, {tempfile.gettempdir()}"), tempfile.TemporaryFile() as file:
        sink = Sink(cast(BinaryIO, file))
        connection(ShardReader, job.source).read(job.select, job.source_rows(chunk), sink)
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
            skipped = load_lines(
                state.session, job.into, job.select.columns, path, rows, chunk,
                lambda count: _moved(state, job, chunk, path, count),
            )  # fmt: skip
            if skipped:
                rows -= skipped
                state.left_out(chunk, rows, skipped)
        fault_point("after_chunk_loaded")
    fault_point("after_chunk_commit")
    return rows


def _moved(state: State, job: ShardJob, chunk: Chunk, lines: Path, count: int) -> bool:
    """Whether rows that are there already can be left out: they, or their unique values, moved while they were read,
    and sync will bring what became of them. Not so if somebody else wrote to the table: it must have the rows that
    chunks brought, and no other. NoGo for a row that only the target takes for another."""
    there = int(state.session.value(f"SELECT COUNT(*) FROM {job.into.sql}"))
    if there + count != state.loaded_rows(job.siblings):
        return False
    if sentence := twin(state.session, connection(Session, job.source), job, lines):
        raise NoGo(
            f"{job.into}: {sentence}. Nothing of {chunk} is in; change or remove the row on {chunk.shard}, then run "
            "the same command again"
        )
    log.warning(
        "%s: %d rows of it are on %s already: they, or their unique values, moved while they were read; they are left "
        "out, and sync brings what became of them", chunk, count, job.into,
    )  # fmt: skip
    return True


def load_file(job: ShardJob, path: Path, sha256: str, parts: Sequence[tuple[Chunk | None, Part]]) -> int:
    """Loads an exported file part by part, each in one transaction with its checkpoint, the chunk's; a part without one
    is in already. NoGo if the file isn't what was exported. Gives the rows that came in."""
    with naming(path), open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise NoGo(f"{path} is not the file that was exported: SHA-256 {found}, expected {sha256}")
        file.seek(0)
        lines = _plain(file) if path.suffix == ".zst" else file
        lines.read(len(header(job.select.columns)))
        rows = 0
        for chunk, part in parts:
            data = lines.read(part.bytes)
            if chunk is not None:
                rows += _load_part(job, chunk, data, part.rows)
        return rows


def _load_part(job: ShardJob, chunk: Chunk, data: bytes, rows: int) -> int:
    with open(os.memfd_create("part"), "wb") as file:
        file.write(data)
        file.flush()
        return steadfast(job.patience_s, lambda: _commit_lines(job, chunk, file.fileno(), rows))


def _plain(file: BinaryIO) -> BinaryIO:
    import zstandard  # for those who want it

    return zstandard.ZstdDecompressor().stream_reader(file)
