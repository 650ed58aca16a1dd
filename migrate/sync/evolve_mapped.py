"""What a shard's DDL means where its columns are mapped: nothing that touches them passes by itself."""

from __future__ import annotations

from collections.abc import Callable

from migrate.conversion import made_of
from migrate.errors import NoGo
from migrate.model import Index, MergedTable, Shard, ShardTable, TableDef
from migrate.schema import apart
from migrate.sync.change import Change
from migrate.sync.evolve import Decision, Pass, hold


def decide_mapped(
    change: Change, shard: Shard, merged: MergedTable, routed: Callable[[ShardTable], ShardTable]
) -> Decision:
    """What an ALTER or CREATE of a mapped shard means. `routed` maps a shard, and raises NoGo if it doesn't fit."""
    assert change.after is not None
    try:
        after = routed(ShardTable(shard, change.after))
        before = routed(ShardTable(shard, change.before)) if change.before else None
    except NoGo as problem:
        return hold(change, shard, merged, f"its columns are mapped, and {problem}")
    if change.kind == "create":
        others = [s for s in merged.shards if s.shard != shard]
        if not others or (found := apart(merged, after)):
            return hold(change, shard, merged, "a new table matches the route, but has another shape", *found)
        return Pass(f"a new shard, mapped to the shape of {others[0].shard}")
    if before is None:
        return hold(change, shard, merged, "the shard's definition before it isn't known")
    carried = {name.lower() for name in made_of(before)}
    lost = [name for name in change.lost if name.lower() in carried]
    touched = [
        column.name
        for column in before.definition.columns
        if column not in after.definition.columns or column.name in lost
    ]
    if lost or touched or len(before.definition.columns) != len(after.definition.columns):
        names = ", ".join(dict.fromkeys([*touched, *lost])) or "a column"
        return hold(change, shard, merged, f"it touches {names}, and the table's columns are mapped")
    if _keys(before.physical) != _keys(after.physical):
        return hold(change, shard, merged, "its primary or unique keys change")
    return Pass("no column that is carried, and no key, is touched")


def _keys(definition: TableDef) -> list[Index]:
    return sorted(definition.unique_indexes, key=lambda index: index.name)
