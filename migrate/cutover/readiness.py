"""What must hold before anything is fenced. Every check is made; every failure says what to do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from migrate.config import Config
from migrate.cutover.hooks import problem
from migrate.db import connect
from migrate.doublewrite import phases
from migrate.errors import MigrateError
from migrate.model import Shard
from migrate.sync.status import read_sync_status


class Verification(Protocol):
    """What a verification found, as verify's Result tells it."""

    @property
    def ok(self) -> bool: ...
    def text(self) -> str: ...
    def document(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Clean:
    """The last clean verification of everything: its run, its age in seconds, where it read the instances (each one's
    position), and whether anything was repaired since."""

    run: str
    age_s: float
    positions: dict[str, dict[str, str]]
    repaired_since: bool


class Verifier(Protocol):
    """Verification, handed in: a cutover doesn't know how it is done."""

    def last_clean(self) -> Clean | None: ...
    def money(self) -> Verification: ...  # counts, control totals, invariants
    def everything(self) -> Verification: ...  # and the digest of every row
    # the rows of those keys (SQL literals as the target has them, by target and shard), on both sides
    def changed(self, keys: Mapping[str, Mapping[Shard, Collection[str]]]) -> Verification: ...


@dataclass(frozen=True)
class Check:
    """One condition. `said`: what was found; `remedy`: what to do if it doesn't hold."""

    name: str
    ok: bool
    said: str
    remedy: str = ""

    def text(self) -> str:
        return f"{'ok  ' if self.ok else 'FAIL'} {self.name}: {self.said}" + (
            f"\n     {self.remedy}" if not self.ok and self.remedy else ""
        )


def readiness(config: Config, verifier: Verifier, *, way_back: bool) -> list[Check]:
    """All conditions of a cutover. `way_back`: whether a way back after the switch is asked for."""
    checks: tuple[Callable[[], Iterator[Check]], ...] = (
        lambda: _follows(config),
        lambda: _verified(config, verifier),
        lambda: _outbox(config, way_back),
        lambda: _target(config),
        lambda: _hooks(config),
    )
    found: list[Check] = []
    for check in checks:
        try:
            found += check()
        except MigrateError as error:
            found.append(Check("servers", False, str(error), "mend that, then try again"))
    return found


def _follows(config: Config) -> Iterator[Check]:
    if phases.read(config).delivers:
        yield Check("forward", True, "the application's outbox feeds the target")
        return
    status = read_sync_status(config)
    by_name = {f.instance: f for f in status.followers}
    for source in config.sources:
        follower = by_name.get(source.name)
        name = f"sync of {source.name}"
        if follower is None or not follower.running:
            yield Check(name, False, "not running", "start `migrate sync` and leave it running")
            continue
        lag = follower.lag_s
        yield Check(
            name, lag is not None and lag < config.cutover.lag_s, follower.text(),
            f"wait until it lags less than {config.cutover.lag_s:g} s (`migrate sync status`)",
        )  # fmt: skip
    yield Check(
        "held tables", not status.holds, "; ".join(status.hold_lines()) or "none",
        "decide about each (`migrate sync go-on|skip|replace|overwrite`), then verify again",
    )  # fmt: skip


def _verified(config: Config, verifier: Verifier) -> Iterator[Check]:
    clean = verifier.last_clean()
    within = timedelta(seconds=config.cutover.verified_within_s)
    if clean is None:
        yield Check("verification", False, "there is no clean `verify all`", "run `verify all` until it is clean")
        return
    age = timedelta(seconds=round(clean.age_s))
    yield Check(
        "verification", age <= within, f"the last clean one, {clean.run}, is {age} old (at most {within})",
        "run `verify all` again",
    )  # fmt: skip
    yield Check(
        "repairs", not clean.repaired_since, "some since then" if clean.repaired_since else "none since then",
        "a repair proves nothing: run `verify all` again",
    )  # fmt: skip


def _outbox(config: Config, way_back: bool) -> Iterator[Check]:
    try:
        phase = phases.read(config)
    except MigrateError as error:
        needed = way_back or config.cutover.fence == "epoch"
        yield Check(
            "double write", not needed, str(error),
            "run `migrate double-write install --execute`, or cut over with --no-way-back and another fence",
        )  # fmt: skip
        return
    yield Check(
        "primary", phase.epoch.primary == "source" and phase.pending is None, str(phase.epoch),
        "finish what was begun: the same command that was interrupted",
    )  # fmt: skip


def _target(config: Config) -> Iterator[Check]:
    with connect(config.target, patience_s=config.run.patience_s) as session:
        jobs = [
            row for row in session.query("ADMIN SHOW DDL JOBS 20")
            if str(row[-2 if len(row) > 12 else -1]).lower() in ("running", "queueing")
        ]  # fmt: skip
        yield Check("schema changes of the target", not jobs, f"{len(jobs)} under way", "wait for them")
        readonly = str(session.value("SELECT @@GLOBAL.tidb_restricted_read_only"))
        yield Check("target is writable", readonly in ("0", "OFF"), f"tidb_restricted_read_only = {readonly}",
                    "set it OFF")  # fmt: skip


def _hooks(config: Config) -> Iterator[Check]:
    hooks = config.cutover.hooks
    for name in ("fence", "lift", "switch", "back", "smoke"):
        path = getattr(hooks, name)
        if path is not None:
            wrong = problem(path)
            yield Check(f"hook {name}", wrong is None, wrong or str(path), "make it executable (chmod +x)")
