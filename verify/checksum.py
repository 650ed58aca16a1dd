"""Digests: the totals of all rows of a table on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from migrate.db import Session
from verify.digest import Digest
from verify.model import TableResult, Totals
from verify.readers import Readers
from verify.scan import check_count, scan
from verify.tables import Pair


@dataclass(frozen=True, slots=True)
class Checksum:
    """The totals of both sides of a table."""

    pair: Pair
    source: Totals
    target: Totals
    shards: tuple[tuple[str, int], ...]

    @property
    def equal(self) -> bool:
        return self.source == self.target

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
            shards=self.shards,
        )


def checksums(readers: Readers, pairs: Sequence[Pair], strong: bool = False) -> list[Checksum]:
    """The totals of every table; all of them, both sides, are scanned side by side."""

    def read(session: Session, digest: Digest, where: str) -> Totals:
        return digest.totals(session, strong, where)

    running = [(pair, scan(readers, pair, read)) for pair in pairs]
    found = []
    for pair, scanned in running:
        shards = {table.shard: table for table in pair.merged.shards}
        source, rows = Totals(), {}
        for shard, parts in scanned.parts():
            totals = sum(parts, Totals())
            if len(parts) > 1:
                check_count(readers, shards[shard], totals.rows)
            rows[shard] = totals.rows
            source += totals
        by_shard = tuple((str(shard), rows[shard]) for shard in shards)
        found.append(Checksum(pair, source, scanned.target.result(), by_shard))
    return found
