"""`migrate status`: where every table of a migration stands, by the target alone: sources may be down."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from migrate.config import Config
from migrate.cutover.journal import CutoverJournal, Run, StepRecord
from migrate.db import Row, Session, connect
from migrate.doublewrite import phase as phases
from migrate.doublewrite.phase import Phase
from migrate.errors import ConfigError, ConnectionLost, ServerError
from migrate.holder import describe, is_dead
from migrate.lease import LEASE_S

_NOT_THERE = (1049, 1146)  # no such database, no such table
_IS_RECENT = "loaded_at > NOW(6) - INTERVAL 60 SECOND"
_EVENTS = 5


@dataclass(frozen=True)
class Holder:
    """The process that runs the migration, and the seconds since its last heartbeat."""

    who: str
    heartbeat_s: float
    lives: bool


@dataclass(frozen=True)
class TableStatus:
    """A target table. `percent` goes by chunks once all are planned, before that by the source's own estimate."""

    target: str
    shards: int
    shards_planned: int
    chunks: int
    chunks_in: int
    rows: int
    rows_expected: int
    rows_per_s: float

    @property
    def planned(self) -> bool:
        return self.shards_planned == self.shards

    @property
    def done(self) -> bool:
        return self.planned and self.chunks_in == self.chunks

    @property
    def percent(self) -> float:
        if self.done:
            return 100.0
        done = self.chunks_in / self.chunks if self.planned else self.rows / max(self.rows_expected, 1)
        return min(99.9, 100 * done)

    @property
    def seconds_left(self) -> float | None:
        """At the rate of the last minute, or None if nothing came in."""
        if self.done or not self.rows_per_s:
            return 0.0 if self.done else None
        left = self.rows_expected - self.rows
        if self.planned and self.chunks_in:
            left = (self.chunks - self.chunks_in) * self.rows // self.chunks_in
        return max(left, 0) / self.rows_per_s

    def document(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "shards": self.shards,
            "shards_planned": self.shards_planned,
            "chunks": self.chunks,
            "chunks_in": self.chunks_in,
            "rows": self.rows,
            "percent": round(self.percent, 1),
            "rows_per_s": round(self.rows_per_s),
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left),
        }

    def text(self) -> str:
        planning = "" if self.planned else f", planned {self.shards_planned} of {self.shards} shards"
        left = f", {self.rows_per_s:,.0f} rows/s, {self.seconds_left:,.0f} s left" if self.seconds_left else ""
        return (
            f"{self.target}: {self.percent:.1f} %, {self.rows:,} rows of {self.shards} shards, "
            f"{self.chunks_in:,} of {self.chunks:,} chunks in{planning}{left}"
        )


@dataclass(frozen=True)
class Switch:
    """A cutover or rollback, and the steps that it has taken."""

    run: Run
    steps: tuple[StepRecord, ...]

    def document(self) -> dict[str, Any]:
        return {
            "run": self.run.number,
            "direction": self.run.direction,
            "outcome": self.run.outcome,
            "freeze_s": self.run.freeze_s,
            "reason": self.run.reason,
            "steps": [{"name": s.name, "outcome": s.outcome, "seconds": s.seconds} for s in self.steps],
        }

    def text(self) -> str:
        frozen = "" if self.run.freeze_s is None else f", writes refused for {self.run.freeze_s:.1f} s"
        now = f" at {self.steps[-1].name}" if self.steps and self.run.outcome == "running" else ""
        if self.run.outcome == "running" and is_dead(self.run.operator):
            now += " when it was killed: the same command finishes or undoes it"
        took = (s.name if s.seconds is None else f"{s.name} {s.seconds:.2f} s" for s in self.steps)
        return f"{self.run.direction} {self.run.number}: {self.run.outcome}{now}{frozen}\n  {', '.join(took)}"


@dataclass(frozen=True)
class Status:
    """A migration as its state tells it."""

    migration: str
    way: str | None = None
    begun_at: str | None = None
    finished_at: str | None = None
    holder: Holder | None = None
    tables: tuple[TableStatus, ...] = ()
    positions: dict[str, Any] = field(default_factory=dict)
    journal: tuple[dict[str, Any], ...] = ()
    sync: Any = None  # a SyncStatus, once sync has run
    phase: Phase | None = None  # once the double write is installed
    switch: Switch | None = None  # the last cutover or rollback

    def document(self) -> dict[str, Any]:
        """The status as JSON has it."""
        holder = self.holder
        return {
            "ok": True,
            "migration": self.migration,
            "way": self.way,
            "begun_at": self.begun_at,
            "finished_at": self.finished_at,
            "run_by": holder
            and {"who": holder.who, "heartbeat_s": round(holder.heartbeat_s, 1), "lives": holder.lives},
            "tables": [t.document() for t in self.tables],
            "positions": self.positions,
            "sync": self.sync and self.sync.document(),
            "phase": self.phase and {"is": str(self.phase.epoch), "forward": self.phase.forward,
                                     "pending": self.phase.pending},
            "cutover": self.switch and self.switch.document(),
            "journal": list(self.journal),
        }  # fmt: skip

    @property
    def goes_on(self) -> bool:
        """Whether something is under way: the copy isn't complete, or a process runs the migration or its cutover."""
        switching = self.switch is not None and self.switch.run.outcome == "running"
        return not self.finished_at or bool(self.holder and self.holder.lives) or switching

    def text(self) -> str:
        """The status for people."""
        if self.way is None:
            return f"migration {self.migration}: not begun"
        ended = f"complete since {self.finished_at}" if self.finished_at else f"{self.way}, begun {self.begun_at}"
        lines = [f"migration {self.migration}: {ended} UTC"]
        if self.holder:
            sign = f"last sign of life {self.holder.heartbeat_s:.0f} s ago"
            lines.append(f"run by {describe(self.holder.who)}, {sign if self.holder.lives else 'which is dead'}")
        elif not self.finished_at:
            lines.append("nobody runs it now: the same command goes on from here")
        lines += [t.text() for t in self.tables]
        if self.sync:
            lines.append(self.sync.text())
        if self.phase:
            lines.append(f"double write: {self.phase.epoch}; the shards' changes come by {self.phase.forward}")
        if self.switch:
            lines.append(self.switch.text())
        lines.append(f"positions captured: {', '.join(sorted(self.positions)) or 'none yet'}")
        return "\n".join([*lines, *(f"{e['at']} {e['event']} {json.dumps(e['detail'])}" for e in self.journal)])


