"""The evidence: every run as a record in migrate_meta and as a file, each bound to the one before it by its hash.

A record's text never changes. Whoever edits, removes or reorders one breaks the chain at that place; whoever cuts off
its end is told by the files, which are a second copy in another place.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

from migrate.config import Config
from migrate.db import Session, connect, patiently
from migrate.errors import ConfigError, ConnectionLost, NoGo, OutcomeUnknown, ServerError, TryAgain, naming
from migrate.ledger import ledger_path
from verify.canonical import NOTHING, canonical, digest_of_lines, link
from verify.meta import NAME, as_text, make
from verify.model import Mismatch
from verify.result import Result

_ID = "CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL"
_HASH = "CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL"
TABLES = (
    f"""evidence (migration {NAME}, run BIGINT NOT NULL, id {_ID}, kind VARCHAR(16) NOT NULL, command VARCHAR(64) NOT
        NULL, ok BOOLEAN NOT NULL, named BIGINT NOT NULL, began_at TIMESTAMP(6) NOT NULL, at
        TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), previous {_HASH}, digest {_HASH},
        PRIMARY KEY (migration, run) CLUSTERED, UNIQUE KEY (id))""",
    # the texts of a record, in pieces that TiDB takes as a row: 'record', and one a mismatch
    f"""evidence_text (id {_ID}, kind VARCHAR(16) NOT NULL, number BIGINT NOT NULL, text LONGTEXT NOT NULL,
        PRIMARY KEY (id, kind, number) CLUSTERED)""",
)
_PIECE = 1_000_000  # characters of a record's text in one row
_BATCH = 500  # mismatches in one statement
_DUPLICATE = 1062
_PUT = "REPLACE INTO migrate_meta.evidence_text (id, kind, number, text) VALUES"


@dataclass(frozen=True, slots=True)
class Record:
    """A stored run. `document` is what its text says; `named`: how many mismatches are stored with it."""

    run: int
    id: str
    kind: str
    ok: bool
    named: int
    previous: str
    digest: str
    document: dict[str, Any]


def operator() -> str:
    """Who runs this, for the record."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def utc(ago_s: float = 0) -> str:
    """The time, so many seconds ago."""
    return (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat(timespec="milliseconds")


def folder_of(config: Config) -> Path:
    """Where the files of a config's evidence are if no other folder is named: beside it."""
    return config.path.with_suffix(".evidence")


def keep(config: Config, result: Result, folder: Path | None = None) -> Record:
    """Stores a run of verification, as soon as it has ended."""
    began = time.monotonic() - result.seconds
    document = result.document()
    mismatches = [_whole(m) for m in result.mismatches]
    del document["mismatches"]
    body = {"servers": _servers(config), "result": document}
    return store(config, "verification", f"verify {result.command}", result.ok, body, mismatches, folder, began)


def _whole(mismatch: Mismatch) -> dict[str, Any]:
    return mismatch.document() | {"source_row": mismatch.source_row, "target_row": mismatch.target_row}


def store(
    config: Config,
    kind: str,
    command: str,
    ok: bool,
    body: dict[str, Any],
    mismatches: Sequence[dict[str, Any]] = (),
    folder: Path | None = None,
    began: float | None = None,
) -> Record:
    """Stores a record of what was done since `began` (time.monotonic()), in migrate_meta and then as a file.
    MigrateError if it can't be: a run without evidence proves nothing."""
    began = time.monotonic() if began is None else began
    id_, lines = uuid4().hex, [canonical(m) for m in mismatches]
    whole = {
        "id": id_,
        "kind": kind,
        "command": command,
        "ok": ok,
        "migration": config.name,
        "operator": operator(),
        "started_at": utc(time.monotonic() - began),
        "finished_at": utc(),
        "version": _version(),
        "config": described(config),
        "mismatches": {"count": len(lines), "sha256": digest_of_lines(lines)},
        **body,
    }

    def attempt() -> Record:
        with connect(config.target, patience_s=config.run.patience_s) as session:
            make(session, TABLES)
            return _insert(session, config.name, whole, lines, began)

    record = patiently(config.run.patience_s, attempt, ConnectionLost, TryAgain, OutcomeUnknown)
    _write_file(folder or folder_of(config), record)
    return record


def _insert(session: Session, migration: str, whole: dict[str, Any], lines: Sequence[str], began: float) -> Record:
    """Stores the record once, however often its connection is lost; the mismatches first, which nothing points to
    before the record is in."""
    id_ = str(whole["id"])
    found = session.value("SELECT run FROM migrate_meta.evidence WHERE id = %s", [id_])
    if found is not None:
        return load(session, migration, int(found))
    for start in range(0, len(lines), _BATCH):
        rows = [(id_, "mismatch", start + i, line) for i, line in enumerate(lines[start : start + _BATCH])]
        session.executemany(f"{_PUT} (%s, %s, %s, %s)", rows)
    while True:
        try:
            with session.transaction("BEGIN PESSIMISTIC"):
                last = session.query(
                    "SELECT run, digest FROM migrate_meta.evidence WHERE migration = %s ORDER BY run DESC LIMIT 1 "
                    "FOR UPDATE",
                    [migration],
                )
                run, previous = (int(last[0][0]) + 1, as_text(last[0][1])) if last else (1, NOTHING)
                text = canonical(whole | {"run": run})
                digest = link(previous, text)
                session.execute(
                    "INSERT INTO migrate_meta.evidence (migration, run, id, kind, command, ok, named, began_at, "
                    "previous, digest) VALUES (%s, %s, %s, %s, %s, %s, %s, NOW(6) - INTERVAL %s MICROSECOND, %s, %s)",
                    (
                        migration,
                        run,
                        id_,
                        whole["kind"],
                        whole["command"],
                        whole["ok"],
                        len(lines),
                        int(1e6 * (time.monotonic() - began)),
                        previous,
                        digest,
                    ),
                )
                for number, start in enumerate(range(0, len(text), _PIECE)):
                    session.execute(
                        f"{_PUT} (%s, 'record', %s, %s)",
                        (id_, number, text[start : start + _PIECE]),
                    )
            break
        except ServerError as error:
            if error.number != _DUPLICATE:  # the first of two runs that ended at once took the number
                raise
    return Record(run, id_, str(whole["kind"]), bool(whole["ok"]), len(lines), previous, digest, json.loads(text))


def load(session: Session, migration: str, run: int | None = None, wanted: str = "1") -> Record:
    """A stored run, or the last that `wanted` (SQL) is true of. ConfigError if there is none."""
    which, args = ("run = %s", [migration, run]) if run is not None else (wanted, [migration])
    rows = session.query(
        "SELECT run, id, kind, ok, named, previous, digest FROM migrate_meta.evidence "
        f"WHERE migration = %s AND {which} ORDER BY run DESC LIMIT 1",
        args,
    )
    if not rows:
        which = f"run {run}" if run is not None else "run of that kind"
        raise ConfigError(f"migration {migration!r} has no {which} in migrate_meta.evidence; run `verify all` first")
    run_, id_, kind, ok, named, previous, digest = rows[0]
    text = record_text(session, as_text(id_))
    try:
        document = json.loads(text)
    except ValueError:
        raise NoGo(f"the record of run {run_} is no JSON any more; `verify report --check-chain` says more") from None
    return Record(
        int(run_), as_text(id_), str(kind), bool(ok), int(named), as_text(previous), as_text(digest), document
    )


def loaded(config: Config, run: int | None = None, wanted: str = "1") -> Record:
    """`load` over a connection of its own, where nothing may have been stored yet."""
    with connect(config.target, patience_s=config.run.patience_s) as session:
        make(session, TABLES)
        return load(session, config.name, run, wanted)


def record_text(session: Session, id_: str) -> str:
    rows = session.query(
        "SELECT text FROM migrate_meta.evidence_text WHERE id = %s AND kind = 'record' ORDER BY number", [id_]
    )
    return "".join(as_text(text) for (text,) in rows)


def lines_of(session: Session, id_: str) -> Iterator[str]:
    """The mismatches that are stored with a record, as their texts, in order."""
    for (text,) in session.stream(
        "SELECT text FROM migrate_meta.evidence_text WHERE id = %s AND kind = 'mismatch' ORDER BY number", [id_]
    ):
        yield as_text(text)


def mismatches_of(config: Config, record: Record, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The mismatches that are stored with a record."""
    with connect(config.target, patience_s=config.run.patience_s) as session:
        for number, line in enumerate(lines_of(session, record.id)):
            if limit is not None and number >= limit:
                return
            yield json.loads(line)


def described(config: Config) -> dict[str, Any]:
    """What a run was told to do, without secrets."""
    told: dict[str, Any] = {
        "path": str(config.path),
        "sources": {s.name: f"{s.host}:{s.port}" for s in config.sources},
        "target": f"{config.target.host}:{config.target.port}",
        "routes": [r.model_dump(by_alias=True) for r in config.routes],
        "ignores": [i.model_dump(by_alias=True) for i in config.ignores],
        "pack": config.pack,
    }
    if config.pack is not None:
        told["ledger_sha256"] = hashlib.sha256(ledger_path(config.pack).read_bytes()).hexdigest()
    return told | {"sha256": hashlib.sha256(canonical(told).encode()).hexdigest()}


def _servers(config: Config) -> dict[str, str]:
    found = {}
    for endpoint in (*config.sources, config.target):
        with connect(endpoint, patience_s=config.run.patience_s) as session:
            found[endpoint.name] = str(session.value("SELECT VERSION()"))
    return found


def _version() -> str:
    try:
        return version("ledger-migrate")
    except PackageNotFoundError:
        return "unknown"


def _write_file(folder: Path, record: Record) -> None:
    """The record as a file that its owner alone reads: it names accounts."""
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{record.run:06d}.json"
        fresh = path.with_suffix(".part")
        text = canonical(record.document)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(canonical({"previous": record.previous, "digest": record.digest, "text": text}))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
