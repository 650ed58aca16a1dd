"""Proves that a fence of the shards holds: nobody who wrote before is still at it, and nobody has written since."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

from migrate.config import Config, Endpoint
from migrate.cutover.changed import Changed, how_many
from migrate.cutover.fences import kill
from migrate.db import Session, connect
from migrate.errors import NoGo, TryAgain
from migrate.model import MergedTable
from migrate.position import Position, capture
from migrate.source import capture_positions, on_every_instance

# Whoever has changed rows, or locked them to do so, and not committed; replication isn't the application.
_WRITERS = (
    "SELECT t.trx_mysql_thread_id, p.USER, TIMESTAMPDIFF(SECOND, t.trx_started, NOW()) FROM "
    "information_schema.INNODB_TRX t JOIN information_schema.PROCESSLIST p ON p.ID = t.trx_mysql_thread_id WHERE "
    "t.trx_lock_structs > 0 AND t.trx_mysql_thread_id <> CONNECTION_ID() AND p.USER NOT IN "
    "('system user', 'event_scheduler')"
)
_DEAF = (
    "it was killed, but its server hasn't ended it: it rolls back for long, or it is of MySQL 5.6 and missed the KILL "
    "(SHOW PROCESSLIST says Killed), then only its wait_timeout or a restart of the instance ends it"
)


def final_positions(config: Config, tables: Sequence[MergedTable], within_s: float) -> tuple[dict[str, Position], str]:
    """The position of every instance at which no transaction on those tables is open, and in words what it took.

    Each instance's shards are locked for a moment, which waits for open transactions. Those that don't end within half
    of `within_s` are ended, and waited for `within_s` at least: to be rolled back takes a server its time. NoGo, which
    names them, if that doesn't help.
    """

    def one(session: Session, endpoint: Endpoint) -> tuple[Position, list[str]]:
        ended: dict[int, str] = {}
        patient_until, until = monotonic() + within_s / 2, None
        while True:
            try:
                return _locked(config, endpoint, tables, min(1.0, within_s / 4)), list(ended.values())
            except TryAgain:
                writers = {n: f"connection {n} of {user}, open for {age} s" for n, user, age in session.query(_WRITERS)}
            now = monotonic()
            if until is not None and now > until:
                raise NoGo(
                    f"the fence doesn't hold: a transaction on the shards of {endpoint.name} is still open "
                    f"({'; '.join(writers.values()) or 'its connection can not be seen: it may be prepared by XA'})"
                    + (f"; {_DEAF}" if ended.keys() & writers.keys() else "")
                )
            if now > patient_until:
                ended |= {n: writers[n] for n in kill(session, writers.keys() - ended.keys())}
                until = until or now + within_s

    found = on_every_instance(config, one)
    ended = [f"{name}: {text}" for name, (_, some) in found.items() for text in some]
    return {name: position for name, (position, _) in found.items()}, f"ended {'; '.join(ended)}" if ended else ""


def _locked(config: Config, endpoint: Endpoint, tables: Sequence[MergedTable], seconds: float) -> Position:
    """The position while the instance's shards are locked against writers."""
    shards = [t.shard for table in tables for t in table.shards if t.shard.instance == endpoint.name]
    with connect(endpoint) as locker:
        wait_s = max(1, round(seconds))
        # autocommit = 0: without it MySQL 5.6 takes no lock of InnoDB's, and waits for no open transaction
        locker.execute(
            f"SET SESSION autocommit = 0, innodb_table_locks = 1, lock_wait_timeout = {wait_s}, "
            f"innodb_lock_wait_timeout = {wait_s}"
        )
        try:
            if shards:
                locker.execute(f"LOCK TABLES {', '.join(f'{s.sql} READ' for s in shards)}")
            position = capture(locker, endpoint.name)
            locker.execute("UNLOCK TABLES")
        finally:
            locker.rollback()  # what it had locked so far must not be taken for a writer's
    return position


def nobody_wrote(config: Config, final: dict[str, Position]) -> str:
    """That no row of ours was written since those positions. NoGo names where one was."""
    now = capture_positions(config)
    keys = Changed(config, final).read_to(now)
    if how_many(keys):
        places = [
            f"{shard}, {', '.join('.'.join(key) for key in sorted(some)[:3])}"
            for shards in keys.values()
            for shard, some in sorted(shards.items())
            if some
        ]
        raise NoGo(
            f"the fence doesn't hold: {how_many(keys)} rows were written after it was up ({'; '.join(places[:5])}); "
            "find out who writes (a job, an account that is exempt from the fence) before the next try"
        )
    moved = [name for name, position in now.items() if position != final[name]]
    return f"no row was written since; {', '.join(moved)} moved, by other tables" if moved else "no position moved"
