"""`migrate export`: shards into files that Lightning, IMPORT INTO and `migrate load` read as they are."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from migrate.config import Config
from migrate.copy.anchor import anchor
from migrate.copy.copier import definitions_of, shard_jobs
from migrate.copy.gate import check_shapes
from migrate.copy.manifest import ExportFile, GrowingManifest, Head, escaped, file_name
from migrate.copy.rowformat import header
from migrate.copy.worker import Done, export_chunk, plan_export
from migrate.errors import ConfigError, NoGo, naming
from migrate.executor import results, workers
from migrate.faults import fault_point
from migrate.model import Chunk, MergedTable, Shard, Target, quote
from migrate.progress import Progress
from migrate.schema import target_ddl
from migrate.source import capture_positions, fingerprint, read_routing

FILE_ROWS = 100_000


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
    with workers(config.run, worker_count) as pool:
        tables = read_routing(config).checked()
        check_shapes(tables)
        manifest = _manifest(folder)
        if manifest.begun:
            manifest.resume(config.name, fingerprint(tables), compress)
            _forget_lost(folder, manifest)
        else:
            tables, positions = anchor(config, tables)
            columns = {str(t.target): [c.name for c in t.definition.stored_columns] for t in tables}
            head = Head(config.name, fingerprint(tables), columns, definitions_of(tables), positions)
            manifest.begin(head, compress)
        fault_point("after_position_captured")
        if not compress:
            _check_space(folder, tables, manifest.files.values())
        with naming(folder):
            _write_schemas(folder, tables)
        jobs = shard_jobs(config, tables, FILE_ROWS)
        plans = deque(shard for shard in jobs if shard not in manifest.planned)
        chunks = deque(c for cs in manifest.planned.values() for c in cs if (c.shard, c.number) not in manifest.files)
        names = _Names(tables, compress)

        def tasks() -> tuple[Any, ...] | None:
            if chunks:
                chunk = chunks.popleft()
                job = jobs[chunk.shard]
                path = folder / names.of(job.into, chunk)
                return export_chunk, job, chunk, path, header(job.select.columns), compress
            return (plan_export, jobs[plans.popleft()]) if plans else None

        found = results(pool, tasks, 2 * worker_count)
        with Progress("export", sum(j.table.rows for j in jobs.values())) as progress, closing(found):
            progress.add(sum(f.rows for f in manifest.files.values()))
            for result in found:
                if isinstance(result, Done):
                    into = jobs[result.chunk.shard].into
                    name = names.of(into, result.chunk)
                    manifest.add(ExportFile(name, into, result.chunk, result.rows, result.bytes, result.sha256))
                    progress.add(result.rows)
                else:
                    manifest.add_plan(result)
                    chunks += result
        fault_point("before_manifest_saved")
        files = tuple(manifest.files.values())
        return ExportReport(manifest.finish(capture_positions(config)), files, monotonic() - started)


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


def _forget_lost(folder: Path, manifest: GrowingManifest) -> None:
    """Files that went missing since are written again."""
    for key, file in list(manifest.files.items()):
        path = folder / file.name
        if not path.exists() or path.stat().st_size != file.bytes:
            del manifest.files[key]


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
