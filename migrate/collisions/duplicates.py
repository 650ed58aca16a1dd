"""Equal numbers among billions of them, in bounded memory."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

MEMORY_KEYS = 16_000_000  # 128 MB; beyond them keys go to files
_PARTS = 256  # so that 4 billion keys are 16 million a file
_FLUSH = 1_000_000
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


class Duplicates:
    """Takes batches of 64-bit keys, from any thread, and tells which keys came more than once.

    Beyond `memory_keys` they are spread by hash over files in `folder`, each of which is sorted by itself.
    """

    def __init__(self, folder: Path, memory_keys: int = MEMORY_KEYS):
        self._folder = folder
        self._memory_keys = memory_keys
        self._held: list[Keys] = []
        self._count = 0
        self._spilled = False
        self._lock = threading.Lock()

    def add(self, keys: Keys) -> None:
        """Takes a batch. OSError if the disk is full."""
        with self._lock:
            self._held.append(keys)
            self._count += len(keys)
            if self._count > (min(_FLUSH, self._memory_keys) if self._spilled else self._memory_keys):
                self._spill()

    def _spill(self) -> None:
        keys = np.concatenate(self._held)
        self._held, self._count, self._spilled = [], 0, True
        parts = (keys * _SPREAD) >> np.uint64(56)
        order = np.argsort(parts, kind="stable")
        bounds = np.searchsorted(parts[order], np.arange(_PARTS + 1, dtype=np.uint64))
        for part in range(_PARTS):
            piece = keys[order[bounds[part] : bounds[part + 1]]]
            if len(piece):
                with (self._folder / f"part-{part:03d}").open("ab") as file:
                    piece.tofile(file)

    def find(self) -> Keys:
        """The keys that came more than once, in order."""
        with self._lock:
            if not self._spilled:
                return _twice(np.concatenate(self._held)) if self._held else np.empty(0, np.uint64)
            if self._held:
                self._spill()
            files = sorted(self._folder.glob("part-*"))
            return np.sort(np.concatenate([_twice(np.fromfile(f, dtype=np.uint64)) for f in files]))


def _twice(keys: Keys) -> Keys:
    keys.sort()
    return np.unique(keys[1:][keys[1:] == keys[:-1]])
