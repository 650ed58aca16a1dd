"""The rules that a ledger must obey by itself, checked on the merged tables, where at last they span all shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from migrate.db import Session
from migrate.ledger import Ledger, Severity
from verify.controls import pair_of
from verify.model import Values
from verify.readers import Readers
from verify.rows import bucketed, mismatches
from verify.rules import Rule, rules
from verify.tables import Pair


@dataclass(frozen=True, slots=True)
class InvariantResult:
    """The verdict on one rule: how many offend it, and the first of them by name."""

    name: str
    severity: Severity
    offenders: int
    rows: tuple[Values, ...]

    @property
    def ok(self) -> bool:
        """A warning is told, but it doesn't fail."""
        return not self.offenders or self.severity == "warning"

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "severity": self.severity,
            "ok": self.ok,
            "offenders": self.offenders,
            "rows": list(self.rows),
        }


def check_invariants(
    readers: Readers, pairs: Sequence[Pair], ledger: Ledger, limit: int, live: bool = False
) -> list[InvariantResult]:
    """Checks all rules; each result keeps the first `limit` offenders and counts the others. `live`: see `rules`."""
    target = readers.config.target
    running = [readers.submit(target, partial(_check, rule, limit)) for rule in rules(ledger, live)]
    twice = _twice_on_the_source(readers, pairs, ledger, limit)
    found = []
    for future in running:
        result = future.result()
        if result.name == "idempotency_unique" and twice:
            result = replace(
                result, offenders=result.offenders + len(twice), rows=(*result.rows, *twice)[: max(limit, 0)]
            )
        found.append(result)
    return found


def _check(rule: Rule, limit: int, session: Session) -> InvariantResult:
    count = 0
    kept: list[Values] = []
    for row in session.stream(rule.sql):
        count += 1
        if count <= limit:
            names = rule.columns or tuple(f"column {i}" for i in range(1, len(row) + 1))
            kept.append({name: _text(value) for name, value in zip(names, row, strict=True)})
    return InvariantResult(rule.name, rule.severity, count, tuple(kept))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _twice_on_the_source(readers: Readers, pairs: Sequence[Pair], ledger: Ledger, limit: int) -> list[Values]:
    """Idempotency keys that stand on two rows of the shards and not on the target, whose unique key let one in.

    They show as buckets of the key in which the two sides differ; where both sides have the key twice, the rule's
    own SELECT names it.
    """
    found: list[Values] = []
    for role in (ledger.role.entry, ledger.role.voucher):
        if role is None or role.idempotency is None:
            continue
        pair = pair_of(pairs, role.table).narrowed((role.idempotency,), (role.idempotency,))
        buckets = bucketed(readers, pair, sum(t.rows for t in pair.merged.shards))
        duplicates = (m for m in mismatches(readers, pair, buckets) if m.kind == "duplicate" and m.shard)
        for mismatch in islice(duplicates, limit):
            key = (mismatch.key or {}).get(role.idempotency)
            if key is not None:
                found.append({"table": role.table, "idempotency key": key, "shards": mismatch.shard})
    return found
