"""What every task of a worker stands on: connections that it keeps, and patience. Each task is safe to repeat."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from migrate.config import Endpoint
from migrate.db import patiently
from migrate.errors import ConnectionLost, OutcomeUnknown, TryAgain

T = TypeVar("T")


class _Connections(threading.local):
    """The connections of a thread: a worker of a Dask cluster may have several."""

    def __init__(self) -> None:
        self.open: dict[tuple[type, Endpoint], Any] = {}


_connections = _Connections()


def connection(kind: type[T], endpoint: Endpoint) -> T:
    found = _connections.open.get((kind, endpoint))
    if found is None:
        found = _connections.open[kind, endpoint] = kind(endpoint)  # type: ignore[call-arg]
    return cast(T, found)


def _disconnect() -> None:
    for connection in _connections.open.values():
        connection.close()
    _connections.open.clear()


def steadfast(patience_s: float, work: Callable[[], T]) -> T:
    """Does the work, again if a connection was lost or the target asked for it; it must be safe to repeat.

    OutcomeUnknown if a COMMIT went unanswered and patience ended before the state could be read.
    """
    unknown: OutcomeUnknown | None = None

    def attempt() -> T:
        nonlocal unknown
        try:
            return work()
        except (ConnectionLost, OutcomeUnknown) as error:
            unknown = error if isinstance(error, OutcomeUnknown) else unknown
            _disconnect()
            raise

    try:
        return patiently(patience_s, attempt, ConnectionLost, TryAgain, OutcomeUnknown)
    except ConnectionLost:
        if unknown is not None:
            raise unknown from None
        raise
