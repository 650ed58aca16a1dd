"""What a cutover has done so far, durable before each of its effects: from it the next run finishes or undoes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from migrate.db import Session
from migrate.errors import MigrateError, ServerError
from migrate.holder import describe, owner

Direction = Literal["cutover", "rollback"]

_NAME = "VARCHAR(64) COLLATE utf8mb4_bin NOT NULL"
_NO_TABLE = (1049, 1146)
TABLES = (
    f"""cutover (migration {_NAME}, run INT NOT NULL, direction VARCHAR(10) NOT NULL, outcome VARCHAR(10) NOT NULL,
        operator VARCHAR(200) NOT NULL, begun_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
        fenced_at TIMESTAMP(6) NULL, opened_at TIMESTAMP(6) NULL, ended_at TIMESTAMP(6) NULL, reason LONGTEXT,
        kept JSON NOT NULL, PRIMARY KEY (migration, run) CLUSTERED)""",
    f"""cutover_step (migration {_NAME}, run INT NOT NULL, number INT NOT NULL, step VARCHAR(64) NOT NULL,
        outcome VARCHAR(10) NOT NULL, begun_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), ended_at TIMESTAMP(6)
        NULL, said LONGTEXT, PRIMARY KEY (migration, run, number) CLUSTERED)""",
)
_RUN = "migration = %s AND run = %s"


class TakenOver(MigrateError):
    """Another process has taken this run over, while this one gave no sign of life. It is theirs now."""


@dataclass(frozen=True)
class Run:
    """A run of a cutover or rollback. `outcome`: running, done or undone. `kept`: what finishing or undoing it needs.
    `freeze_s`: how long writes were refused; until now if they still are; None if they never were."""

    number: int
    direction: Direction
    outcome: str
    operator: str
    fenced: bool
    opened: bool
    freeze_s: float | None
    reason: str
    kept: dict[str, Any]


@dataclass(frozen=True)
class StepRecord:
    """A step as it was taken. `outcome`: begun, done or failed; `seconds`: None if it never ended."""

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

    def last(self, direction: Direction | None = None) -> Run | None:
        """The newest run, of that direction if one is given; None if there is none."""
        where, args = ("AND direction = %s", [direction]) if direction else ("", [])
        try:
            rows = self._session.query(
                "SELECT run, direction, outcome, operator, fenced_at IS NOT NULL, opened_at IS NOT NULL, "
                "TIMESTAMPDIFF(MICROSECOND, fenced_at, COALESCE(opened_at, NOW(6))) / 1e6, reason, kept "
                f"FROM migrate_meta.cutover WHERE migration = %s {where} ORDER BY run DESC LIMIT 1",
                [self._migration, *args],
            )
        except ServerError as error:
            if error.number not in _NO_TABLE:
                raise
            return None
        if not rows:
            return None
        number, way, outcome, who, fenced, opened, freeze, reason, kept = rows[0]
        return Run(
            number, way, outcome, who, bool(fenced), bool(opened), None if freeze is None else float(freeze),
            reason or "", json.loads(kept),
        )  # fmt: skip

    def begin(self, direction: Direction, facts: dict[str, Any]) -> int:
        """Opens a run; gives its number."""
        last = self.last()
        number = last.number + 1 if last else 1
        self._session.execute(
            "INSERT INTO migrate_meta.cutover (migration, run, direction, outcome, operator, kept) "
            "VALUES (%s, %s, %s, 'running', %s, %s)",
            (self._migration, number, direction, owner(), json.dumps(facts)),
        )
        return number

    def keep(self, run: int, facts: dict[str, Any]) -> None:
        """Records what undoing or finishing will need, before it is needed. TakenOver if the run isn't ours."""
        with self._session.transaction():
            self._own(run)
            self._session.execute(
                f"UPDATE migrate_meta.cutover SET kept = JSON_MERGE_PATCH(kept, %s) WHERE {_RUN}",
                (json.dumps(facts), self._migration, run),
            )

    def mark(self, run: int, column: Literal["fenced_at", "opened_at"]) -> None:
        """Records the moment at which writes were refused, or let in again; the first time counts."""
        with self._session.transaction():
            self._own(run)
            self._session.execute(
                f"UPDATE migrate_meta.cutover SET {column} = COALESCE({column}, NOW(6)) WHERE {_RUN}",
                (self._migration, run),
            )

    def end(self, run: int, outcome: Literal["done", "undone"], reason: str) -> None:
        """Closes a run. Only its first end counts."""
        self._session.execute(
            "UPDATE migrate_meta.cutover SET outcome = %s, reason = %s, ended_at = NOW(6) "
            f"WHERE {_RUN} AND outcome = 'running'",
            (outcome, reason, self._migration, run),
        )

    def step(self, run: int, name: str) -> int:
        """Records that a step begins; gives its number. TakenOver if the run isn't ours."""
        with self._session.transaction():
            self._own(run)
            number = int(
                self._session.value(
                    f"SELECT COALESCE(MAX(number), 0) + 1 FROM migrate_meta.cutover_step WHERE {_RUN}",
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
            f"UPDATE migrate_meta.cutover_step SET outcome = %s, said = %s, ended_at = NOW(6) WHERE {_RUN} "
            "AND number = %s",
            (outcome, said, self._migration, run, number),
        )

    def steps(self, run: int) -> list[StepRecord]:
        """The steps of a run, in order."""
        return [
            StepRecord(name, outcome, None if seconds is None else float(seconds), said or "")
            for name, outcome, seconds, said in self._session.query(
                "SELECT step, outcome, TIMESTAMPDIFF(MICROSECOND, begun_at, ended_at) / 1e6, said FROM "
                f"migrate_meta.cutover_step WHERE {_RUN} ORDER BY number",
                (self._migration, run),
            )
        ]

    def take_over(self, run: int) -> None:
        """Makes a run that was killed ours."""
        self._session.execute(f"UPDATE migrate_meta.cutover SET operator = %s WHERE {_RUN}",
                              (owner(), self._migration, run))  # fmt: skip

    def _own(self, run: int) -> None:
        who, outcome = self._session.one(
            f"SELECT operator, outcome FROM migrate_meta.cutover WHERE {_RUN} FOR UPDATE", (self._migration, run)
        )
        if who != owner() or outcome != "running":
            raise TakenOver(
                f"run {run} is {outcome}, by {describe(who)}, who took it over while this process gave no sign of life"
            )
