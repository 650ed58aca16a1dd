"""Verification as a cutover needs it. The one file through which it reaches `verify`."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

from migrate.config import Config
from migrate.cutover.changed import Keys
from migrate.cutover.readiness import Clean, Verification
from migrate.db import Session, connect
from migrate.errors import MigrateError, ServerError
from migrate.model import Key
from verify.evidence import keep, record_text
from verify.freeze import Freeze
from verify.result import Result

log = logging.getLogger("migrate")

_PATIENCE_S = 5
_NO_TABLE = (1049, 1146)


class EdgeVerifier:
    """See readiness.Verifier. What it finds is kept as evidence by `store`, when nobody waits for it any more."""

    def __init__(self, config: Config, workers: int | None = None):
        # Before the freeze nothing is lost by giving up early, and in it there is no time to wait.
        patience = min(_PATIENCE_S, config.run.patience_s)
        self._config = replace(config, run=config.run.model_copy(update={"patience_s": patience}))
        self._workers = workers
        self._freeze: Freeze | None = None
        self._found: list[Result] = []

    def last_clean(self) -> Clean | None:
        with connect(self._config.target, patience_s=self._config.run.patience_s) as session:
            return _last_clean(session, self._config.name)

    def prepare(self) -> str:
        self._freeze = self._freeze or Freeze(self._config, self._workers)
        return self._freeze.text()

    def equal(self, changed: Keys) -> Verification:
        result = self._ready().equal(changed)
        return result if result.ok else self._kept(result)  # one that is says no more than the numbers of `ahead`

    def ahead(self) -> Verification:
        return self._kept(self._ready().ahead())

    def measure(self, last: str) -> str:
        return self._ready().measure(last)

    def unequal(self, changed: Keys) -> Keys:
        return self._ready().unequal(changed)

    def frozen(self, changed: Keys) -> Verification:
        return self._kept(self._ready().frozen(changed))

    def everything(self) -> Verification:
        return self._kept(self._ready().everything())

    def close(self, kill: bool = False) -> None:
        freeze, self._freeze = self._freeze, None
        if freeze is not None:
            freeze.close(kill)

    def store(self) -> list[int]:
        """Keeps what was found as evidence; gives the runs' numbers. What can't be kept is told in the log."""
        runs = []
        for result in self._found:
            try:
                runs.append(keep(self._config, result).run)
            except MigrateError as error:
                log.warning("the evidence of %s couldn't be kept: %s", result.command, error)
        self._found = []
        return runs

    def _ready(self) -> Freeze:
        self.prepare()
        assert self._freeze is not None
        return self._freeze

    def _kept(self, result: Result) -> Result:
        self._found.append(result)
        return result


def _last_clean(session: Session, migration: str) -> Clean | None:
    """The newest `verify all`, if it is clean; `since` names what happened after it that takes its word away."""
    try:
        rows = session.query(
            "SELECT run, id, ok, TIMESTAMPDIFF(MICROSECOND, began_at, NOW(6)) / 1e6 FROM migrate_meta.evidence WHERE "
            "migration = %s AND kind = 'verification' AND command = 'verify all' ORDER BY run DESC LIMIT 1",
            [migration],
        )
        if not rows or not rows[0][2]:
            return None
        run, id_, _, age = rows[0]
        document = json.loads(record_text(session, id_))
        later = session.query(
            "SELECT run, kind, command FROM migrate_meta.evidence WHERE migration = %s AND run > %s AND (kind <> "
            "'verification' OR (NOT ok AND command NOT IN ('verify ahead', 'verify frozen'))) ORDER BY run",
            (migration, run),
        )
    except ServerError as error:
        if error.number not in _NO_TABLE:
            raise
        return None
    cuts: list[dict[str, Any]] = sorted(document["result"]["cuts"], key=lambda cut: str(cut["taken_at"]))
    if not cuts:
        return None
    since = "; ".join(f"run {n}, {'a repair' if kind != 'verification' else f'{what}, found mismatches'}"
                      for n, kind, what in later)  # fmt: skip
    since = since or _open_repairs(session, migration) or _open_drift(session, migration)
    return Clean(int(run), float(age), cuts[0]["positions"], since)


def _open_repairs(session: Session, migration: str) -> str:
    """The repairs that were killed, of which there is no evidence yet, and those that are running."""
    try:
        rows = session.query(
            "SELECT id FROM migrate_meta.repair WHERE migration = %s AND finished_at IS NULL ORDER BY id", [migration]
        )
    except ServerError as error:
        if error.number not in _NO_TABLE:
            raise
        return ""
    listed = ", ".join(str(number) for (number,) in rows)
    return f"repair {listed} never ended: run the same `verify repair` again" if rows else ""


def _open_drift(session: Session, migration: str) -> str:
    """What `verify watch` has found and not seen mended."""
    try:
        found = session.value("SELECT COUNT(*) FROM migrate_meta.verify_open WHERE migration = %s", [migration])
    except ServerError as error:
        if error.number not in _NO_TABLE:
            raise
        return ""
    return f"`verify watch` knows {found} open mismatches" if found else ""


__all__ = ["EdgeVerifier", "Key"]
