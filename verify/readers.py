"""Reading both sides at once: sessions, and the threads that wait for the servers. Nothing here writes."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Self, TypeVar

from migrate.config import Config, Endpoint
from migrate.db import Session, connect, patiently
from migrate.errors import ConnectionLost, Interrupted, MigrateError, TryAgain
from verify.progress import Progress

T = TypeVar("T")
log = logging.getLogger("verify")


class Readers:
    """Hands sessions to pieces of reading work and runs them side by side.

    The servers do the work, so these are threads. There are twice `workers` of them: both sides are scanned at the
    same time, and neither's queue may hold the other up. Leaving on an error kills the statements that still run.
    """

    def __init__(self, config: Config, workers: int | None = None, progress: Progress | None = None):
        self.config = config
        self._progress = progress or Progress(None)
        self._executor = ThreadPoolExecutor(2 * (workers or config.run.workers), thread_name_prefix="verify")
        self._idle: dict[Endpoint, list[Session]] = defaultdict(list)
        self._busy: set[Session] = set()
        self._lock = threading.Lock()
        self._aborted = False

    def submit(self, endpoint: Endpoint, work: Callable[[Session], T]) -> Future[T]:
        """Runs `work` with a session of that server. It only reads, so it is run again on a fresh session
        if the connection was lost, for as long as the config's patience."""
        future = self._executor.submit(self._patiently, endpoint, work)
        self._progress.expect()
        future.add_done_callback(lambda _: self._progress.done())
        return future

    def start(self, work: Callable[[], T]) -> Future[T]:
        """Runs something that has its session already."""
        return self._executor.submit(work)

    def _patiently(self, endpoint: Endpoint, work: Callable[[Session], T]) -> T:
        def once() -> T:
            if self._aborted:
                raise Interrupted("stopped")
            with self.session(endpoint) as session:
                return work(session)

        return patiently(self.config.run.patience_s, once, ConnectionLost, TryAgain)

    @contextmanager
    def session(self, endpoint: Endpoint) -> Iterator[Session]:
        """A session to read with. After an error, or a stream left halfway, it isn't used again."""
        with self._lock:
            idle = self._idle[endpoint]
            session = idle.pop() if idle else None
        session = session or connect(endpoint)
        with self._lock:
            self._busy.add(session)
        try:
            yield session
        except BaseException:
            session.close()
            raise
        else:
            with self._lock:
                self._idle[endpoint].append(session)
        finally:
            with self._lock:
                self._busy.discard(session)

    def _kill(self) -> None:
        with self._lock:
            self._aborted = True
            busy = list(self._busy)
        for session in busy:
            with suppress(MigrateError), connect(session.endpoint) as killer:
                killer.execute(f"KILL QUERY {session.connection_id}")
                log.debug("killed the statement of connection %d on %s", session.connection_id, session.endpoint)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        if kind is not None:
            self._kill()
        self._executor.shutdown(wait=True)
        self._progress.close()
        for sessions in self._idle.values():
            for session in sessions:
                session.close()
