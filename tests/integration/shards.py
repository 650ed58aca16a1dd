"""Databases of a test's own on real servers, and a configuration that migrates them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from migrate.config import Config, Endpoint, Ignore, Route, Run, parse_url

_numbers = itertools.count(1)


class Server(Protocol):
    name: str

    @property
    def url(self) -> str: ...

    def connect(self, **options: Any) -> Any: ...


def run(server: Server, *statements: str, database: str | None = None, **options: Any) -> list[tuple[Any, ...]]:
    """Runs the statements over one connection; the rows of the last."""
    with server.connect(database=database, **options) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


@contextmanager
def database(*servers: Server, prefix: str = "p") -> Iterator[str]:
    """A new database of that name on all servers, gone at the end."""
    name = f"{prefix}_{next(_numbers)}"
    try:
        for server in servers:
            run(server, f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name} DEFAULT CHARSET utf8mb4")
        yield name
    finally:
        for server in servers:
            run(server, f"DROP DATABASE IF EXISTS {name}")


def config_for(
    sources: Sequence[Server | Endpoint],
    target: Server | Endpoint,
    schema: str,
    *routes: Route,
    pack: str | None = None,
    workers: int = 2,
) -> Config:
    """A configuration of these servers, as m1, m2 .., that ignores all but the one schema."""
    return Config(
        path=Path("test.toml"),
        name=f"test-{schema}",
        pack=pack,
        sources=tuple(endpoint(s, f"m{i}") for i, s in enumerate(sources, 1)),
        target=endpoint(target, "target"),
        routes=routes,
        ignores=(Ignore(schema=f"(?!{re.escape(schema)}$).*"),),
        run=Run(workers=workers, patience_s=0),
    )


def endpoint(server: Server | Endpoint, name: str) -> Endpoint:
    return server if isinstance(server, Endpoint) else parse_url(server.url, name, {})


def route(schema: str, table: str, target: str, **options: Any) -> Route:
    return Route(schema=re.escape(schema), table=table, target=target, **options)
