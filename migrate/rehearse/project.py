"""From what was measured to what it will be with other numbers of rows, shards and writes: one formula, told with its
assumptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from migrate.rehearse.steps import Stopwatch

_GROWS = ("drain", "verify")  # the steps of a freeze that take longer where there is more; all others are the rest
_TOTALS, _ROWS = 1 / 3, 1 / 4  # of cutover.freeze_s, that a cutover lets counts and totals, and written rows, take
FORMULA = (
    "freeze = fixed + drain x W/W0 + min(all, F/3 + min(verify x W/W0, F/4)), all = verify x S/S0 + (R - R0) / rate"
)
ASSUMPTIONS = (
    "R, S and W are rows in all, shard tables and postings a second; R0, S0 and W0 those of this rehearsal.",
    "fixed: fence, proof, sequences, smoke test, hooks and switch, as measured here: they don't grow with the volume.",
    "drain: what is still under way when the fence goes up; it grows with the writes, as long as sync keeps up with "
    "them (its lag says so).",
    "F: cutover.freeze_s.",
    "verify: the rows written since the step `ahead`, counts and control totals of everything; a query per shard, then "
    "as many rows a second as the last full verification read here.",
    "F/3: where counts and control totals of everything take longer, as the cutover measures before it, they are read "
    "in the freeze of those tables only of which that fits, and what is left grows with the writes, not with the rows.",
    "F/4: a cutover in which comparing the written rows would take longer ends as a no-go before its freeze: rows must "
    "be compared faster than they are written.",
    "rate was measured on this machine, which both sides share; a TiDB of several nodes and instances of their own "
    "scan faster: measure there, with `migrate -c FILE rehearse`.",
)


@dataclass(frozen=True)
class Size:
    """A ledger: rows in all tables, shard tables, postings a second."""

    rows: int
    shards: int
    writes: float


@dataclass(frozen=True)
class Measured:
    """What a rehearsal measured, in seconds and rows a second; None: not measured."""

    size: Size
    fixed_s: float | None
    drain_s: float | None
    verify_s: float | None
    back_s: float | None  # the freeze of the way back
    verified_rows_s: float | None
    copied_rows_s: float | None
    what: str = "postings"  # that `writes` counts
    limit_s: float | None = None  # cutover.freeze_s, with which the verification in the freeze is bounded

    def freeze_s(self, size: Size) -> float | None:
        """The freeze for a ledger of that size; None if something that it needs wasn't measured."""
        grown = self._grown(size)
        if self.fixed_s is None or self.drain_s is None or grown is None:
            return None
        return self.fixed_s + self.drain_s * size.writes / max(self.size.writes, 1) + grown

    def rollback_s(self, size: Size) -> float | None:
        """The freeze of the way back: the same verification, after the drain of the outbox."""
        grown = self._grown(size)
        if self.back_s is None or grown is None or self.verify_s is None:
            return None
        return max(0.0, self.back_s - self.verify_s) + grown

    def copy_s(self, size: Size) -> float | None:
        return size.rows / self.copied_rows_s if self.copied_rows_s else None

    def verify_all_s(self, size: Size) -> float | None:
        return size.rows / self.verified_rows_s if self.verified_rows_s else None

    def _grown(self, size: Size) -> float | None:
        if self.verify_s is None or not self.verified_rows_s:
            return None
        more = max(0, size.rows - self.size.rows) / self.verified_rows_s
        everything = self.verify_s * size.shards / max(self.size.shards, 1) + more
        if self.limit_s is None:
            return everything
        written = self.verify_s * size.writes / max(self.size.writes, 1)
        return min(everything, self.limit_s * _TOTALS + min(written, self.limit_s * _ROWS))

    def document(self, sizes: tuple[Size, ...]) -> dict[str, Any]:
        return {
            "measured": {**vars(self), "size": vars_of(self.size)},
            "formula": FORMULA,
            "assumptions": list(ASSUMPTIONS),
            "projections": [
                {**vars_of(s), "freeze_s": self.freeze_s(s), "rollback_s": self.rollback_s(s),
                 "copy_s": self.copy_s(s), "verify_s": self.verify_all_s(s)}
                for s in sizes
            ],
        }  # fmt: skip


def vars_of(size: Size) -> dict[str, Any]:
    return {"rows": size.rows, "shards": size.shards, "writes": size.writes}


def sizes_for(size: Size, wanted: tuple[Size, ...]) -> tuple[Size, ...]:
    """The sizes that a report tells of: this one, those that were asked for, else ten and a hundred times as much."""
    return (size, *(wanted or (Size(size.rows * 10, size.shards, size.writes * 10),
                               Size(size.rows * 100, size.shards * 10, size.writes * 10))))  # fmt: skip


def measured(watch: Stopwatch, writes: float, limit_s: float) -> Measured:
    """What the documents of the steps say; `limit_s` is cutover.freeze_s."""
    documents = watch.documents
    verified = documents.get("last verification") or documents.get("verify") or {}
    rows = sum(t["source_rows"] for t in verified.get("tables", ()))
    shards = sum(len(t["shards"]) for t in documents.get("plan", {}).get("tables", ()))
    cutover, copied = documents.get("cutover", {}), documents.get("copy", {})
    took = {s["name"]: s["seconds"] or 0.0 for s in cutover.get("steps", ())}
    freeze = cutover.get("freeze_s")
    whole = all(name in took for name in _GROWS)
    return Measured(
        Size(rows, shards, writes),
        fixed_s=float(freeze) - sum(took[n] for n in _GROWS) if whole and freeze is not None else None,
        drain_s=took["drain"] if whole else None,
        verify_s=took["verify"] if whole else None,
        back_s=documents.get("rollback", {}).get("freeze_s"),
        verified_rows_s=rows / verified["seconds"] if verified.get("seconds") else None,
        copied_rows_s=copied["rows"] / copied["seconds"] if copied.get("seconds") else None,
        limit_s=limit_s,
    )
