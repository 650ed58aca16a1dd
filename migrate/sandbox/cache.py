"""The user's cache folder: what was downloaded or built once and is whole, or isn't there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from migrate.sandbox.errors import SandboxError, readable_disk_errors
from migrate.sandbox.progress import say


def cache_dir() -> Path:
    """The cache folder; MIGRATE_CACHE_DIR puts it elsewhere."""
    own = os.environ.get("MIGRATE_CACHE_DIR")
    return Path(own).absolute() if own else platformdirs.user_cache_path("migrate-sandbox")


def install(name: str, make: Callable[[Path], None], needs_mb: int) -> Path:
    """The cached folder `name`. If it isn't there, `make(folder)` fills one that then appears at once and whole.

    Whoever asks while another process makes it waits. What an interrupted one left is removed before the next try.
    """
    cache = cache_dir()
    folder = cache / name
    if folder.is_dir():
        return folder
    with readable_disk_errors(cache):
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache / f".{name}.lock", f"another process installs {name}; waiting for it"):
            for leftover in cache.glob(f".{name}.partial-*"):
                shutil.rmtree(leftover)
            if not folder.is_dir():
                _make(folder, make, needs_mb)
    return folder


def _make(folder: Path, make: Callable[[Path], None], needs_mb: int) -> None:
    free_mb = shutil.disk_usage(folder.parent).free // 1_000_000
    if free_mb < needs_mb:
        raise SandboxError(f"{folder.name} needs {needs_mb} MB of disk in {folder.parent}, {free_mb} MB are free")
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
    try:
        partial.chmod(0o755)
        make(partial)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Holds a lock between processes, and says `waiting` if somebody else has it."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
