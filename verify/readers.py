"""Reading both sides at once: sessions, and the threads that wait for the servers. Nothing here writes."""

from __future__ import annotations

import logging
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Self, TypeVar

from migrate.config import Config, Endpoint
from migrate.db import Session, connect, patiently
from migrate.errors import ConnectionLost, Interrupted, MigrateError, ServerError, TryAgain
from verify.cut import Cut, CutLost, HistoryGone, snapshot_target
from verify.progress import Progress

T = TypeVar("T")
log = logging.getLogger("verify")


class Readers:
    """Hands sessions to pieces of reading work and runs them side by side.

    The servers do the work, so these are threads. There are twice `workers` of them: both sides are scanned at the
    same time, and neither's queue may hold the other up. Leaving on an error kills the statements that still run.

    With a cut in use, every session reads its server as of that cut: those of the sources are the cut's own, a fixed
    number of them, those of the target read at its TSO. CutLost where the cut can't be read any longer.
    """

    def __init__(self, config: Config, workers: int | None = None, progress: Progress | None = None):
        self.config = config
        self._progress = progress or Progress(None)
        self.threads = 2 * (workers or config.run.workers)
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="verify")
        self._idle: dict[Endpoint, list[Session]] = defaultdict(list)
        self._busy: set[Session] = set()
        self._running: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._aborted = False
        self.cut: Cut | None = None
        self._snapshots: dict[str, queue.Queue[Session]] = {}

    def use(self, cut: Cut | None) -> None:
        """Reads at that cut from now on, when what was submitted has ended; closes the one before."""
        self.drain()
        if self.cut is not None:
            self.cut.close()
        with self._lock:
            for session in self._idle.pop(self.config.target, []):
                session.close()
        self.cut, self._snapshots = cut, {}
        for instance, sessions in cut.sessions.items() if cut else ():
            self._snapshots[instance] = queue.Queue()
            for session in sessions:
                self._snapshots[instance].put(session)

    def drain(self) -> None:
        """Waits for all that was submitted; what wasn't begun yet is given up."""
        with self._lock:
            running = list(self._running)
        for future in running:
            future.cancel()
        futures.wait(running)

    def submit(self, endpoint: Endpoint, work: Callable[[Session], T]) -> Future[T]:
        """Runs `work` with a session of that server. It only reads, so it is run again on a fresh session
        if the connection was lost, for as long as the config's patience."""
        self._progress.expect()
        return self._watched(self._executor.submit(self._patiently, endpoint, work))

    def start(self, work: Callable[[], T]) -> Future[T]:
        """Runs something that has its session already."""
        return self._watched(self._executor.submit(work))

    def _watched(self, future: Future[T]) -> Future[T]:
        with self._lock:
            self._running.add(future)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: Future[T]) -> None:
        self._progress.done()
        with self._lock:
            self._running.discard(future)

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
        session, give_back = self._take(endpoint)
        with self._lock:
            self._busy.add(session)
        try:
            yield session
        except BaseException as error:
            session.close()
            if self.cut and _history_gone(error):
                self.cut.gone = True
                raise HistoryGone(
                    f"{error}: reading at one cut took longer than the target keeps history; raise tidb_gc_life_time, "
                    "or lower verify.range_rows"
                ) from error
            if self.cut and endpoint.name in self._snapshots:
                self.cut.gone = True  # a snapshot can't be had again, unlike a connection
                if isinstance(error, ConnectionLost | TryAgain):
                    raise CutLost(f"the cut was lost: {error}") from error
            raise
        else:
            give_back(session)
        finally:
            with self._lock:
                self._busy.discard(session)

    def _take(self, endpoint: Endpoint) -> tuple[Session, Callable[[Session], None]]:
        if endpoint.name in self._snapshots:
            return self._snapshot(endpoint.name)
        with self._lock:
            idle = self._idle[endpoint]
            session = idle.pop() if idle else None
        if session is None:
            session = connect(endpoint)
            if self.cut and endpoint == self.config.target:
                snapshot_target(session, self.cut)
        return session, idle.append

    def _snapshot(self, instance: str) -> tuple[Session, Callable[[Session], None]]:
        """A session of the cut; waits for one to be free."""
        free = self._snapshots[instance]
        while not self._aborted:
            with suppress(queue.Empty):
                return free.get(timeout=0.2), free.put
            if self.cut is None or self.cut.gone:
                raise CutLost(f"{instance}: the snapshot is gone")
        raise Interrupted("stopped")

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
        if self.cut:
            self.cut.close()
        for sessions in self._idle.values():
            for session in sessions:
                session.close()


def _history_gone(error: BaseException) -> bool:
    """Whether the target has collected what a statement wanted to read."""
    return isinstance(error, ServerError) and error.number in (8055, 9006)
