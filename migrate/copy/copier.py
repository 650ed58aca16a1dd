"""`migrate copy` and `migrate load`: chunks into the target, from shards or from files, exactly once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from migrate.config import Config
from migrate.copy.anchor import anchor
from migrate.copy.chunks import copy_chunk, load_file, plan_shards
from migrate.copy.gate import check_keys, check_shapes, check_target, check_values
from migrate.copy.job import ShardJob, definitions_of, shard_jobs
from migrate.copy.keyset import chunk_columns
from migrate.copy.manifest import ExportFile, parts_of, read_manifest
from migrate.db import connect
from migrate.errors import NoGo
from migrate.executor import results, workers
from migrate.faults import fault_point
from migrate.lease import lease
from migrate.model import Chunk, MergedTable, Shard, TableDef
from migrate.position import Position
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


def copy(config: Config, worker_count: int) -> CopyReport:
    """Copies every routed shard into its target table; goes on where an earlier run of it ended.

    NoGo before any row is loaded if shards, keys or the target don't allow it.
    """
    started = monotonic()
    with workers(config.run, worker_count) as pool, lease(config):
        tables = read_routing(config).checked()
        positions: dict[str, Position] = {}
        if not _begun(config):
            tables, positions = anchor(config, tables)
        _begin(config, tables, "copy", positions, definitions_of(tables), worker_count)
        fault_point("after_position_captured")
        jobs = shard_jobs(config, tables)
        source = _ShardSource(jobs)
        total = sum(j.table.rows for j in jobs.values())
        rows = _run(config, pool, source.next, source.planned, total, worker_count)
        _finish(config, rows, lambda: capture_positions(config))
        return _report(config, tables, rows, monotonic() - started)


def load(config: Config, folder: Path, worker_count: int) -> CopyReport:
    """Loads an export directory into the target tables; goes on where an earlier run of it ended.

    Every file's rows and SHA-256 are checked as it is loaded. NoGo if the files, the routes or the target don't fit.
    """
    started = monotonic()
    head, files, digest = read_manifest(folder)
    _check_files(folder, files)
    with workers(config.run, worker_count) as pool, lease(config):
        tables = read_routing(config).checked()
        if head.fingerprint != fingerprint(tables):
            raise NoGo(f"{folder} was exported from other shards, table shapes or routes than the config's now")
        way = f"load of export {digest[:16]}"
        _begin(config, tables, way, head.positions, head.definitions, worker_count)
        fault_point("after_position_captured")
        parts = parts_of(files)
        State.settled(config, lambda state: _plan_files(state, [c for each in parts.values() for c, _ in each]))
        fault_point("after_shard_planned")
        jobs = shard_jobs(config, tables)
        open_chunks = State.settled(config, lambda state: {c for shard in jobs for c in state.pending_chunks(shard)})
        pending: deque[tuple[Any, ...]] = deque()
        total = 0
        for file in files:
            wanted = [(chunk if chunk in open_chunks else None, part) for chunk, part in parts[file.name]]
            if any(chunk for chunk, _ in wanted):
                pending.append((load_file, jobs[file.chunk.shard], folder / file.name, file.sha256, wanted))
                total += sum(part.rows for chunk, part in wanted if chunk)
        rows = _run(config, pool, lambda: pending.popleft() if pending else None, None, total, worker_count)
        _finish(config, rows, lambda: head.consistent)
        return _report(config, tables, rows, monotonic() - started)


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


def _begun(config: Config) -> bool:
    return State.settled(config, lambda state: state.way) is not None


def _begin(
    config: Config,
    tables: Sequence[MergedTable],
    way: str,
    positions: dict[str, Position],
    definitions: dict[Shard, TableDef],
    worker_count: int,
) -> None:
    if not _begun(config):  # so nothing may be there
        check_shapes(tables)
        with connect(config.target, patience_s=config.run.patience_s) as session:
            check_target(session, tables)
        check_values(config, tables, worker_count)
        check_keys(config, tables, worker_count)
        State.settled(config, lambda state: state.save_definitions(definitions))
        fault_point("after_definitions_saved")
    sizes = {str(t.target): {"shards": len(t.shards), "rows": sum(s.rows for s in t.shards)} for t in tables}
    State.settled(config, lambda state: state.begin(way, fingerprint(tables), positions, tables=sizes))


def _run(
    config: Config,
    pool: Executor,
    tasks: Callable[[], tuple[Any, ...] | None],
    planned: Callable[[list[Chunk]], None] | None,
    total: int,
    worker_count: int,
) -> int:
    rows = 0
    with Progress("load", total) as progress, closing(results(pool, tasks, 2 * worker_count)) as found:
        for result in found:
            if isinstance(result, int):
                rows += result
                progress.add(result)
            elif planned:
                planned(result)
    return rows


def _finish(config: Config, rows: int, last_read: Callable[[], dict[str, Position]]) -> None:
    """All is in. Up to `last_read`, what sync replays may be on the target already."""
    if not State.settled(config, State.consistent):
        positions = last_read()
        fault_point("before_consistent_saved")
        State.settled(config, lambda state: state.save_consistent(positions))
    fault_point("before_finish")
    State.settled(config, lambda state: state.finish(rows=rows))


def _check_files(folder: Path, files: Sequence[ExportFile]) -> None:
    bad = [
        f"{f.name}: {'missing' if not path.exists() else f'{path.stat().st_size} bytes, expected {f.bytes}'}"
        for f in files
        if not (path := folder / f.name).exists() or path.stat().st_size != f.bytes
    ]
    if bad:
        raise NoGo(f"{folder} is not as its manifest says:\n  " + "\n  ".join(bad))


def _plan_files(state: State, chunks: Sequence[Chunk]) -> None:
    known = state.loaded()
    state.add_chunks([c for c in chunks if c.shard not in known])


def _report(config: Config, tables: Sequence[MergedTable], rows: int, seconds: float) -> CopyReport:
    loaded = State.settled(config, State.loaded)
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
