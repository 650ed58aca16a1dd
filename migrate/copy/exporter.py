"""`migrate export`: shards into files that Lightning, IMPORT INTO and `migrate load` read as they are."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from time import monotonic
from typing import Any

from migrate.config import Config
from migrate.copy.anchor import anchor
from migrate.copy.files import FILE_ROWS, export_chunk, plan_export
from migrate.copy.gate import check_shapes
from migrate.copy.job import ShardJob, definitions_of, shard_jobs
from migrate.copy.manifest import ExportFile, GrowingManifest, Head, escaped, file_name
from migrate.errors import ConfigError, NoGo, naming
from migrate.executor import results, workers
from migrate.faults import fault_point
from migrate.model import Chunk, MergedTable, Shard, Target, quote
from migrate.progress import Progress
from migrate.schema import target_ddl
from migrate.source import capture_positions, fingerprint, read_routing


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote."""

    manifest: Path
    files: tuple[ExportFile, ...]
    seconds: float

    def document(self) -> dict[str, Any]:
        rows: dict[str, int] = {}
        for file in self.files:
            rows[str(file.target)] = rows.get(str(file.target), 0) + file.rows
        return {
            "ok": True,
            "manifest": str(self.manifest),
            "tables": [{"target": target, "rows": count} for target, count in sorted(rows.items())],
            "files": len(self.files),
            "rows": sum(rows.values()),
            "bytes": sum(f.bytes for f in self.files),
            "seconds": round(self.seconds, 3),
        }

    def text(self) -> str:
        document = self.document()
        return "\n".join(
            [
                *(f"{t['target']}: {t['rows']:,} rows" for t in document["tables"]),
                f"{document['rows']:,} rows, {document['bytes']:,} bytes in {document['files']} files, "
                f"{self.seconds:.1f} s",
                f"manifest: {self.manifest}",
            ]
        )


def export(config: Config, folder: Path, worker_count: int, *, compress: bool = False) -> ExportReport:
    """Exports every routed shard into the folder; goes on where an earlier run into it ended.

    ConfigError if the folder holds something else or a finished export; NoGo if shards of a table differ in shape.
    """
    started = monotonic()
    with workers(config.run, worker_count) as pool, closing(_manifest(folder)) as manifest:
        tables = _begun(config, folder, manifest, compress)
        fault_point("after_position_captured")
        if not compress:
            _check_space(folder, tables, manifest.files.values())
        with naming(folder):
            _write_schemas(folder, tables)
        jobs = shard_jobs(config, tables)
        shards = _Shards(jobs, manifest, worker_count)
        names = _Names(tables, compress)

        def tasks() -> tuple[Any, ...] | None:
            task = shards.next()
            if isinstance(task, Chunk):
                job = jobs[task.shard]
                return export_chunk, job, task, folder / names.of(job.into, task), compress
            return (plan_export, jobs[task]) if task else None

        found = results(pool, tasks, 2 * worker_count)
        with Progress("export", sum(j.table.rows for j in jobs.values())) as progress, closing(found):
            progress.add(sum(f.rows for f in manifest.files.values()))
            for result in found:
                if isinstance(result, ExportFile):
                    manifest.add(result)
                    progress.add(result.rows)
                    shards.written(result)
                else:
                    manifest.add_plan(result)
                    shards.planned(result)
        fault_point("before_manifest_saved")
        files = tuple(manifest.files.values())
        return ExportReport(manifest.finish(capture_positions(config)), files, monotonic() - started)


