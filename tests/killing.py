"""Kills a command at a statement that it sends: before it is sent, or when it is sent and its answer isn't read.

`Killing` starts one process that has imported `verify` and forks a child for each command, which saves their start.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

KILLED = -signal.SIGKILL
WRITES = r"INSERT|REPLACE|UPDATE|DELETE|BEGIN|COMMIT|.* FOR UPDATE"  # what changes something, or guards a change


@dataclass(frozen=True)
class At:
    """The `number`th statement (from 1) that begins as `pattern` says; `sent`: it has left this process."""

    pattern: str
    number: int = 1
    sent: bool = False


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code (negative: the signal), stdout, stderr, and the statements that it sent."""

    code: int
    output: str
    said: str
    statements: tuple[str, ...]

    @property
    def document(self) -> dict[str, Any]:
        """What it printed with --json."""
        found: dict[str, Any] = json.loads(self.output)
        return found

    def points(self, pattern: str) -> list[At]:
        """Every point at which a command that does the same could be killed, around statements of that pattern."""
        count = sum(bool(re.match(pattern, sql, re.DOTALL)) for sql in self.statements)
        return [At(pattern, n, sent) for n in range(1, count + 1) for sent in (False, True)]


class Killing:
    """Runs commands of `verify`, killed or not. `setup`: Python that each of them runs first."""

    def __init__(self, folder: Path, setup: str = ""):
        self._folder, self._setup = folder, setup
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.killing"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def run(self, argv: Sequence[str], at: At | None = None, after_s: float | None = None) -> Ended:
        """Runs it to its end, or kills it at that statement, or after so many seconds of its work."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        point = [at.pattern, at.number, at.sent] if at else None
        asked = {"folder": str(self._folder), "setup": self._setup, "argv": list(argv), "at": point, "after_s": after_s}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        texts = [(self._folder / name).read_text("utf-8") for name in ("stdout", "stderr", "statements")]
        return Ended(code, texts[0], texts[1], tuple(json.loads(line) for line in texts[2].splitlines()))


def _serve() -> None:
    import verify.cli  # noqa: F401

    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            _command(asked)
        status = os.waitpid(child, 0)[1]
        print(os.waitstatus_to_exitcode(status), flush=True)


def _command(asked: dict[str, Any]) -> None:
    """Never returns."""
    code = 1
    try:
        folder = Path(asked["folder"])
        for name, number in (("stdout", 1), ("stderr", 2)):
            file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, number)
        _watch(folder / "statements", asked["at"])
        exec(asked["setup"], {})
        if asked["after_s"] is not None:
            threading.Timer(asked["after_s"], os.kill, (os.getpid(), signal.SIGKILL)).start()
        sys.argv = ["verify", *asked["argv"]]
        from verify.cli import main

        main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _watch(told: Path, at: list[Any] | None) -> None:
    """Writes down every statement before it is sent, and kills this process at the one in question."""
    from pymysql.connections import Connection

    pattern, number, sent = at or ["(?!)", 0, False]
    send, lock, passed = Connection._execute_command, threading.Lock(), [0]  # type: ignore[attr-defined]
    out = told.open("w", encoding="utf-8")

    def sending(self: Any, command: int, sql: str | bytes) -> None:
        text = sql.decode("utf-8", "replace") if isinstance(sql, bytes | bytearray) else sql
        with lock:
            out.write(json.dumps(text[:400]) + "\n")
            out.flush()
            passed[0] += bool(re.match(pattern, text, re.DOTALL))
            here = bool(re.match(pattern, text, re.DOTALL)) and passed[0] == number
            if here and not sent:
                os.kill(os.getpid(), signal.SIGKILL)
            if here:
                send(self, command, sql)
                os.kill(os.getpid(), signal.SIGKILL)
        send(self, command, sql)

    Connection._execute_command = sending  # type: ignore[attr-defined]


if __name__ == "__main__":
    _serve()
