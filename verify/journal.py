"""The journal of repairs: who, why, and every row's image before and after."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, Literal, Protocol, Self

from migrate.config import Config
from migrate.db import Session, connect, wait
from migrate.errors import ConfigError, NoGo
from verify.evidence import TABLES as EVIDENCE
from verify.evidence import operator
from verify.images import Image
from verify.meta import NAME, make
from verify.model import Values

_TABLES = (
    f"""repair (id BIGINT AUTO_INCREMENT PRIMARY KEY, migration {NAME}, run BIGINT NOT NULL, direction VARCHAR(8) NOT
        NULL, operator VARCHAR(200) NOT NULL, reason TEXT NOT NULL, ticket VARCHAR(200) NOT NULL, started_at
        TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), finished_at TIMESTAMP(6) NULL, repaired BIGINT, remained
        BIGINT, undo_of BIGINT, KEY (migration, started_at))""",
    # state: planned before a shard is written, done with or after the write, left where nothing was written
    """repair_row (repair BIGINT NOT NULL, number BIGINT NOT NULL, target VARCHAR(200) NOT NULL, shard VARCHAR(300),
        row_key LONGTEXT NOT NULL, action VARCHAR(8), before_image LONGTEXT, after_image LONGTEXT, state VARCHAR(8) NOT
        NULL, why TEXT NOT NULL, PRIMARY KEY (repair, number) CLUSTERED)""",
)


BY_DOUBLE_WRITE = 0  # in place of a run: a repair of `migrate double-write repair`, which undoes it itself
_OTHERS_S = 20  # how long a server may take to notice that a killed repair is gone


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
    """One repair's entry, over a session of its own. Close it; what ends without `end` is gone on with."""

    def __init__(self, session: Session, number: int, rows: int = 0):
        """`rows`: how many it has already."""
        self._session, self.number, self._rows = session, number, rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._session.close()

    @staticmethod
    def make(session: Session) -> None:
        make(session, _TABLES)

    @classmethod
    def begin(
        cls, config: Config, run: int, direction: str, why: tuple[str, str], undo_of: int | None = None
    ) -> Journal:
        """Opens the entry before the first row is touched, or goes on with that of the same command, which was killed.
        NoGo while another repair of the migration runs."""
        session = connect(config.target, patience_s=config.run.patience_s)
        try:
            cls.make(session)
            _take_turn(session, config.name)
            with session.transaction():
                number = _entry(session, config.name, (run, direction, *why, undo_of))
            last = session.value("SELECT MAX(number) FROM migrate_meta.repair_row WHERE repair = %s", [number])
        except BaseException:
            session.close()
            raise
        return cls(session, number, 0 if last is None else int(last) + 1)

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

    def end(self, remained: int) -> None:
        """Closes the entry; `remained`: how many rows are left as they were."""
        self._session.execute(
            "UPDATE migrate_meta.repair SET finished_at = NOW(6), remained = %s, repaired = (SELECT COUNT(*) FROM "
            "migrate_meta.repair_row WHERE repair = %s AND state = 'done') WHERE id = %s",
            (remained, self.number, self.number),
        )

    def planned(self) -> list[dict[str, Any]]:
        """The rows of shards of which a killed repair couldn't say any more whether they were written."""
        return _rows(self._session, self.number, "state = 'planned'")

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
            rows = _rows(session, number, "state <> 'left'")
        return int(found[0][0]), "source" if found[0][1] == "source" else "target", rows


def _take_turn(session: Session, migration: str) -> None:
    """Holds the migration's lock as long as the session lasts. A killed repair's server lets go of it."""
    deadline = time.monotonic() + _OTHERS_S
    while session.value("SELECT GET_LOCK(%s, 1)", [f"verify repair {migration}"[:64]]) != 1:
        if time.monotonic() > deadline:
            raise NoGo(f"another repair of migration {migration!r} is running: wait until it has ended")
        wait(0.2)


def _entry(session: Session, migration: str, what: tuple[Any, ...]) -> int:
    """The number of the entry that the same command left open, or of a new one. What other commands left open is over:
    nobody but us is repairing."""
    same = "run = %s AND direction = %s AND reason = %s AND ticket = %s AND undo_of <=> %s"
    found = session.value(
        f"SELECT MAX(id) FROM migrate_meta.repair WHERE migration = %s AND finished_at IS NULL AND {same}",
        (migration, *what),
    )
    if found is None:
        session.execute(
            "INSERT INTO migrate_meta.repair (migration, operator, run, direction, reason, ticket, undo_of) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (migration, operator(), *what),
        )
        found = session.value("SELECT LAST_INSERT_ID()")
    session.execute(
        "UPDATE migrate_meta.repair SET finished_at = NOW(6) WHERE migration = %s AND finished_at IS NULL AND id <> %s",
        (migration, found),
    )
    return int(found)


def _rows(session: Session, number: int, wanted: str) -> list[dict[str, Any]]:
    """Those rows of a repair, last first."""
    names = ("number", "target", "shard", "key", "action", "before", "after")
    return [
        dict(zip(names, (n, target, shard, json.loads(key), action, _json(one), _json(other)), strict=True))
        for n, target, shard, key, action, one, other in session.query(
            "SELECT number, target, shard, row_key, action, before_image, after_image FROM migrate_meta.repair_row "
            f"WHERE repair = %s AND {wanted} ORDER BY number DESC",
            [number],
        )
    ]


def unverified(config: Config) -> list[int]:
    """The repairs that no clean verification of everything has followed. A cutover waits until there is none."""
    with connect(config.target, patience_s=config.run.patience_s) as session:
        Journal.make(session)
        make(session, EVIDENCE)
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
