"""Which shard a row lives on: by its sharding key, or by the low bits of an interleaved key, and back."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from migrate.config import Config
from migrate.doublewrite.errors import Refused
from migrate.doublewrite.sharding import Key, Sharding, formula, load_sharding
from migrate.errors import ConfigError
from migrate.model import INTEGERS, Interleave, MergedTable, Shard, ShardTable
from migrate.source import read_routing

Image = Mapping[str, str | None]  # a row: exact text by column, None is NULL


@dataclass(frozen=True)
class _Rule:
    column: str
    number: Callable[[Key, int], int]
    schema: Callable[[Key, int], int] | None
    places: Mapping[tuple[int, int], ShardTable]
    count: int

    def shard(self, target: str, key: Key) -> ShardTable:
        number = self.number(key, self.count)
        place = (self.schema(key, self.count) if self.schema else -1, number)
        try:
            return self.places[place]
        except KeyError:
            raise Refused(f"{target}: {self.column} = {key!r} makes shard number {number}, and there is none") from None


class Router:
    """The merged tables of a migration, and where each row of them lives. Immutable."""

    def __init__(self, tables: Sequence[MergedTable], shardings: Sequence[Sharding] = ()):
        """ConfigError if a sharding names a table that isn't routed, or its formulas can't tell two shards apart."""
        self.tables = {str(t.target): t for t in tables}
        self.shards = {s.shard: s for t in tables for s in t.shards}
        self.target_of = {s.shard: str(t.target) for t in tables for s in t.shards}
        self._rules = {
            target: _rule(self._known(target), column, sharding)
            for sharding in shardings
            for target, column in sharding.keys.items()
        }
        self._groups = [tuple(s.keys) for s in shardings]
        self._bits = {target: _low_bits(table) for target, table in self.tables.items()}

    @classmethod
    def of(cls, config: Config) -> Router:
        """The router of a config: the instances' tables, its routes, its pack's sharding. ConfigError if a route maps
        columns: the library carries rows under one name of each column only."""
        refuse_mapped(config)
        return cls(read_routing(config).checked(), load_sharding(config.pack))

    def _known(self, target: str) -> MergedTable:
        if target not in self.tables:
            raise ConfigError(f"sharding.keys: no route leads to {target}")
        return self.tables[target]

    def shard(self, target: str, key: Key) -> ShardTable:
        """The shard on which rows of that target with that sharding key live. Refused if there is none."""
        table = self.tables[target]
        if target in self._rules:
            return self._rules[target].shard(target, key)
        if len(table.shards) == 1:
            return table.shards[0]
        raise Refused(f"{target}: no sharding is declared for it; add it to sharding.toml of the pack")

    def instance(self, key: Key, target: str | None = None) -> str:
        """The instance that a session for this sharding key belongs to: that of the target's shard, or of all tables
        of the first sharding. Refused if they lie on several: then name the target."""
        targets = (target,) if target else self._groups[0] if self._groups else tuple(self.tables)
        found = {self.shard(t, key).shard.instance for t in targets}
        if len(found) != 1:
            raise Refused(f"key {key!r} has shards on {', '.join(sorted(found))}: name the session's target")
        return found.pop()

    def locate(self, target: str, row: Image) -> Shard:
        """The shard of a row of the target. Refused if its columns name none, or more than one.

        Interleaved columns say it by their low bits; all must agree, and with the sharding key's rule too unless that
        column is interleaved itself.
        """
        table = self.tables[target]
        choice: set[Shard] | None = None
        for column, (bits, homes) in self._bits[target].items():
            value = row[column]
            if value is not None:
                here = set(homes.get(int(value) & ((1 << bits) - 1), ()))
                choice = here if choice is None else choice & here
        rule = self._rules.get(target)
        if rule and rule.column not in self._bits[target]:
            value = row[rule.column]
            if value is None:
                raise Refused(f"{target}: the sharding key {rule.column} is NULL in {dict(row)}")
            by_rule = rule.shard(target, _key(table, rule.column, value)).shard
            choice = {by_rule} if choice is None else choice & {by_rule}
        if choice is None and len(table.shards) == 1:
            return table.shards[0].shard
        if choice is None:
            raise Refused(f"{target}: no sharding is declared for it; add it to sharding.toml of the pack")
        if len(choice) != 1:
            keys = {c: row[c] for c in {*self._bits[target], *([rule.column] if rule else [])}}
            raise Refused(f"{target}: {keys} name {len(choice)} shards: no place on the shards for this row")
        return next(iter(choice))

    def forward(self, shard: Shard, row: Image) -> Image:
        """A row of the shard as the target has it: interleaved columns made."""
        remap = self.tables[self.target_of[shard]].remap(shard)
        return {**row, **{c: merged(row[c], i) for c, i in remap.items()}} if remap else row

    def back(self, shard: Shard, row: Image) -> Image:
        """A row of the target as the shard has it: interleaved columns undone. Refused if one is of another shard."""
        target = self.target_of[shard]
        remap = self.tables[target].remap(shard)
        return {**row, **{c: original(target, c, row[c], i) for c, i in remap.items()}} if remap else row


def refuse_mapped(config: Config) -> None:
    """ConfigError if a route maps columns."""
    if mapped := sorted({route.target for route in config.routes if route.mapped}):
        raise ConfigError(
            f"the routes to {', '.join(mapped)} map columns, which the double write carries in neither direction: "
            'migrate them by sync, and cut over with cutover.fence = "read-only", "revoke" or "hook" and --no-way-back'
        )


def merged(value: str | None, interleave: Interleave) -> str | None:
    """An interleaved value."""
    return None if value is None else str((int(value) << interleave.bits) + interleave.number)


def original(target: str, column: str, value: str | None, interleave: Interleave) -> str | None:
    """The value that was interleaved. Refused if it is another shard's."""
    if value is None:
        return None
    if int(value) & ((1 << interleave.bits) - 1) != interleave.number:
        raise Refused(f"{target}.{column} = {value} is of another shard than its row")
    return str(int(value) >> interleave.bits)


def _rule(table: MergedTable, column: str, sharding: Sharding) -> _Rule:
    try:
        definition = table.definition.column(column)
    except KeyError:
        raise ConfigError(f"sharding.keys: {table.target} has no column {column}") from None
    places: dict[tuple[int, int], ShardTable] = {}
    for shard in table.shards:
        place = (_number(shard.shard.schema) if sharding.schema_ else -1, _number(shard.shard.table))
        if place in places:
            raise ConfigError(
                f"sharding: {places[place].shard} and {shard.shard} have the same numbers: give the sharding a "
                "`schema` formula, or the shards other names"
            )
        places[place] = shard
    schema = formula(sharding.schema_) if sharding.schema_ else None
    return _Rule(definition.name, formula(sharding.number), schema, places, len(table.shards))


def _number(name: str) -> int:
    numbers = re.findall(r"\d+", name)
    return int(numbers[-1]) if numbers else -1


def _key(table: MergedTable, column: str, text: str) -> Key:
    return int(text) if table.definition.column(column).type in INTEGERS else text


def _low_bits(table: MergedTable) -> dict[str, tuple[int, dict[int, list[Shard]]]]:
    """Per interleaved column: its bits, and the shards by the number in them."""
    found: dict[str, tuple[int, dict[int, list[Shard]]]] = {}
    for shard, columns in table.interleaved.items():
        for column, interleave in columns.items():
            homes = found.setdefault(column, (interleave.bits, defaultdict(list)))[1]
            homes[interleave.number].append(shard)
    return found
