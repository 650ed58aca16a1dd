"""A snapshot of one instance: several sessions that all see it as it was at one exact position of its binlog.

The binlog's position moves before InnoDB shows the commit, so a position read beside running commits tells of rows that
a snapshot opened then may not have. Exact it is only while no transaction on the tables is between the two: under a
lock that waits for the open ones, or where the server itself says where a snapshot stands (MariaDB, Percona).
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from migrate.config import Endpoint
from migrate.db import Session, wait
from migrate.errors import AccessDenied, ConnectionLost, MigrateError, ServerError, TryAgain
from migrate.model import Shard

log = logging.getLogger("verify")

Position = dict[str, str]

_MANY = 200  # tables; above that one global lock is gentler than a lock on each
_BEGIN = "START TRANSACTION WITH CONSISTENT SNAPSHOT"
_SYNTAX, _STATEMENT_ENDED = 1064, 1317


class Busy(MigrateError):
    """The tables' lock wasn't had within the bound; writers went on. It may be had a little later."""


def read_position(session: Session) -> Position:
    """Where the binlog stands; {} where there is none, or the account may not ask."""
    try:
        try:
            rows = session.query("SHOW MASTER STATUS")
        except ServerError as error:
            if error.number != _SYNTAX:  # MySQL 8.4 has another name for it
                raise
            rows = session.query("SHOW BINARY LOG STATUS")
    except AccessDenied:
        return {}
    if not rows:
        return {}
    sets = session.query("SHOW GLOBAL VARIABLES LIKE 'gtid_executed'")
    uuid = session.query("SHOW GLOBAL VARIABLES LIKE 'server_uuid'")
    return {
        "file": str(rows[0][0]),
        "offset": str(rows[0][1]),
        "gtid_set": str(sets[0][1]).replace("\n", "") if sets else "",
        "server_uuid": str(uuid[0][1]) if uuid else "",
    }


def open_loosely(sessions: Sequence[Session]) -> Position:
    """Opens a snapshot in each session, without any lock; the position before. Exact only if nothing is written."""
    position = read_position(sessions[0])
    for session in sessions:
        session.execute(_BEGIN)
    return position


def open_exactly(
    endpoint: Endpoint, sessions: Sequence[Session], shards: Sequence[Shard], bound_s: float
) -> tuple[Position, int]:
    """Opens a snapshot in each session at one exact position; gives it, and how many of the sessions (the first ones)
    stand there: all, but for servers that tell the position of a snapshot and can't copy it.

    Locks those shards against writers, for `bound_s` seconds at most, the wait for the lock included. Busy if that
    wasn't enough; AccessDenied that names the grant.
    """
    if sessions[0].query("SHOW GLOBAL STATUS LIKE 'binlog_snapshot_file'"):
        return _as_the_server_says(sessions)
    with _locked(endpoint, shards, bound_s) as locker:
        for session in sessions:
            session.execute(_BEGIN)
        position = _settled_position(locker)
        if not position:
            raise AccessDenied(
                1227,
                f"no position: the binlog is off, or {endpoint.user} lacks REPLICATION CLIENT; "
                f"GRANT REPLICATION CLIENT ON *.* TO '{endpoint.user}'@...",
                str(endpoint),
            )
    return position, len(sessions)


@contextmanager
def _locked(endpoint: Endpoint, shards: Sequence[Shard], bound_s: float) -> Iterator[Session]:
    """A session that keeps writers off the shards, with no transaction of theirs open. If it is left without an error,
    the lock was held all the time."""
    seconds = max(1, round(bound_s))
    with Session(endpoint) as locker, Session(endpoint) as killer:
        # autocommit = 0: else MySQL 5.6 takes no lock of InnoDB's, waits for no open transaction, and lets it commit
        # beside the lock. wait_timeout: the server itself ends the lock of a process that stands still.
        locker.execute(
            f"SET SESSION autocommit = 0, innodb_table_locks = 1, lock_wait_timeout = {seconds}, "
            f"innodb_lock_wait_timeout = {seconds}, wait_timeout = {seconds}"
        )
        lock = _lock_sql(locker, shards)
        timer = threading.Timer(bound_s, _kill, (killer, locker.connection_id))
        timer.start()
        try:
            locker.execute(lock)
            yield locker
            locker.execute("UNLOCK TABLES")
        except (TryAgain, ConnectionLost) as error:
            timer.cancel()
            timer.join()  # it may be using the killer
            raise Busy(f"{endpoint}: no lock on {len(shards)} tables within {bound_s:g} s{_why(killer)}") from error
        except AccessDenied as error:
            names = ", ".join(sorted({f"`{s.schema}`" for s in shards}))
            raise AccessDenied(
                error.number,
                f"{error.message}: an exact cut locks the routed tables for a moment ({bound_s:g} s at most); GRANT "
                f"SELECT, LOCK TABLES ON {names}.* TO '{endpoint.user}'@...",
                str(endpoint),
            ) from None
        finally:
            timer.cancel()
            timer.join()


def _lock_sql(session: Session, shards: Sequence[Shard]) -> str:
    """In the order of the shards, which is that of the routes: writers that lock in another one risk a deadlock, and
    InnoDB ends theirs. One global lock has no such order, but waits for every long statement, and so does all else."""
    if len(shards) > _MANY:
        grants = " ".join(str(row[0]) for row in session.query("SHOW GRANTS"))
        slow = session.value("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND = 'Query' AND TIME > 1")
        if not slow and (" RELOAD" in grants or "ALL PRIVILEGES ON *.*" in grants):
            return "FLUSH TABLES WITH READ LOCK"
    return f"LOCK TABLES {', '.join(f'{s.sql} READ' for s in shards)}"


def _kill(killer: Session, connection_id: int) -> None:
    with suppress(MigrateError):
        killer.execute(f"KILL {connection_id}")


def _why(session: Session) -> str:
    """The oldest open transaction, if the account may see it."""
    try:
        rows = session.query(
            "SELECT TIMESTAMPDIFF(SECOND, trx_started, NOW()), trx_mysql_thread_id FROM information_schema.INNODB_TRX "
            "WHERE trx_mysql_thread_id <> CONNECTION_ID() AND trx_rows_modified > 0 ORDER BY trx_started LIMIT 1"
        )
    except ServerError:
        return ""
    return f": the transaction of connection {rows[0][1]} has been open for {rows[0][0]} s" if rows else ""


def _settled_position(session: Session) -> Position:
    """The position, with a GTID set that has no hole left by other tables' commits that are on their way."""
    best: Position = {}
    for _ in range(20):
        position = read_position(session)
        if not best or _intervals(position) < _intervals(best):
            best = position
        if _intervals(best) == _sources(best):
            break
        wait(0.005)
    return best


