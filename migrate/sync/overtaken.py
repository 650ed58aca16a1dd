"""Rows of ours that are history: they came and left in our binlog, and another shard's row with their key, which came
after, stands on the target already.

That happens when a batch had to wait for another instance, whose follower came that far meanwhile. Nothing of such a
key is applied up to where our shard was found without it; then, what stands in its place is set right.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping

from migrate.config import Config
from migrate.model import Target, literal
from migrate.position import Position, reached
from migrate.sync.lent import fingerprint
from migrate.sync.marks import json_literal
from migrate.sync.writer import Writer


def give_way(
    config: Config, writer: Writer, instance: str, target: Target, keys: Iterable[Hashable], until: Position
) -> None:
    """Inside the transaction that leaves rows of those keys out: the instance's binlog up to then has no say."""
    names = ", ".join(map(literal, (config.name, instance, str(target))))
    values = [f"({names}, '{fingerprint(key)}', {json_literal(json.dumps(until))})" for key in keys]
    writer.execute(
        "REPLACE INTO migrate_meta.overtaken (migration, instance, target, row_key, position) VALUES "
        + ", ".join(values)
    )


def overtaken(config: Config, writer: Writer, instance: str, target: Target, end: Position) -> Mapping[str, bool]:
    """The keys (by fingerprint) of such rows, and whether a batch that goes to `end` goes beyond what is history."""
    names = ", ".join(map(literal, (config.name, instance, str(target))))
    rows = writer.rows(
        f"SELECT row_key, position FROM migrate_meta.overtaken WHERE (migration, instance, target) = ({names})"
    )
    return {str(key, "ascii"): reached(end, json.loads(until)) for key, until in rows if key and until}
