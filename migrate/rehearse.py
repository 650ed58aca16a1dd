"""`migrate rehearse`: the whole job on servers of this machine, step by step, each timed and kept as evidence."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from platformdirs import user_state_path

from migrate.config import load_config
from migrate.copy.copier import copy
from migrate.db import connect
from migrate.errors import MigrateError
from migrate.plan import make_plan
from migrate.preflight import run_preflight
from migrate.sandbox import Sandbox
from migrate.sandbox.seed import seed
from migrate.schema import create_schema
from migrate.source import read_routing
from verify.run import verify_balances, verify_checksum, verify_counts


class _Outcome(Protocol):
    def document(self) -> dict[str, Any]: ...
    def text(self) -> str: ...


@dataclass(frozen=True)
class Step:
    """A step that was taken. `said`: what its command would have printed."""

    name: str
    seconds: float
    ok: bool
    said: str


@dataclass(frozen=True)
class Rehearsal:
    """All steps up to the first that failed. Go if none did."""

    steps: tuple[Step, ...]
    evidence: Path
    config: Path
    root: Path

    @property
    def go(self) -> bool:
        return all(s.ok for s in self.steps)

    def document(self) -> dict[str, Any]:
        """The contract's JSON. No traffic runs and nothing is frozen in this rehearsal, so those are empty."""
        return {
            "go": self.go,
            "freeze_s": None,
            "steps": [{"name": s.name, "seconds": round(s.seconds, 3), "ok": s.ok} for s in self.steps],
            "client": {"requests": 0, "failed": 0, "longest_stall_s": None},
            "config": str(self.config),
            "report": str(self.evidence / "report.json"),
        }

    def text(self) -> str:
        lines = []
        for step in self.steps:
            lines.append(f"== {step.name}: {'ok' if step.ok else 'FAILED'}, {step.seconds:.1f} s")
            lines += [f"   {line}" for line in step.said.splitlines()]
        lines += [
            "",
            f"{'GO' if self.go else 'NO-GO'}: {len(self.steps)} steps in {sum(s.seconds for s in self.steps):.1f} s",
            f"evidence: {self.evidence}",
            "",
            "The servers are still up. Go on with:",
            f"  export MIGRATE_CONFIG={self.config} MIGRATE_SANDBOX_ROOT={self.root}",
            "  migrate status                      what was copied, from which positions",
            "  migrate sandbox traffic --seconds 5 new postings on the sources",
            "  verify all --live                   which the target doesn't have: every difference is named",
            "  migrate sandbox down --purge        stops the servers and deletes their data",
        ]
        return "\n".join(lines)


class _Stopwatch:
    """Takes steps until one fails; keeps each one's document as a file."""

    def __init__(self, evidence: Path):
        self.evidence = evidence
        self.steps: list[Step] = []

    def take(self, name: str, work: Callable[[], tuple[bool, dict[str, Any], str]]) -> None:
        if self.steps and not self.steps[-1].ok:
            return
        print(f"{name} ...", file=sys.stderr, flush=True)
        started = monotonic()
        try:
            ok, document, said = work()
        except MigrateError as error:
            ok, document, said = False, {"ok": False, "error": str(error)}, str(error)
        step = Step(name, monotonic() - started, ok, said)
        self.steps.append(step)
        path = self.evidence / f"{len(self.steps):02d}-{name}.json"
        path.write_text(json.dumps(document, ensure_ascii=False, indent=1, default=str), encoding="utf-8")


def rehearse(*, pack: str, rows: int, mysql: str, instances: int, root: Path | None, workers: int) -> Rehearsal:
    """Servers up, ledger seeded, check, plan, schema, copy, verify. The folder's earlier servers are thrown away."""
    root = root or user_state_path("migrate-rehearsal")
    sandbox = Sandbox(root)
    sandbox.down(purge=True)
    up = _timed(lambda: sandbox.up(instances=instances, mysql=mysql, pack=pack))
    description, seconds = up
    evidence = root / "evidence" / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    evidence.mkdir(parents=True)
    config = load_config(Path(description.config))
    watch = _Stopwatch(evidence)
    servers = ", ".join(f"{a.name} {a.version}" for a in (*description.sources, description.target))
    watch.steps.append(Step("sandbox", seconds, True, servers))

    def seeded() -> tuple[bool, dict[str, Any], str]:
        made = seed(config.sources, pack, rows)
        said = "\n".join(f"{table}: {count:,} rows" for table, count in made.rows.items())
        return True, {"ok": True, "rows": made.rows, "shards": made.shards}, f"{said}\n{made.shards} shards of each"

    def checked() -> tuple[bool, dict[str, Any], str]:
        report = run_preflight(config)
        return report.ok, report.document(), report.text()

    def planned() -> tuple[bool, dict[str, Any], str]:
        made = make_plan(config, scan=False, workers=workers)
        return made.ok, made.document(), made.text()

    def schema() -> tuple[bool, dict[str, Any], str]:
        with connect(config.target, patience_s=config.run.patience_s) as session:
            made = create_schema(session, read_routing(config).checked(), execute=True)
        return True, made.document(), "\n".join(f"{s.target}: {state}" for s, state in made.tables)

    watch.take("seed", seeded)
    watch.take("check", checked)
    watch.take("plan", planned)
    watch.take("schema", schema)
    watch.take("copy", lambda: _told(copy(config, workers), True))
    watch.take("verify-counts", lambda: _verified(verify_counts(config, workers=workers)))
    watch.take("verify-checksum", lambda: _verified(verify_checksum(config, strong=True, workers=workers)))
    watch.take("verify-balances", lambda: _verified(verify_balances(config, workers=workers)))
    made = Rehearsal(tuple(watch.steps), evidence, Path(description.config), root)
    (evidence / "report.json").write_text(json.dumps(made.document(), indent=1), encoding="utf-8")
    return made


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = monotonic()
    return work(), monotonic() - started


def _told(outcome: _Outcome, ok: bool) -> tuple[bool, dict[str, Any], str]:
    return ok, outcome.document(), outcome.text()


def _verified(result: Any) -> tuple[bool, dict[str, Any], str]:
    return _told(result, result.ok)
