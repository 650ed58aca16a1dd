"""How far it is, on stderr: a bar on a terminal, plain lines elsewhere, nothing where nobody asked."""

from __future__ import annotations

import sys
import threading
import time

from tqdm import tqdm

_EVERY_S = 10.0  # between plain lines


class Progress:
    """Counts parts of work that are expected and done. Called from many threads. A title of None shows nothing."""

    def __init__(self, title: str | None):
        self._title = title
        self._lock = threading.Lock()
        self._expected = self._done = 0
        self._told = time.monotonic()
        self._bar = None
        if title is not None and sys.stderr.isatty():
            self._bar = tqdm(total=0, desc=title, unit="part", leave=False, file=sys.stderr)

    def expect(self) -> None:
        with self._lock:
            self._expected += 1
            if self._bar is not None:
                self._bar.total = self._expected

    def done(self) -> None:
        with self._lock:
            self._done += 1
            if self._bar is not None:
                self._bar.update()
            elif self._title is not None and time.monotonic() - self._told >= _EVERY_S:
                self._told = time.monotonic()
                print(f"{self._title}: {self._done} of {self._expected} parts", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
