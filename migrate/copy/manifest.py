"""What an export directory holds: written file by file while it grows, whole when it is done."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrate.errors import ConfigError, NoGo
from migrate.model import Chunk, Shard, Target
from migrate.position import Position

_FORMAT = 1
_FINAL, _GROWING = "manifest.json", "manifest.unfinished.jsonl"
_UNSAFE = re.compile(r'[\x00-\x1f%./:<>?*\\|"]')


@dataclass(frozen=True)
class ExportFile:
    """One file: a chunk of a shard. Rows without the header; bytes and SHA-256 of the file as it lies there."""

    name: str
    target: Target
    chunk: Chunk
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Head:
    """What holds for the whole export."""

    migration: str
    fingerprint: str
    columns: dict[str, list[str]]
    positions: dict[str, Position]


def file_name(target: Target, shard_number: int, chunk_number: int, compress: bool) -> str:
    """The name that Dumpling would give: schema.table.number.csv, special characters as %XX."""
    return f"{escaped(target.schema)}.{escaped(target.table)}.{shard_number:05d}{chunk_number:07d}.csv" + (
        ".zst" if compress else ""
    )


def escaped(name: str) -> str:
    """The name with what a file system or Lightning would misread as %XX."""
    return _UNSAFE.sub(lambda m: f"%{ord(m[0]):02X}", name)


class GrowingManifest:
    """The manifest of an export under way: one line a file, flushed as it is written, so that a killed export
    goes on where it was."""

    def __init__(self, folder: Path, head: Head):
        self._path = folder / _GROWING
        self.files: dict[tuple[Shard, int], ExportFile] = {}
        self.planned: dict[Shard, list[Chunk]] = {}
        self.head = head
        lines = self._read()
        if lines:
            self._resume(lines)
        else:
            self._file = open(self._path, "w", encoding="utf-8")  # noqa: SIM115  open as long as the export runs
            self._write({"format": _FORMAT, "head": _head(head)})

    def _read(self) -> list[dict[str, Any]]:
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        whole = text[: text.rfind("\n") + 1]  # the last line of a killed export may be torn
        os.truncate(self._path, len(whole.encode()))
        return [json.loads(line) for line in whole.splitlines()]

    def _resume(self, lines: list[dict[str, Any]]) -> None:
        head = lines[0]["head"]
        if (head["migration"], head["fingerprint"]) != (self.head.migration, self.head.fingerprint):
            raise NoGo(
                f"{self._path.parent} holds an unfinished export of other shards, shapes or routes; "
                "export into another directory, or empty this one"
            )
        # The first start's positions stay: sync replays from there, whatever was read when.
        self.head = Head(**head)
        for line in lines[1:]:
            if "planned" in line:
                chunks = [_chunk(c) for c in line["planned"]]
                self.planned[chunks[0].shard] = chunks
            else:
                file = _file(line)
                self.files[file.chunk.shard, file.chunk.number] = file
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115

    def add_plan(self, chunks: Sequence[Chunk]) -> None:
        """Records the chunks of a shard, before the first of them is read."""
        self.planned[chunks[0].shard] = list(chunks)
        self._write({"planned": [_chunk_document(c) for c in chunks]})

    def add(self, file: ExportFile) -> None:
        """Records a finished file."""
        self.files[file.chunk.shard, file.chunk.number] = file
        self._write(_file_document(file))

    def _write(self, document: dict[str, Any]) -> None:
        self._file.write(json.dumps(document, ensure_ascii=False) + "\n")
        self._file.flush()

    def finish(self) -> Path:
        """Writes the final manifest, whole or not at all; gives its path."""
        final = self._path.parent / _FINAL
        files = sorted(self.files.values(), key=lambda f: f.name)
        document = {"format": _FORMAT, **_head(self.head), "files": [_file_document(f) for f in files]}
        temporary = final.with_suffix(".unfinished")
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(document, file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, final)
        self._file.close()
        self._path.unlink()
        return final


def read_manifest(folder: Path) -> tuple[Head, list[ExportFile]]:
    """The head and the files of a finished export. ConfigError if there is none, or not a whole one."""
    try:
        document = json.loads((folder / _FINAL).read_text(encoding="utf-8"))
    except FileNotFoundError:
        why = (
            "an export into it was not finished: run the same `migrate export` again"
            if (folder / _GROWING).exists()
            else "it is no export directory"
        )
        raise ConfigError(f"{folder} has no {_FINAL}: {why}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder / _FINAL}: cannot read it: {error}") from None
    if document.get("format") != _FORMAT:
        raise ConfigError(f"{folder / _FINAL}: format {document.get('format')!r}, expected {_FORMAT}")
    head = Head(document["migration"], document["fingerprint"], document["columns"], document["positions"])
    return head, [_file(f) for f in document["files"]]


def _head(head: Head) -> dict[str, Any]:
    return {
        "migration": head.migration,
        "fingerprint": head.fingerprint,
        "columns": head.columns,
        "positions": head.positions,
    }


def _chunk_document(chunk: Chunk) -> dict[str, Any]:
    shard = chunk.shard
    return {
        "shard": [shard.instance, shard.schema, shard.table],
        "number": chunk.number,
        "lower": chunk.lower,
        "upper": chunk.upper,
    }


def _chunk(document: dict[str, Any]) -> Chunk:
    lower, upper = document["lower"], document["upper"]
    return Chunk(
        Shard(*document["shard"]),
        document["number"],
        None if lower is None else tuple(lower),
        None if upper is None else tuple(upper),
    )


def _file_document(file: ExportFile) -> dict[str, Any]:
    return {
        "name": file.name,
        "target": [file.target.schema, file.target.table],
        **_chunk_document(file.chunk),
        "rows": file.rows,
        "bytes": file.bytes,
        "sha256": file.sha256,
    }


def _file(document: dict[str, Any]) -> ExportFile:
    return ExportFile(
        document["name"],
        Target(*document["target"]),
        _chunk(document),
        document["rows"],
        document["bytes"],
        document["sha256"],
    )
