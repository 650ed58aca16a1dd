"""The nouns that everything shares: columns, tables, shards, targets and chunks. Immutable, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
FLOATS = frozenset({"float", "double"})
TEXTS = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"})
BINARIES = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"})
TIMES = frozenset({"date", "datetime", "timestamp", "time", "year"})
SPATIAL = frozenset({"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
                     "geometrycollection", "geomcollection"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """One column as information_schema tells it. `type` is the bare lower-case type, `full_type` with its arguments."""

    name: str
    type: str
    full_type: str
    nullable: bool
    charset: str | None = None
    collation: str | None = None
    default: str | None = None
    default_is_expression: bool = False
    on_update: str | None = None
    auto_increment: bool = False
    invisible: bool = False
    generated: str | None = None
    stored: bool = False
    comment: str = ""
    origin: Origin | None = field(default=None, repr=False)  # of a mapped column of a shard; None: as it stands there

    @property
    def unsigned(self) -> bool:
        return "unsigned" in self.full_type

    @property
    def sql(self) -> str:
        """What a statement about its own table says for a column that is there, by that name or another, or a
        constant. (Of one that is converted, its source column.)"""
        if self.origin is None:
            return quote(self.name)
        if isinstance(self.origin, Constant):
            return self.origin.value if self.type in INTEGERS else literal(self.origin.value)
        return quote(self.origin.source.name)

    @property
    def converted(self) -> bool:
        """Whether its values become others on the way to the target, or may not be carried at all."""
        if isinstance(self.origin, Renamed):
            return self.origin.checked
        return self.origin is not None and not isinstance(self.origin, Constant)


@dataclass(frozen=True, slots=True)
class Renamed:
    """A column of the source under another name. `checked`: of another type or without NULL, where not every value
    may fit."""

    source: Column
    checked: bool = False


@dataclass(frozen=True, slots=True)
class Scaled:
    """Integers of minor units: a value is worth 10 ** -scale of what stands there."""

    source: Column
    scale: int


@dataclass(frozen=True, slots=True)
class Coded:
    """Codes: (the source's value as text, the target's) of every value that may occur."""

    source: Column
    codes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Constant:
    """The same value in every row."""

    value: str


@dataclass(frozen=True, slots=True)
class Split:
    """The `part`th, from 1, of the `parts` that the separator splits the source's text into."""

    source: Column
    separator: str
    part: int
    parts: int


Origin = Renamed | Scaled | Coded | Constant | Split


@dataclass(frozen=True, slots=True)
class Index:
    """An index; `parts` are (column or None for an expression, prefix length in characters or None)."""

    name: str
    unique: bool
    parts: tuple[tuple[str | None, int | None], ...]
    kind: str = "BTREE"

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(c for c, _ in self.parts if c is not None)

    @property
    def primary(self) -> bool:
        return self.name == "PRIMARY"


@dataclass(frozen=True, slots=True)
class TableDef:
    """The shape of a table, the same for all shards of one target. Statistics and names are not part of it."""

    columns: tuple[Column, ...]
    indexes: tuple[Index, ...]
    charset: str
    collation: str
    comment: str = ""
    engine: str = "InnoDB"
    partitioned: bool = False
    foreign_keys: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()

    def column(self, name: str) -> Column:
        """The column of that name (case-insensitive, as MySQL's are). KeyError if there is none."""
        for column in self.columns:
            if column.name.lower() == name.lower():
                return column
        raise KeyError(name)

    @property
    def stored_columns(self) -> tuple[Column, ...]:
        """The columns that a writer gives values for: all but the generated ones."""
        return tuple(c for c in self.columns if c.generated is None)

    @property
    def primary(self) -> Index | None:
        return next((i for i in self.indexes if i.primary), None)

    @property
    def unique_indexes(self) -> tuple[Index, ...]:
        return tuple(i for i in self.indexes if i.unique)

    @property
    def key(self) -> Index | None:
        """What identifies a row: the primary key, else the first unique key that is whole and never NULL."""
        if self.primary is not None:
            return self.primary
        for index in self.unique_indexes:
            if all(c is not None and p is None and not self.column(c).nullable for c, p in index.parts):
                return index
        return None

    @property
    def key_columns(self) -> tuple[Column, ...]:
        return tuple(self.column(c) for c in self.key.columns) if self.key else ()


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """One physical table on one instance."""

    instance: str
    schema: str
    table: str

    def __str__(self) -> str:
        return f"{self.instance}.{self.schema}.{self.table}"

    @property
    def sql(self) -> str:
        return f"{quote(self.schema)}.{quote(self.table)}"


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """One merged table."""

    schema: str
    table: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def sql(self) -> str:
        return f"{quote(self.schema)}.{quote(self.table)}"


@dataclass(frozen=True, slots=True)
class ShardTable:
    """A shard with its shape and the server's own estimate of its size (rows, bytes of data).

    The `definition` of a mapped shard is that of its rows as they are merged: columns have the target's names and
    types, and their origins. `stands` is then the table as it is on the instance.
    """

    shard: Shard
    definition: TableDef
    rows: int = 0
    data_bytes: int = 0
    stands: TableDef | None = None

    @property
    def physical(self) -> TableDef:
        """The table as it is on the instance."""
        return self.stands or self.definition

    @property
    def mapped(self) -> bool:
        return self.stands is not None


@dataclass(frozen=True, slots=True)
class Interleave:
    """The merged value of a key column: old * 2**bits + number."""

    bits: int
    number: int


@dataclass(frozen=True, slots=True)
class MergedTable:
    """A target table and the shards that flow into it, in a fixed order."""

    target: Target
    shards: tuple[ShardTable, ...]
    key_collision: Literal["error", "interleave"] = "error"
    # per shard, the columns whose values are interleaved on the way
    interleaved: dict[Shard, dict[str, Interleave]] = field(default_factory=dict, hash=False, compare=False)

    @property
    def definition(self) -> TableDef:
        return self.shards[0].definition

    @property
    def mapped(self) -> bool:
        """Whether columns of any shard are mapped."""
        return any(s.mapped for s in self.shards)

    def table(self, shard: Shard) -> ShardTable:
        """That shard of it. KeyError if it is none."""
        for table in self.shards:
            if table.shard == shard:
                return table
        raise KeyError(shard)

    def remap(self, shard: Shard) -> dict[str, Interleave]:
        return self.interleaved.get(shard, {})


Key = tuple[str, ...]  # the values of the key columns as SQL literals: typed, exact, never floats


@dataclass(frozen=True, slots=True)
class Chunk:
    """The rows of a shard with lower < key <= upper; None is open, so that the chunks of a shard tile its key space."""

    shard: Shard
    number: int
    lower: Key | None = None
    upper: Key | None = None

    def __str__(self) -> str:
        return f"{self.shard}#{self.number}"


def quote(identifier: str) -> str:
    """The identifier in backticks."""
    return "`" + identifier.replace("`", "``") + "`"


def literal(text: str) -> str:
    """A utf8mb4 string as a literal that holds under every sql_mode."""
    return "''" if not text else f"_utf8mb4 X'{text.encode().hex()}'"
