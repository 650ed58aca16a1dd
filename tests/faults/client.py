"""The command line as the operator has it: a process group of its own, its output, and who lives in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import psutil

_END_S = 100.0


class Client:
    """A `migrate` process, its workers, and what it said. `ended()` waits for the end of all of them."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None, before: Sequence[str] = ()):
        # stdin is no terminal; MIGRATE_CONFIG of whoever runs the tests doesn't count
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MIGRATE_")}
        self._process = subprocess.Popen(
            [*before, sys.executable, "-m", "migrate.cli", *arguments],
            env={**inherited, **(environment or {})}, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.pid = self._process.pid
        self.out = self.err = ""

    @property
    def code(self) -> int:
        """The exit code; negative is the signal that ended it."""
        assert self._process.returncode is not None, "it hasn't ended"
        return self._process.returncode

    def runs(self) -> bool:
        return self._process.poll() is None

    def ended(self, timeout_s: float = _END_S) -> Client:
        """Waits until nobody of the group has the output open any more."""
        try:
            self.out, self.err = self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            self.out, self.err = self._process.communicate()
            raise AssertionError(f"it hung; it said:\n{self.err}") from None
        return self

    def ok(self, timeout_s: float = _END_S) -> Client:
        """Ends well."""
        self.ended(timeout_s)
        assert self.code == 0, f"exit {self.code}\n{self.out}\n{self.err}"
        return self

    def fails(self, code: int, *words: str) -> Client:
        """Ends with that code and one error that has all the words, without a traceback."""
        self.ended()
        assert self.code == code, f"exit {self.code}, expected {code}\n{self.err}"
        errors = [line for line in self.err.splitlines() if line.startswith("error:")]
        assert len(errors) == 1, self.err
        assert "Traceback" not in self.err + self.out, self.err
        for word in words:
            assert word in self.err, f"{word!r} isn't in:\n{self.err}"
        return self

    def workers(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return [p for p in psutil.Process(self.pid).children() if p.status() != psutil.STATUS_ZOMBIE]
        return []

    def until_stopped(self) -> Client:
        """Waits until every worker has stopped itself (MIGRATE_FAULT=point:stop)."""
        return self.until(lambda: bool(w := self.workers()) and all(p.status() == psutil.STATUS_STOPPED for p in w))

    def send(self, number: signal.Signals) -> None:
        """The signal to the whole group, as a terminal does on Ctrl-C."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """kill -9 of the whole group."""
        self.send(signal.SIGKILL)

    def kill_parent(self) -> None:
        self._process.kill()

    def until(self, condition: Callable[[], bool], timeout_s: float = 60) -> Client:
        """Waits for the condition. It has to come before the client ends."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if not self.runs() or time.monotonic() > deadline:
                self.kill()
                self.ended()
                raise AssertionError(f"it ended with {self.code} before that; it said:\n{self.err}")
            time.sleep(0.02)
        return self

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.runs():
            self.send(signal.SIGCONT)
            self.kill()
            self._process.communicate()
