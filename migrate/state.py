"""The durable state of a migration, in schema `migrate_meta` of the target: who runs it, from which positions, which
chunks are in, and what happened. A chunk's row here changes in the transaction that writes the chunk's rows."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil

from migrate.config import Config, Endpoint
from migrate.db import Session, connect, stop
from migrate.errors import ConnectionLost, MigrateError, NoGo, ServerError
from migrate.model import Chunk, Shard

log = logging.getLogger("migrate")

LEASE_S = 30
_NAME = "VARCHAR(64) COLLATE utf8mb4_bin NOT NULL"
_TABLES = (
    f"""migration (name {_NAME} PRIMARY KEY, way VARCHAR(200), fingerprint CHAR(64), created_at TIMESTAMP(6) NOT NULL
        DEFAULT CURRENT_TIMESTAMP(6), lease_owner VARCHAR(200), lease_until TIMESTAMP(6) NULL, finished_at TIMESTAMP(6)
        NULL)""",
    f"""`position` (migration {_NAME}, instance {_NAME}, captured_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
        position JSON NOT NULL, PRIMARY KEY (migration, instance))""",
    f"""chunk (migration {_NAME}, instance {_NAME}, schema_name {_NAME}, table_name {_NAME}, number BIGINT NOT NULL,
        lower_key JSON, upper_key JSON, loaded_rows BIGINT, loaded_at TIMESTAMP(6) NULL,
        PRIMARY KEY (migration, instance, schema_name, table_name, number) CLUSTERED)""",
    f"""journal (id BIGINT AUTO_INCREMENT PRIMARY KEY, migration {_NAME}, at TIMESTAMP(6) NOT NULL DEFAULT
        CURRENT_TIMESTAMP(6), operator VARCHAR(200) NOT NULL, event VARCHAR(64) NOT NULL, detail JSON NOT NULL,
        KEY (migration, at))""",
)
_WHERE = "migration = %s AND instance = %s AND schema_name = %s AND table_name = %s"


def owner() -> str:
    """Who we are, so that a dead process of this machine is known to be dead: host, pid, start time."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def _is_dead(who: str) -> bool:
    host, pid, started = who.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" != started
    except psutil.NoSuchProcess:
        return True


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

    def journal(self, event: str, **detail: Any) -> None:
        """Records that something happened."""
        self.session.execute(
            "INSERT INTO migrate_meta.journal (migration, operator, event, detail) VALUES (%s, %s, %s, %s)",
            (self.name, owner(), event, json.dumps(detail, default=str)),
        )

    @contextmanager
    def lease(self, endpoint: Endpoint) -> Iterator[None]:
        """Holds the migration for this process, with a heartbeat. NoGo if another one that lives holds it."""
        me = owner()
        self._take_lease(me)
        ended = threading.Event()
        beat = threading.Thread(target=_heartbeat, args=(endpoint, self.name, me, ended), daemon=True)
        beat.start()
        try:
            yield
        finally:
            ended.set()
            beat.join(timeout=10)
            self.release_lease(me)

    def _take_lease(self, me: str) -> None:
        with self.session.transaction():
            holder, alive = self.session.one(
                "SELECT lease_owner, lease_until > NOW(6) FROM migrate_meta.migration WHERE name = %s FOR UPDATE",
                [self.name],
            )
            if holder and holder != me and alive and not _is_dead(holder):
                raise NoGo(
                    f"migration {self.name!r} is being run by {holder}; wait for it, or stop it: "
                    f"its lease ends {LEASE_S} s after its last sign of life"
                )
            self.session.execute(
                "UPDATE migrate_meta.migration SET lease_owner = %s, lease_until = NOW(6) + INTERVAL %s SECOND "
                "WHERE name = %s",
                (me, LEASE_S, self.name),
            )

    def release_lease(self, me: str) -> None:
        """Gives the lease back; a target that is down keeps it until it runs out."""
        try:
            self.session.execute(
                "UPDATE migrate_meta.migration SET lease_owner = NULL, lease_until = NULL "
                "WHERE name = %s AND lease_owner = %s",
                (self.name, me),
            )
        except ConnectionLost as error:
            log.debug("lease not released: %s", error)

    def begin(self, way: str, fingerprint: str) -> bool:
        """Starts the copy of this migration by `way` (copy, or load of a manifest) with the routing's fingerprint.

        True at the first start, False when one goes on. NoGo if it was begun otherwise.
        """
        was, print_ = self.session.one(
            "SELECT way, fingerprint FROM migrate_meta.migration WHERE name = %s", [self.name]
        )
        if was is None:
            self.session.execute(
                "UPDATE migrate_meta.migration SET way = %s, fingerprint = %s WHERE name = %s",
                (way, fingerprint, self.name),
            )
            return True
        if was != way:
            raise NoGo(f"migration {self.name!r} was begun as {was!r}; go on with that, or give this one another name")
        if print_ != fingerprint:
            raise NoGo(
                f"migration {self.name!r} was begun with other shards, table shapes or routes: chunks that are in "
                "would no longer fit; restore them, or start anew under another name with an empty target"
            )
        return False

    @property
    def way(self) -> str | None:
        """How the migration was begun, or None if it wasn't."""
        value = self.session.value("SELECT way FROM migrate_meta.migration WHERE name = %s", [self.name])
        return str(value) if value is not None else None

    def finish(self) -> None:
        """Marks the copy as complete."""
        self.session.execute(
            "UPDATE migrate_meta.migration SET finished_at = COALESCE(finished_at, NOW(6)) WHERE name = %s", [self.name]
        )

    @property
    def finished(self) -> bool:
        return bool(
            self.session.value(
                "SELECT finished_at IS NOT NULL FROM migrate_meta.migration WHERE name = %s", [self.name]
            )
        )

    def save_positions(self, positions: dict[str, dict[str, str]]) -> None:
        """Records the position of each instance from which sync will replay; the first one wins."""
        self.session.executemany(
            "INSERT IGNORE INTO migrate_meta.`position` (migration, instance, position) VALUES (%s, %s, %s)",
            [(self.name, instance, json.dumps(position)) for instance, position in positions.items()],
        )

    def positions(self) -> dict[str, dict[str, str]]:
        """The captured positions by instance."""
        return {
            instance: json.loads(position)
            for instance, position in self.session.query(
                "SELECT instance, position FROM migrate_meta.`position` WHERE migration = %s", [self.name]
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

        The update locks the chunk's row, so of two transactions that write the same chunk (one whose COMMIT was
        sent and never answered, and its retry) exactly one commits.
        """
        changed = self.session.execute(
            f"UPDATE migrate_meta.chunk SET loaded_rows = %s, loaded_at = NOW(6) WHERE {_WHERE} AND number = %s "
            "AND loaded_rows IS NULL",
            (rows, self.name, chunk.shard.instance, chunk.shard.schema, chunk.shard.table, chunk.number),
        )
        return changed == 1

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


def _heartbeat(endpoint: Endpoint, name: str, me: str, ended: threading.Event) -> None:
    session: Session | None = None
    while not ended.wait(LEASE_S / 6):
        try:
            session = session or connect(endpoint)
            kept = session.execute(
                "UPDATE migrate_meta.migration SET lease_until = NOW(6) + INTERVAL %s SECOND "
                "WHERE name = %s AND lease_owner = %s",
                (LEASE_S, name, me),
            )
            if not kept:
                log.error("the lease of migration %r was taken over by another process: stopping", name)
                stop.set()
                return
        except (ServerError, MigrateError) as error:
            log.debug("heartbeat: %s", error)
            session = None
    if session:
        session.close()


def _dump(key: tuple[str, ...] | None) -> str | None:
    return None if key is None else json.dumps(key)


def _parse(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(json.loads(text))
