"""What is compared with what: the shards and the target of every route, and the hash that their servers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from migrate.catalog import has_md5, read_catalog
from migrate.config import Endpoint
from migrate.db import Session
from migrate.errors import ConfigError, NoGo
from migrate.model import MergedTable, ShardTable, TableDef, literal
from migrate.routes import resolve
from verify.digest import Digest, digest_of
from verify.encoding import UTF8, Hash, Kind, kind_of, piece
from verify.mapped import over
from verify.ranges import EVERYTHING, Keys, Range
from verify.readers import Readers

_PACKET = 1 << 20  # a row's text is at most 512 KiB; see encoding


@dataclass(frozen=True, slots=True)
class Pair:
    """A merged table on both sides, or a range of it. `columns` have the key's first; `key` is empty for a table
    without one."""

    merged: MergedTable
    definition: TableDef
    columns: tuple[tuple[str, Kind], ...]
    key: tuple[str, ...]
    hash: Hash
    range: Range = EVERYTHING  # of the merged key
    keys: Keys | None = None  # the single rows that this is about, instead of a range

    @property
    def name(self) -> str:
        return str(self.merged.target)

    def kind(self, column: str) -> Kind:
        """How that column is compared. ConfigError if the table has none of that name."""
        for name, kind in self.columns:
            if name.lower() == column.lower():
                return kind
        raise ConfigError(f"{self.name} has no column {column}; has: {', '.join(sorted(n for n, _ in self.columns))}")

    def narrowed(self, columns: Sequence[str], key: Sequence[str]) -> Pair:
        """The same tables compared by some columns only, and bucketed by the `key` among them."""
        return replace(self, columns=tuple((name, self.kind(name)) for name in columns), key=tuple(key))

    def piece(self, column: str, shard: ShardTable | None = None) -> str:
        """The SQL of a column's piece on a shard, or on the target."""
        kind = self.kind(column)
        if shard is None:
            return piece(self.definition.column(column), kind, "target", self.hash)
        remap = {name.lower(): r for name, r in self.merged.remap(shard.shard).items()}
        return piece(shard.definition.column(column), kind, "source", self.hash, remap.get(column.lower()))

    def within(self, range_: Range) -> Pair:
        """The same tables, those rows only."""
        return replace(self, range=range_)

    def having(self, columns: Sequence[str], values: Iterable[tuple[str, ...]]) -> Pair:
        """The same tables, only the rows with such values in those columns, on whichever shard they are; `values` as
        SQL literals of the merged table."""
        rows = tuple(values)
        return replace(self, keys=Keys(tuple(columns), {table.shard: rows for table in self.merged.shards}))

    def finds(self, column: str) -> bool:
        """Whether it is certain that equality with a `literal` finds each row of such a value, on all shards and on the
        target; what the column's collation takes for equal may be found with it."""
        kind, own = self.kind(column), [table.definition.column(column) for table in self.merged.shards]
        if any(c.origin or c.type == "year" for c in own):  # TiDB takes a year of 0 for 2000
            return False
        if kind is Kind.TEXT:
            return all(c.type in ("char", "varchar") and c.charset in UTF8["source"] for c in own)
        return kind in (Kind.NUMBER, Kind.BYTES)

    def indexed(self, column: str) -> bool:
        """Whether an index of the target begins with the whole column."""
        return any(
            index.parts[0][1] is None and (index.parts[0][0] or "").lower() == column.lower()
            for index in self.definition.indexes
        )

    def literal(self, column: str, value: str) -> str:
        """A value of the merged table, as a Mismatch shows it, as SQL; of a column that it `finds`."""
        kind = self.kind(column)
        if kind is Kind.TEXT:
            return literal(value)
        if kind is Kind.BYTES:
            return f"X'{value.removeprefix('0x')}'" if value != "0x" else "''"
        return value

    def condition(self, shard: ShardTable | None = None) -> str:
        """The range's condition on a shard, or on the target; empty for all rows."""
        if shard is None:
            return self.keys.condition if self.keys else self.range.condition
        if not self.keys and not self.range.condition:
            return ""
        remap = {column.lower(): r for column, r in self.merged.remap(shard.shard).items()}
        if self.keys:
            return over(shard, self.keys.on(shard.shard, remap))
        own = self.range.on_shard(remap.get(self.merged.definition.key_columns[0].name.lower()))
        return over(shard, own.condition)

    def on_source(self, table: ShardTable) -> Digest:
        return digest_of(
            table.shard.sql, table.definition, self.columns, self.key, "source", self.hash,
            self.merged.remap(table.shard), self.condition(table),
        )  # fmt: skip

    def on_target(self) -> Digest:
        return digest_of(
            self.merged.target.sql, self.definition, self.columns, self.key, "target", self.hash, only=self.condition()
        )


