"""What a cutover has done so far, durable before each of its effects: from it the next run finishes or undoes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from migrate.db import Session
from migrate.holder import owner

Direction = Literal["cutover", "rollback"]

_NAME = "VARCHAR(64) COLLATE utf8mb4_bin NOT NULL"
TABLES = (
    f"""cutover (migration {_NAME}, run INT NOT NULL, direction VARCHAR(10) NOT NULL, outcome VARCHAR(10) NOT NULL,
        operator VARCHAR(200) NOT NULL, begun_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
        fenced_at TIMESTAMP(6) NULL, opened_at TIMESTAMP(6) NULL, ended_at TIMESTAMP(6) NULL, kept JSON NOT NULL,
        PRIMARY KEY (migration, run) CLUSTERED)""",
    f"""cutover_step (migration {_NAME}, run INT NOT NULL, number INT NOT NULL, step VARCHAR(64) NOT NULL,
        outcome VARCHAR(10) NOT NULL, begun_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), ended_at TIMESTAMP(6)
        NULL, said LONGTEXT, PRIMARY KEY (migration, run, number) CLUSTERED)""",
)


@dataclass(frozen=True)
class Run:
    """A run of a cutover or rollback. `kept`: what undoing it will need. Outcome: running, done, undone or failed."""

    number: int
    direction: Direction
    outcome: str
    fenced: bool
    opened: bool
    kept: dict[str, Any]


@dataclass(frozen=True)
class StepRecord:
    """A step as it was taken (seconds None: it never ended)."""

    name: str
    outcome: str
    seconds: float | None
    said: str


class CutoverJournal:
    """The journal of one migration's cutovers, over one session of the target."""

    def __init__(self, migration: str, session: Session):
        self._migration, self._session = migration, session

    def install(self) -> None:
        """Makes the tables where they are missing."""
        for table in TABLES:
            self._session.execute(f"CREATE TABLE IF NOT EXISTS migrate_meta.{table}")

    def last(self) -> Run | None:
        """The newest run, or None."""
        return self._newest("")

    def newest(self, direction: Direction) -> Run | None:
        """The newest run in that direction, or None."""
        return self._newest(f"AND direction = '{direction}'")

    def _newest(self, where: str) -> Run | None:
        rows = self._session.query(
            "SELECT run, direction, outcome, fenced_at IS NOT NULL, opened_at IS NOT NULL, kept FROM "
            f"migrate_meta.cutover WHERE migration = %s {where} ORDER BY run DESC LIMIT 1",
            [self._migration],
        )
        if not rows:
            return None
        number, direction, outcome, fenced, opened, kept = rows[0]
        return Run(number, direction, outcome, bool(fenced), bool(opened), json.loads(kept))

    def begin(self, direction: Direction) -> int:
        """Opens a run; gives its number."""
        last = self.last()
        number = last.number + 1 if last else 1
        self._session.execute(
            "INSERT INTO migrate_meta.cutover (migration, run, direction, outcome, operator, kept) "
            "VALUES (%s, %s, %s, 'running', %s, '{}')",
            (self._migration, number, direction, owner()),
        )
        return number

    def keep(self, run: int, **facts: Any) -> None:
        """Records what undoing or finishing will need, before it is needed."""
        self._session.execute(
            "UPDATE migrate_meta.cutover SET kept = JSON_MERGE_PATCH(kept, %s) WHERE migration = %s AND run = %s",
            (json.dumps(facts), self._migration, run),
        )

    def mark(self, run: int, column: Literal["fenced_at", "opened_at"]) -> None:
        """Records the moment at which writes were refused, or let in again; the first time counts."""
        self._session.execute(
            f"UPDATE migrate_meta.cutover SET {column} = COALESCE({column}, NOW(6)) WHERE migration = %s AND run = %s",
            (self._migration, run),
        )

    def end(self, run: int, outcome: Literal["done", "undone", "failed"]) -> None:
        """Closes a run."""
        self._session.execute(
            "UPDATE migrate_meta.cutover SET outcome = %s, ended_at = NOW(6) WHERE migration = %s AND run = %s",
            (outcome, self._migration, run),
        )

    def freeze_s(self, run: int) -> float | None:
        """How long writes were refused, in seconds; until now if they still are; None if they never were."""
        value = self._session.value(
            "SELECT TIMESTAMPDIFF(MICROSECOND, fenced_at, COALESCE(opened_at, NOW(6))) / 1e6 FROM migrate_meta.cutover "
            "WHERE migration = %s AND run = %s",
            (self._migration, run),
        )
        return None if value is None else float(value)

    def step(self, run: int, name: str) -> int:
        """Records that a step begins; gives its number."""
        number = int(
            self._session.value(
                "SELECT COALESCE(MAX(number), 0) + 1 FROM migrate_meta.cutover_step WHERE migration = %s AND run = %s",
                (self._migration, run),
            )
        )
        self._session.execute(
            "INSERT INTO migrate_meta.cutover_step (migration, run, number, step, outcome) VALUES (%s, %s, %s, %s, "
            "'begun')",
            (self._migration, run, number, name),
        )
        return number

    def step_ended(self, run: int, number: int, outcome: Literal["done", "failed"], said: str) -> None:
        """Records how a step ended."""
        self._session.execute(
            "UPDATE migrate_meta.cutover_step SET outcome = %s, said = %s, ended_at = NOW(6) WHERE migration = %s AND "
            "run = %s AND number = %s",
            (outcome, said, self._migration, run, number),
        )

    def steps(self, run: int) -> list[StepRecord]:
        """The steps of a run, in order."""
        return [
            StepRecord(name, outcome, None if seconds is None else float(seconds), said or "")
            for name, outcome, seconds, said in self._session.query(
                "SELECT step, outcome, TIMESTAMPDIFF(MICROSECOND, begun_at, ended_at) / 1e6, said FROM "
                "migrate_meta.cutover_step WHERE migration = %s AND run = %s ORDER BY number",
                (self._migration, run),
            )
        ]
