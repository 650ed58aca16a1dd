"""Sessions of the library, which don't wait for ever."""

from __future__ import annotations

from dataclasses import replace

from migrate.config import Endpoint
from migrate.db import Session

_IDLE_S = 600


def timed(endpoint: Endpoint, seconds: float) -> Session:
    """A session that gives up an answer that takes longer than that, from its first byte on, and which its server
    forgets when idle: a process that slept through an hour finds it closed, and looks anew before it applies anything.
    """
    session = Session(replace(endpoint, answer_s=seconds))
    session.execute("SET SESSION wait_timeout = %s", [_IDLE_S])
    return session