def load(readers: Readers, only: Sequence[str] = ()) -> tuple[Pair, ...]:
    """The tables of the config, or those targets of them that `only` names.

    ConfigError if there are none or a name is unknown; NoGo, with all that is wrong, if a table or column is missing
    or left over on the target, or a type has no digest.
    """
    config = readers.config
    found = [readers.submit(source, _shards(source)) for source in config.sources]
    hashes = [readers.submit(server, has_md5) for server in (*config.sources, config.target)]
    merged = resolve(config, [table for future in found for table in future.result()]).checked()
    unknown = sorted(set(only) - {str(m.target) for m in merged})
    if unknown:
        raise ConfigError(f"no route leads to {', '.join(unknown)}; known: {', '.join(str(m.target) for m in merged)}")
    merged = tuple(m for m in merged if not only or str(m.target) in only)
    if not merged:
        raise ConfigError(f"{config.path}: 0 tables matched: nothing to verify; add a [[route]]")
    with readers.session(config.target) as session:
        on_target = {
            (t.shard.schema.lower(), t.shard.table.lower()): t.definition
            for t in read_catalog(session, "target", sorted({m.target.schema for m in merged}))
        }
    hash_ = Hash("MD5" if all(future.result() for future in hashes) else "SHA2")
    pairs: list[Pair] = []
    problems: list[str] = []
    for table in merged:
        definition = on_target.get((table.target.schema.lower(), table.target.table.lower()))
        if definition is None:
            problems.append(f"{table.target}: there is no such table on the target; `migrate schema` creates it")
            continue
        wrong = list(_differences(table, definition))
        problems += wrong
        if not wrong:
            pairs.append(_pair(table, definition, hash_))
    if problems:
        raise NoGo("the two sides don't have the same tables and columns:\n  " + "\n  ".join(problems))
    return tuple(pairs)


def _pair(table: MergedTable, definition: TableDef, hash_: Hash) -> Pair:
    present = {c.name.lower() for c in definition.columns}
    compared = {c.name: kind_of(c) for c in table.definition.columns if c.name.lower() in present}
    key = tuple(c.name for c in table.definition.key_columns)
    if any(compared[name].client for name in key):
        key = ()  # no text on the servers to sort and bucket by: its rows are compared as wholes
    order = (*key, *(name for name in compared if name not in key))
    return Pair(table, definition, tuple((name, compared[name]) for name in order), key, hash_)


def _differences(table: MergedTable, definition: TableDef) -> Iterable[str]:
    """What keeps the columns from being compared. A generated column may be left out of the target."""
    wanted = {c.name.lower(): c for c in table.definition.columns}
    present = {c.name.lower(): c for c in definition.columns}
    for name, column in wanted.items():
        if name not in present and column.generated is None:
            yield f"{table.target}: column {column.name} of {table.shards[0].shard} is missing on the target"
    for name, column in present.items():
        if name not in wanted:
            yield f"{table.target}: column {column.name} of the target is on no shard"
    for shard in table.shards[1:]:
        for name in sorted(wanted.keys() ^ {c.name.lower() for c in shard.definition.columns}):
            yield f"{table.target}: {shard.shard} and {table.shards[0].shard} don't both have column {name}"
    for column in table.definition.columns:
        try:
            kind_of(column)
        except NoGo as error:
            yield f"{table.target}: {error}"


def _shards(source: Endpoint) -> Callable[[Session], list[ShardTable]]:
    def read(session: Session) -> list[ShardTable]:
        packet = int(session.value("SELECT @@max_allowed_packet"))
        if packet < _PACKET:
            raise NoGo(f"{source}: max_allowed_packet is {packet}: a row's text may not fit; set it to 1M or more")
        return read_catalog(session, source.name)

    return read
