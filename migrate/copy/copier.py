"""`migrate copy` and `migrate load`: chunks into the target, from shards or from files, exactly once."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from migrate.config import Config
from migrate.copy.gate import check_keys, check_shapes, check_target
from migrate.copy.keyset import chunk_columns
from migrate.copy.manifest import ExportFile, read_manifest
from migrate.copy.rowformat import row_select
from migrate.copy.worker import Done, ShardJob, copy_chunk, load_file, plan_shards
from migrate.errors import NoGo
from migrate.executor import results, workers
from migrate.faults import fault_point
from migrate.model import Chunk, MergedTable, Shard
from migrate.progress import Progress
from migrate.source import capture_positions, fingerprint, read_routing
from migrate.state import State

_SMALL_SHARDS = 64  # planned by one task: a shard of a few rows costs less than the task


@dataclass(frozen=True)
class CopyReport:
    """What is in, by target: shards, chunks, rows; and what this run did of it."""

    tables: tuple[dict[str, Any], ...]
    rows: int
    seconds: float
    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        return {
            "ok": True,
            "tables": list(self.tables),
            "rows": self.rows,
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }

    def text(self) -> str:
        lines = [
            f"{t['target']}: {t['rows']:,} rows of {t['shards']} shards in {t['chunks']} chunks" for t in self.tables
        ]
        rate = self.rows / self.seconds if self.seconds else 0
        lines.append(f"{self.rows:,} rows loaded in {self.seconds:.1f} s ({rate:,.0f} rows/s)")
        return "\n".join([*lines, *(f"note: {n}" for n in self.notes)])


def shard_jobs(config: Config, tables: Sequence[MergedTable], chunk_rows: int) -> dict[Shard, ShardJob]:
    """A job for every shard, the largest first, so that none is left to the end alone."""
    jobs = [
        ShardJob(
            migration=config.name,
            source=config.source(member.shard.instance),
            target=config.target,
            patience_s=config.run.patience_s,
            table=member,
            into=table.target,
            select=row_select(member.definition, table.remap(member.shard)),
            chunk_rows=chunk_rows,
        )
        for table in tables
        for member in table.shards
    ]
    return {j.table.shard: j for j in sorted(jobs, key=lambda j: -j.table.rows)}


def copy(config: Config, worker_count: int) -> CopyReport:
    """Copies every routed shard into its target table; goes on where an earlier run of it ended.

    NoGo before any row is loaded if shards, keys or the target don't allow it.
    """
    started = monotonic()
    with workers(config.run, worker_count) as pool, State.open(config) as state, state.lease(config.target):
        tables = read_routing(config).checked()
        _begin(config, state, tables, "copy", worker_count)
        if set(state.positions()) != {s.name for s in config.sources}:
            state.save_positions(capture_positions(config))
        fault_point("after_position_captured")
        jobs = shard_jobs(config, tables, config.run.chunk_rows)
        source = _ShardSource(jobs)
        rows = _run(pool, state, source.next, source.planned, sum(j.table.rows for j in jobs.values()), worker_count)
        return _report(state, tables, rows, monotonic() - started)


def load(config: Config, folder: Path, worker_count: int) -> CopyReport:
    """Loads an export directory into the target tables; goes on where an earlier run of it ended.

    Every file's rows and SHA-256 are checked as it is loaded. NoGo if the files, the routes or the target don't fit.
    """
    started = monotonic()
    head, files = read_manifest(folder)
    _check_files(folder, files)
    with workers(config.run, worker_count) as pool, State.open(config) as state, state.lease(config.target):
        tables = read_routing(config).checked()
        if head.fingerprint != fingerprint(tables):
            raise NoGo(f"{folder} was exported from other shards, table shapes or routes than the config's now")
        way = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()[:16]
        _begin(config, state, tables, f"load of export {way}", worker_count)
        state.save_positions(head.positions)
        jobs = shard_jobs(config, tables, config.run.chunk_rows)
        _plan_files(state, files)
        open_chunks = {chunk for job in jobs for chunk in state.pending_chunks(job)}
        pending = deque(
            (load_file, jobs[f.chunk.shard], f.chunk, folder / f.name, f.rows, f.sha256)
            for f in files
            if f.chunk in open_chunks
        )
        total = sum(task[4] for task in pending)
        rows = _run(pool, state, lambda: pending.popleft() if pending else None, None, total, worker_count)
        return _report(state, tables, rows, monotonic() - started)


class _ShardSource:
    """The tasks of a copy: plans, and the chunks that they bring to light."""

    def __init__(self, jobs: dict[Shard, ShardJob]):
        self._jobs = jobs
        self._chunks: deque[Chunk] = deque()
        self._plans: deque[list[ShardJob]] = deque()
        small: list[ShardJob] = []
        for job in jobs.values():
            if job.table.rows > job.rows_per_chunk:
                self._plans.append([job])
            else:
                small.append(job)
        self._plans += [small[i : i + _SMALL_SHARDS] for i in range(0, len(small), _SMALL_SHARDS)]

    def next(self) -> tuple[Any, ...] | None:
        if self._chunks:
            chunk = self._chunks.popleft()
            return copy_chunk, self._jobs[chunk.shard], chunk
        return (plan_shards, self._plans.popleft()) if self._plans else None

    def planned(self, chunks: list[Chunk]) -> None:
        self._chunks += chunks


def _begin(config: Config, state: State, tables: Sequence[MergedTable], way: str, worker_count: int) -> None:
    if state.way is None:  # nothing was begun, so nothing may be there
        check_shapes(tables)
        check_target(state.session, tables)
        check_keys(config, tables, worker_count)
    if state.begin(way, fingerprint(tables)):
        state.journal("begin", way=way, tables=[str(t.target) for t in tables])


def _run(
    pool: Executor,
    state: State,
    tasks: Callable[[], tuple[Any, ...] | None],
    planned: Callable[[list[Chunk]], None] | None,
    total: int,
    worker_count: int,
) -> int:
    rows = 0
    with Progress("load", total) as progress:
        for result in results(pool, tasks, 2 * worker_count):
            if isinstance(result, Done):
                rows += result.rows
                progress.add(result.rows)
            elif planned:
                planned(result)
    fault_point("before_finish")
    state.finish()
    state.journal("loaded", rows=rows)
    return rows


def _check_files(folder: Path, files: Sequence[ExportFile]) -> None:
    bad = [
        f"{f.name}: {'missing' if not path.exists() else f'{path.stat().st_size} bytes, expected {f.bytes}'}"
        for f in files
        if not (path := folder / f.name).exists() or path.stat().st_size != f.bytes
    ]
    if bad:
        raise NoGo(f"{folder} is not as its manifest says:\n  " + "\n  ".join(bad))


def _plan_files(state: State, files: Sequence[ExportFile]) -> None:
    known = state.loaded()
    state.add_chunks([f.chunk for f in files if f.chunk.shard not in known])


def _report(state: State, tables: Sequence[MergedTable], rows: int, seconds: float) -> CopyReport:
    loaded = state.loaded()
    documents = []
    notes = []
    for table in tables:
        counts = [loaded.get(s.shard, (0, 0, 0)) for s in table.shards]
        documents.append(
            {
                "target": str(table.target),
                "shards": len(table.shards),
                "chunks": sum(c[0] for c in counts),
                "rows": sum(c[2] for c in counts),
            }
        )
        if not chunk_columns(table.definition):
            notes.append(f"{table.target} has no key to cut it by: each shard was copied in one piece")
    return CopyReport(tuple(documents), rows, seconds, tuple(notes))
