"""What a shard's DDL means for the merged table on the target."""

from __future__ import annotations

from dataclasses import dataclass, replace

from migrate.model import Index, MergedTable, Shard, ShardTable, TableDef
from migrate.schema.ddl import target_ddl
from migrate.schema.shape import differences
from migrate.sync.change import Change
from migrate.sync.ddl import one_line
from migrate.sync.plan_ddl import plan
from migrate.sync.shadow import shadow_of
from migrate.sync.widen import source_change, unfit, widening


@dataclass(frozen=True, slots=True)
class Pass:
    """Nothing is to be done on the target; `note` says why, for the log and the status ('' if there is nothing)."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class Apply:
    """The statements to run on the target, one by one, before rows of the new shape arrive.

    After each of them, or after a crash between them, `decide` on the target as it is then gives the rest.
    """

    statements: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Hold:
    """The target table stops here, for the reason, till the operator has done what `remedy` says."""

    reason: str
    remedy: str


Decision = Pass | Apply | Hold


def decide(change: Change, shard: Shard, merged: MergedTable, target: TableDef | None) -> Decision:
    """What the change of `shard` means for the target table of `merged`, which is `target` on TiDB now.

    `shard` is the table under the name that is routed (`change.schema`, `change.table`, or the new name of a rename).
    `merged.shards` are all shards of the target with their definitions in force before the change; a shard that is
    new is not among them.
    """
    beside = [
        s.shard.table for s in merged.shards if (s.shard.instance, s.shard.schema) == (shard.instance, shard.schema)
    ]
    table = shadow_of(shard.table, beside)
    if table:
        return Pass(f"a shadow of {table}, which an online schema change alters")
    if change.kind == "alter" and change.before is not None and change.after is not None:
        return _altered(change, shard, merged, target, change.before, change.after)
    if change.kind == "create" and change.after is not None:
        return _created(change, shard, merged, change.after)
    return hold(change, shard, merged, _never(change, shard))


def _never(change: Change, shard: Shard) -> str:
    """Why a change doesn't pass by itself, whatever the table looks like."""
    match change.kind:
        case "drop":
            return "the shard is dropped: its rows leave it without row events"
        case "truncate":
            return f"rows leave the shard without row events ({change.reason or 'TRUNCATE'})"
        case "dml":
            return "rows were changed by a statement that was logged as text (binlog_format isn't ROW there)"
        case "rename" if change.renamed_to == (shard.schema, shard.table):
            return f"{change.schema}.{change.table} takes the name of a shard, with rows that were never copied"
        case "rename":
            return f"the shard is renamed to {'.'.join(change.renamed_to or ())}, and its rows go with it"
        case "unknown":
            return f"the statement can't be read safely: {change.reason}"
    return "the shard's definition before it isn't known"


def hold(change: Change, shard: Shard, merged: MergedTable, *reasons: str) -> Hold:
    """That the table stops at the change, for these reasons, and what the operator can do."""
    name = merged.target
    remedy = (
        f"Bring {name} to it by hand where it needs to be, then `migrate sync skip {name}`: sync goes on with the "
        f"target as it is then. Or `migrate sync replace {name} --with 'ALTER TABLE ..'` runs that on the target "
        f"instead. Or mend what the reason names, then `migrate sync go-on {name}` looks again."
    )
    if change.kind == "unknown":
        remedy += f" If rows of {shard} can't be read any more then, copy {name} anew."
    return Hold(f"{shard}: {'; '.join(reasons)}. The statement: {one_line(change.statement)}", remedy)


def _created(change: Change, shard: Shard, merged: MergedTable, after: TableDef) -> Decision:
    """A table with a name that the route matches: a new shard, if it has the shape of another."""
    if merged.interleaved:
        return hold(change, shard, merged, "a new shard has no number yet by which its keys would be interleaved")
    apart: list[str] = []
    siblings = [s for s in merged.shards if s.shard != shard]
    for sibling in siblings:
        found = differences(sibling.definition, after)
        if not found:
            return Pass(f"a new shard, of the shape of {sibling.shard}")
        apart = apart or [f"it differs from {sibling.shard}: {d}" for d in found]
    return hold(change, shard, merged, "a new table matches the route, but has another shape", *apart)


