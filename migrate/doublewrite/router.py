"""Which shard a row lives on, by its sharding key or by the low bits of an interleaved key; and what it is there."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from migrate.config import Config
from migrate.conversion import source_of
from migrate.doublewrite.errors import Refused
from migrate.doublewrite.sharding import Key, Sharding, formula, load_sharding
from migrate.errors import ConfigError
from migrate.model import INTEGERS, Interleave, MergedTable, Shard, ShardTable
from migrate.source import read_routing
from migrate.translation import Translation, constants, irreversible

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


@dataclass(frozen=True)
class _Family:
    """The shards of a merged table that came of one: those whose mapping gives the same constants. All, as a rule."""

    constants: Mapping[str, str]
    shards: tuple[ShardTable, ...]
    rule: _Rule | None

    def has(self, row: Image) -> bool:
        """Whether such a row may be of it."""
        return all(row[name] == value for name, value in self.constants.items())

    def home(self, target: str, key: Key) -> ShardTable:
        """The shard of it with that sharding key. Refused if there is none."""
        if self.rule:
            return self.rule.shard(target, key)
        if len(self.shards) == 1:
            return self.shards[0]
        raise Refused(f"{target}: no sharding is declared for it; add it to sharding.toml of the pack")


class Router:
    """The merged tables of a migration, and where each row of them lives. Immutable."""

    def __init__(self, tables: Sequence[MergedTable], shardings: Sequence[Sharding] = ()):
        """ConfigError if a sharding names a table that isn't routed, or its formulas can't tell two shards apart."""
        self.tables = {str(t.target): t for t in tables}
        self.shards = {s.shard: s for t in tables for s in t.shards}
        self.target_of = {s.shard: str(t.target) for t in tables for s in t.shards}
        if strange := [target for sharding in shardings for target in sharding.keys if target not in self.tables]:
            raise ConfigError(f"sharding.keys: no route leads to {strange[0]}")
        self._families = {target: _families(table, shardings) for target, table in self.tables.items()}
        self._groups = [tuple(s.keys) for s in shardings]
        self._bits = {target: _low_bits(table) for target, table in self.tables.items()}
        self._mapped = {s.shard: Translation(s) for s in self.shards.values() if s.mapped}

    @classmethod
    def of(cls, config: Config) -> Router:
        """The router of a config: the instances' tables, its routes, its pack's sharding. ConfigError if the rows of a
        mapped table can't be written back, with what stands in the way."""
        tables, shardings = read_routing(config).checked(), load_sharding(config.pack)
        if found := [f"{t.target}: {reason}" for t in tables for reason in obstacles(t, shardings)]:
            raise ConfigError(
                f"columns are mapped in a way that can't be undone, so there is no double write: {'; '.join(found)}. "
                'Mend that; or migrate by sync, and cut over with cutover.fence = "read-only", "revoke" or "hook" and '
                "--no-way-back"
            )
        return cls(tables, shardings)

    def shard(self, target: str, key: Key) -> ShardTable:
        """The shard on which rows of that target with that sharding key live. Refused if there is none, or one of
        each of the tables that were merged."""
        found = self._homes(target, key)
        if len(found) > 1:
            raise Refused(f"{target}: key {key!r} has rows in {', '.join(str(s.shard) for s in found)}")
        return found[0]

    def _homes(self, target: str, key: Key) -> list[ShardTable]:
        return [family.home(target, key) for family in self._families[target]]

    def instance(self, key: Key, target: str | None = None) -> str:
        """The instance that a session for this sharding key belongs to: that of the target's shard, or of all tables
        of the first sharding. Refused if they lie on several: then name the target."""
        targets = (target,) if target else self._groups[0] if self._groups else tuple(self.tables)
        found = {home.shard.instance for t in targets for home in self._homes(t, key)}
        if len(found) != 1:
            raise Refused(f"key {key!r} has shards on {', '.join(sorted(found))}: name the session's target")
        return found.pop()

    def locate(self, target: str, row: Image) -> Shard:
        """The shard of a row of the target. Refused if its columns name none, or more than one.

        Constants of the mapping say which of the merged tables it is of. Interleaved columns say the shard by their
        low bits; all must agree, and with the sharding key's rule too unless that column is interleaved itself.
        """
        table, family = self.tables[target], self._family(target, row)
        choice: set[Shard] | None = None
        for column, (bits, homes) in self._bits[target].items():
            value = row[column]
            if value is not None:
                here = set(homes.get(int(value) & ((1 << bits) - 1), ()))
                choice = here if choice is None else choice & here
        rule = family.rule
        if rule and rule.column not in self._bits[target]:
            value = row[rule.column]
            if value is None:
                raise Refused(f"{target}: the sharding key {rule.column} is NULL in {dict(row)}")
            by_rule = rule.shard(target, _key(table, rule.column, value)).shard
            choice = {by_rule} if choice is None else choice & {by_rule}
        if choice is None and len(family.shards) == 1:
            return family.shards[0].shard
        if choice is None:
            raise Refused(f"{target}: no sharding is declared for it; add it to sharding.toml of the pack")
        if len(choice) != 1:
            keys = {c: row[c] for c in {*self._bits[target], *([rule.column] if rule else [])}}
            raise Refused(f"{target}: {keys} name {len(choice)} shards: no place on the shards for this row")
        return next(iter(choice))

    def _family(self, target: str, row: Image) -> _Family:
        found = [family for family in self._families[target] if family.has(row)]
        if len(found) != 1:
            names = sorted({name for family in self._families[target] for name in family.constants})
            said = ", ".join(f"{name} = {row.get(name)!r}" for name in names)
            raise Refused(f"{target}: rows with {said} belong to {len(found)} of the tables that were merged: no place "
                          "on the shards for this row")  # fmt: skip
        return found[0]

    def forward(self, shard: Shard, row: Image) -> Image:
        """A row of the shard as the target has it: mapped columns and interleaved ones made. Refused if a value can't
        be mapped exactly."""
        if shard in self._mapped:
            return self._turned(shard, self._mapped[shard].forward, row)
        remap = self.tables[self.target_of[shard]].remap(shard)
        return {**row, **{c: merged(row[c], i) for c, i in remap.items()}} if remap else row

    def back(self, shard: Shard, row: Image) -> Image:
        """A row of the target as the shard has it: mapped columns and interleaved ones undone. Refused if it is
        another shard's, or the shard can't have it exactly."""
        if shard in self._mapped:
            return self._turned(shard, self._mapped[shard].back, row)
        target = self.target_of[shard]
        remap = self.tables[target].remap(shard)
        return {**row, **{c: original(target, c, row[c], i) for c, i in remap.items()}} if remap else row

    def _turned(self, shard: Shard, turn: Callable[[Image], Image], row: Image) -> Image:
        try:
            return turn(row)
        except ValueError as error:
            raise Refused(f"{self.target_of[shard]} and {shard}: {error}; row {dict(row)}") from None

    def same(self, shard: Shard) -> tuple[str, ...]:
        """What is the same in all rows of the shard on the target, and tells them from those of other tables there."""
        return tuple(self._mapped[shard].constants.values()) if shard in self._mapped else ()

    def kept(self, shard: Shard) -> frozenset[str]:
        """The shard's columns that the target knows nothing of."""
        return self._mapped[shard].kept if shard in self._mapped else frozenset()


