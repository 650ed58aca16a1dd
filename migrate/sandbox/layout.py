"""Which shard set lies where: databases over instances, shard sets over databases, rows over shard sets."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from migrate.config import Endpoint
from migrate.db import connect
from migrate.errors import ConfigError
from migrate.model import quote
from migrate.sandbox.workload import Topology, Workload


@dataclass(frozen=True)
class Place:
    """Where shard set `number` is: one table of every kind, named KIND_suffix, in one database."""

    number: int
    source: Endpoint
    schema: str
    suffix: str

    def table(self, target: str) -> str:
        """The shard of that target table (schema.table), quoted."""
        return f"{quote(self.schema)}.{quote(target.split('.')[1] + '_' + self.suffix)}"


Layout = tuple[Place, ...]  # by number; a row lives on the shard set (sharding key modulo their number)


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
    kind = workload.account_table.split(".")[1]
    found: dict[int, Place] = {}
    for source in sources:
        with connect(source) as session:
            tables = session.query("SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES")
        for schema, table in tables:
            number = _number(f"{kind}_{workload.topology.shard}", table)
            if number is None or _number(workload.topology.schema_, schema) is None:
                continue
            if number in found:
                raise ConfigError(f"{table} is on {found[number].source.name} and on {source.name}: seed with --force")
            found[number] = Place(number, source, schema, workload.topology.shard.format(number))
    if not found or set(found) != set(range(len(found))):
        raise ConfigError(f"the servers hold no complete {workload.pack} ledger: run the seed command first")
    return tuple(found[n] for n in range(len(found)))


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


def create_tables(layout: Layout, ddl: str) -> None:
    """Creates every database and table of the layout, all instances at once."""
    by_source: dict[Endpoint, list[Place]] = defaultdict(list)
    for place in layout:
        by_source[place.source].append(place)

    def create(source: Endpoint) -> None:
        with connect(source) as session:
            for schema in sorted({p.schema for p in by_source[source]}):
                session.execute(f"CREATE DATABASE {quote(schema)} DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
            for place in by_source[source]:
                for statement in _statements(ddl, place):
                    session.execute(statement)

    _at_once(create, list(by_source))


def _statements(ddl: str, place: Place) -> Iterator[str]:
    """The DDL of one shard set. A statement ends with a semicolon at the end of its line."""
    text = ddl.replace("{schema}", quote(place.schema)).replace("{n}", place.suffix)
    for statement in re.split(r";[ \t]*$", re.sub(r"(?m)^--.*$", "", text), flags=re.MULTILINE):
        if statement.strip():
            yield statement


def _at_once(work: Callable[[Endpoint], None], sources: Sequence[Endpoint]) -> None:
    with ThreadPoolExecutor(len(sources)) as pool:
        for _ in pool.map(work, sources):
            pass


def _number(form: str, name: str) -> int | None:
    """The number whose format the name is, if it is one."""
    digits = re.match(r"\d+", name.removeprefix(form.split("{", maxsplit=1)[0]))
    return int(digits[0]) if digits and form.format(int(digits[0])) == name else None