def _altered(
    change: Change, shard: Shard, merged: MergedTable, target: TableDef | None, before: TableDef, after: TableDef
) -> Decision:
    reasons = _lost(change, after) + _table(before, after) + _keys(before, after)
    old, new = _meant(merged, shard, before), _meant(merged, shard, after)
    reasons += new.refusals
    if not new.refusals and not old.refusals:
        reasons += _columns(before, after, old.definition, new.definition)
    if target is None:
        reasons.append(f"{merged.target} isn't on the target")
    if reasons or target is None:
        return hold(change, shard, merged, *reasons)
    others = [s.definition for s in merged.shards if s.shard != shard]
    settled = not any(differences(after, other) or _comments(after) != _comments(other) for other in others)
    made = plan(merged.target, target, old.definition, new.definition, settled=settled)
    if made.problems:
        return hold(change, shard, merged, *made.problems)
    if made.statements:
        return Apply(tuple(made.statements), f"{shard}: {one_line(change.statement)}")
    return Pass("; ".join(made.notes))


@dataclass(frozen=True)
class _Meant:
    """What the target would be for one shape of the shard, and why it can't be carried."""

    definition: TableDef
    refusals: list[str]


def _meant(merged: MergedTable, shard: Shard, definition: TableDef) -> _Meant:
    made = target_ddl(replace(merged, shards=(ShardTable(shard, definition),)))
    return _Meant(made.definition, list(made.refusals))


def _comments(definition: TableDef) -> tuple[str, ...]:
    return definition.comment, *(c.comment for c in definition.columns)


def _lost(change: Change, after: TableDef) -> list[str]:
    there = {c.name.lower() for c in after.columns}
    return [
        f"column {name} is dropped and added anew, without its values" if name.lower() in there else
        f"column {name} is dropped or renamed"
        for name in change.lost
    ]  # fmt: skip


def _table(before: TableDef, after: TableDef) -> list[str]:
    found = []
    if before.partitioned != after.partitioned:
        found.append("its partitioning changes")
    if after.engine not in (before.engine, "InnoDB"):
        found.append(f"its engine becomes {after.engine}, which has no transactions")
    found += [
        f"foreign key {name} is new: what it changes by itself is in no binlog"
        for name in after.foreign_keys
        if name not in before.foreign_keys
    ]
    return found


def _keys(before: TableDef, after: TableDef) -> list[str]:
    """Primary and unique keys must stay what they are; their names may change."""

    def parts(index: Index) -> tuple[tuple[str, int | None], ...]:
        return tuple((str(c).lower(), p) for c, p in index.parts)

    found = []
    old, new = before.primary, after.primary
    if (old and parts(old)) != (new and parts(new)):
        found.append("its primary key changes")
    olds = {parts(i): i for i in before.unique_indexes if not i.primary}
    news = {parts(i): i for i in after.unique_indexes if not i.primary}
    found += [f"unique index {i.name} is new: what is unique on a shard may not be on the target"
              for p, i in news.items() if p not in olds]  # fmt: skip
    found += [f"unique index {i.name} goes: the target would refuse rows that the shard takes then"
              for p, i in olds.items() if p not in news]  # fmt: skip
    return found


def _columns(before: TableDef, after: TableDef, old: TableDef, new: TableDef) -> list[str]:
    """What may become of values: on the shard (before, after), and on the target (old, new)."""
    found = []
    there = {c.name.lower(): (c, o) for c, o in zip(before.columns, old.columns, strict=True)}
    for column, made in zip(after.columns, new.columns, strict=True):
        if column.name.lower() not in there:
            reason = unfit(column)
            if reason is None and made.default is None and column.default is not None:
                reason = f"TiDB has no default like its {column.default!r}"
        else:
            was, was_made = there[column.name.lower()]
            reason = source_change(was, column) or widening(was_made, made)
        if reason:
            found.append(f"column {column.name}: {reason}")
    return found
