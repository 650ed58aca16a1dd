"""The journal of repairs: who, why, and every row's image before and after."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from migrate.config import Config
from migrate.db import Session, connect
from migrate.errors import ConfigError
from verify.evidence import make as make_evidence
from verify.evidence import operator
from verify.images import Image
from verify.model import Values

_NAME = "VARCHAR(64) COLLATE utf8mb4_bin NOT NULL"
_TABLES = (
    f"""repair (id BIGINT AUTO_INCREMENT PRIMARY KEY, migration {_NAME}, run BIGINT NOT NULL, direction VARCHAR(8) NOT
        NULL, operator VARCHAR(200) NOT NULL, reason TEXT NOT NULL, ticket VARCHAR(200) NOT NULL, started_at
        TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), finished_at TIMESTAMP(6) NULL, repaired BIGINT, remained
        BIGINT, undo_of BIGINT, KEY (migration, started_at))""",
    # state: planned before a shard is written, done with or after the write, left where nothing was written
    """repair_row (repair BIGINT NOT NULL, number BIGINT NOT NULL, target VARCHAR(200) NOT NULL, shard VARCHAR(300),
        row_key LONGTEXT NOT NULL, action VARCHAR(8), before_image LONGTEXT, after_image LONGTEXT, state VARCHAR(8) NOT
        NULL, why TEXT NOT NULL, PRIMARY KEY (repair, number) CLUSTERED)""",
)


BY_DOUBLE_WRITE = 0  # in place of a run: a repair of `migrate double-write repair`, which undoes it itself


class Row(Protocol):
    """A change as the journal keeps it."""

    target: str
    key: Values | None
    shard: str | None
    action: Any
    before: Image | None
    after: Image | None
    why: str


class Journal:
    """One repair's entry, over a session of its own."""

    def __init__(self, session: Session, number: int):
        self._session, self.number = session, number
        self._rows = 0

    @staticmethod
    def make(session: Session) -> None:
        session.execute("CREATE DATABASE IF NOT EXISTS migrate_meta CHARSET utf8mb4 COLLATE utf8mb4_bin")
        for table in _TABLES:
            session.execute(f"CREATE TABLE IF NOT EXISTS migrate_meta.{table}")

    @classmethod
    def begin(
        cls, config: Config, run: int, direction: str, why: tuple[str, str], undo_of: int | None = None
    ) -> Journal:
        """Opens the entry; it is there before the first row is touched."""
        session = connect(config.target, patience_s=config.run.patience_s)
        cls.make(session)
        with session.transaction():
            session.execute(
                "INSERT INTO migrate_meta.repair (migration, run, direction, operator, reason, ticket, undo_of) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s)",
                (config.name, run, direction, operator(), *why, undo_of),
            )
            number = int(session.value("SELECT LAST_INSERT_ID()"))
        return cls(session, number)

    def put(self, session: Session, changes: Sequence[Row], state: Literal["planned", "done", "left"]) -> int:
        """Adds rows, over whichever session they must commit with; the number of the first."""
        first, rows = self._rows, []
        for change in changes:
            images = [json.dumps(i.document()) if i else None for i in (change.before, change.after)]
            named = (change.target, change.shard, json.dumps(change.key), change.action)
            rows.append((self.number, self._rows, *named, *images, state, change.why))
            self._rows += 1
        if rows:
            session.executemany(
                "INSERT INTO migrate_meta.repair_row (repair, number, target, shard, row_key, action, before_image, "
                "after_image, state, why) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                rows,
            )
        return first

    def plan(self, changes: Sequence[Row]) -> int:
        """Adds rows that are about to be written on a shard, whose transaction isn't ours."""
        return self.put(self._session, changes, "planned")

    def settle(self, first: int, changes: Sequence[Row], written: Sequence[Row]) -> None:
        """Says what became of the rows planned as `first` and on."""
        for number, change in enumerate(changes, first):
            state = "done" if any(change is w for w in written) else "left"
            self._session.execute(
                "UPDATE migrate_meta.repair_row SET state = %s, why = %s WHERE repair = %s AND number = %s",
                (state, change.why, self.number, number),
            )

    def left(self, changes: Sequence[Row]) -> None:
        self.put(self._session, changes, "left")

    def end(self, repaired: int, remained: int) -> None:
        self._session.execute(
            "UPDATE migrate_meta.repair SET finished_at = NOW(6), repaired = %s, remained = %s WHERE id = %s",
            (repaired, remained, self.number),
        )
        self._session.close()

    @staticmethod
    def rows(config: Config, number: int) -> tuple[int, Literal["source", "target"], list[dict[str, Any]]]:
        """The run, the direction and the written rows of a repair, last first; those of a shard too whose COMMIT wasn't
        answered. ConfigError if there is no such repair."""
        with connect(config.target, patience_s=config.run.patience_s) as session:
            Journal.make(session)
            found = session.query(
                "SELECT run, direction FROM migrate_meta.repair WHERE id = %s AND migration = %s", (number, config.name)
            )
            if not found:
                raise ConfigError(f"migration {config.name!r} has no repair {number}")
            rows = session.query(
                "SELECT target, shard, row_key, action, before_image, after_image FROM migrate_meta.repair_row "
                "WHERE repair = %s AND state <> 'left' ORDER BY number DESC",
                [number],
            )
        names = ("target", "shard", "key", "action", "before", "after")
        direction: Literal["source", "target"] = "source" if found[0][1] == "source" else "target"
        parsed = [
            dict(zip(names, (t, s, json.loads(k), a, _json(b), _json(c)), strict=True)) for t, s, k, a, b, c in rows
        ]
        return int(found[0][0]), direction, parsed


def unverified(config: Config) -> list[int]:
    """The repairs that no clean verification of everything has followed. A cutover waits until there is none."""
    with connect(config.target, patience_s=config.run.patience_s) as session:
        Journal.make(session)
        make_evidence(session)
        return [
            int(number)
            for (number,) in session.query(
                "SELECT r.id FROM migrate_meta.repair r WHERE r.migration = %s "
                "AND (r.finished_at IS NULL OR NOT EXISTS "
                "(SELECT 1 FROM migrate_meta.evidence e WHERE e.migration = r.migration AND e.ok AND e.named = 0 "
                "AND e.command = 'verify all' AND e.began_at > r.finished_at)) ORDER BY r.id",
                [config.name],
            )
        ]


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
