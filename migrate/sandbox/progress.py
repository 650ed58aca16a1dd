"""Long work on stderr: a bar on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from migrate.sandbox.errors import SandboxError

_LINE_EVERY_S = 10.0
_TICK_S = 0.3


def say(text: str) -> None:
    """One line for the operator."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """How far one piece of work of `total` units is. Without a total it only counts."""

    def __init__(self, what: str, total: int | None = None, unit: str = ""):
        self.what, self.total, self.unit, self.done = what, total, unit, 0
        self._began = self._printed = time.monotonic()
        self._bar = tqdm(total=total, desc=what, unit=unit or "it", unit_scale=unit == "B", leave=False,
                         file=sys.stderr) if sys.stderr.isatty() else None  # fmt: skip

    def __enter__(self) -> Progress:
        if not self._bar:
            say(f"{self.what} ...")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
        if kind is None:
            say(f"{self.what}: done in {time.monotonic() - self._began:.0f} s")

    def at(self, done: int) -> None:
        """Says that `done` units are through."""
        done = min(done, self.total) if self.total else done
        if self._bar is not None:
            self._bar.update(done - self.done)
        self.done = done
        now = time.monotonic()
        if self._bar is None and now - self._printed >= _LINE_EVERY_S:
            self._printed = now
            say(f"{self.what}: {self._text(now - self._began)}")

    def _text(self, elapsed: float) -> str:
        scale, unit = (1e6, "MB") if self.unit == "B" else (1, self.unit)
        if not self.total:
            return f"{self.done / scale:.0f} {unit}, {elapsed:.0f} s so far"
        left = f"about {elapsed / self.done * (self.total - self.done):.0f} s" if self.done else "unknown time"
        return f"{self.done / scale:.0f} of {self.total / scale:.0f} {unit}, {left} left"


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    watch: Callable[[str], None] = lambda line: None,
) -> str:
    """Runs a command to its end and returns what it printed, stdout and stderr together.

    `watch` is called with each line as it comes, and with "" several times a second.
    SandboxError with the last lines if the command fails. It is killed, with its children, if we are interrupted.
    """
    source = subprocess.PIPE if stdin else subprocess.DEVNULL
    process = subprocess.Popen(
        [str(c) for c in command], cwd=cwd, env={**os.environ, **(env or {})}, stdin=source,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0,
    )  # fmt: skip
    try:
        lines = _follow(process, stdin, watch)
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        tail = "\n".join(lines[-15:])
        full = " (the disk is full)" if "no space left on device" in tail.lower() else ""
        program = Path(command[0]).name
        raise SandboxError(f"{program} failed with exit code {process.returncode}{full}:\n{tail}")
    return "\n".join(lines)


def _follow(process: subprocess.Popen[bytes], stdin: str, watch: Callable[[str], None]) -> list[str]:
    """Feeds the command and gathers its lines until it ends."""
    assert process.stdout
    if process.stdin:
        with suppress(BrokenPipeError), process.stdin:
            process.stdin.write(stdin.encode())
    lines: list[str] = []
    rest = b""
    with process.stdout as stdout, selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        data: bytes | None = None
        while data != b"":
            data = os.read(stdout.fileno(), 65536) if selector.select(_TICK_S) else None
            *whole, rest = (rest + (data or b"")).split(b"\n")
            for line in whole:
                lines.append(line.decode(errors="replace"))
                watch(lines[-1])
            watch("")
    process.wait()
    return [*lines, rest.decode(errors="replace")] if rest else lines


def folder_size(folder: Path) -> int:
    """The bytes in the files below a folder that may be changing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size
    return total
