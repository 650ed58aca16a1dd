"""Whether the stored evidence is what was stored: the chain of hashes, the texts, and the files beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrate.config import Config
from migrate.db import Session, connect
from verify.canonical import NOTHING, digest_of_lines, link
from verify.evidence import folder_of, lines_of, record_text
from verify.meta import as_text


@dataclass(frozen=True, slots=True)
class Chain:
    """The verdict: how many records hold, the digest of the last, and what is wrong with the first that doesn't."""

    records: int
    head: str
    files: int
    broken: str | None = None

    @property
    def ok(self) -> bool:
        return self.broken is None

    def document(self) -> dict[str, Any]:
        return {"ok": self.ok, "records": self.records, "head": self.head, "files": self.files, "broken": self.broken}

    def text(self) -> str:
        if self.broken:
            return f"BROKEN: {self.broken}"
        return (
            f"OK: {self.records} records in one chain, {self.files} of them as files too\n"
            f"the last one's digest, to be kept elsewhere: {self.head}"
        )


def check(config: Config, folder: Path | None = None) -> Chain:
    """Reads all records of the migration, recomputes every hash, and compares them with the files."""
    folder = folder or folder_of(config)
    head, run = NOTHING, 0
    digests: dict[int, str] = {}
    with connect(config.target, patience_s=config.run.patience_s) as session:
        listed = session.query(
            "SELECT run, id, previous, digest, kind, ok, named FROM migrate_meta.evidence WHERE migration = %s "
            "ORDER BY run",
            [config.name],
        )
        for number, id_, previous, digest, *columns in listed:
            run += 1
            wrong = _wrong(session, run, int(number), as_text(id_), (head, as_text(previous), as_text(digest)), columns)
            if wrong:
                return Chain(run - 1, head, len(digests), wrong)
            head = as_text(digest)
            digests[run] = head
    files = 0
    for number, wrong in _files(folder, digests):
        if wrong:
            return Chain(number - 1, head, files, wrong)
        files += 1
    return Chain(run, head, files)


def _wrong(
    session: Session, run: int, number: int, id_: str, hashes: tuple[str, str, str], columns: list[Any]
) -> str | None:
    """What is wrong with the record that should be number `run`."""
    head, previous, digest = hashes
    if number != run:
        return f"run {run} is missing: run {number} follows run {run - 1}"
    text = record_text(session, id_)
    if link(previous, text) != digest:
        return f"run {run}: its text or its digest was changed after it was stored"
    if previous != head:
        return f"run {run}: it doesn't follow run {run - 1}, which was replaced"
    document = json.loads(text)
    kind, ok, named = columns
    if (document.get("run"), document.get("kind"), document.get("ok")) != (run, kind, bool(ok)):
        return f"run {run}: its columns were changed after it was stored: the text says otherwise"
    if document["mismatches"] != {"count": int(named), "sha256": digest_of_lines(lines_of(session, id_))}:
        return f"run {run}: the mismatches stored with it were changed"
    return None


def _files(folder: Path, digests: dict[int, str]) -> Iterator[tuple[int, str | None]]:
    """Each file's run, and what is wrong with it."""
    for path in sorted(folder.glob("[0-9]*.json")):
        number = int(path.stem)
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            whole = link(held["previous"], held["text"]) == held["digest"]
        except (OSError, ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            yield number, f"{path}: the file was changed after it was written"
        elif number not in digests:
            yield number, f"run {number} is in {path} and not in migrate_meta: the end of the chain was cut off"
        elif digests[number] != held["digest"]:
            yield number, f"run {number} in {path} is another than in migrate_meta: one of them was replaced"
        else:
            yield number, None
