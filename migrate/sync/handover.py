"""Rows that left for a shard of another instance, while it isn't sure whose row stands on the target.

What the copy read, or what was written over it, may be the row of either shard. So the one that leaves puts the other
shard's row there as it is now, and lends it to the follower of that instance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from migrate.config import Config
from migrate.copy.rowformat import row_select
from migrate.model import Shard, Target, quote
from migrate.position import standing
from migrate.sync.asking import Asking
from migrate.sync.batch import Image, Layout
from migrate.sync.lent import lend
from migrate.sync.writer import Writer

_KEYS = 1000  # in one statement
Moved = list[tuple[Layout, Image, Shard]]


def put(config: Config, writer: Writer, target: Target, moved: Moved, asking: Callable[[str], Asking]) -> str:
    """Inside the writer's transaction, where none of these keys is on the target: puts the rows there as their other
    shards have them now, by the instances that `asking` gives sessions to, but for those whose unique values others
    have on the target. Gives what it has against them else."""
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
        source = asking(shard.instance)
        lines = source.lines(select, f"{shard.sql} WHERE ({names}) IN ({keys})")
        position = standing(source, shard.instance)  # not before the rows are read
        if lines:
            loaded, warned = writer.load(target, select.columns, lines, replace=False)
            if (loaded, warned) != (len(lines), 0):
                said = writer.warnings()
                # One whose unique value still is another row's has got it behind where its follower is: that change is
                # yet to be applied, and writes the row whatever it finds, since it is lent.
                if len(said) < warned or not all(text.startswith("Duplicate entry") for text in said):
                    return "; ".join(said[:3]) or f"{len(lines)} rows were sent, {loaded} changes made"
        keys_lent = [layout.text_key(image) for layout, image, _ in rows]
        lend(config, writer, shard.instance, target, keys_lent, position)
    return ""
