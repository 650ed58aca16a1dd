"""What a worker does with files: writes chunks of a shard into them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from migrate.copy.job import ShardJob
from migrate.copy.keyset import chunk_columns, walk
from migrate.copy.manifest import ExportFile
from migrate.copy.reader import ShardReader, Sink
from migrate.copy.rowformat import header
from migrate.copy.worker import connection, steadfast
from migrate.db import Session
from migrate.errors import naming
from migrate.faults import fault_point
from migrate.model import Chunk

FILE_ROWS = 100_000


def plan_export(job: ShardJob) -> list[Chunk]:
    """The chunks of a shard, for files, by a walk along its key."""

    def work() -> list[Chunk]:
        source = connection(Session, job.source)
        return list(walk(source, job.table, job.few(FILE_ROWS)))

    return steadfast(job.patience_s, work)


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
                connection(ShardReader, job.source).read(job.select, job.source_rows(chunk, limit), sink)
            upper = sink.parts[-1].upper if limit and sink.rows >= limit else chunk.upper
            size, digest = _compressed(unfinished) if compress else (sink.bytes, sink.sha256)
            os.replace(unfinished, path)
        fault_point("after_file_written")
        found = replace(chunk, upper=upper)
        return ExportFile(path.name, job.into, found, sink.rows, size, digest, tuple(sink.parts))

    return steadfast(job.patience_s, work)


def _compressed(path: Path) -> tuple[int, str]:
    import zstandard  # for those who want it

    squeezed = path.with_name(path.name + ".zst")
    with open(path, "rb") as source, open(squeezed, "wb") as target:
        zstandard.ZstdCompressor().copy_stream(source, target)
    os.replace(squeezed, path)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return path.stat().st_size, digest
