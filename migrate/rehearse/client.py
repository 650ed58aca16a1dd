"""The client's side of a rehearsal: the traffic's journal, which is the truth about what was acknowledged."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Posting:
    """An acknowledged posting. `at_ms`: epoch; `fenced`: how often the fence refused a write of it."""

    at_ms: int
    took_ms: float
    fenced: int
    voucher: int
    entries: tuple[tuple[int, int, str], ...]  # id, account, change


@dataclass(frozen=True)
class ClientView:
    """What the application's callers saw. Times in seconds."""

    requests: int
    failed: int
    held_up: int  # by a fence; each succeeded when it was tried again
    longest_stall_s: float
    p50_ms: float
    p99_ms: float
    errors: dict[str, int]  # all that were tried again, other than by the fence

    def document(self) -> dict[str, Any]:
        return dict(vars(self))


class Journal:
    """The journal file of the traffic; may be read while it grows."""

    def __init__(self, path: Path):
        self.path = path

    def count(self) -> int:
        """Acknowledged postings until now."""
        if not self.path.exists():
            return 0
        with self.path.open("rb") as file:
            return sum(1 for _ in file)

    def postings(self) -> Iterator[Posting]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    return  # it is being written
                told = json.loads(line)
                legs = tuple((int(e["id"]), int(e["account"]), str(e["change"])) for e in told["entries"])
                yield Posting(
                    int(told["at_ms"]), float(told["took_ms"]), int(told["fenced"]), int(told["voucher"]), legs
                )

    def view(self, report: dict[str, Any]) -> ClientView:
        """With what the traffic said at its end."""
        posted, failed = int(report.get("posted", 0)), int(report.get("failed", 0))
        half = len(report.get("in_transit", ()))
        return ClientView(
            requests=posted + failed + half, failed=failed + half, held_up=int(report.get("fenced", 0)),
            longest_stall_s=round(float(report.get("longest_ms", 0)) / 1000, 3),
            p50_ms=float(report.get("p50_ms", 0)), p99_ms=float(report.get("p99_ms", 0)),
            errors=dict(report.get("errors", {})),
        )  # fmt: skip

    def seconds(self) -> list[tuple[int, int, int, float]]:
        """By second (epoch): acknowledged postings, those of them that a fence held up, and the longest that one took
        (s). Seconds without any are there too."""
        posted: Counter[int] = Counter()
        held: Counter[int] = Counter()
        longest: dict[int, float] = {}
        for posting in self.postings():
            second = posting.at_ms // 1000
            posted[second] += 1
            held[second] += posting.fenced > 0
            longest[second] = max(longest.get(second, 0.0), posting.took_ms / 1000)
        if not posted:
            return []
        return [(s, posted[s], held[s], longest.get(s, 0.0)) for s in range(min(posted), max(posted) + 1)]
