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

    @property
    def unsigned(self) -> bool:
        return "unsigned" in self.full_type


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
    """A shard with its shape and the server's own estimate of its size (rows, bytes of data)."""

    shard: Shard
    definition: TableDef
    rows: int = 0
    data_bytes: int = 0


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
