"""Undoing mustn't be interrupted: the application waits for it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger("migrate")


@contextmanager
def unstoppable() -> Iterator[None]:
    """Lets SIGINT and SIGTERM wait until the block is left, where this is the main thread, which gets them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def heard(number: int, frame: FrameType | None) -> None:
        del number, frame
        log.warning("stopping as soon as everything is as it was before")

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
