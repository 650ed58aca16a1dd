"""Times a command as a whole process, with the memory of its largest process."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Timing:
    """Seconds of wall clock, from start to exit of the process; the peak resident memory of the largest process of its
    tree in MiB; the seconds that the command itself says its work took, where it does, which leave out the start of
    the interpreter; what it printed on stdout."""

    seconds: float
    peak_rss_mib: float
    work_s: float | None = None
    output: str = ""


def run(command: Sequence[str], expected: int = 0) -> Timing:
    """Runs the command to its end. CalledProcessError, with what it said, if it exits with another code."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(process.pid, peak), daemon=True)
    watcher.start()
    try:
        output, said = process.communicate()
    finally:
        if process.poll() is None:  # we are interrupted
            process.terminate()
            process.wait()
    seconds = time.perf_counter() - started
    watcher.join()
    if process.returncode != expected:
        raise subprocess.CalledProcessError(process.returncode, command[:3], output, said)
    return Timing(seconds, peak[0] / 2**20, _work(output), output)


def _work(output: str) -> float | None:
    try:
        return float(json.loads(output)["seconds"])
    except (ValueError, KeyError, TypeError):
        return None


def _watch(pid: int, peak: list[int]) -> None:
    with suppress(psutil.Error):
        parent = psutil.Process(pid)
        while parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
            for process in [parent, *parent.children(recursive=True)]:
                with suppress(psutil.Error):
                    peak[0] = max(peak[0], process.memory_info().rss)
            time.sleep(0.05)
