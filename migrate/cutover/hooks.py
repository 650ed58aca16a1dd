"""Runs the operator's own executables at their step, within a time limit."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from migrate.config import Config
from migrate.db import stop
from migrate.errors import Interrupted, NoGo, redact

_SHOWN = 2000  # characters of a hook's output that are kept
_GRACE_S = 2.0  # between SIGTERM and SIGKILL


def run_hook(config: Config, name: str, path: Path, *, direction: str, run: int, limit_s: float) -> str:
    """Runs the hook; gives what it printed. NoGo if it fails, can't be run, or isn't done in time.

    Its environment is ours, and MIGRATE_STEP (the hook's name), MIGRATE_DIRECTION
    (cutover or rollback), MIGRATE_RUN (a number), MIGRATE_NAME and MIGRATE_CONFIG. It must be safe to run twice. At its
    limit it gets SIGTERM with all its children, two seconds later SIGKILL.
    """
    told = {
        "MIGRATE_STEP": name,
        "MIGRATE_DIRECTION": direction,
        "MIGRATE_RUN": str(run),
        "MIGRATE_NAME": config.name,
        "MIGRATE_CONFIG": str(config.path.absolute()),
    }
    with tempfile.TemporaryFile() as output:  # not a pipe: a hook's child that keeps one open would hang us
        try:
            process = subprocess.Popen(
                [str(path)], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env={**os.environ, **told}, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise NoGo(f"hook {name}, {path}: {error.strerror or error}") from None
        try:
            code = _waited(process, limit_s)
        finally:
            _end(process)
        output.seek(0)
        said = redact(output.read(_SHOWN).decode(errors="replace")).strip()
    if code is None:
        raise NoGo(
            f"hook {name}, {path}, was not done in {limit_s:g} s and was ended; it had printed: {said or 'nothing'}"
        )
    if code:
        raise NoGo(f"hook {name}, {path}, ended with {code}: {said or 'it printed nothing'}")
    return said


def _waited(process: subprocess.Popen[bytes], limit: float) -> int | None:
    waited = 0.0
    while waited < limit:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(0.05)
        waited += 0.05
        if stop.is_set():
            raise Interrupted("stopped on request; what was begun is undone by the same command")
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends what is left of a hook and of its children."""
    for number, grace in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)


def problem(path: Path | None) -> str | None:
    """Why a hook could not be run, or None."""
    if path is None or (path.is_file() and os.access(path, os.X_OK)):
        return None
    return f"{path} is no executable file"
