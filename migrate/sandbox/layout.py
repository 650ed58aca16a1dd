"""Which shard set lies where: databases over instances, shard sets over databases, rows over shard sets."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from migrate.config import Endpoint
from migrate.db import connect
from migrate.errors import ConfigError
from migrate.model import quote
from migrate.sandbox.topology import LEDGER, Topology
from migrate.sandbox.workload import Workload


@dataclass(frozen=True)
class Place:
    """Where shard set `number` is: one table of every kind, named KIND_suffix, in one schema. `database`: the name of
    those that number their shard sets together."""

    number: int
    source: Endpoint
    schema: str
    suffix: str
    database: str = LEDGER

    def table(self, target: str) -> str:
        """The shard of that target table (schema.table), quoted."""
        return f"{quote(self.schema)}.{quote(target.split('.')[1] + '_' + self.suffix)}"


# By database and number; a row lives on the shard set of its database (sharding key modulo their number).
Layout = tuple[Place, ...]


def plan_layouts(
    topologies: Mapping[str, Topology], sources: Sequence[Endpoint], schemas: int | None, shards: int | None
) -> Layout:
    """The layout of all databases, each by itself."""
    made = {name: plan_layout(topology, sources, schemas, shards) for name, topology in topologies.items()}
    return tuple(replace(place, database=name) for name, layout in made.items() for place in layout)


def plan_layout(
    topology: Topology, sources: Sequence[Endpoint], schemas: int | None = None, shards: int | None = None
) -> Layout:
    """`schemas` databases in all, dealt to the instances in turn, and `shards` shard sets dealt to the databases.

    By default as many as the topology says. ConfigError if a database would stay empty.
    """
    if schemas is None:
        schemas = topology.schemas_per_instance * len(sources)
        schemas = min(schemas, shards) if shards else schemas
    shards = topology.shards_per_schema * schemas if shards is None else shards
    if not 1 <= schemas <= shards:
        raise ConfigError(f"{shards} tables of a kind don't fill {schemas} schemas: give at least one for each")
    return tuple(
        Place(n, sources[n % schemas % len(sources)], topology.schema_.format(n % schemas), topology.shard.format(n))
        for n in range(shards)
    )


def find_layout(workload: Workload, sources: Sequence[Endpoint]) -> Layout:
    """The shard sets that the servers hold. ConfigError if there are none or a number is missing or there twice."""
    held: dict[Endpoint, list[tuple[Any, ...]]] = {}
    for source in sources:
        with connect(source) as session:
            held[source] = session.query("SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES")
    layout: list[Place] = []
    for name, topology in workload.topologies.items():
        table = workload.account_table if name == LEDGER else workload.databases[name].tables[0]
        found: dict[int, Place] = {}
        for source, tables in held.items():
            for schema, shard in tables:
                number = _number(f"{table.split('.')[1]}_{topology.shard}", shard)
                if number is None or _number(topology.schema_, schema) is None:
                    continue
                if number in found:
                    raise ConfigError(f"{shard} is on {found[number].source.name} and {source.name}: seed with --force")
                found[number] = Place(number, source, schema, topology.shard.format(number), name)
        if not found or set(found) != set(range(len(found))):
            raise ConfigError(f"the servers hold no complete {workload.pack} ledger: run the seed command first")
        layout += [found[n] for n in range(len(found))]
    return tuple(layout)


def existing_schemas(topology: Topology, source: Endpoint) -> list[str]:
    """The databases on the server that bear a name of this topology."""
    with connect(source) as session:
        return [name for (name,) in session.query("SHOW DATABASES") if _number(topology.schema_, name) is not None]


def drop_schemas(topology: Topology, sources: Sequence[Endpoint]) -> None:
    """Drops them, data and all."""

    def drop(source: Endpoint) -> None:
        names = existing_schemas(topology, source)
        with connect(source) as session:
            for name in names:
                session.execute(f"DROP DATABASE {quote(name)}")

    _at_once(drop, sources)


def create_tables(layout: Layout, workload: Workload) -> None:
    """Creates every schema and table of the layout, all instances at once."""
    by_source: dict[Endpoint, list[Place]] = defaultdict(list)
    for place in layout:
        by_source[place.source].append(place)

    def create(source: Endpoint) -> None:
        with connect(source) as session:
            for schema in sorted({p.schema for p in by_source[source]}):
                session.execute(f"CREATE DATABASE {quote(schema)} DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
            for place in by_source[source]:
                for statement in _statements(workload, place):
                    session.execute(statement)

    _at_once(create, list(by_source))


def _statements(workload: Workload, place: Place) -> Iterator[str]:
    """The DDL of one shard set. A statement ends with a semicolon at the end of its line."""
    for statement in re.split(r";[ \t]*$", re.sub(r"(?m)^--.*$", "", workload.ddl), flags=re.MULTILINE):
        named = re.search(r"\{schema\}\.`?(\w+?)_\{n\}", statement)
        tables = {table.split(".")[1]: workload.database_of(table) for table in workload.columns}
        if statement.strip() and (named is None or tables.get(named[1], LEDGER) == place.database):
            yield statement.replace("{schema}", quote(place.schema)).replace("{n}", place.suffix)


def _at_once(work: Callable[[Endpoint], None], sources: Sequence[Endpoint]) -> None:
    with ThreadPoolExecutor(len(sources)) as pool:
        for _ in pool.map(work, sources):
            pass


def _number(form: str, name: str) -> int | None:
    """The number whose format the name is, if it is one."""
    digits = re.match(r"\d+", name.removeprefix(form.split("{", maxsplit=1)[0]))
    return int(digits[0]) if digits and form.format(int(digits[0])) == name else None