class _Shards:
    """What is left to export, by shard. A shard is read front to back, a file at a time, each beginning where the one
    before ended; the shard with most rows left goes first. One that holds more than a worker's share of all rows is cut
    beforehand, so that workers can share it: that takes a walk along its key, which reads it twice."""

    def __init__(self, jobs: dict[Shard, ShardJob], manifest: GrowingManifest, worker_count: int):
        self._manifest = manifest
        self._pieces: deque[Chunk] = deque(c for at, c in manifest.chunks.items() if at not in manifest.files)
        self._left = {shard: job.table.rows for shard, job in jobs.items()}
        self._next: list[tuple[int, Shard, Chunk]] = []  # a heap: most rows left first
        self._walks: deque[Shard] = deque()
        for file in manifest.files.values():
            self._left[file.chunk.shard] -= file.rows
        last = {c.shard: c for _, c in sorted(manifest.chunks.items())}
        share = max(sum(job.table.rows for job in jobs.values()) / worker_count, FILE_ROWS)
        for shard, job in jobs.items():
            if shard in last:
                self._follow(last[shard])
            elif job.table.rows > share or (job.key is None and job.table.rows > job.few(FILE_ROWS)):
                self._walks.append(shard)
            else:
                self._push(Chunk(shard, 0))

    def next(self) -> Chunk | Shard | None:
        """A piece to export, or a shard to walk, or neither for now."""
        if self._walks:
            return self._walks.popleft()
        if self._pieces:
            return self._pieces.popleft()
        return heappop(self._next)[-1] if self._next else None

    def written(self, file: ExportFile) -> None:
        """A piece is in its file; the shard goes on behind it, if that didn't reach its end."""
        self._left[file.chunk.shard] -= file.rows
        self._follow(file.chunk)

    def _follow(self, chunk: Chunk) -> None:
        if chunk.upper is not None and (chunk.shard, chunk.number + 1) not in self._manifest.chunks:
            self._push(Chunk(chunk.shard, chunk.number + 1, chunk.upper))

    def _push(self, chunk: Chunk) -> None:
        heappush(self._next, (-self._left[chunk.shard], chunk.shard, chunk))

    def planned(self, chunks: Sequence[Chunk]) -> None:
        """A walk has cut a shard into these."""
        self._pieces += chunks


class _Names:
    def __init__(self, tables: Sequence[MergedTable], compress: bool):
        self._numbers: dict[Shard, int] = {m.shard: i for t in tables for i, m in enumerate(t.shards)}
        self._compress = compress

    def of(self, target: Target, chunk: Chunk) -> str:
        return file_name(target, self._numbers[chunk.shard], chunk.number, self._compress)


def _manifest(folder: Path) -> GrowingManifest:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {p.name for p in folder.iterdir()}
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from None
    if "manifest.json" in names and "manifest.unfinished.jsonl" not in names:
        raise ConfigError(f"{folder} holds a finished export; name another directory")
    if names and "manifest.unfinished.jsonl" not in names:
        raise ConfigError(f"{folder} is not empty and holds no export of ours; name another directory")
    return GrowingManifest(folder)


def _begun(config: Config, folder: Path, manifest: GrowingManifest, compress: bool) -> Sequence[MergedTable]:
    """Begins the manifest, or goes on with it but for files that went missing since. Gives the tables to export."""
    tables = read_routing(config).checked()
    if not manifest.begun:
        tables, positions = anchor(config, tables)
    check_shapes(tables)
    if not manifest.begun:
        columns = {str(t.target): [c.name for c in t.definition.stored_columns] for t in tables}
        head = Head(config.name, fingerprint(tables), columns, definitions_of(tables), positions)
        manifest.begin(head, compress)
        return tables
    manifest.resume(config.name, fingerprint(tables), compress)
    for key, file in list(manifest.files.items()):
        path = folder / file.name
        if not path.exists() or path.stat().st_size != file.bytes:
            del manifest.files[key]
    return tables


def _check_space(folder: Path, tables: Sequence[MergedTable], written: Collection[ExportFile]) -> None:
    # What the data takes on the source's disk is no less than what its CSV takes, but for tiny tables.
    needed = sum(m.data_bytes for t in tables for m in t.shards) - sum(f.bytes for f in written)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise NoGo(
            f"{folder} has {free:,} bytes free, what is left to export is {needed:,} bytes: name a larger disk, "
            "or use --zstd"
        )


def _write_schemas(folder: Path, tables: Sequence[MergedTable]) -> None:
    for schema in {t.target.schema for t in tables}:
        ddl = f"CREATE DATABASE IF NOT EXISTS {quote(schema)} DEFAULT CHARSET utf8mb4;\n"
        (folder / f"{escaped(schema)}-schema-create.sql").write_text(ddl, encoding="utf-8")
    for table in tables:
        name = f"{escaped(table.target.schema)}.{escaped(table.target.table)}-schema.sql"
        (folder / name).write_text(target_ddl(table).sql + ";\n", encoding="utf-8")
