"""The process that carries the target's writes back into the shards, from the moment that the target is opened."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import psutil
from platformdirs import user_state_path

from migrate.config import Config
from migrate.cutover.journal import CutoverJournal
from migrate.db import connect
from migrate.errors import NoGo

_STARTS_S = 1.0
_ENDS_S = 10.0


def start_reverse(config: Config, keep: Callable[..., None]) -> str:
    """Starts `migrate reverse` as a process of its own. NoGo if it ends at once."""
    log = user_state_path("migrate", ensure_exists=True) / f"reverse-{config.name}.log"
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "migrate.cli", "-c", str(config.path.absolute()), "reverse"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    keep(reverse={"pid": process.pid, "started": psutil.Process(process.pid).create_time(), "log": str(log)})
    with suppress(subprocess.TimeoutExpired):
        code = process.wait(_STARTS_S)
        raise NoGo(f"`migrate reverse` ended at once with {code}; see {log}")
    return f"process {process.pid}, log {log}"


def reverse_process(kept: Mapping[str, Any]) -> psutil.Process | None:
    """The process that a run has started, by the facts that it kept, if it lives on this machine."""
    told = kept.get("reverse")
    if not told:
        return None
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(int(told["pid"]))
        if abs(process.create_time() - float(told["started"])) < 1 and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def end_reverse(config: Config) -> bool:
    """Ends the process that the newest cutover or rollback of this migration has started, if it lives; what it didn't
    do stays in the outbox."""
    with connect(config.target, patience_s=config.run.patience_s) as session:
        journal = CutoverJournal(config.name, session)
        runs = [journal.last("cutover"), journal.last("rollback")]
    return any([end_process(run.kept) for run in runs if run is not None])


def end_process(kept: Mapping[str, Any]) -> bool:
    """Ends the process that a run has started, by the facts that it kept."""
    process = reverse_process(kept)
    if process is None:
        return False
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_ENDS_S)
        except psutil.TimeoutExpired:
            process.kill()
    return True
