"""Where parallel work runs: processes of this machine, or a Dask cluster. One interface: concurrent.futures."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from time import monotonic
from typing import Any

from migrate.config import Run
from migrate.db import stop
from migrate.errors import ConfigError, Interrupted, MigrateError

log = logging.getLogger("migrate")

_PR_SET_PDEATHSIG = 1
_ASKED_TO_STOP = (signal.SIGINT, signal.SIGTERM)
_QUIET_S = 60


def _start_worker(parent: int) -> None:
    # Ctrl-C reaches the whole process group; the parent decides what to do with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKED_TO_STOP)
    # A worker must not outlive a killed parent: nobody would know what it still writes.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


@contextmanager
def workers(run: Run, count: int) -> Iterator[Executor]:
    """An executor of `count` workers. Enter it before starting threads: the processes are forked."""
    if run.dask:
        with _dask(run.dask) as executor:
            yield executor
        return
    pool = ProcessPoolExecutor(
        count, mp_context=get_context("fork"), initializer=_start_worker, initargs=(os.getpid(),)
    )
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ASKED_TO_STOP)  # a worker begins with our handlers: not to use
    try:
        running = [pool.submit(int) for _ in range(count)]  # forks them now
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        for future in running:
            future.result()
        yield pool
    except BaseException:
        _end(pool)
        raise
    pool.shutdown()


def _end(pool: Executor) -> None:
    """Ends the workers at once and for certain; a transaction they had open rolls back."""
    for process in list((pool._processes or {}).values()) if isinstance(pool, ProcessPoolExecutor) else ():
        process.kill()
    # Dead workers needn't be waited for, but the pool's thread must: left to the interpreter's end it may trip over it.
    pool.shutdown(wait=isinstance(pool, ProcessPoolExecutor), cancel_futures=True)


@contextmanager
def _dask(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError:
        raise ConfigError("run.dask needs the extra: pip install 'ledger-migrate[dask]'") from None
    with Client(address) as client:
        yield client.get_executor()


def results(pool: Executor, tasks: Callable[[], tuple[Any, ...] | None], window: int) -> Generator[Any, None, None]:
    """Runs tasks, at most `window` at a time, and yields their results as they come.

    `tasks()` gives the next (function, *arguments), or None if there is none now: it is asked again after the next
    result, and the end is when nothing is running. The first error ends it and the workers with it, and so does
    closing it: when it has ended, no worker writes any more.
    """
    running: set[Future[Any]] = set()
    heard = monotonic()
    try:
        while True:
            while len(running) < window and (task := tasks()) is not None:
                running.add(pool.submit(*task))
            if not running:
                return
            done, running = wait(running, timeout=1, return_when=FIRST_COMPLETED)
            if stop.is_set():
                raise Interrupted("stopped on request; the same command goes on from here")
            for future in done:
                yield future.result()
            if done:
                heard = monotonic()
            elif monotonic() - heard > _QUIET_S:
                log.warning("waiting: no worker has finished a task for %d s; %d are under way", _QUIET_S, len(running))
                heard = monotonic()
    except BrokenProcessPool:
        _end(pool)
        raise MigrateError(
            "a worker process was killed, by hand or for lack of memory; the same command goes on from here"
        ) from None
    except BaseException:
        _end(pool)
        raise
