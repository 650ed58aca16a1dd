"""Who runs a migration: one process at a time, known to live by its heartbeat."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from migrate.config import Config
from migrate.db import Session, patiently, stop
from migrate.errors import ConnectionLost, Interrupted, MigrateError, NoGo, ServerError, TryAgain
from migrate.holder import describe, is_dead, owner
from migrate.state import State

log = logging.getLogger("migrate")

LEASE_S = 30
_WHO = "SELECT lease_owner, lease_until > NOW(6) FROM migrate_meta.migration WHERE name = %s"


@contextmanager
def lease(config: Config) -> Iterator[None]:
    """Holds the migration for this process. NoGo if another one that lives holds it.

    Starts a thread for the heartbeat: fork before. If the lease is lost on the way (this process was stopped for
    longer than it lasts, and another one took over), every wait ends and so does the command.
    """
    me = owner()
    with State.open(config) as state:
        patiently(config.run.patience_s, lambda: _take(state.session, config.name, me), TryAgain)
    heart = _Heartbeat(config, me)
    heart.start()
    try:
        yield
    except Interrupted:
        if heart.lost_to is None:
            raise
    finally:
        heart.end()
        lost_to = heart.lost_to or _release(config, me)
    if lost_to:
        raise MigrateError(
            f"the lease of migration {config.name!r} was lost to {lost_to} while this process gave no sign of life: "
            "stopped; what was committed stays"
        )


def _take(session: Session, name: str, me: str) -> None:
    with session.transaction():
        holder, alive = session.one(f"{_WHO} FOR UPDATE", [name])
        if holder and holder != me and alive and not is_dead(holder):
            raise NoGo(
                f"migration {name!r} is being run by {describe(holder)}; wait for it, or stop it: its lease ends "
                f"{LEASE_S} s after its last sign of life"
            )
        session.execute(
            "UPDATE migrate_meta.migration SET lease_owner = %s, lease_until = NOW(6) + INTERVAL %s SECOND "
            "WHERE name = %s",
            (me, LEASE_S, name),
        )


def _release(config: Config, me: str) -> str | None:
    """Gives the lease back; who has it, if it is no longer ours. A target that is down keeps it until it runs out,
    or until we are seen to be dead."""
    try:
        with Session(config.target) as session:
            kept = session.execute(
                "UPDATE migrate_meta.migration SET lease_owner = NULL, lease_until = NULL "
                "WHERE name = %s AND lease_owner = %s",
                (config.name, me),
            )
            return None if kept else _holder(session, config.name)
    except ServerError as error:
        log.debug("lease not released: %s", error)
        return None


def _holder(session: Session, name: str) -> str:
    who = session.value("SELECT lease_owner FROM migrate_meta.migration WHERE name = %s", [name])
    return describe(str(who)) if who else "another process, which has ended"


class _Heartbeat(threading.Thread):
    """Renews the lease. A target that is away for a while costs nothing as long as nobody else took the lease."""

    def __init__(self, config: Config, me: str):
        super().__init__(daemon=True)
        self._config, self._me = config, me
        self._ended = threading.Event()
        self.lost_to: str | None = None

    def run(self) -> None:
        session: Session | None = None
        while self.lost_to is None and not self._ended.wait(LEASE_S / 6):
            try:
                session = session or Session(self._config.target)
                self._beat(session)
            except ServerError as error:
                log.debug("heartbeat: %s", error)
                if session and isinstance(error, ConnectionLost):
                    session.close()
                    session = None
        if session:
            session.close()

    def _beat(self, session: Session) -> None:
        kept = session.execute(
            "UPDATE migrate_meta.migration SET lease_until = NOW(6) + INTERVAL %s SECOND "
            "WHERE name = %s AND lease_owner = %s",
            (LEASE_S, self._config.name, self._me),
        )
        if not kept:
            self.lost_to = _holder(session, self._config.name)
            stop.set()

    def end(self) -> None:
        self._ended.set()
        self.join(timeout=10)