def _intervals(position: Position) -> int:
    return sum(len(part.split(":")) - 1 for part in position.get("gtid_set", "").split(",") if part)


def _sources(position: Position) -> int:
    return sum(1 for part in position.get("gtid_set", "").split(",") if part)


def _as_the_server_says(sessions: Sequence[Session]) -> tuple[Position, int]:
    """Without a lock: every session's snapshot knows its position. The most that agree are moved to the front."""
    listed = list(sessions)
    told = {}
    for session in listed:
        session.execute(_BEGIN)
        status = session.query("SHOW STATUS LIKE 'binlog_snapshot_%'")
        told[session] = tuple(sorted((str(name).lower(), str(value)) for name, value in status))
    common, count = Counter(told.values()).most_common(1)[0]
    listed.sort(key=lambda s: told[s] != common)
    if isinstance(sessions, list):
        sessions[:] = listed
    values = dict(common)
    gtid = values.get("binlog_snapshot_gtid_executed", "")
    uuid = listed[0].query("SHOW GLOBAL VARIABLES LIKE 'server_uuid'")
    position = {
        "file": values["binlog_snapshot_file"],
        "offset": values["binlog_snapshot_position"],
        "gtid_set": "" if gtid == "not-in-consistent-snapshot" else gtid.replace("\n", ""),
        "server_uuid": str(uuid[0][1]) if uuid else "",
    }
    return position, count
