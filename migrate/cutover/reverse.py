"""The process that carries the target's writes back into the shards, from the moment that the target is opened."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

import psutil
from platformdirs import user_state_path

from migrate.config import Config
from migrate.cutover.journal import CutoverJournal
from migrate.db import connect
from migrate.errors import NoGo

_STARTS_S = 1.0


def start_reverse(config: Config, keep: Callable[..., None]) -> str:
    """Starts `migrate reverse` as a process of its own, unless it runs. NoGo if it ends at once."""
    if (running := _process(config)) is not None:
        return f"process {running.pid} runs already"
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


def end_reverse(config: Config) -> None:
    """Ends the process that a cutover of this migration started, if it lives; what it didn't do stays in the outbox."""
    process = _process(config)
    if process is None:
        return
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGTERM)
        with suppress(psutil.TimeoutExpired):
            process.wait(10)
            return
        process.kill()


def _process(config: Config) -> psutil.Process | None:
    """The process of the newest cutover that started one, if it lives on this machine."""
    with connect(config.target, patience_s=config.run.patience_s) as session:
        run = CutoverJournal(config.name, session).newest("cutover")
    told = run.kept.get("reverse") if run is not None else None
    if not told:
        return None
    try:
        process = psutil.Process(int(told["pid"]))
        if abs(process.create_time() - float(told["started"])) < 1 and process.status() != psutil.STATUS_ZOMBIE:
            return process
    except psutil.NoSuchProcess:
        return None
    return None
