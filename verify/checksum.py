"""Digests and control totals of whole tables, from what was proven of their ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from verify.controls import ControlTotal, totals_of
from verify.model import TableResult, Totals
from verify.prove import Proven
from verify.tables import Pair
from verify.tally import Proof


@dataclass(frozen=True, slots=True)
class Checksum:
    """The totals of both sides of a table, and the parts that they come from."""

    pair: Pair
    proof: Proof
    parts: tuple[Proven, ...]

    @property
    def source(self) -> Totals:
        return self.proof.source.totals

    @property
    def target(self) -> Totals:
        return self.proof.target.totals

    @property
    def equal(self) -> bool:
        return self.proof.equal

    @property
    def bad(self) -> tuple[Proven, ...]:
        """The parts whose two sides differ."""
        return tuple(p for p in self.parts if not p.proof.equal)

    def result(self) -> TableResult:
        """Equal digests tell that nothing is missing, extra or different; unequal ones only what the counts tell."""
        surplus = self.source.rows - self.target.rows
        return TableResult(
            self.pair.name,
            self.source.rows,
            self.target.rows,
            self.equal,
            missing=0 if self.equal else surplus if surplus > 0 else None,
            extra=0 if self.equal else -surplus if surplus < 0 else None,
            different=0 if self.equal else None,
            duplicate=0 if self.equal else None,
            shards=tuple((shard, tally.totals.rows) for shard, tally in self.proof.shards.items()),
        )

    def control_totals(self) -> list[ControlTotal]:
        """The table's control totals, as far as they were read in the same pass."""
        found: list[ControlTotal] = []
        for number, measure in enumerate(self.parts[0].part.measures):
            groups = [tally.groups[number] for tally in (self.proof.source, self.proof.target)]
            shards = {shard: tally.groups[number] for shard, tally in self.proof.shards.items()}
            found += totals_of(measure, shards, groups[0], groups[1])
        return found


def checksums(pairs: Sequence[Pair], proven: Sequence[Proven]) -> list[Checksum]:
    """The totals of every table."""
    found = []
    for pair in pairs:
        parts = tuple(p for p in proven if p.part.pair.name == pair.name)
        found.append(Checksum(pair, sum((p.proof for p in parts), Proof()), parts))
    return found