def read_status(config: Config) -> Status:
    """The migration's status now. Reads the target only, and changes nothing."""
    with connect(config.target, patience_s=config.run.patience_s) as session:
        try:
            found = session.query(
                "SELECT way, created_at, finished_at, lease_owner, lease_until > NOW(6), "
                "TIMESTAMPDIFF(MICROSECOND, lease_until, NOW(6)) / 1000000 "
                "FROM migrate_meta.migration WHERE name = %s",
                [config.name],
            )
        except ConnectionLost:
            raise
        except ServerError as error:
            if error.number in _NOT_THERE:
                return Status(config.name)
            raise
        if not found:
            return Status(config.name)
        way, begun_at, finished_at, who, held, late_s = found[0]
        journal = session.query(
            "SELECT at, operator, event, detail FROM migrate_meta.journal WHERE migration = %s ORDER BY id",
            [config.name],
        )
        return Status(
            migration=config.name,
            way=way,
            begun_at=_time(begun_at),
            finished_at=_time(finished_at),
            holder=Holder(who, float(late_s) + LEASE_S, bool(held) and not is_dead(who)) if who else None,
            tables=_tables(config, session, journal),
            positions={
                instance: json.loads(position)
                for instance, position in session.query(
                    "SELECT instance, position FROM migrate_meta.`position` WHERE migration = %s", [config.name]
                )
            },
            sync=_sync(config, session),
            phase=_phase(config, session),
            switch=_switch(config, session),
            journal=tuple(
                {"at": _time(at), "operator": operator, "event": event, "detail": json.loads(detail)}
                for at, operator, event, detail in journal[-_EVENTS:]
            ),
        )


def _phase(config: Config, session: Session) -> Phase | None:
    try:
        return phases.read(session, config.name)
    except ConfigError:
        return None


def _switch(config: Config, session: Session) -> Switch | None:
    journal = CutoverJournal(config.name, session)
    run = journal.last()
    return Switch(run, tuple(journal.steps(run.number))) if run is not None else None


def _tables(config: Config, session: Session, journal: list[Row]) -> tuple[TableStatus, ...]:
    expected: dict[str, Any] = {}
    for _, _, event, detail in journal:
        if event == "begin":
            expected = json.loads(detail)["tables"]
    sums: dict[str, list[int]] = defaultdict(lambda: [0] * 5)
    for schema, table, *counts in session.query(
        "SELECT schema_name, table_name, MAX(upper_key IS NULL), COUNT(*), COUNT(loaded_rows), "
        f"COALESCE(SUM(loaded_rows), 0), COALESCE(SUM(IF({_IS_RECENT}, loaded_rows, 0)), 0) "
        "FROM migrate_meta.chunk WHERE migration = %s GROUP BY instance, schema_name, table_name",
        [config.name],
    ):
        target = next((r.target for r in config.routes if r.matches(schema, table)), None)
        if target is not None:
            sums[target] = [a + int(b) for a, b in zip(sums[target], counts, strict=True)]
    since = session.value(
        "SELECT TIMESTAMPDIFF(MICROSECOND, MIN(loaded_at), NOW(6)) / 1000000 FROM migrate_meta.chunk "
        f"WHERE migration = %s AND {_IS_RECENT}",
        [config.name],
    )
    found = []
    for target, facts in sorted(expected.items()):
        planned, chunks, chunks_in, rows, recent = sums[target]
        rate = recent / max(float(since), 1.0) if since is not None else 0.0
        found.append(TableStatus(target, facts["shards"], planned, chunks, chunks_in, rows, facts["rows"], rate))
    return tuple(found)


def _sync(config: Config, session: Session) -> Any:
    from migrate.sync.status import read_sync_status

    try:
        found = read_sync_status(config, session)
    except ConnectionLost:
        raise
    except ServerError as error:
        if error.number in _NOT_THERE:
            return None
        raise
    return found if found.followers else None


def _time(value: object) -> str | None:
    return None if value is None else str(value)[:19]
