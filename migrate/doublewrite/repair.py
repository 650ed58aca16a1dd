"""Makes the secondary's rows what the primary's are, one by one: only a row that is still as it was found, while the
primary's is locked; with a journal of who, why, and what was there before and after."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from migrate.config import Config
from migrate.doublewrite import phase as phases
from migrate.doublewrite.audit import Finding, Sides, compare_rows
from migrate.doublewrite.outbox import SCHEMA
from migrate.doublewrite.router import Router
from migrate.state import State


@dataclass
class Repaired:
    """What a repair did, or would do. `left`: rows that changed meanwhile, with what happened."""

    executed: bool
    done: list[Finding] = field(default_factory=list)
    left: list[tuple[Finding, str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.left and (self.executed or not self.done)

    def document(self) -> dict[str, Any]:
        return {
            "ok": self.ok, "executed": self.executed, "repaired" if self.executed else "would_repair":
            [f.document() for f in self.done], "left": [{**f.document(), "why": why} for f, why in self.left],
        }  # fmt: skip

    def text(self) -> str:
        lines = []
        for f in self.done:
            lines += [str(f), f"  before: {_shown(f.found)}", f"  after:  {_shown(f.wanted)}"]
        lines += [f"left: {f}: {why}" for f, why in self.left]
        done = "repaired" if self.executed else "would be repaired; --execute does it"
        lines.append(f"{len(self.done)} rows {done}" if lines else "nothing to repair")
        return "\n".join(lines)


def repair(config: Config, *, execute: bool, reason: str = "") -> Repaired:
    """Finds the rows that differ and aren't under way, and with `execute` writes the primary's to the secondary."""
    router = Router.of(config)
    with State.open(config) as state, ExitStack() as stack:
        phase = phases.read(state.session, config.name)
        findings = [f for f in compare_rows(config, router, phase) if f.kind != "late"]
        report = Repaired(execute)
        if not execute:
            report.done = findings
            return report
        sides = Sides(config, router, phase, stack)
        for finding in findings:
            why = _mend(sides, finding)
            if why:
                report.left.append((finding, why))
            else:
                report.done.append(finding)
                state.journal("double_write_repair", reason=reason, finding=finding.document())
        return report


def _mend(sides: Sides, finding: Finding) -> str:
    """Mends one row; why not, if it doesn't."""
    primary, secondary = sides.primary(finding.shard), sides.secondary(finding.shard)
    mine, other = sides.sessions[primary.name], sides.sessions[secondary.name]
    written = sides.table(secondary, finding.target, finding.shard)
    key = sides.key(finding.target, finding.shard, finding.key)
    with mine.transaction():
        now = sides.rows(primary, finding.target, finding.shard, [finding.key], lock=True).get(finding.key)
        wanted = sides.translate(finding.shard, now)
        with other.transaction():
            # first, so that the binlog's readers know the transaction for ours
            other.execute(
                f"INSERT INTO {SCHEMA}.applied (migration, source, seq, item, idempotency, target, shard, row_key) "
                "VALUES (%s, 'repair', %s, 0, 'repair', %s, %s, %s)",
                (sides.config.name, time.time_ns(), finding.target, finding.shard, json.dumps(finding.key)),
            )
            have = sides.rows(secondary, finding.target, finding.shard, [key], lock=True).get(key)
            if written.images.unlike(have, finding.found):
                return "it has changed since it was compared"
            condition, values = written.images.where([key])
            if have is not None:
                other.execute(f"DELETE FROM {written.sql} WHERE {condition}", values)
            if wanted is not None:
                other.execute(*written.images.insert(written.sql, [wanted]))
        # what waits for this row is older than the row that was just copied, which is locked
        mine.execute(
            f"DELETE FROM {SCHEMA}.outbox WHERE migration = %s AND target = %s AND shard = %s AND row_key = %s",
            (sides.config.name, finding.target, finding.shard, json.dumps(finding.key, ensure_ascii=False)),
        )
    return ""


def _shown(image: Any) -> str:
    return "no row" if image is None else json.dumps(dict(image), ensure_ascii=False)
