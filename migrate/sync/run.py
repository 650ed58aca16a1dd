"""`migrate sync`: a follower per instance, until all are caught up, at a position, or told to stop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from time import monotonic, time
from typing import Any

from migrate.config import Config
from migrate.db import stop
from migrate.errors import Interrupted, MigrateError, NoGo, ServerError
from migrate.executor import workers
from migrate.holder import owner
from migrate.lease import lease
from migrate.position import Position
from migrate.state import State
from migrate.sync.follow import follow
from migrate.sync.marks import Marks
from migrate.sync.monitor import Progress
from migrate.sync.status import SyncStatus, read_sync_status

log = logging.getLogger("migrate")

_LOOK_S = 0.25
_END_S = 30


@dataclass(frozen=True)
class SyncReport:
    """What a run did, by instance, and what waits for the operator."""

    reason: str
    seconds: float
    instances: dict[str, Progress]
    status: SyncStatus

    @property
    def ok(self) -> bool:
        return not self.status.holds

    def document(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "ended": self.reason,
            "seconds": round(self.seconds, 3),
            "changes": sum(p.changes for p in self.instances.values()),
            "transactions": sum(p.transactions for p in self.instances.values()),
            "instances": {
                name: {"changes": p.changes, "transactions": p.transactions, "batches": p.batches, "retries": p.retries,
                       "reconnects": p.reconnects, "position": p.position, "waited_s": round(p.waited_s, 3)}
                for name, p in self.instances.items()
            },
            "holds": [h.document() for h in self.status.holds],
        }  # fmt: skip

    def text(self) -> str:
        changes = sum(p.changes for p in self.instances.values())
        rate = changes / self.seconds if self.seconds else 0
        lines = [f"{self.reason}: {changes:,} row changes applied in {self.seconds:.1f} s ({rate:,.0f} changes/s)"]
        for name, p in self.instances.items():
            lines.append(
                f"{name}: {p.changes:,} changes of {p.transactions:,} transactions in {p.batches:,} batches, up to "
                f"{p.position.get('file')}:{p.position.get('offset')}"
            )
        return "\n".join([*lines, *self.status.hold_lines()])


def sync(
    config: Config,
    *,
    until_caught_up: bool = False,
    until: dict[str, Position] | None = None,
    watch: Callable[[SyncStatus], None] | None = None,
) -> SyncReport:
    """Follows every instance from where the last run ended, or from the copy's captured positions.

    Ends when all are caught up (less than a second behind), at exactly `until`, or when `migrate sync stop` asks;
    otherwise never. `watch` is shown the status several times a second. NoGo if the copy isn't complete.
    """
    begun = monotonic()
    names = [s.name for s in config.sources]
    positions = State.settled(config, lambda state: _ready(state, names))
    with workers(config.run, len(names)) as pool, lease(config):
        State.settled(config, lambda state: _begin(state, positions))
        started = time()
        running = {name: pool.submit(follow, config, name, (until or {}).get(name)) for name in names}
        reason = _oversee(config, running, until_caught_up, started, watch)
        done = {name: future.result() for name, future in running.items()}
    if all(p.state == "ended" for p in done.values()):
        reason = "at the position"
    return SyncReport(reason, monotonic() - begun, done, read_sync_status(config))


def _ready(state: State, names: list[str]) -> dict[str, Position]:
    positions, consistent = state.positions(), state.consistent()
    missing = [n for n in names if n not in positions or n not in consistent]
    if not state.finished or missing:
        raise NoGo(
            f"migration {state.name!r}: the copy isn't complete"
            + (f", no position is known for {', '.join(missing)}" if missing else "")
            + "; run `migrate copy` (or `load`) to its end first"
        )
    return positions


def _begin(state: State, positions: dict[str, Position]) -> None:
    for name, position in positions.items():
        Marks(state.name, name).begin(state.session, position)
    command(state, "run")


def command(state: State, wanted: str) -> None:
    """Tells the followers of the migration: run, pause or stop."""
    state.session.execute(
        "INSERT INTO migrate_meta.control (migration, wanted, operator) VALUES (%s, %s, %s) ON DUPLICATE KEY UPDATE "
        "wanted = VALUES(wanted), operator = VALUES(operator), at = NOW(6)",
        (state.name, wanted, owner()),
    )
    state.journal(f"sync: {wanted}")


def _oversee(
    config: Config,
    running: dict[str, Future[Progress]],
    until_caught_up: bool,
    started: float,
    watch: Callable[[SyncStatus], None] | None,
) -> str:
    """Waits for the followers, telling what they tell; ends them all when one fails, and when it is time."""
    reason = "stopped"
    futures = list(running.values())
    ending: float | None = None
    while True:
        done, rest = wait(futures, timeout=_LOOK_S, return_when=FIRST_EXCEPTION)
        failed = next((f for f in done if f.exception() is not None), None)
        if failed is not None:
            try:
                failed.result()
            except BrokenProcessPool:
                raise MigrateError(
                    "a follower was killed, by hand or for lack of memory; what it applied stays, and the same command "
                    "goes on from there"
                ) from None
        if not rest:
            return reason
        if stop.is_set():
            raise Interrupted("stopped on request; what was applied stays, the same command goes on from there")
        try:
            status = read_sync_status(config, shards=False)
        except ServerError as error:
            log.debug("status: %s", error)
            continue
        if watch:
            watch(status)
        if ending is None and until_caught_up and status.caught_up(set(running), started):
            State.settled(config, lambda state: command(state, "stop"))
            ending, reason = monotonic(), "caught up"
