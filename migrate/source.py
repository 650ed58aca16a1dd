"""The source side as a whole: the catalogue of all instances, and the merged tables that it makes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from migrate.catalog import read_catalog
from migrate.config import Config, Endpoint
from migrate.db import Session, patiently
from migrate.errors import ConnectionLost
from migrate.model import MergedTable
from migrate.position import Position, capture
from migrate.routes import Routing, resolve

T = TypeVar("T")


def on_every_instance(config: Config, work: Callable[[Session, Endpoint], T]) -> dict[str, T]:
    """Does the work on every instance at once, each with a session of its own; results by instance name.

    A connection that is lost on the way is waited for as one that isn't there at the start: the work only reads.
    """

    def once(endpoint: Endpoint) -> T:
        with Session(endpoint) as session:
            return work(session, endpoint)

    def one(endpoint: Endpoint) -> T:
        return patiently(config.run.patience_s, lambda: once(endpoint), ConnectionLost)

    with ThreadPoolExecutor(len(config.sources)) as pool:
        return dict(zip((s.name for s in config.sources), pool.map(one, config.sources), strict=True))


def read_routing(config: Config) -> Routing:
    """What the instances hold now, sent through the routes."""
    catalogs = on_every_instance(config, lambda session, endpoint: read_catalog(session, endpoint.name))
    return resolve(config, [table for catalog in catalogs.values() for table in catalog])


def capture_positions(config: Config) -> dict[str, Position]:
    """The position of every instance now."""
    return on_every_instance(config, lambda session, endpoint: capture(session, endpoint.name))


def fingerprint(tables: Sequence[MergedTable]) -> str:
    """A SHA-256 over what the chunks of a copy depend on: targets, shards in order, shapes, interleaving."""
    facts = [
        (str(t.target), [(str(s.shard), repr(s.physical), sorted(t.remap(s.shard).items())) for s in t.shards])
        for t in tables
    ]
    mapped = [repr([(c, c.origin) for c in s.definition.columns]) for t in tables for s in t.shards if s.mapped]
    facts += [(text, []) for text in mapped]
    return hashlib.sha256(repr(facts).encode()).hexdigest()
