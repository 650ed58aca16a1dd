"""The phase of a migration's double write, in migrate_meta of the target. The servers' epoch rows follow it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from migrate.config import Config
from migrate.db import Session
from migrate.doublewrite.epoch import Epoch, Side
from migrate.errors import ConfigError, ServerError
from migrate.state import State

_NAME = "VARCHAR(64) COLLATE utf8mb4_bin NOT NULL"
TABLES = (
    # forward: who applies the shards' changes to the target: sync from the binlogs, or the outbox; `handover` is the
    # time between, when neither does: sync is on its way to the position from which the outbox has everything.
    f"""phase (migration {_NAME} PRIMARY KEY, epoch BIGINT NOT NULL, phase VARCHAR(16) NOT NULL, share INT NOT NULL,
        primary_side VARCHAR(8) NOT NULL, forward VARCHAR(8) NOT NULL, pending JSON, changed_at TIMESTAMP(6) NOT NULL
        DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6))""",
    f"""read_check (migration {_NAME}, process VARCHAR(200) NOT NULL, epoch BIGINT NOT NULL, compared BIGINT NOT NULL,
        mismatched BIGINT NOT NULL, money DECIMAL(38,10) NOT NULL, sample TEXT, at TIMESTAMP(6) NOT NULL DEFAULT
        CURRENT_TIMESTAMP(6), PRIMARY KEY (migration, epoch, process) CLUSTERED)""",
    f"""delivery (migration {_NAME}, source {_NAME}, process VARCHAR(200) NOT NULL, at TIMESTAMP(6) NOT NULL,
        pending BIGINT NOT NULL, lag_s DECIMAL(20,3) NOT NULL, rows_per_s DECIMAL(20,1) NOT NULL, total BIGINT NOT NULL,
        PRIMARY KEY (migration, source) CLUSTERED)""",
)
_COLUMNS = "epoch, phase, share, primary_side, 1, forward, pending"


@dataclass(frozen=True)
class Phase:
    """Where the double write stands. `pending`: a change of the primary that has begun."""

    epoch: Epoch
    forward: str
    pending: dict[str, Any] | None

    @property
    def delivers(self) -> bool:
        """Whether the outbox of the instances is what is applied to the target."""
        return self.forward == "outbox" and self.epoch.primary == "source"

    def servers(self, config: Config) -> tuple[Any, ...]:
        return side_servers(config, self.epoch.primary)


def side_servers(config: Config, side: Side) -> tuple[Any, ...]:
    """The servers of a side."""
    return config.sources if side == "source" else (config.target,)


def create(session: Session, migration: str) -> None:
    """Makes the tables and the row, in phase off. Safe to repeat."""
    for table in TABLES:
        session.execute(f"CREATE TABLE IF NOT EXISTS migrate_meta.{table}")
    session.execute(
        "INSERT IGNORE INTO migrate_meta.phase (migration, epoch, phase, share, primary_side, forward) "
        "VALUES (%s, 0, 'off', 0, 'source', 'sync')",
        [migration],
    )


def read(session: Session, migration: str, *, lock: bool = False) -> Phase:
    """The phase. ConfigError if the double write isn't installed."""
    try:
        rows = session.query(
            f"SELECT {_COLUMNS} FROM migrate_meta.phase WHERE migration = %s" + (" FOR UPDATE" if lock else ""),
            [migration],
        )
    except ServerError as error:
        if error.number not in (1049, 1146):
            raise
        rows = []
    if not rows:
        raise ConfigError(
            f"double-write isn't installed for migration {migration!r}: run `migrate double-write install --execute`"
        )
    row = rows[0]
    return Phase(Epoch.of(row), str(row[5]), None if row[6] is None else json.loads(row[6]))


@contextmanager
def locked(state: State) -> Iterator[Phase]:
    """The phase, in a transaction that holds its row."""
    with state.session.transaction("BEGIN PESSIMISTIC"):
        yield read(state.session, state.name, lock=True)


def write(state: State, epoch: Epoch, forward: str, pending: dict[str, Any] | None) -> None:
    """Changes the row, inside `locked`."""
    state.session.execute(
        "UPDATE migrate_meta.phase SET epoch = %s, phase = %s, share = %s, primary_side = %s, forward = %s, "
        "pending = %s WHERE migration = %s",
        (epoch.number, epoch.phase, epoch.share, epoch.primary, forward, json.dumps(pending) if pending else None,
         state.name),
    )  # fmt: skip
