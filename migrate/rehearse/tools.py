"""The toolkit's own commands, run as an operator runs them: each a process of its own, its answer read as JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrate.db import wait
from migrate.errors import MigrateError

_LOOK_S = 0.05
_ENDS_S = 60


@dataclass(frozen=True)
class Answer:
    """How a command ended: exit code, JSON document ({} if there is none), and what it wrote to stderr."""

    code: int
    document: dict[str, Any]
    stderr: str

    @classmethod
    def of(cls, code: int, out: str, err: str) -> Answer:
        """The answer of a process that has ended."""
        document: Any = {}
        with suppress(ValueError):
            document = json.loads(out)
        return cls(code, document if isinstance(document, dict) else {}, err)

    @property
    def ok(self) -> bool:
        return self.code == 0

    def error(self) -> str:
        """The last thing that it said; why it failed."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        return f"exit code {self.code}: {lines[-1] if lines else 'it said nothing'}"


class Running:
    """A command that goes on beside the others, its output in files of the evidence."""

    def __init__(self, name: str, line: Sequence[str], folder: Path):
        self.name = name
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.log"
        with self._out.open("wb") as out, self._err.open("ab") as err:
            # a session of its own: an interrupt is ours to pass on, in the right order
            self.process = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    def must_live(self) -> None:
        """MigrateError, with its last words, if it has ended."""
        if not self.lives:
            raise MigrateError(f"{self.name} has ended by itself: {self.answer().error()}; see {self._err}")

    def answer(self) -> Answer:
        """How it ended; waits for that."""
        code = self.process.wait(_ENDS_S)
        return Answer.of(code, self._out.read_text(encoding="utf-8"), self._err.read_text(encoding="utf-8"))

    def end(self) -> Answer:
        """Asks it to end, as an operator does, and waits; kills it after a minute."""
        if self.lives:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.answer()
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.answer()


class Tools:
    """`migrate` and `verify` with a config. A context manager: what still runs is ended at its end."""

    def __init__(self, config: Path, folder: Path):
        self._config, self._folder = config, folder
        self._running: list[Running] = []

    def line(self, *words: str, config: Path | None = None) -> list[str]:
        """The command line: `migrate`'s, or `verify`'s if that is the first word."""
        module = "verify.cli" if words[0] == "verify" else "migrate.cli"
        words = words[1:] if words[0] == "verify" else words
        return [sys.executable, "-m", module, "-c", str(config or self._config), *words, "--json"]

    def run(self, *words: str, config: Path | None = None) -> Answer:
        """Runs a command to its end. Interrupted if we are; then it has been ended too."""
        return self.finish(self.start(*words, config=config))

    def start(
        self, *words: str, config: Path | None = None, env: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Starts a command whose end is waited for by `finish`."""
        return subprocess.Popen(
            self.line(*words, config=config), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True, env={**os.environ, **(env or {})},
        )  # fmt: skip

    def finish(self, process: subprocess.Popen[str]) -> Answer:
        """Its answer, when it has ended."""
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    out, err = process.communicate(timeout=_LOOK_S)
                    return Answer.of(process.returncode, out, err)
                wait(0)
        except BaseException:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=_ENDS_S)
            process.kill()
            raise

    def beside(self, name: str, *words: str) -> Running:
        """Starts a command that goes on beside the others."""
        running = Running(name, self.line(*words), self._folder)
        self._running.append(running)
        return running

    def __enter__(self) -> Tools:
        return self

    def __exit__(self, *exc: object) -> None:
        for running in reversed(self._running):
            running.end()
