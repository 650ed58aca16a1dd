"""The target's DDL, derived from the catalogue: what the merged table will be, what changes, what can't be."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from migrate.conversion import made_of
from migrate.model import TEXTS, Column, Index, MergedTable, ShardTable, TableDef, Target, quote
from migrate.schema.collation import comparison_change, target_collation
from migrate.schema.column import target_column
from migrate.schema.index import target_index
from migrate.schema.shape import differences


@dataclass(frozen=True)
class TargetSchema:
    """A merged table as it is meant to be. `changes` say what differs from the source and why; with `refusals`
    (named by table and column) the table can't be carried faithfully, and isn't created."""

    target: Target
    sql: str
    definition: TableDef
    changes: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()


def target_ddl(table: MergedTable) -> TargetSchema:
    """The DDL of a merged table, from its first shard's shape; preflight says whether the others have the same."""
    source = table.definition
    changes: list[str] = []
    refusals: list[str] = []
    bytes_change = any(c.charset not in (None, "ascii", "utf8", "utf8mb3", "utf8mb4") for c in source.columns)
    interleaved = {name for columns in table.interleaved.values() for name in columns}
    columns = []
    for column in source.columns:
        made = target_column(column, interleaved=column.name in interleaved, bytes_change=bytes_change)
        columns.append(replace(made.column, origin=None))
        changes += [f"{column.name}: {change}" for change in made.changes]
        if made.refusal:
            refusals.append(f"{table.target}.{column.name}: {made.refusal}")
    changes += _collation_changes(source.columns, columns)
    meant = replace(
        source,
        columns=tuple(columns),
        indexes=(),
        charset="utf8mb4",
        collation=target_collation(source.collation),
        engine="InnoDB",
        partitioned=False,
        foreign_keys=(),
        checks=(),
        triggers=(),
    )
    indexes = []
    if not refusals:
        for index in source.indexes:
            kept = target_index(index, meant)
            indexes += [kept.index] if kept.index else []
            changes += [kept.change] if kept.change else []
            refusals += [f"{table.target}: {kept.refusal}"] if kept.refusal else []
    meant = replace(meant, indexes=tuple(indexes))
    changes += _left_behind(table) + _mapped(table)
    return TargetSchema(table.target, _render(table.target, meant), meant, tuple(changes), tuple(refusals))


def apart(table: MergedTable, other: ShardTable) -> list[str]:
    """What is different in the rows of a shard from those of the table's first one, a sentence each: by what they
    become where columns are mapped."""
    first = table.shards[0]
    if not table.mapped:
        return differences(first.definition, other.definition)
    one, two = (target_ddl(replace(table, shards=(shard,))).definition for shard in (first, other))
    return differences(one, two, rebuilt=True)


def shards_apart(table: MergedTable) -> list[str]:
    """What is different from the first shard of the table in each other one, a sentence each."""
    return [
        f"{other.shard} differs from {table.shards[0].shard}: {difference}"
        for other in table.shards[1:]
        for difference in apart(table, other)
    ]


def _collation_changes(source: tuple[Column, ...], target: list[Column]) -> list[str]:
    """One sentence for each pair of collations, with all the columns that it is about."""
    pairs: dict[tuple[str, str], list[str]] = defaultdict(list)
    for before, after in zip(source, target, strict=True):
        if before.type in TEXTS and before.collation and after.collation and before.collation != after.collation:
            pairs[before.collation, after.collation].append(before.name)
    return [
        f"{', '.join(names)}: {before} becomes {after}: {comparison_change(before, after)}"
        for (before, after), names in pairs.items()
    ]


def _left_behind(table: MergedTable) -> list[str]:
    """What the shards have and the target won't."""
    shards = [t.definition for t in table.shards]
    foreign = sorted({name for d in shards for name in d.foreign_keys})
    checks = sorted({name for d in shards for name in d.checks})
    triggers = sorted({name for d in shards for name in d.triggers})
    found = [f"foreign key {name} is dropped: rows arrive in any order, the ledger's checks look for orphans"
             for name in foreign]  # fmt: skip
    found += [f"CHECK constraint {name} is dropped: TiDB doesn't enforce it by default" for name in checks]
    found += [f"trigger {name} is left behind, TiDB has none: the application or a job must do what it does"
              for name in triggers]  # fmt: skip
    if any(d.partitioned for d in shards):
        found.append("partitioning is dropped: TiDB splits a table into regions by itself")
    if table.definition.key is None:
        found.append("no key identifies its rows: each shard is copied in one piece, and rows can't be told apart")
    return found


def _mapped(table: MergedTable) -> list[str]:
    """What a mapping made of the columns, as the first shard of each shape has it."""
    found: list[str] = []
    for shard in table.shards if table.mapped else ():
        carried = made_of(shard)
        lines = [
            f"{name} becomes {', '.join(f'{c.name} {c.full_type}' for c in made)}"
            for name, made in carried.items()
            if any(c.origin for c in made)
        ]
        dropped = [c.name for c in shard.physical.columns if c.name not in carried]
        lines += [f"not carried: {', '.join(dropped)}"] if dropped else []
        own = {i.name for i in shard.definition.indexes} | {"PRIMARY"}
        lines += [f"index {i.name} is left behind" for i in shard.physical.indexes if i.name not in own]
        found += [line for line in lines if line not in found]
    return found


def _render(target: Target, table: TableDef) -> str:
    lines = [column_sql(c) for c in table.columns]
    lines += [index_sql(i) for i in table.indexes]
    comment = f" COMMENT={text_sql(table.comment)}" if table.comment else ""
    body = ",\n  ".join(lines)
    return f"CREATE TABLE {target.sql} (\n  {body}\n) DEFAULT CHARSET=utf8mb4 COLLATE={table.collation}{comment}"


def column_sql(column: Column) -> str:
    """A column of the target as CREATE and ALTER TABLE have it."""
    words = [quote(column.name), column.full_type]
    if column.collation and column.type in TEXTS:
        words.append(f"CHARACTER SET utf8mb4 COLLATE {column.collation}")
    if column.generated is not None:
        words.append(f"GENERATED ALWAYS AS ({column.generated}) {'STORED' if column.stored else 'VIRTUAL'}")
    words.append("NULL" if column.nullable else "NOT NULL")
    if column.default is not None:
        words.append(f"DEFAULT {_default(column, column.default)}")
    if column.on_update:
        words.append(f"ON UPDATE {column.on_update}")
    if column.auto_increment:
        words.append("AUTO_INCREMENT")
    if column.comment:
        words.append(f"COMMENT {text_sql(column.comment)}")
    return " ".join(words)


def _default(column: Column, default: str) -> str:
    if column.default_is_expression:
        return default if default.startswith("CURRENT_TIMESTAMP") else f"({default})"
    return default if column.type == "bit" else text_sql(default)


def index_sql(index: Index) -> str:
    """An index of the target as CREATE and ALTER TABLE have it."""
    parts = ", ".join(quote(str(c)) + (f"({p})" if p else "") for c, p in index.parts)
    if index.primary:  # clustered: a row lies at its key, and a key range is one scan, which chunks and digests are
        return f"PRIMARY KEY ({parts}) /*T![clustered_index] CLUSTERED */"
    return f"{'UNIQUE KEY' if index.unique else 'KEY'} {quote(index.name)} ({parts})"


def text_sql(text: str) -> str:
    """A comment or a default as a literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''").replace("\0", "\\0") + "'"
