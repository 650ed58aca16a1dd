"""What an export directory holds: written file by file while it grows, whole when it is done."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from migrate.errors import ConfigError, NoGo, naming
from migrate.faults import fault_point
from migrate.model import Chunk, Shard, TableDef, Target
from migrate.position import Position
from migrate.schema.stored import definition_from_json, definition_to_json

_FORMAT = 2
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
    """What holds for the whole export: the positions before its first row was read, the shards' definitions in force at
    them, and positions after its last row was read."""

    migration: str
    fingerprint: str
    columns: dict[str, list[str]]
    definitions: dict[Shard, TableDef]
    positions: dict[str, Position]
    consistent: dict[str, Position] = field(default_factory=dict)


def file_name(target: Target, shard_number: int, chunk_number: int, compress: bool) -> str:
    """The name that Dumpling would give: schema.table.number.csv, special characters as %XX."""
    return f"{escaped(target.schema)}.{escaped(target.table)}.{shard_number:05d}{chunk_number:07d}.csv" + (
        ".zst" if compress else ""
    )


def escaped(name: str) -> str:
    """The name with what a file system or Lightning would misread as %XX."""
    return _UNSAFE.sub(lambda m: f"%{ord(m[0]):02X}", name)


class GrowingManifest:
    """The manifest of an export under way: one line a file, written out at once, so that a killed export goes on
    where it was. Locked as long as this process lives: two exports into one folder would mix."""

    def __init__(self, folder: Path):
        """Opens the folder's; `lines` is what an earlier run wrote into it."""
        self._path = folder / _GROWING
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115  open, and locked, as long as the export runs
        self.files: dict[tuple[Shard, int], ExportFile] = {}
        self.planned: dict[Shard, list[Chunk]] = {}
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NoGo(f"another process is exporting into {folder}; wait for it, or name another directory") from None
        self._lines = self._read()

    @property
    def begun(self) -> bool:
        """Whether an earlier run began it."""
        return bool(self._lines)

    def begin(self, head: Head, compress: bool) -> None:
        """Begins it."""
        self.head = head
        self._write({"format": _FORMAT, "compress": compress, "head": _head_document(head)})

    def _read(self) -> list[dict[str, Any]]:
        data = self._path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]  # the last line of a killed export may be torn
        os.truncate(self._path, len(whole))
        lines = []
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                lines.append(json.loads(line))
            except ValueError as error:
                raise NoGo(
                    f"{self._path}: line {number} is damaged ({error}); export into an empty directory"
                ) from None
        return lines

    def resume(self, migration: str, fingerprint: str, compress: bool) -> None:
        """Goes on with what was begun. NoGo if that was another migration's, or of another fingerprint."""
        lines = self._lines
        # with the first start's positions: sync replays from there, whatever was read when
        self.head = _head(lines[0]["head"])
        if (self.head.migration, self.head.fingerprint) != (migration, fingerprint):
            raise NoGo(
                f"{self._path.parent} holds an unfinished export of other shards, shapes or routes; "
                "export into another directory, or empty this one"
            )
        if lines[0]["compress"] != compress:
            raise ConfigError(
                f"{self._path.parent} holds an export begun {'without' if compress else 'with'} --zstd: go on like that"
            )
        for line in lines[1:]:
            if "planned" in line:
                chunks = [_chunk(c) for c in line["planned"]]
                self.planned[chunks[0].shard] = chunks
            else:
                file = _file(line)
                self.files[file.chunk.shard, file.chunk.number] = file

    def add_plan(self, chunks: Sequence[Chunk]) -> None:
        """Records the chunks of a shard, before the first of them is read."""
        self.planned[chunks[0].shard] = list(chunks)
        self._write({"planned": [_chunk_document(c) for c in chunks]})

    def add(self, file: ExportFile) -> None:
        """Records a finished file."""
        self.files[file.chunk.shard, file.chunk.number] = file
        self._write(_file_document(file))

    def _write(self, document: dict[str, Any]) -> None:
        with naming(self._path):
            data = json.dumps(document, ensure_ascii=False).encode() + b"\n"
            while data:  # a disk that is nearly full takes a part
                data = data[self._file.write(data) :]

    def finish(self, consistent: dict[str, Position]) -> Path:
        """Writes the final manifest, whole or not at all, with positions after the last read; gives its path."""
        head = replace(self.head, consistent=consistent)
        final = self._path.parent / _FINAL
        files = sorted(self.files.values(), key=lambda f: f.name)
        document = {"format": _FORMAT, **_head_document(head), "files": [_file_document(f) for f in files]}
        temporary = final.with_suffix(".unfinished")
        with naming(temporary):
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump(document, file, ensure_ascii=False, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, final)
        fault_point("after_manifest_saved")
        self._path.unlink()
        self._file.close()
        return final


def read_manifest(folder: Path) -> tuple[Head, list[ExportFile], str]:
    """The head, the files and the SHA-256 of a finished export. ConfigError if there is none, or not a whole one."""
    try:
        text = (folder / _FINAL).read_bytes()
        document = json.loads(text)
    except FileNotFoundError:
        why = (
            "an export into it was not finished: run the same `migrate export` again"
            if (folder / _GROWING).exists()
            else "it is no export directory"
        )
        raise ConfigError(f"{folder} has no {_FINAL}: {why}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder / _FINAL}: cannot read it: {error}") from None
    try:
        if document["format"] != _FORMAT:
            raise ConfigError(f"{folder / _FINAL}: format {document['format']!r}, expected {_FORMAT}")
        head = _head(document)
        files = [_file(f) for f in document["files"]]
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{folder / _FINAL}: it is no manifest of an export: {error!r}") from None
    return head, files, hashlib.sha256(text).hexdigest()


def _head_document(head: Head) -> dict[str, Any]:
    alike: dict[TableDef, list[list[str]]] = {}
    for shard, definition in head.definitions.items():
        alike.setdefault(definition, []).append([shard.instance, shard.schema, shard.table])
    return {
        "migration": head.migration,
        "fingerprint": head.fingerprint,
        "columns": head.columns,
        "definitions": [
            {"definition": json.loads(definition_to_json(d)), "shards": shards} for d, shards in alike.items()
        ],
        "positions": head.positions,
        "consistent": head.consistent,
    }


def _head(document: dict[str, Any]) -> Head:
    definitions = {
        Shard(*shard): definition
        for each in document["definitions"]
        for definition in [definition_from_json(json.dumps(each["definition"]))]
        for shard in each["shards"]
    }
    return Head(
        document["migration"],
        document["fingerprint"],
        document["columns"],
        definitions,
        document["positions"],
        document["consistent"],
    )


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
