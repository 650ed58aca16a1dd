"""Empties an outbox into the other side: in order for each row, in parallel over shards, exactly once however often it
is stopped. `drain` takes what the application's own deliveries left behind, `reverse` everything that TiDB wrote."""

from __future__ import annotations

import logging
import os
import socket
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from migrate.config import Config, Endpoint
from migrate.db import Session, patiently, stop, wait
from migrate.doublewrite import metrics
from migrate.doublewrite.apply import Applier
from migrate.doublewrite.outbox import SCHEMA, Change
from migrate.doublewrite.router import Router
from migrate.doublewrite.server import written_tables
from migrate.doublewrite.source import Outbox, Source
from migrate.doublewrite.timed import timed
from migrate.errors import ConnectionLost, Interrupted, MigrateError, OutcomeUnknown, TryAgain
from migrate.faults import fault_point

__all__ = ["Outbox", "Pump", "Report", "Source", "drain", "reverse"]

log = logging.getLogger("migrate")
_AT_ONCE = 200  # changes of one transaction
_IDLE_S = 0.1
_REPORT_S = 1.0
_KEEP_DAYS = 1  # how long `applied` remembers


@dataclass
class Report:
    """What a pump has done. `held`: changes that can't be applied, with reasons."""

    applied: int = 0
    held: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    pending: int = 0
    lag_s: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.held

    def document(self) -> dict[str, Any]:
        rate = round(self.applied / self.seconds, 1) if self.seconds else 0.0
        return {
            "ok": self.ok, "applied": self.applied, "held": [{"change": c, "reason": r} for c, r in self.held.items()],
            "pending": self.pending, "lag_s": round(self.lag_s, 3), "seconds": round(self.seconds, 3),
            "rows_per_s": rate,
        }  # fmt: skip

    def text(self) -> str:
        lines = [f"applied {self.applied:,} changes in {self.seconds:.1f} s; {self.pending:,} are left"]
        lines += [f"held: {change}: {reason}" for change, reason in self.held.items()]
        if self.held:
            lines.append("see `migrate double-write status`, then `migrate double-write repair`")
        return "\n".join(lines)


