"""Where changes come from that are to be applied to the other side, and the outbox of a server as such a source."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from migrate.config import Config, Endpoint
from migrate.db import Session, patiently
from migrate.doublewrite import outbox
from migrate.doublewrite.outbox import SCHEMA, Change
from migrate.doublewrite.timed import timed
from migrate.errors import ConnectionLost, OutcomeUnknown, TryAgain

T = TypeVar("T")
_BATCH = 2000  # changes that are read at once
_LOOK_BACK_S = 5.0


class Source(Protocol):
    """Where changes come from."""

    name: str

    def read(self) -> list[Change]:
        """The next changes in order; none if there are none now."""

    def done(self, changes: Sequence[Change]) -> None:
        """These are applied."""

    def hold(self, refused: dict[Change, str]) -> None:
        """These can't be applied, nor what follows them on the same rows."""

    def backlog(self) -> tuple[int, float]:
        """Changes that wait, and the age of the oldest in seconds."""

    def close(self) -> None: ...


class Outbox:
    """The outbox of one server as a source. What can't be applied is marked there, and no longer read."""

    def __init__(self, config: Config, endpoint: Endpoint):
        self.name = endpoint.name
        self._config, self._endpoint = config, endpoint
        self._session: Session | None = None
        self._lock = threading.Lock()  # lanes share the session
        self._floor = 0  # nothing below it was pending at the last look from the start
        self._looked = 0.0

    def read(self) -> list[Change]:
        return self._patiently(self._read)

    def _read(self, session: Session) -> list[Change]:
        now = time.monotonic()
        whole = now - self._looked > _LOOK_BACK_S
        if whole:
            self._floor, self._looked = 0, now
        found = self._from(session, self._floor)
        if not found and not whole:
            self._floor, self._looked = 0, now
            found = self._from(session, 0)
        elif found and not whole and self._has_earlier(session, found):
            # a transaction that took its numbers long before it committed: it comes first
            self._floor = 0
            found = self._from(session, 0)
        if found and self._floor == 0:
            self._floor = found[0].seq - 1
        return found

    def _from(self, session: Session, floor: int) -> list[Change]:
        return outbox.read(session, self._config.name, "seq > %s AND held IS NULL", [floor], limit=_BATCH)

    def _has_earlier(self, session: Session, changes: Sequence[Change]) -> bool:
        hashes = sorted({c.row_hash for c in changes})
        return bool(
            session.value(
                f"SELECT COUNT(*) FROM {SCHEMA}.outbox WHERE migration = %s AND seq <= %s AND held IS NULL "
                f"AND row_hash IN ({', '.join(['%s'] * len(hashes))})",
                [self._config.name, self._floor, *hashes],
            )
        )

    def held(self) -> set[int]:
        """The rows of which a change is held: what follows it waits too."""
        sql = f"SELECT DISTINCT row_hash FROM {SCHEMA}.outbox WHERE migration = %s AND held IS NOT NULL"
        return self._patiently(lambda s: {int(h) for (h,) in s.query(sql, [self._config.name])})

    def done(self, changes: Sequence[Change]) -> None:
        self._patiently(lambda s: outbox.remove(s, self._config.name, [c.seq for c in changes]))

    def hold(self, refused: dict[Change, str]) -> None:
        def mark(session: Session) -> None:
            for change, reason in refused.items():
                session.execute(
                    f"UPDATE {SCHEMA}.outbox SET held = %s WHERE seq = %s AND migration = %s",
                    (reason[:1000], change.seq, self._config.name),
                )

        self._patiently(mark)

    def release(self) -> int:
        """Lets everything that is held be tried again; how many changes that are."""
        sql = f"UPDATE {SCHEMA}.outbox SET held = NULL WHERE migration = %s AND held IS NOT NULL"
        return self._patiently(lambda s: s.execute(sql, [self._config.name]))

    def backlog(self) -> tuple[int, float]:
        """Without what is held."""
        sql = (f"SELECT COUNT(*), COALESCE(TIMESTAMPDIFF(MICROSECOND, MIN(created_at), NOW(6)), 0) "
               f"FROM {SCHEMA}.outbox WHERE migration = %s AND held IS NULL")  # fmt: skip
        count, age = self._patiently(lambda s: s.one(sql, [self._config.name]))
        return int(count), int(age) / 1e6

    def _patiently(self, work: Callable[[Session], T]) -> T:
        def attempt() -> T:
            try:
                if self._session is None:
                    self._session = timed(self._endpoint, 60)
                return work(self._session)
            except (ConnectionLost, OutcomeUnknown):
                self.close()
                raise

        with self._lock:
            return patiently(self._config.run.patience_s, attempt, ConnectionLost, OutcomeUnknown, TryAgain)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
