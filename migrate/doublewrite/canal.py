"""What TiCDC's storage sink wrote, as changes of the target: an alternative to the target's outbox for reverse.

The sink writes canal-json, one message a line, into SCHEMA/TABLE/VERSION/[DATE/]CDC*.json, and the time up to which
everything is there into `metadata`. It may write a message twice. The changefeed needs enable-tidb-extension=true, and
the time zone UTC.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from migrate.catalog import SYSTEM_SCHEMAS
from migrate.db import connect
from migrate.doublewrite.outbox import Change, row_hash
from migrate.doublewrite.router import Image, Router
from migrate.doublewrite.server import Written, written_tables
from migrate.errors import MigrateError, NoGo, naming
from migrate.model import BINARIES, FLOATS, Column
from migrate.schema.column import members

_TSO_SHIFT = 18  # the low bits of a TSO count within its millisecond


class Sink:
    """A storage sink's folder as a source: changes after the TSO `after`, in the order of their commits."""

    name = "ticdc"

    def __init__(self, config: Any, router: Router, folder: Path, after: int):
        """`after`: the changefeed's start, when the target became primary: older changes came from the shards."""
        if not folder.is_dir():
            raise MigrateError(f"{folder}: no such folder: it is where TiCDC's storage sink writes")
        with connect(config.target, patience_s=config.run.patience_s) as session:
            self._tables = {w.target: w for w in written_tables(session, config, router).values()}
        self._router, self._folder, self._after = router, folder, after
        self._read: dict[Path, int] = {}  # bytes of each file that have been read
        self._waiting: dict[tuple[int, int], Change] = {}  # read, and beyond the checkpoint
        self._open: set[tuple[int, int]] = set()  # handed out, and not applied yet
        self._seen: set[tuple[int, int]] = set()
        self._held: set[int] = set()

    def read(self) -> list[Change]:
        """The changes up to the checkpoint that haven't been handed out. NoGo at a DDL."""
        until = self.checkpoint()
        for path in sorted(self._folder.glob("*/*/**/CDC*.json")):
            self._take(path)
        ready = sorted(k for k in self._waiting if k[0] <= until)[:2000]
        found = [self._waiting.pop(k) for k in ready]
        self._open.update(ready)
        late = {c: "an earlier change of the same row is held" for c in found if c.row_hash in self._held}
        self.hold(late)
        return [c for c in found if c not in late]

    def checkpoint(self) -> int:
        """The TSO up to which everything is in the folder; 0 before the first."""
        path = self._folder / "metadata"
        with naming(path):
            return int(json.loads(path.read_text())["checkpoint-ts"]) if path.exists() else 0

    def _take(self, path: Path) -> None:
        size = path.stat().st_size
        done = self._read.get(path, 0)
        if size <= done:
            return
        with naming(path), path.open("rb") as file:
            file.seek(done)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        self._read[path] = done + whole
        for change in self.changes(data[:whole].splitlines()):
            key = (change.seq, change.item)
            if change.seq > self._after and key not in self._seen:
                self._seen.add(key)
                self._waiting[key] = change

    def changes(self, lines: Iterable[bytes]) -> Iterator[Change]:
        """The changes in canal-json messages. NoGo for a DDL, MigrateError for what isn't understood."""
        for line in lines:
            if not line.strip():
                continue
            message = json.loads(line, parse_float=Decimal)
            kind = message["type"]
            if kind == "TIDB_WATERMARK" or message["database"] in SYSTEM_SCHEMAS:
                continue
            target = f"{message['database']}.{message['table']}"
            if message["isDdl"]:
                raise NoGo(f"TiCDC carries a DDL of {target}, which the shards don't have: {message['sql'][:300]}")
            if target not in self._tables:
                raise NoGo(f"TiCDC carries {target}, which is no target of this migration: filter it out")
            extension = message.get("_tidb") or {}
            if "commitTs" not in extension or extension.get("onlyHandleKey"):
                raise MigrateError("the changefeed needs enable-tidb-extension=true, and whole rows")
            yield from self._rows(self._tables[target], message, int(extension["commitTs"]))

    def _rows(self, written: Written, message: Mapping[str, Any], commit: int) -> Iterator[Change]:
        olds: Sequence[Any] = message.get("old") or [None] * len(message["data"])
        for data, old in zip(message["data"], olds, strict=True):
            row = self._image(written, data)
            before, after = {
                "INSERT": (None, row),
                "DELETE": (row, None),
                "UPDATE": (self._image(written, {**data, **(old or {})}), row),
            }[message["type"]]
            yield self._made(written, before, after, commit)

    def _made(self, written: Written, before: Image | None, after: Image | None, commit: int) -> Change:
        image = after or before or {}
        shard = self._router.locate(written.target, image)
        key = written.images.key_of(image)
        digest = hashlib.sha256(json.dumps([written.target, key]).encode()).digest()
        item = int.from_bytes(digest[:8], "big") >> 1
        money, currency = written.at_stake(before, after)
        return Change(
            self.name, commit, written.target, str(shard), key, row_hash(written.target, key), before, after,
            str(commit), 0, f"{commit}-{item}", 0, money, currency, item=item,
        )  # fmt: skip

    def _image(self, written: Written, data: Mapping[str, Any]) -> Image:
        missing = [c.name for c in written.images.columns if c.name not in data]
        if missing:
            raise MigrateError(f"{written.target}: a message of TiCDC lacks {', '.join(missing)}")
        return {c.name: _text(c, data[c.name]) for c in written.images.columns}

    def done(self, changes: Sequence[Change]) -> None:
        self._open.difference_update((c.seq, c.item) for c in changes)

    def hold(self, refused: dict[Change, str]) -> None:
        self._held.update(c.row_hash for c in refused)
        self.done([*refused])

    def backlog(self) -> tuple[int, float]:
        until = self.checkpoint()
        ready = [k for k in (*self._waiting, *self._open) if k[0] <= until]
        oldest = (min(k[0] for k in ready) >> _TSO_SHIFT) / 1000 if ready else time.time()
        return len(ready), max(0.0, time.time() - oldest)

    def close(self) -> None:
        """Nothing is open."""


def _text(column: Column, value: Any) -> str | None:
    """A value of a message as an image has it."""
    if value is None:
        return None
    text = str(value)
    if column.type in FLOATS:
        return repr(float(text))
    if column.type in BINARIES:
        return text.encode("latin-1").hex().upper()
    if column.type in ("enum", "set") and re.fullmatch(r"\d+", text):
        return _member(column, int(text), text)
    return text


def _member(column: Column, number: int, text: str) -> str:
    """The member of an ENUM or SET that a message names by its number."""
    names = members(column.full_type)
    if text in names:
        raise MigrateError(f"{column.name}: {text} is a member and may be another one's number: not to be told apart")
    if column.type == "enum":
        return names[number - 1] if number else ""
    return ",".join(n for i, n in enumerate(names) if number >> i & 1)
