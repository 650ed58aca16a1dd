"""The rules that send shards to merged tables, resolved against what the instances really hold."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from migrate.config import Config, Route
from migrate.errors import NoGo
from migrate.mapped import mapped
from migrate.model import INTEGERS, Interleave, MergedTable, Shard, ShardTable, Target


@dataclass(frozen=True)
class Routing:
    """What goes where. `problems` are sentences; a migration goes on only where there are none."""

    tables: tuple[MergedTable, ...]
    ignored: tuple[Shard, ...]
    problems: tuple[str, ...]

    def checked(self) -> tuple[MergedTable, ...]:
        """The tables. NoGo with all the problems if the routing isn't whole."""
        if self.problems:
            raise NoGo("routing is not complete:\n  " + "\n  ".join(self.problems))
        return self.tables

    def table(self, target: str) -> MergedTable:
        return next(t for t in self.tables if str(t.target) == target)


def resolve(config: Config, catalog: Iterable[ShardTable]) -> Routing:
    """Sends every table of the catalog (all instances together) to its target, or says why it can't.

    A table that no route and no ignore names, one that two name, a route or an ignore that matches nothing
    (ignores of a whole schema may), are problems. Shards keep the catalog's order, which numbers them.
    """
    problems: list[str] = []
    shards: dict[str, list[ShardTable]] = defaultdict(list)
    ignored: list[Shard] = []
    used: set[int] = set()
    for table in catalog:
        name = table.shard
        routes = [i for i, r in enumerate(config.routes) if r.matches(name.schema, name.table)]
        ignores = any(i.matches(name.schema, name.table) for i in config.ignores)
        used.update(routes)
        if len(routes) + ignores > 1:
            what = [f"route[{i}] to {config.routes[i].target}" for i in routes] + ["an ignore"] * ignores
            problems.append(f"{name} is matched by {' and by '.join(what)}: make one of the patterns narrower")
        elif routes:
            made, wrong = mapped(table, config.routes[routes[0]])
            problems += [f"route[{routes[0]}] to {config.routes[routes[0]].target}: {name}: {w}" for w in wrong]
            shards[config.routes[routes[0]].target].append(made)
        elif ignores:
            ignored.append(name)
        else:
            problems.append(f"{name} is neither routed nor ignored: add a [[route]] or an [[ignore]] for it")
    for i, route in enumerate(config.routes):
        if i not in used:
            problems.append(
                f"route[{i}] matches no table (schema = '{route.schema_}', table = '{route.table}'): "
                "patterns are regular expressions that must match the whole name"
            )
    policies: dict[str, Route] = {}
    for route in config.routes:
        first = policies.setdefault(route.target, route)
        if (first.key_collision, first.references) != (route.key_collision, route.references):
            problems.append(f"the routes to {route.target} differ in key_collision or references")
    interleaved = _interleaved(policies, shards, problems)
    tables = tuple(
        MergedTable(Target(*target.split(".")), tuple(members), policies[target].key_collision, interleaved[target])
        for target, members in sorted(shards.items())
    )
    return Routing(tables, tuple(ignored), tuple(problems))


def as_routed(config: Config, table: ShardTable) -> ShardTable:
    """A shard as its route maps it. NoGo, with all that is wrong, if the mapping doesn't fit the table."""
    route = next((r for r in config.routes if r.matches(table.shard.schema, table.shard.table)), None)
    made, wrong = mapped(table, route) if route else (table, [])
    if wrong:
        raise NoGo(f"{table.shard} doesn't fit its route's columns: {'; '.join(wrong)}")
    return made


def _interleaved(
    policies: dict[str, Route], shards: dict[str, list[ShardTable]], problems: list[str]
) -> dict[str, dict[Shard, dict[str, Interleave]]]:
    """Per target and shard, the columns to interleave: the key of each `interleave` route and what refers to it."""
    found: dict[str, dict[Shard, dict[str, Interleave]]] = defaultdict(lambda: defaultdict(dict))
    for target, route in policies.items():
        members = shards.get(target, [])
        if route.key_collision != "interleave":
            if route.references:
                problems.append(f"the route to {target} has references but its key_collision is 'error'")
            continue
        if not members:
            continue
        bits = (len(members) - 1).bit_length()
        numbers = {t.shard: Interleave(bits, i) for i, t in enumerate(members)}
        keys = members[0].definition.key_columns
        if len(keys) != 1 or keys[0].type not in INTEGERS:
            problems.append(f"{target}: interleave needs a key of one integer column; it has {[c.name for c in keys]}")
            continue
        for table in members:
            found[target][table.shard][keys[0].name] = numbers[table.shard]
        home: dict[tuple[str, str, str], list[Interleave]] = defaultdict(list)
        for table in members:
            home[_place(table.shard)].append(numbers[table.shard])
        for reference in route.references:
            schema, name, column = reference.split(".")
            referring = shards.get(f"{schema}.{name}")
            if not referring:
                problems.append(f"references: {reference}: no route leads to {schema}.{name}")
                continue
            for table in referring:
                at = home.get(_place(table.shard), [])
                if table.mapped:
                    problems.append(f"references: {reference}: {table.shard} has mapped columns, which can't refer")
                elif column.lower() not in {c.name.lower() for c in table.definition.columns}:
                    problems.append(f"references: {reference}: {table.shard} has no column {column}")
                elif table.definition.column(column).type not in INTEGERS:
                    problems.append(f"references: {reference}: {table.shard}: the column isn't an integer")
                elif len(at) != 1:
                    problems.append(
                        f"references: {reference}: can't tell which shard of {target} {table.shard} refers to: "
                        "it needs exactly one on the same instance, in the same schema, with the same number"
                    )
                else:
                    found[str(Target(schema, name))][table.shard][table.definition.column(column).name] = at[0]
    return found


def _place(shard: Shard) -> tuple[str, str, str]:
    """What co-located shards share: instance, schema, and the last number of the table's name."""
    numbers = re.findall(r"\d+", shard.table)
    return shard.instance, shard.schema, str(int(numbers[-1])) if numbers else ""
