"""How hard the sources may be read now: not outside the time window, not while they are busy, not behind a lag."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from migrate.config import Config, Endpoint
from migrate.db import Session, connect, wait
from migrate.errors import AccessDenied, ConnectionLost, ServerError

log = logging.getLogger("verify")

_EVERY_S = 1.0
_TELL_S = 30.0
_SYNTAX = 1064
_BEHIND = 32  # Seconds_Behind_Master in the answer's row, of all versions


class Throttle:
    """Asks the instances that are read, once a second at most. What it can't see holds nothing up."""

    def __init__(self, config: Config, now: Callable[[], datetime] = lambda: datetime.now(UTC)):
        self._config, self._now = config, now
        self._sessions: dict[str, Session] = {}
        self._asked = float("-inf")
        self._reason: str | None = None

    def reason(self) -> str | None:
        """Why nothing new should be read now, or None."""
        if time.monotonic() - self._asked >= _EVERY_S:
            self._reason = self._outside() or next(filter(None, map(self._busy, self._config.sources)), None)
            self._asked = time.monotonic()
        return self._reason

    def wait(self) -> None:
        """Returns when reading may begin; the reason for waiting is told."""
        told = float("-inf")
        while reason := self.reason():
            if time.monotonic() - told >= _TELL_S:
                log.warning("waiting: %s", reason)
                told = time.monotonic()
            wait(_EVERY_S)

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()

    def _outside(self) -> str | None:
        window = self._config.verify.window
        if window is None:
            return None
        begin, end = window.split("-")
        now = f"{self._now():%H:%M}"
        inside = begin <= now < end if begin < end else now >= begin or now < end
        return None if inside else f"it is {now} UTC, outside the window {window}"

    def _busy(self, source: Endpoint) -> str | None:
        replica = self._config.replicas.get(source.name)
        limits = self._config.verify
        try:
            session = self._session(replica or source)
            running = int(session.one("SHOW GLOBAL STATUS LIKE 'Threads_running'")[1])
            if running > limits.threads_running:
                return f"{source.name} runs {running} threads, more than {limits.threads_running}"
            lag = _lag_s(session) if replica else 0
        except ConnectionLost as error:
            self._sessions.pop(source.name, None)
            return f"{error}"
        except (AccessDenied, LookupError):
            return None
        if lag is None:
            return f"the replica of {source.name} doesn't replicate"
        if lag > limits.replica_lag_s:
            return f"the replica of {source.name} is {lag} s behind, more than {limits.replica_lag_s}"
        return None

    def _session(self, endpoint: Endpoint) -> Session:
        if endpoint.name not in self._sessions:
            self._sessions[endpoint.name] = connect(endpoint)
        return self._sessions[endpoint.name]


def _lag_s(session: Session) -> int | None:
    """Seconds a replica is behind, or None if it doesn't replicate."""
    try:
        rows = session.query("SHOW SLAVE STATUS")
    except ServerError as error:
        if error.number != _SYNTAX:  # MySQL 8.4 has another name for it
            raise
        rows = session.query("SHOW REPLICA STATUS")
    lag = rows[0][_BEHIND] if rows else None
    return None if lag is None else int(lag)
