"""How a cutover or rollback ended, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from migrate.cutover.journal import Direction, StepRecord


@dataclass(frozen=True)
class Outcome:
    """How it ended. `go`: the other side is primary now. `freeze_s`: how long writes were refused (None: they never
    were)."""

    direction: Direction
    go: bool
    reason: str
    freeze_s: float | None
    steps: tuple[StepRecord, ...]

    def document(self) -> dict[str, Any]:
        return {
            "ok": self.go,
            "direction": self.direction,
            "reason": self.reason,
            "freeze_s": None if self.freeze_s is None else round(self.freeze_s, 3),
            "steps": [
                {
                    "name": s.name,
                    "ok": s.outcome == "done",
                    "seconds": None if s.seconds is None else round(s.seconds, 3),
                    "said": s.said,
                }
                for s in self.steps
            ],
        }

    def text(self) -> str:
        lines = []
        for step in self.steps:
            took = "" if step.seconds is None else f", {step.seconds:.2f} s"
            lines.append(f"== {step.name}: {step.outcome}{took}")
            lines += [f"   {line}" for line in step.said.splitlines()]
        if self.freeze_s is not None:
            lines.append(f"writes were refused for {self.freeze_s:.2f} s")
        return "\n".join([*lines, f"{'DONE' if self.go else 'NO-GO'}: {self.reason}"])
