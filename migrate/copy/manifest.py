"""What an export directory holds: written file by file while it grows, whole when it is done."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from migrate.copy.reader import Part
from migrate.errors import ConfigError, NoGo, naming
from migrate.faults import fault_point
from migrate.model import Chunk, Key, Shard, TableDef, Target
from migrate.position import Position
from migrate.schema.stored import definition_from_json, definition_to_json

_FORMAT = 2
_FINAL, _GROWING = "manifest.json", "manifest.unfinished.jsonl"
_UNSAFE = re.compile(r'[\x00-\x1f%./:<>?*\\|"]')


@dataclass(frozen=True)
class ExportFile:
    """One file: a chunk of a shard, in parts that are loaded one by one. Rows without the header; bytes and SHA-256 of
    the file as it lies there, compressed or not; the parts' bytes are never compressed."""

    name: str
    target: Target
    chunk: Chunk
    rows: int
    bytes: int
    sha256: str
    parts: tuple[Part, ...]


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


def parts_of(files: Sequence[ExportFile]) -> dict[str, list[tuple[Chunk, Part]]]:
    """By name of a file its parts, each a chunk of its own, numbered through a shard's files; one for an empty file."""
    found: dict[str, list[tuple[Chunk, Part]]] = {}
    numbers: Counter[Shard] = Counter()
    for file in sorted(files, key=lambda f: f.chunk.number):
        shard, lower = file.chunk.shard, file.chunk.lower
        parts = list(file.parts) or [Part(0, 0, None)]
        found[file.name] = pairs = []
        for part in parts:
            upper = file.chunk.upper if part is parts[-1] else part.upper
            pairs.append((Chunk(shard, numbers[shard], lower, upper), part))
            lower = upper
            numbers[shard] += 1
    return found


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
        self.chunks: dict[tuple[Shard, int], Chunk] = {}
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

    def close(self) -> None:
        """Lets go of the folder; what was recorded stays."""
        self._file.close()

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
        if lines[0]["format"] != _FORMAT:
            raise NoGo(f"{self._path} is of format {lines[0]['format']}, not {_FORMAT}: export into an empty directory")
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
                self._know(map(_chunk, line["planned"]))
            else:
                file = _file(line)
                self.files[file.chunk.shard, file.chunk.number] = file
                self._know([file.chunk])

    def _know(self, chunks: Iterable[Chunk]) -> None:
        self.chunks.update({(c.shard, c.number): c for c in chunks})

    def add_plan(self, chunks: Sequence[Chunk]) -> None:
        """Records all chunks of a shard, before the first of them is read."""
        self._know(chunks)
        self._write({"planned": [_chunk_document(c) for c in chunks]})

    def add(self, file: ExportFile) -> None:
        """Records a finished file."""
        self.files[file.chunk.shard, file.chunk.number] = file
        self._know([file.chunk])
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
    return Chunk(Shard(*document["shard"]), document["number"], _key(document["lower"]), _key(document["upper"]))


def _key(document: list[str] | None) -> Key | None:
    return None if document is None else tuple(document)


def _file_document(file: ExportFile) -> dict[str, Any]:
    return {
        "name": file.name,
        "target": [file.target.schema, file.target.table],
        **_chunk_document(file.chunk),
        "rows": file.rows,
        "bytes": file.bytes,
        "sha256": file.sha256,
        "parts": [[part.rows, part.bytes, part.upper] for part in file.parts],
    }


def _file(document: dict[str, Any]) -> ExportFile:
    return ExportFile(
        document["name"],
        Target(*document["target"]),
        _chunk(document),
        document["rows"],
        document["bytes"],
        document["sha256"],
        tuple(Part(rows, size, _key(upper)) for rows, size, upper in document["parts"]),
    )
