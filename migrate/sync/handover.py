"""Rows that left for a shard of another instance, while it isn't sure whose row stands on the target.

What the copy read, or what was written over it, may be the row of either shard. So the one that leaves puts the other
shard's row there as it is now, and says so: the follower of that instance finds the row ahead of its binlog until it
is where the instance stood then, and writes it over instead of taking it for a drift.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Hashable
from io import BytesIO

from migrate.config import Config
from migrate.copy.reader import ShardReader, Sink
from migrate.copy.rowformat import row_select
from migrate.db import Session
from migrate.model import Shard, Target, literal, quote
from migrate.position import Position, reached, standing
from migrate.sync.batch import Image, Layout
from migrate.sync.marks import json_literal
from migrate.sync.writer import Writer

_KEYS = 1000  # in one statement
Moved = list[tuple[Layout, Image, Shard]]


def fingerprint(key: Hashable) -> str:
    """A key of a row, as the target shows it, in one length."""
    return hashlib.sha256(repr(key).encode()).hexdigest()


def put(config: Config, writer: Writer, target: Target, moved: Moved) -> str:
    """Inside the writer's transaction, where none of these keys is on the target: puts the rows there as their other
    shards have them now. Gives what the target has against it."""
    by_shard: dict[Shard, Moved] = defaultdict(list)
    for row in moved:
        by_shard[row[2]].append(row)
    pieces = [(s, rows[i : i + _KEYS]) for s, rows in by_shard.items() for i in range(0, len(rows), _KEYS)]
    for shard, rows in pieces:
        layout = rows[0][0]
        member = next(m for m in layout.table.shards if m.shard == shard)
        select = row_select(member.definition, layout.table.remap(shard))
        names = ", ".join(map(quote, layout.key_columns))
        keys = ",".join(layout.decoder.key_literal(image) for layout, image, _ in rows)
        lines, reader = BytesIO(), ShardReader(config.source(shard.instance))
        try:
            sink = Sink(lines)
            reader.read(select, f"{shard.sql} WHERE ({names}) IN ({keys})", sink)
        finally:
            reader.close()
        with Session(config.source(shard.instance)) as session:
            position = standing(session, shard.instance)
        if sink.rows:
            done = writer.load(target, select.columns, [lines.getvalue()], replace=False)
            if done != (sink.rows, 0):
                return "; ".join(writer.warnings()[:3]) or f"{sink.rows} rows were sent, {done[0]} changes made"
        _lend(config, writer, target, rows, shard, position)
    return ""


def _lend(config: Config, writer: Writer, target: Target, rows: Moved, shard: Shard, position: Position) -> None:
    names = ", ".join(map(literal, (config.name, shard.instance, str(target))))
    until = json_literal(json.dumps(position))
    values = [f"({names}, '{fingerprint(layout.text_key(image))}', {until})" for layout, image, _ in rows]
    writer.execute(
        "REPLACE INTO migrate_meta.lent (migration, instance, target, row_key, position) VALUES " + ", ".join(values)
    )


def lent(config: Config, writer: Writer, instance: str, target: Target, at: Position) -> frozenset[str]:
    """The keys (by fingerprint) of rows that may be ahead of an instance's binlog at a position."""
    names = ", ".join(map(literal, (config.name, instance, str(target))))
    rows = writer.rows(
        f"SELECT row_key, position FROM migrate_meta.lent WHERE (migration, instance, target) = ({names})"
    )
    return frozenset(str(key, "ascii") for key, until in rows if key and until and not reached(at, json.loads(until)))
