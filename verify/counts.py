"""Row counts: a plain COUNT(*) of every shard against one of the target. No ranges and no digest, and so a check on
the passes that have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from migrate.db import Session
from verify.model import TableResult
from verify.readers import Readers
from verify.tables import Pair


def counts(readers: Readers, pairs: Sequence[Pair]) -> list[TableResult]:
    """The counts per target. What is missing or extra is what the counts alone tell: their difference."""
    config = readers.config
    targets = [readers.submit(config.target, _count(pair.merged.target.sql)) for pair in pairs]
    sources = [
        [(t.shard, readers.submit(config.source(t.shard.instance), _count(t.shard.sql))) for t in pair.merged.shards]
        for pair in pairs
    ]
    results = []
    for pair, target, shards in zip(pairs, targets, sources, strict=True):
        by_shard = tuple((str(shard), future.result()) for shard, future in shards)
        source_rows, target_rows = sum(rows for _, rows in by_shard), target.result()
        results.append(
            TableResult(
                pair.name,
                source_rows,
                target_rows,
                source_rows == target_rows,
                missing=max(0, source_rows - target_rows),
                extra=max(0, target_rows - source_rows),
                shards=by_shard,
            )
        )
    return results


def _count(table: str) -> Callable[[Session], int]:
    def read(session: Session) -> int:
        return int(session.value(f"SELECT COUNT(*) FROM {table}"))

    return read
