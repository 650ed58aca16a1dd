"""The durable state of a migration, in schema `migrate_meta` of the target: who runs it, from which positions, which
chunks are in, and what happened. A chunk's row here changes in the transaction that writes the chunk's rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

from migrate.config import Config
from migrate.db import Session, connect, patiently
from migrate.errors import ConnectionLost, NoGo, OutcomeUnknown, TryAgain
from migrate.holder import owner
from migrate.model import Chunk, Shard, TableDef
from migrate.position import Position
from migrate.schema.stored import definition_from_json, definition_to_json

T = TypeVar("T")
_NAME = "VARCHAR(64) COLLATE utf8mb4_bin NOT NULL"
_TABLES = (
    f"""migration (name {_NAME} PRIMARY KEY, way VARCHAR(200), fingerprint CHAR(64), created_at TIMESTAMP(6) NOT NULL
        DEFAULT CURRENT_TIMESTAMP(6), lease_owner VARCHAR(200), lease_until TIMESTAMP(6) NULL, finished_at TIMESTAMP(6)
        NULL)""",
    f"""`position` (migration {_NAME}, instance {_NAME}, captured_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
        position JSON NOT NULL, consistent JSON, PRIMARY KEY (migration, instance))""",
    # From where on no row is replayed any more that the copy may have read on another shard, by instance.
    f"""calm (migration {_NAME}, instance {_NAME}, position JSON NOT NULL, PRIMARY KEY (migration, instance))""",
    # Rows of the target that may be ahead of an instance's binlog, up to where: another's follower put them there. They
    # are forgotten when its own is there.
    f"""lent (migration {_NAME}, instance {_NAME}, target VARCHAR(200) COLLATE utf8mb4_bin, row_key CHAR(64), position
        JSON NOT NULL, PRIMARY KEY (migration, instance, target, row_key) CLUSTERED)""",
    # Keys of rows that an instance's binlog up to there has no say in: another shard's row, which came later, has their
    # place.
    f"""overtaken (migration {_NAME}, instance {_NAME}, target VARCHAR(200) COLLATE utf8mb4_bin, row_key CHAR(64),
        position JSON NOT NULL, PRIMARY KEY (migration, instance, target, row_key) CLUSTERED)""",
    f"""shard_schema (migration {_NAME}, instance {_NAME}, schema_name {_NAME}, table_name {_NAME}, definition JSON NOT
        NULL, PRIMARY KEY (migration, instance, schema_name, table_name))""",
    f"""chunk (migration {_NAME}, instance {_NAME}, schema_name {_NAME}, table_name {_NAME}, number BIGINT NOT NULL,
        lower_key JSON, upper_key JSON, loaded_rows BIGINT, loaded_at TIMESTAMP(6) NULL,
        PRIMARY KEY (migration, instance, schema_name, table_name, number) CLUSTERED)""",
    # What sync has applied: a row a part (applier), changed in the transaction that writes the part's rows. `inside`:
    # row events of the next, large transaction that are in already. `target`: '', or a table that is held, and stayed
    # behind the others there. `departed`: tables whose rows that leave in the next batch have left, and its end.
    f"""applied (migration {_NAME}, instance {_NAME}, target VARCHAR(200) COLLATE utf8mb4_bin NOT NULL, part INT NOT
        NULL, seq BIGINT NOT NULL, position JSON NOT NULL, inside BIGINT NOT NULL, departed JSON, source_time DOUBLE NOT
        NULL, committed_at TIMESTAMP(6) NOT NULL, PRIMARY KEY (migration, instance, target, part) CLUSTERED)""",
    # Target tables whose changes from one instance wait for the operator, from which position on.
    f"""hold (migration {_NAME}, instance {_NAME}, target VARCHAR(200) COLLATE utf8mb4_bin, position JSON NOT NULL,
        reason LONGTEXT NOT NULL, statement LONGTEXT, held_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
        resolution VARCHAR(16), replacement LONGTEXT, PRIMARY KEY (migration, instance, target) CLUSTERED)""",
    f"""sync_status (migration {_NAME}, instance {_NAME}, heartbeat TIMESTAMP(6) NOT NULL, state JSON NOT NULL,
        PRIMARY KEY (migration, instance) CLUSTERED)""",
    f"""control (migration {_NAME} PRIMARY KEY, wanted VARCHAR(16) NOT NULL, operator VARCHAR(200) NOT NULL,
        at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6))""",
    # Asks the follower of an instance to stand still: at the next boundary between transactions (position NULL), or
    # with exactly everything up to `position` applied. It says so in reached_at and reached, and goes on when the row
    # is deleted or `until` has passed.
    f"""halt (migration {_NAME}, instance {_NAME}, position JSON, requested_by VARCHAR(200) NOT NULL,
        `until` TIMESTAMP(6) NOT NULL, reached_at TIMESTAMP(6) NULL, reached JSON,
        PRIMARY KEY (migration, instance) CLUSTERED)""",
    f"""journal (id BIGINT AUTO_INCREMENT PRIMARY KEY, migration {_NAME}, at TIMESTAMP(6) NOT NULL DEFAULT
        CURRENT_TIMESTAMP(6), operator VARCHAR(200) NOT NULL, event VARCHAR(64) NOT NULL, detail JSON NOT NULL,
        KEY (migration, at))""",
)
_WHERE = "migration = %s AND instance = %s AND schema_name = %s AND table_name = %s"


class State:
    """Reads and writes migrate_meta for one migration, over one session."""

    def __init__(self, name: str, session: Session):
        self.name = name
        self.session = session

    @classmethod
    @contextmanager
    def open(cls, config: Config) -> Iterator[State]:
        """The state of the config's migration; the schema is made where it is missing."""
        with connect(config.target, patience_s=config.run.patience_s) as session:
            session.execute("CREATE DATABASE IF NOT EXISTS migrate_meta CHARSET utf8mb4 COLLATE utf8mb4_bin")
            for table in _TABLES:
                session.execute(f"CREATE TABLE IF NOT EXISTS migrate_meta.{table}")
            session.execute("INSERT IGNORE INTO migrate_meta.migration (name) VALUES (%s)", [config.name])
            yield cls(config.name, session)

    @staticmethod
    def settled(config: Config, work: Callable[[State], T]) -> T:
        """Does the work in a state opened for it; again if the connection was lost, so it must be safe to repeat."""

        def attempt() -> T:
            with State.open(config) as state:
                return work(state)

        return patiently(config.run.patience_s, attempt, ConnectionLost, TryAgain, OutcomeUnknown)

    def journal(self, event: str, **detail: Any) -> None:
        """Records that something happened."""
        self.session.execute(
            "INSERT INTO migrate_meta.journal (migration, operator, event, detail) VALUES (%s, %s, %s, %s)",
            (self.name, owner(), event, json.dumps(detail, default=str)),
        )

    def begin(self, way: str, fingerprint: str, positions: dict[str, Position], **detail: Any) -> None:
        """Starts the copy of this migration by `way` (copy, or load of a manifest) with the routing's fingerprint, and
        the position of each instance from which sync will replay.

        Nothing happens when one goes on. NoGo if it was begun otherwise.
        """
        with self.session.transaction():
            was, print_ = self.session.one(
                "SELECT way, fingerprint FROM migrate_meta.migration WHERE name = %s FOR UPDATE", [self.name]
            )
            if was is None:
                self.session.execute(
                    "UPDATE migrate_meta.migration SET way = %s, fingerprint = %s, created_at = NOW(6) WHERE name = %s",
                    (way, fingerprint, self.name),
                )
                self.session.executemany(
                    "REPLACE INTO migrate_meta.`position` (migration, instance, position) VALUES (%s, %s, %s)",
                    [(self.name, instance, json.dumps(position)) for instance, position in positions.items()],
                )
                self.journal("begin", way=way, **detail)
                return
        if was != way:
            raise NoGo(f"migration {self.name!r} was begun as {was!r}; go on with that, or give this one another name")
        if print_ != fingerprint:
            raise NoGo(
                f"migration {self.name!r} was begun with other shards, table shapes or routes: chunks that are in "
                "would no longer fit; restore them, or start anew under another name with an empty target"
            )

    @property
    def way(self) -> str | None:
        """How the migration was begun, or None if it wasn't."""
        value = self.session.value("SELECT way FROM migrate_meta.migration WHERE name = %s", [self.name])
        return str(value) if value is not None else None

    def finish(self, **detail: Any) -> None:
        """Marks the copy as complete; the first time counts."""
        with self.session.transaction():
            first = self.session.execute(
                "UPDATE migrate_meta.migration SET finished_at = NOW(6) WHERE name = %s AND finished_at IS NULL",
                [self.name],
            )
            if first:
                self.journal("loaded", **detail)

    @property
    def finished(self) -> bool:
        return bool(
            self.session.value(
                "SELECT finished_at IS NOT NULL FROM migrate_meta.migration WHERE name = %s", [self.name]
            )
        )

    def positions(self) -> dict[str, Position]:
        """By instance, where sync starts to replay: captured before the first row was read."""
        return self._positions("position")

    def consistent(self) -> dict[str, Position]:
        """By instance, a position after which no row was read: up to there the target may be ahead of the replay."""
        return self._positions("consistent")

    def _positions(self, column: str) -> dict[str, Position]:
        return {
            instance: json.loads(position)
            for instance, position in self.session.query(
                f"SELECT instance, {column} FROM migrate_meta.`position` WHERE migration = %s AND {column} IS NOT NULL",
                [self.name],
            )
        }

    def calm(self, instance: str) -> Position | None:
        """Where an instance's replay of what the copy may have read elsewhere is over; None: not known yet."""
        text = self.session.value(
            "SELECT position FROM migrate_meta.calm WHERE migration = %s AND instance = %s", (self.name, instance)
        )
        return None if text is None else dict(json.loads(text))

    def save_calm(self, instance: str, position: Position) -> None:
        """Keeps it; the first time counts."""
        self.session.execute(
            "INSERT IGNORE INTO migrate_meta.calm (migration, instance, position) VALUES (%s, %s, %s)",
            (self.name, instance, json.dumps(position)),
        )

    def save_consistent(self, positions: dict[str, Position]) -> None:
        """Records positions captured after the last row was read; the first one of each instance wins."""
        with self.session.transaction():
            for instance, position in positions.items():
                self.session.execute(
                    "UPDATE migrate_meta.`position` SET consistent = %s "
                    "WHERE migration = %s AND instance = %s AND consistent IS NULL",
                    (json.dumps(position), self.name, instance),
                )

    def save_definitions(self, definitions: dict[Shard, TableDef]) -> None:
        """Records the shards' definitions that are in force at the positions to begin with, in place of all others."""
        texts = {d: definition_to_json(d) for d in set(definitions.values())}
        self.session.execute("DELETE FROM migrate_meta.shard_schema WHERE migration = %s", [self.name])
        self.session.executemany(
            "INSERT INTO migrate_meta.shard_schema (migration, instance, schema_name, table_name, definition) "
            "VALUES (%s, %s, %s, %s, %s)",
            [(self.name, s.instance, s.schema, s.table, texts[d]) for s, d in definitions.items()],
        )

    def definitions(self) -> dict[Shard, TableDef]:
        """The definition of each routed shard at the position from which sync replays."""
        read = lru_cache(None)(definition_from_json)  # those of many shards are the same text
        return {
            Shard(i, s, t): read(text)
            for i, s, t, text in self.session.query(
                "SELECT instance, schema_name, table_name, definition FROM migrate_meta.shard_schema "
                "WHERE migration = %s",
                [self.name],
            )
        }

    def add_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Records planned chunks, all or none."""
        with self.session.transaction():
            self.session.executemany(
                "INSERT INTO migrate_meta.chunk (migration, instance, schema_name, table_name, number, lower_key, "
                "upper_key) VALUES (%s, %s, %s, %s, %s, %s, %s)",
                [
                    (
                        self.name,
                        c.shard.instance,
                        c.shard.schema,
                        c.shard.table,
                        c.number,
                        _dump(c.lower),
                        _dump(c.upper),
                    )
                    for c in chunks
                ],
            )

    def last_chunk(self, shard: Shard) -> Chunk | None:
        """The last planned chunk of a shard. If its upper bound is open, the shard is planned to its end."""
        rows = self.session.query(
            f"SELECT number, lower_key, upper_key FROM migrate_meta.chunk WHERE {_WHERE} ORDER BY number DESC LIMIT 1",
            (self.name, shard.instance, shard.schema, shard.table),
        )
        return Chunk(shard, rows[0][0], _parse(rows[0][1]), _parse(rows[0][2])) if rows else None

    def pending_chunks(self, shard: Shard) -> list[Chunk]:
        """The planned chunks of a shard that aren't in yet."""
        return [
            Chunk(shard, number, _parse(lower), _parse(upper))
            for number, lower, upper in self.session.query(
                f"SELECT number, lower_key, upper_key FROM migrate_meta.chunk WHERE {_WHERE} AND loaded_rows IS NULL "
                "ORDER BY number",
                (self.name, shard.instance, shard.schema, shard.table),
            )
        ]

    def claim(self, chunk: Chunk, rows: int) -> bool:
        """Inside the transaction that writes the chunk: marks it as in. False if it was in already.

        Both of two transactions that write the same chunk (one whose COMMIT was sent and never answered, and its
        retry) change this row, so exactly one commits.
        """
        changed = self.session.execute(
            f"UPDATE migrate_meta.chunk SET loaded_rows = %s, loaded_at = NOW(6) WHERE {_WHERE} AND number = %s "
            "AND loaded_rows IS NULL",
            (rows, self.name, chunk.shard.instance, chunk.shard.schema, chunk.shard.table, chunk.number),
        )
        return changed == 1

    def left_out(self, chunk: Chunk, rows: int, skipped: int) -> None:
        """Inside the transaction that writes the chunk: only so many of its rows are in, others were there already."""
        self.session.execute(
            f"UPDATE migrate_meta.chunk SET loaded_rows = %s WHERE {_WHERE} AND number = %s",
            (rows, self.name, chunk.shard.instance, chunk.shard.schema, chunk.shard.table, chunk.number),
        )
        self.journal("rows left out", chunk=str(chunk), rows=skipped)

    def loaded_rows(self, shards: Sequence[Shard]) -> int:
        """The rows that chunks of these shards brought, those of the open transaction among them."""
        places = ", ".join(["(%s, %s, %s)"] * len(shards))
        return int(
            self.session.value(
                "SELECT COALESCE(SUM(loaded_rows), 0) FROM migrate_meta.chunk WHERE migration = %s AND "
                f"(instance, schema_name, table_name) IN ({places})",
                [self.name, *(name for s in shards for name in (s.instance, s.schema, s.table))],
            )
        )

    def loaded(self) -> dict[Shard, tuple[int, int, int]]:
        """Per shard: planned chunks, chunks that are in, rows that are in."""
        return {
            Shard(i, s, t): (int(planned), int(done), int(rows or 0))
            for i, s, t, planned, done, rows in self.session.query(
                "SELECT instance, schema_name, table_name, COUNT(*), COUNT(loaded_rows), SUM(loaded_rows) "
                "FROM migrate_meta.chunk WHERE migration = %s GROUP BY instance, schema_name, table_name",
                [self.name],
            )
        }


def _dump(key: tuple[str, ...] | None) -> str | None:
    return None if key is None else json.dumps(key)


def _parse(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(json.loads(text))
