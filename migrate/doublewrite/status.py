"""What the double write owes: the outbox by age, shard and money, its deliveries, and the rows that differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from migrate.config import Config
from migrate.db import Session, connect
from migrate.doublewrite import phase as phases
from migrate.doublewrite.audit import Finding, compare_rows
from migrate.doublewrite.outbox import SCHEMA
from migrate.doublewrite.phase import Phase
from migrate.doublewrite.router import Router


@dataclass(frozen=True)
class Owed:
    """Changes of a shard that wait. `age_s` of the oldest."""

    source: str
    shard: str
    currency: str | None
    changes: int
    held: int
    money: Decimal
    age_s: float


@dataclass
class Status:
    """Where the double write stands."""

    phase: Phase
    owed: list[Owed] = field(default_factory=list)
    ages: dict[str, int] = field(default_factory=dict)
    deliveries: list[dict[str, Any]] = field(default_factory=list)
    reads: tuple[int, int, Decimal] = (0, 0, Decimal(0))
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing is held, and nothing differs but what is under way."""
        return not any(o.held for o in self.owed) and all(f.kind == "late" for f in self.findings)

    def document(self) -> dict[str, Any]:
        compared, mismatched, money = self.reads
        return {
            "ok": self.ok,
            "phase": self.phase.epoch.phase, "share": self.phase.epoch.share, "epoch": self.phase.epoch.number,
            "primary": self.phase.epoch.primary, "forward": self.phase.forward, "pending_change": self.phase.pending,
            "backlog": [
                {"source": o.source, "shard": o.shard, "currency": o.currency, "changes": o.changes, "held": o.held,
                 "money": str(o.money), "age_s": o.age_s}
                for o in self.owed
            ],
            "backlog_by_age": self.ages,
            "deliveries": self.deliveries,
            "reads": {"compared": compared, "mismatched": mismatched, "money": str(money)},
            "findings": [f.document() for f in self.findings],
        }  # fmt: skip

    def text(self) -> str:
        lines = [f"{self.phase.epoch}; the shards' changes come by {self.phase.forward}"]
        if self.phase.pending:
            lines.append(f"a change of the primary is under way: {self.phase.pending['step']}; run its command again")
        lines.append(f"backlog: {sum(o.changes for o in self.owed):,} changes "
                     f"({', '.join(f'{n:,} {age}' for age, n in self.ages.items())})")  # fmt: skip
        for o in self.owed:
            held = f", {o.held:,} held" if o.held else ""
            lines.append(f"  {o.source} {o.shard}: {o.changes:,} changes{held}, {o.money:f} {o.currency or ''}, "
                         f"the oldest {o.age_s:.1f} s".replace(" ,", ","))  # fmt: skip
        lines += [
            f"{d['source']}: {d['pending']} left, lag {d['lag_s']} s, {d['rows_per_s']} rows/s, {d['total']} applied "
            f"by {d['process']}, {d['at']}"
            for d in self.deliveries
        ]
        compared, mismatched, money = self.reads
        if compared:
            lines.append(f"reads compared in this phase: {compared:,}, {mismatched:,} differed, {money:f} at risk")
        lines += [str(f) for f in self.findings]
        lines.append("nothing differs but what is under way" if self.ok else "run `migrate double-write repair`")
        return "\n".join(lines)


def read_status(config: Config, *, compare: bool = True) -> Status:
    """The phase, the backlog, and unless told otherwise the rows that differ."""
    with connect(config.target, patience_s=config.run.patience_s) as session:
        phase = phases.read(session, config.name)
        status = Status(phase, deliveries=_deliveries(session, config), reads=_reads(session, config, phase))
    for endpoint in (*config.sources, config.target):
        with connect(endpoint, patience_s=config.run.patience_s) as session:
            status.owed += _owed(session, config)
            for age, count in _ages(session, config):
                status.ages[age] = status.ages.get(age, 0) + count
    if compare:
        status.findings = compare_rows(config, Router.of(config), phase)
    return status


def _owed(session: Session, config: Config) -> list[Owed]:
    return [
        Owed(session.endpoint.name, shard, currency, int(n), int(held), money or Decimal(0), int(age or 0) / 1e6)
        for shard, currency, n, held, money, age in session.query(
            "SELECT shard, currency, COUNT(*), COUNT(held), SUM(money), "
            f"TIMESTAMPDIFF(MICROSECOND, MIN(created_at), NOW(6)) "
            f"FROM {SCHEMA}.outbox WHERE migration = %s GROUP BY shard, currency ORDER BY shard, currency",
            [config.name],
        )
    ]


def _ages(session: Session, config: Config) -> Iterator[tuple[str, int]]:
    bounds = ((1, "under 1 s"), (10, "under 10 s"), (60, "under 1 min"), (3600, "under 1 h"))
    cases = " ".join(f"WHEN created_at > NOW(6) - INTERVAL {s} SECOND THEN '{name}'" for s, name in bounds)
    for age, count in session.query(
        f"SELECT CASE {cases} ELSE 'older' END AS age, COUNT(*) FROM {SCHEMA}.outbox WHERE migration = %s GROUP BY age",
        [config.name],
    ):
        yield str(age), int(count)


def _deliveries(session: Session, config: Config) -> list[dict[str, Any]]:
    names = ("source", "process", "at", "pending", "lag_s", "rows_per_s", "total")
    rows = session.query(f"SELECT {', '.join(names)} FROM migrate_meta.delivery WHERE migration = %s", [config.name])
    return [dict(zip(names, map(str, row), strict=True)) for row in rows]


def _reads(session: Session, config: Config, phase: Phase) -> tuple[int, int, Decimal]:
    compared, mismatched, money = session.one(
        "SELECT COALESCE(SUM(compared), 0), COALESCE(SUM(mismatched), 0), COALESCE(SUM(money), 0) "
        "FROM migrate_meta.read_check WHERE migration = %s AND epoch = %s",
        (config.name, phase.epoch.number),
    )
    return int(compared), int(mismatched), money
