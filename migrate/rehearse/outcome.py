"""What a rehearsal came to: for scripts as JSON, for people as text and as a page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrate.config import Config
from migrate.rehearse.client import ClientView
from migrate.rehearse.project import Measured, Size, sizes_for
from migrate.rehearse.rules import Rule
from migrate.rehearse.samples import Sample
from migrate.rehearse.steps import Stopwatch


@dataclass(frozen=True)
class Rehearsal:
    """A rehearsal that has ended. `seconds`: the client's view by second. `freezes`: when writes were refused: which
    way, from when to when (epoch seconds). `root`: of the sandbox, None on a real
    source, which has no client and no switch either."""

    watch: Stopwatch
    rules: tuple[Rule, ...]
    samples: tuple[Sample, ...]
    measured: Measured
    config: Config
    wanted: tuple[Size, ...] = ()
    client: ClientView | None = None
    seconds: tuple[tuple[int, int, int, float], ...] = ()
    freezes: tuple[tuple[str, float, float], ...] = ()
    root: Path | None = None

    @property
    def go(self) -> bool:
        return self.watch.ok and all(r.ok for r in self.rules)

    @property
    def freeze_s(self) -> float | None:
        """How long the cutover refused writes; on a real source, how long it would."""
        if self.root is None:
            return self.measured.freeze_s(self.measured.size)
        value = self.watch.documents.get("cutover", {}).get("freeze_s")
        return None if value is None else float(value)

    @property
    def page(self) -> Path:
        return self.watch.folder / "report.html"

    @property
    def took_s(self) -> float:
        return sum(s.seconds for s in self.watch.steps)

    @property
    def sizes(self) -> tuple[Size, ...]:
        return sizes_for(self.measured.size, self.wanted)

    def document(self) -> dict[str, Any]:
        """The contract's JSON, and what else the report is made of."""
        client = {"requests": 0, "failed": 0, "longest_stall_s": None}
        return {
            "go": self.go,
            "freeze_s": self.freeze_s,
            "freeze_is": "measured" if self.root is not None else "projected",
            "steps": [s.document() for s in self.watch.steps],
            "client": self.client.document() if self.client else client,
            "rules": [r.document() for r in self.rules],
            "rollback_s": self.watch.documents.get("rollback", {}).get("freeze_s"),
            **self.measured.document(self.sizes),
            "config": str(self.config.path),
            "report": str(self.page.with_suffix(".json")),
            "page": str(self.page),
        }

    def write(self) -> None:
        """The report, as a page and as JSON, beside the evidence."""
        from migrate.rehearse.report import write_page

        whole = {**self.document(), "samples": [s.document() for s in self.samples],
                 "by_second": [list(second) for second in self.seconds],
                 "freezes": [list(freeze) for freeze in self.freezes]}  # fmt: skip
        text = json.dumps(whole, ensure_ascii=False, indent=1, default=str)
        self.page.with_suffix(".json").write_text(text, encoding="utf-8")
        write_page(self, self.page)

    def text(self) -> str:
        lines = []
        for step in self.watch.steps:
            lines.append(f"{'ok    ' if step.ok else 'FAILED'} {step.name:<24} {step.seconds:6.1f} s  "
                         + step.said.replace("\n", "\n" + " " * 42))  # fmt: skip
        lines += ["", *(r.text() for r in self.rules), ""]
        if self.client:
            c = self.client
            lines.append(f"clients: {c.requests:,} requests, {c.failed} failed, {c.held_up} held up by a fence and let "
                         f"in afterwards, the longest for {c.longest_stall_s:.2f} s")  # fmt: skip
        if self.freeze_s is not None:
            lines.append(f"freeze: {self.freeze_s:.2f} s {'measured' if self.root else 'projected'}")
        lines += [
            f"{'GO' if self.go else 'NO-GO'} after {self.took_s:.0f} s",
            f"report: {self.page}, with the evidence of every step beside it",
        ]
        return "\n".join(lines + self._next())

    def _next(self) -> list[str]:
        if self.root is None:
            return []
        return [
            "",
            "The servers are still up. Go on with:",
            f"  export MIGRATE_CONFIG={self.config.path} MIGRATE_SANDBOX_ROOT={self.root}",
            "  migrate status                             where everything stands",
            "  migrate sandbox traffic --seconds 5        new postings on the shards",
            "  migrate sync --until-caught-up             which brings them to the target",
            "  verify all                                 which proves that both sides are the same",
            "  migrate sandbox down --purge               stops the servers and deletes their data",
        ]
