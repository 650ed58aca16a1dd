"""Where parallel work runs: processes of this machine, or a Dask cluster. One interface: concurrent.futures."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

from migrate.config import Run
from migrate.db import stop
from migrate.errors import ConfigError, Interrupted, MigrateError

_PR_SET_PDEATHSIG = 1
T = TypeVar("T")


def _start_worker() -> None:
    # Ctrl-C reaches the whole process group; the parent decides what to do with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A worker must not outlive a killed parent: nobody would know what it still writes.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def workers(run: Run, count: int) -> Iterator[Executor]:
    """An executor of `count` workers. Enter it before starting threads: the processes are forked.

    On an error or an interrupt the processes are ended at once; a transaction they had open rolls back.
    """
    if run.dask:
        with _dask(run.dask) as executor:
            yield executor
        return
    pool = ProcessPoolExecutor(count, mp_context=get_context("fork"), initializer=_start_worker)
    try:
        for future in [pool.submit(int) for _ in range(count)]:  # forks them now
            future.result()
        yield pool
    except BaseException:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        raise
    pool.shutdown()


@contextmanager
def _dask(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError:
        raise ConfigError("run.dask needs the extra: pip install 'ledger-migrate[dask]'") from None
    with Client(address) as client:
        yield client.get_executor()


def results(pool: Executor, tasks: Callable[[], tuple[Any, ...] | None], window: int) -> Iterator[Any]:
    """Runs tasks, at most `window` at a time, and yields their results as they come.

    `tasks()` gives the next (function, *arguments), or None if there is none now: it is asked again after the next
    result, and the end is when nothing is running. The first error ends it.
    """
    running: set[Future[Any]] = set()
    while True:
        while len(running) < window and (task := tasks()) is not None:
            running.add(pool.submit(*task))
        if not running:
            return
        done, running = wait(running, timeout=1, return_when=FIRST_COMPLETED)
        if stop.is_set():
            raise Interrupted("stopped on request; the same command goes on from here")
        for future in done:
            try:
                yield future.result()
            except BrokenProcessPool:
                raise MigrateError(
                    "a worker process was killed from outside; the same command goes on from here"
                ) from None
