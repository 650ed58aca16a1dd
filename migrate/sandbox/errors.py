"""What can go wrong with the servers of a sandbox."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from migrate.errors import MigrateError


class SandboxError(MigrateError):
    """A server could not be installed, started or stopped; the text says why and what to do."""


@contextmanager
def readable_disk_errors(folder: Path) -> Iterator[None]:
    """Turns a full disk, a full quota or a forbidden folder into a SandboxError that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error):  # of many copies
            raise SandboxError(f"no space left on the disk of {folder}; free some and run it again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise SandboxError(f"not allowed to write {error.filename or folder}") from error
        raise
