"""What preflight found: one line a check, with a remedy where one is needed."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Literal

Status = Literal["ok", "warning", "failed", "skipped"]

_MARK: dict[Status, str] = {"ok": "ok     ", "warning": "warning", "failed": "FAILED ", "skipped": "skipped"}


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check at one place (an instance, the target, a table or a shard)."""

    name: str
    where: str
    status: Status
    message: str
    remedy: str = ""


def ok(name: str, where: str, message: str) -> Check:
    return Check(name, where, "ok", message)


def warning(name: str, where: str, message: str, remedy: str) -> Check:
    return Check(name, where, "warning", message, remedy)


def failed(name: str, where: str, message: str, remedy: str) -> Check:
    return Check(name, where, "failed", message, remedy)


def skipped(name: str, where: str, message: str) -> Check:
    return Check(name, where, "skipped", message)


@dataclass(frozen=True)
class Report:
    """All checks, in the order in which they were made."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether a migration may go on: nothing failed. What wasn't checked has a failed check as its cause."""
        return not any(c.status == "failed" for c in self.checks)

    def document(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {"ok": self.ok, "checks": [asdict(c) for c in self.checks]}

    def text(self) -> str:
        """The report for people: a line a check (one for all of a name that are well), and under each what to do."""
        lines = []
        for (name, status), group in groupby(self.checks, lambda c: (c.name, c.status)):
            first, *others = group
            if status == "ok" and len(others) > 2:
                lines.append(f"{_MARK[status]}  {name:<18} {first.where} and {len(others)} more: all well")
                continue
            for check in (first, *others):
                lines.append(f"{_MARK[status]}  {name:<18} {check.where}: {check.message}")
                if check.remedy:
                    lines.append(f"         → {check.remedy}")
        counts = Counter(c.status for c in self.checks)
        summary = ", ".join(f"{counts[s]} {s}" for s in _MARK if counts[s])
        return "\n".join([*lines, "", f"{'fit to migrate' if self.ok else 'not fit to migrate'}: {summary}"])