def refuse_one_way(config: Config) -> None:
    """ConfigError if rows of a mapped table can't be written back."""
    if any(route.mapped for route in config.routes):
        Router.of(config)


def obstacles(table: MergedTable, shardings: Sequence[Sharding]) -> list[str]:
    """Why rows of a mapped table can't be written back to its shards, a sentence each; none if they can."""
    if not table.mapped:
        return []
    found = {f"{reason} ({shard.shard})": reason for shard in table.shards for reason in irreversible(shard)}
    once = {reason: said for said, reason in reversed(found.items())}
    return [*once.values(), *_unplaced(table, shardings)]


def _unplaced(table: MergedTable, shardings: Sequence[Sharding]) -> Iterator[str]:
    """Why it can't be told which shard a row belongs to."""
    try:
        families = _families(table, shardings)
    except ConfigError as error:
        yield str(error)
        return
    for one, other in combinations(families, 2):
        both = one.constants.keys() & other.constants.keys()
        if all(one.constants[name] == other.constants[name] for name in both):
            first, second = one.shards[0].shard, other.shards[0].shard
            yield f"nothing tells rows of {first} from those of {second}: give both routes a constant"
    if any(family.rule is None and len(family.shards) > 1 for family in families):
        yield "no sharding is declared for it: add it to sharding.toml of the pack"


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


def _families(table: MergedTable, shardings: Sequence[Sharding]) -> list[_Family]:
    target = str(table.target)
    by_constants: dict[tuple[tuple[str, str], ...], list[ShardTable]] = defaultdict(list)
    for shard in table.shards:
        by_constants[tuple(sorted(constants(shard).items()))].append(shard)
    declared = [(sharding, sharding.keys[target]) for sharding in shardings if target in sharding.keys]
    return [
        _Family(dict(same), tuple(shards), _rule(table, shards, *declared[-1]) if declared else None)
        for same, shards in by_constants.items()
    ]


def _rule(table: MergedTable, shards: Sequence[ShardTable], sharding: Sharding, column: str) -> _Rule:
    try:
        made = [shard.definition.column(column) for shard in shards]
    except KeyError:
        raise ConfigError(f"sharding.keys: {table.target} has no column {column}") from None
    if any(c.converted or source_of(c) is None for c in made):
        raise ConfigError(f"sharding.keys: {table.target}.{column} is no column of the shards, carried as it is")
    places: dict[tuple[int, int], ShardTable] = {}
    for shard in shards:
        place = (_number(shard.shard.schema) if sharding.schema_ else -1, _number(shard.shard.table))
        if place in places:
            raise ConfigError(
                f"sharding: {places[place].shard} and {shard.shard} have the same numbers: give the sharding a "
                "`schema` formula, or the shards other names"
            )
        places[place] = shard
    schema = formula(sharding.schema_) if sharding.schema_ else None
    return _Rule(made[0].name, formula(sharding.number), schema, places, len(shards))


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
