"""The steps of a rehearsal: each timed, each with its document kept as evidence."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time
from typing import Any

from migrate.errors import Interrupted, MigrateError


@dataclass(frozen=True)
class Step:
    """A step that was taken, from `began` (epoch seconds) on. `said`: what came of it, in a line or a few."""

    name: str
    began: float
    seconds: float
    ok: bool
    said: str

    def document(self) -> dict[str, Any]:
        return {"name": self.name, "seconds": round(self.seconds, 3), "ok": self.ok, "began": round(self.began, 3),
                "said": self.said}  # fmt: skip


@dataclass(frozen=True)
class Done:
    """What the work of a step came to. `document` is kept as evidence."""

    ok: bool
    said: str
    document: dict[str, Any]


class Stopwatch:
    """Takes steps until one fails; what follows is left out. Each one's document becomes a file of `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.steps: list[Step] = []
        self.documents: dict[str, dict[str, Any]] = {}

    @property
    def ok(self) -> bool:
        return all(s.ok for s in self.steps)

    def take(self, name: str, work: Callable[[], Done]) -> bool:
        """Takes a step, unless one has failed; whether all is well so far."""
        if not self.ok:
            return False
        print(f"{name} ...", file=sys.stderr, flush=True)
        began, started = time(), monotonic()
        try:
            done = work()
        except Interrupted:
            raise
        except MigrateError as error:
            done = Done(False, str(error), {"ok": False, "error": str(error)})
        step = Step(name, began, monotonic() - started, done.ok, done.said)
        self.steps.append(step)
        self.documents[name] = done.document
        self.folder.mkdir(parents=True, exist_ok=True)  # not before: the sandbox's own folder has to be empty at first
        path = self.folder / f"{len(self.steps):02d}-{re.sub(r'[^a-z-]+', '-', name)}.json"
        path.write_text(json.dumps(done.document, ensure_ascii=False, indent=1, default=str), encoding="utf-8")
        first = done.said.splitlines()[0] if done.said else ""
        print(f"  {'ok' if done.ok else 'FAILED'}, {step.seconds:.1f} s: {first}", file=sys.stderr, flush=True)
        return done.ok
