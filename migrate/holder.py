"""A process that holds a migration, written so that others can tell whether it lives."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil


def owner() -> str:
    """Who we are, so that a dead process of this machine is known to be dead: host, machine, pid, start time."""
    return f"{socket.gethostname()}:{_machine()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def describe(who: str) -> str:
    """An owner in words."""
    host, _, pid, _ = _parts(who)
    return f"process {pid} on {host}" if pid else who


def is_dead(who: str) -> bool:
    """Whether the owner was a process of this machine that is no more. Of another machine's nobody can tell."""
    _, machine, pid, started = _parts(who)
    if machine != _machine():
        return False
    try:
        process = psutil.Process(int(pid))
        return process.status() == psutil.STATUS_ZOMBIE or f"{process.create_time():.2f}" != started
    except psutil.NoSuchProcess:
        return True


def _machine() -> str:
    # Not the host's name: containers share it, and then a pid of the one means nothing in the other.
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot[:8]}.{os.stat('/proc/self/ns/pid').st_ino}"


def _parts(who: str) -> tuple[str, str, str, str]:
    pieces = who.rsplit(":", 3)
    return (pieces[0], pieces[1], pieces[2], pieces[3]) if len(pieces) == 4 else (who, "", "", "")
