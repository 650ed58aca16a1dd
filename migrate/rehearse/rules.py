"""What makes a rehearsal a go: each rule with the value that was measured and the bound that it is held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from migrate.config import Config
from migrate.rehearse.client import ClientView, Journal
from migrate.rehearse.project import Measured
from migrate.rehearse.samples import Sample
from migrate.rehearse.steps import Stopwatch


@dataclass(frozen=True)
class Rule:
    """A rule, what was measured, and what is asked for."""

    name: str
    value: str
    bound: str
    ok: bool

    def document(self) -> dict[str, Any]:
        return dict(vars(self))

    def text(self) -> str:
        return f"{'ok  ' if self.ok else 'FAIL'} {self.name}: {self.value} (asked for: {self.bound})"


def sandbox_rules(
    watch: Stopwatch,
    view: ClientView,
    journal: Journal,
    samples: Sequence[Sample],
    freezes: Sequence[tuple[str, float, float]],
    config: Config,
) -> list[Rule]:
    """All rules of a rehearsal on the sandbox. What wasn't measured, for a step before it failed, isn't well."""
    documents, budget = watch.documents, config.cutover.freeze_s
    lag = lag_before(watch, samples)
    clean = [documents[name] for name in ("verify", "verify again", "last verification") if name in documents]
    found = sum(len(d.get("mismatches", ())) for d in clean)
    judged = documents.get("judge", {})
    wrong = sum(len(named) for kind in ("lost", "twice", "strange") for named in judged.get(kind, {}).values())
    return [
        _steps(watch),
        _seconds("freeze of the cutover", documents.get("cutover", {}).get("freeze_s"), budget),
        _seconds("freeze of the way back", documents.get("rollback", {}).get("freeze_s"), budget),
        _seconds("longest stall of a request around both", _stall(journal, freezes), budget),
        Rule("requests that failed", f"{view.failed:,} of {view.requests:,}", "0",
             not view.failed and view.requests > 0),
        Rule("errors that clients saw besides the fence", _errors(view), "none", not view.errors),
        _seconds("lag of sync before the cutover", lag, config.cutover.lag_s),
        Rule("verification", f"{found} mismatches in {len(clean)} of everything", "0 in 3",
             len(clean) == 3 and all(d.get("ok") for d in clean)),
        Rule("acknowledged postings lost, doubled or unknown",
             f"{wrong} of {judged.get('postings', 0):,}" if judged else "not judged", "0", bool(judged.get("ok"))),
    ]  # fmt: skip


def source_rules(watch: Stopwatch, measured: Measured, samples: Sequence[Sample], config: Config) -> list[Rule]:
    """All rules of a rehearsal on real sources, where the freeze is projected."""
    clean = [documents for name in ("verify", "verify in the freeze") if (documents := watch.documents.get(name))]
    found = sum(len(d.get("mismatches", ())) for d in clean)
    return [
        _steps(watch),
        _seconds("freeze, projected", measured.freeze_s(measured.size), config.cutover.freeze_s),
        _seconds("freeze of the way back, projected", measured.back_s, config.cutover.freeze_s),
        _seconds("lag of sync", lag_before(watch, samples, "drain"), config.cutover.lag_s),
        Rule("verification", f"{found} mismatches in {len(clean)} runs", "0 in 2",
             len(clean) == 2 and all(d.get("ok") for d in clean)),
    ]  # fmt: skip


def lag_before(watch: Stopwatch, samples: Sequence[Sample], step: str = "cutover") -> float | None:
    """The most that sync lagged (s) in the last seconds before a step."""
    began = next((s.began for s in watch.steps if s.name == step), None)
    if began is None:
        return None
    near = [s for s in samples if began - 3 <= s.at < began and s.lag_s]
    return max((lag for s in near for lag in s.lag_s.values()), default=None)


def _steps(watch: Stopwatch) -> Rule:
    failed = [s.name for s in watch.steps if not s.ok]
    return Rule("steps", f"{', '.join(failed)} failed" if failed else f"all {len(watch.steps)} done", "all", not failed)


def _seconds(name: str, value: float | None, bound: float) -> Rule:
    return Rule(
        name, "not measured" if value is None else f"{value:.2f} s", f"at most {bound:g} s",
        value is not None and value <= bound,
    )  # fmt: skip


def _stall(journal: Journal, freezes: Sequence[tuple[str, float, float]]) -> float | None:
    """The longest that a posting took (s) which was acknowledged in or just after the last freeze of either way: of
    those that a fault undid nothing is asked."""
    last = {way: (begin, end + 1) for way, begin, end in freezes}
    took = (
        p.took_ms / 1000
        for p in journal.postings()
        if any(begin <= p.at_ms / 1000 <= end for begin, end in last.values())
    )
    return max(took, default=None)


def _errors(view: ClientView) -> str:
    return "; ".join(f"{n} x {text}" for text, n in sorted(view.errors.items())[:3]) or "none"