class Pump:
    """From sources to servers, with `workers` lanes. All changes of a shard are in one lane, one after the other."""

    def __init__(self, config: Config, router: Router, sources: Sequence[Source], *, workers: int = 4, rate: float = 0):
        """`rate`: the most changes a second, 0 for as many as go."""
        self._config, self._router, self._sources = config, router, sources
        self._workers, self._rate = workers, rate
        self._pools = [ThreadPoolExecutor(1, thread_name_prefix=f"lane-{n}") for n in range(workers)]
        self._sessions: list[dict[str, tuple[Session, Applier]]] = [{} for _ in range(workers)]
        self._tables: dict[str, Applier] = {}
        self._reported = 0.0
        self._before = 0

    def run(self, *, until_empty: bool, seconds: float | None = None) -> Report:
        """Pumps until the sources are empty, or for so long, or until it is stopped."""
        report, began = Report(), time.monotonic()
        purged = 0.0
        try:
            while seconds is None or time.monotonic() - began < seconds:
                moved = sum(self._turn(source, report) for source in self._sources)
                report.seconds = time.monotonic() - began
                self._tell(report)
                if not moved:
                    self._finish(report)
                    if until_empty and report.pending == 0:
                        return report
                    if time.monotonic() - purged > 3600:
                        self._purge()
                        purged = time.monotonic()
                    wait(_IDLE_S)
                elif stop.is_set():
                    raise Interrupted("stopped; the same command goes on from here")
                elif self._rate:
                    wait(max(0.0, report.applied / self._rate - report.seconds))
            self._finish(report)
            return report
        finally:
            self.close()

    def _finish(self, report: Report) -> None:
        found = [source.backlog() for source in self._sources]
        report.pending, report.lag_s = sum(n for n, _ in found), max(age for _, age in found)

    def _turn(self, source: Source, report: Report) -> int:
        """Reads once from a source and applies it."""
        changes = source.read()
        if not changes:
            return 0
        blocked = source.held() if isinstance(source, Outbox) else set()
        late = {c: "an earlier change of the same row is held" for c in changes if c.row_hash in blocked}
        lanes: dict[int, list[Change]] = defaultdict(list)
        for change in changes:
            if change not in late:
                lanes[zlib.crc32(change.shard.encode()) % self._workers].append(change)
        work = [self._pools[n].submit(self._lane, n, source, some) for n, some in lanes.items()]
        outcomes = [w.result() for w in work]
        for applied, refused in [*outcomes, (0, late)]:
            report.applied += applied
            report.held |= {str(c): r for c, r in refused.items()}
            if refused:
                source.hold(refused)
                metrics.HELD.labels(source.name).inc(len(refused))
        metrics.PUMPED.labels(source.name).inc(sum(n for n, _ in outcomes))
        return len(changes)

    def _lane(self, number: int, source: Source, changes: Sequence[Change]) -> tuple[int, dict[Change, str]]:
        applied, refused = 0, dict[Change, str]()
        for endpoint, some in self._by_server(source, changes):
            for i in range(0, len(some), _AT_ONCE):
                part = some[i : i + _AT_ONCE]
                fault_point("before_deliver")
                bad = patiently(
                    self._config.run.patience_s, lambda e=endpoint, p=part: self._apply(number, e, p),  # type: ignore[misc]
                    ConnectionLost, OutcomeUnknown, TryAgain,
                )  # fmt: skip
                fault_point("after_deliver")
                refused |= bad
                good = [c for c in part if c not in bad]
                source.done(good)
                applied += len(good)
        return applied, refused

    def _by_server(self, source: Source, changes: Sequence[Change]) -> Iterator[tuple[Endpoint, list[Change]]]:
        """Changes of an instance go to the target, those of the target to the instance of their shard."""
        if source.name in {s.name for s in self._config.sources}:
            yield self._config.target, list(changes)
            return
        parts: dict[str, list[Change]] = defaultdict(list)
        for change in changes:
            parts[change.shard.split(".", maxsplit=1)[0]].append(change)
        for name, some in parts.items():
            yield self._config.source(name), some

    def _apply(self, number: int, endpoint: Endpoint, changes: Sequence[Change]) -> dict[Change, str]:
        sessions = self._sessions[number]
        if endpoint.name not in sessions:
            session = timed(endpoint, 60)
            if endpoint.name not in self._tables:
                tables = written_tables(session, self._config, self._router)
                self._tables[endpoint.name] = Applier(self._config.name, self._router, tables)
            sessions[endpoint.name] = session, self._tables[endpoint.name]
        session, applier = sessions[endpoint.name]
        try:
            return applier.deliver(session, changes)
        except (ConnectionLost, OutcomeUnknown):
            sessions.pop(endpoint.name)[0].close()
            raise

    def _tell(self, report: Report) -> None:
        """Writes how it goes, for `status`. Not being able to is no reason to stop."""
        now = time.monotonic()
        if now - self._reported < _REPORT_S:
            return
        rate = (report.applied - self._before) / (now - self._reported) if self._reported else 0
        self._reported, self._before = now, report.applied
        try:
            with Session(self._config.target) as session:
                for source in self._sources:
                    pending, lag = source.backlog()
                    metrics.PENDING.labels(source.name).set(pending)
                    metrics.LAG.labels(source.name).set(lag)
                    session.execute(
                        "REPLACE INTO migrate_meta.delivery (migration, source, process, at, pending, lag_s, "
                        "rows_per_s, total) VALUES (%s, %s, %s, NOW(6), %s, %s, %s, %s)",
                        (self._config.name, source.name, f"{socket.gethostname()}:{os.getpid()}", pending,
                         f"{lag:.3f}", f"{rate:.1f}", report.applied),
                    )  # fmt: skip
        except MigrateError as error:
            log.debug("not reported: %s", error)

    def _purge(self) -> None:
        """Forgets what was applied long ago: no transaction that began before then can still be under way."""
        for endpoint in (*self._config.sources, self._config.target):
            with Session(endpoint) as session:
                while session.execute(
                    f"DELETE FROM {SCHEMA}.applied WHERE migration = %s AND applied_at < "
                    f"NOW(6) - INTERVAL {_KEEP_DAYS} DAY LIMIT 5000",
                    [self._config.name],
                ):
                    wait(0.05)

    def close(self) -> None:
        for pool in self._pools:
            pool.shutdown()
        for sessions in self._sessions:
            for session, _ in sessions.values():
                session.close()
            sessions.clear()
        for source in self._sources:
            source.close()


def drain(config: Config, router: Router, **options: Any) -> Pump:
    """A pump from the instances' outboxes to the target."""
    return Pump(config, router, [Outbox(config, s) for s in config.sources], **options)


def reverse(config: Config, router: Router, **options: Any) -> Pump:
    """A pump from the target's outbox to the shards."""
    return Pump(config, router, [Outbox(config, config.target)], **options)
