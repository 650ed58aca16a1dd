"""What must hold before anything is fenced. Every check is made; every failure says what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from migrate.config import Config
from migrate.cutover.changed import Keys
from migrate.cutover.fences import fences_of
from migrate.cutover.hooks import problem
from migrate.db import connect
from migrate.doublewrite.phase import Phase
from migrate.doublewrite.pump import Outbox
from migrate.errors import MigrateError
from migrate.source import on_every_instance
from migrate.sync.status import read_sync_status

_BACKLOG_S = 5.0  # age of the oldest change that an outbox may hold where a freeze begins


class Verification(Protocol):
    """What a verification found, as verify's Result tells it."""

    @property
    def ok(self) -> bool: ...
    def text(self) -> str: ...
    def document(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Clean:
    """The last `verify all`, which was clean: its run, its age in seconds, and the position of each instance from which
    on something may have changed. `since`: why it doesn't count any more (a repair, a mismatch), or nothing."""

    run: int
    age_s: float
    positions: dict[str, dict[str, str]]
    since: str = ""


class Verifier(Protocol):
    """Verification, handed in: a cutover doesn't know how it is done.

    `Keys` are rows that were written: by target and the shard where they were, the values of the key's columns as
    SQL literals of the merged table.
    """

    def last_clean(self) -> Clean | None:
        """The last `verify all` if it was clean. Only reads."""

    def prepare(self) -> str:
        """Reads what the others need, so that they are quick; says what."""

    def equal(self, changed: Keys) -> Verification:
        """Live, at exact cuts: the rows of those keys. There are some."""

    def ahead(self) -> Verification:
        """Live, at exact cuts: accounts, invariants, counts and control totals of all; how long these take decides of
        which tables `frozen` reads them again, and is told."""

    def measure(self, last: str) -> str:
        """Live, where no exact cut can be had: the same decision, and nothing proven. `last`: when counts and control
        totals were known to be equal. In words."""

    def unequal(self, changed: Keys) -> Keys:
        """Live, where no exact cut can be had: those of the keys whose rows weren't found equal, and some others."""

    def frozen(self, changed: Keys) -> Verification:
        """While nothing is written: the rows of those keys, counts and control totals of all that there is time for, as
        `ahead` or `measure` has found; without them, of all."""

    def everything(self) -> Verification:
        """While nothing is written: all that `verify all --strong` does."""

    def close(self, kill: bool = False) -> None:
        """Ends its sessions; `kill`: what they are reading, too. May be called by another thread, and again."""


@dataclass(frozen=True)
class Check:
    """One condition. `said`: what was found; `remedy`: what to do if it doesn't hold."""

    name: str
    ok: bool
    said: str
    remedy: str = ""

    def document(self) -> dict[str, Any]:
        return {"name": self.name, "ok": self.ok, "said": self.said, "remedy": self.remedy if not self.ok else ""}

    def text(self) -> str:
        line = f"{'ok  ' if self.ok else 'FAIL'} {self.name}: {self.said}"
        return line + (f"\n     {self.remedy}" if not self.ok and self.remedy else "")


def all_of(*checks: Callable[[], Iterator[Check]]) -> list[Check]:
    """All conditions; a server that can't be asked is one that doesn't hold."""
    found: list[Check] = []
    for check in checks:
        try:
            found += check()
        except MigrateError as error:
            found.append(Check("servers", False, str(error), "mend that, then try again"))
    return found


def ready_to_cut_over(config: Config, verifier: Verifier, phase: Phase | None, *, way_back: bool) -> list[Check]:
    """All conditions of a cutover. `phase`: of the double write, None if it isn't installed; `way_back`: whether one is
    asked for."""
    return all_of(
        lambda: _double_write(config, phase, way_back),
        lambda: _follows(config, phase),
        lambda: _verified(config, verifier),
        lambda: _fences(config, phase),
        lambda: _target(config),
        lambda: _hooks(config),
    )


def ready_to_roll_back(config: Config, phase: Phase | None) -> list[Check]:
    """All conditions of the way back."""
    return all_of(
        lambda: _primary(phase, "target"),
        lambda: _instances(config),
        lambda: _backlog(config, [config.target.name], "let `migrate reverse` catch up"),
        lambda: _fences(config, phase),
        lambda: _hooks(config),
    )


def _double_write(config: Config, phase: Phase | None, way_back: bool) -> Iterator[Check]:
    install = "run `migrate double-write install --execute`"
    if phase is None:
        yield Check(
            "way back", not way_back, "none: the double write isn't installed",
            f"{install} and have the application use the library, or cut over with --no-way-back",
        )  # fmt: skip
        yield Check("fence", config.cutover.fence != "epoch", f"cutover.fence is {config.cutover.fence!r}",
                    f"{install}, or choose another fence")  # fmt: skip
        return
    yield Check(
        "way back", True, "captured by the library, delivered by `migrate reverse`" if way_back else "not asked for"
    )
    yield from _primary(phase, "source")
    yield Check("handover", phase.forward != "handover", f"the shards' changes come by {phase.forward}",
                "finish the change of the phase: `migrate double-write phase ..` again")  # fmt: skip


def _primary(phase: Phase | None, side: str) -> Iterator[Check]:
    if phase is None:
        yield Check("primary", False, "the double write isn't installed: what the target wrote is in no outbox",
                    "there is no way back from a cutover with --no-way-back")  # fmt: skip
        return
    yield Check("primary", phase.epoch.primary == side, str(phase.epoch), f"the {side} must be primary for this")
    yield Check("change of the primary", phase.pending is None, str(phase.pending or "none under way"),
                "finish what was begun: the command that was interrupted, again")  # fmt: skip


def _follows(config: Config, phase: Phase | None) -> Iterator[Check]:
    if phase is not None and phase.delivers:
        yield from _backlog(config, [s.name for s in config.sources], "`migrate double-write drain`")
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


def _backlog(config: Config, names: list[str], remedy: str) -> Iterator[Check]:
    for endpoint in (*config.sources, config.target):
        if endpoint.name not in names:
            continue
        box = Outbox(config, endpoint)
        (pending, age), held = box.backlog(), box.held()
        box.close()
        yield Check(
            f"outbox of {endpoint.name}", age < _BACKLOG_S, f"{pending:,} changes, the oldest {age:.1f} s", remedy
        )
        yield Check(f"held changes of {endpoint.name}", not held, f"{len(held)} rows",
                    "`migrate double-write status`, then repair")  # fmt: skip


def _verified(config: Config, verifier: Verifier) -> Iterator[Check]:
    clean = verifier.last_clean()
    within = timedelta(seconds=config.cutover.verified_within_s)
    if clean is None:
        yield Check("verification", False, "the last `verify all` wasn't clean, or there was none",
                    "run `verify all` until it is clean")  # fmt: skip
        return
    age = timedelta(seconds=round(clean.age_s))
    yield Check(
        "verification", age <= within, f"the last clean one, run {clean.run}, is {age} old (at most {within})",
        "run `verify all` again",
    )  # fmt: skip
    yield Check("nothing since then", not clean.since, clean.since or "no repair, no mismatch",
                "a repair proves nothing: run `verify all` again")  # fmt: skip


def _fences(config: Config, phase: Phase | None) -> Iterator[Check]:
    for fence in fences_of(config, double=phase is not None):
        problems = list(fence.problems(config))
        for said, remedy in problems:
            yield Check(fence.name, False, said, remedy)
        if not problems:
            yield Check(fence.name, True, fence.describe(config))


def _instances(config: Config) -> Iterator[Check]:
    found = on_every_instance(config, lambda session, _: str(session.value("SELECT VERSION()")))
    yield Check("instances", True, ", ".join(f"{name} {version}" for name, version in found.items()))


def _target(config: Config) -> Iterator[Check]:
    with connect(config.target, patience_s=config.run.patience_s) as session:
        names: list[str] = []
        rows = list(session.stream("ADMIN SHOW DDL JOBS 20", names=names))
        state = [n.upper() for n in names].index("STATE")
        jobs = [row for row in rows if str(row[state]).lower() in ("running", "queueing", "rollingback")]
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
    yield Check("hook back", hooks.switch is None or hooks.back is not None,
                "undoes what the hook switch does" if hooks.back else "none, and none needed" if hooks.switch is None
                else "missing: the hook switch could not be undone", "write one that is safe to run twice")  # fmt: skip
