"""Statements run on real servers and read from their binlogs: the definitions are what the catalogue then has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from migrate.catalog import read_catalog
from migrate.db import Session
from migrate.model import TableDef
from migrate.sandbox import SandboxError
from migrate.sync.change import Change
from migrate.sync.dialect import read_dialect
from migrate.sync.history import History
from tests.integration.ddl_corpus import BOTH, NEW_ONLY, OLD_ONLY
from tests.integration.shards import Server, database, endpoint, run
from tests.mariadb import MariaDBServer, lone_mariadb, mariadb_folder


class Scene:
    """A database on a source, and the history of its tables fed from the binlog."""

    def __init__(self, server: Server, session: Session, schema: str):
        self.server, self.session, self.schema = server, session, schema
        self.dialect = read_dialect(session)
        self.history = History("m1", self.catalogue(), self.dialect)

    def catalogue(self) -> dict[tuple[str, str], TableDef]:
        return {(t.shard.schema, t.shard.table): t.definition for t in read_catalog(self.session, "m1", [self.schema])}

    def known(self) -> dict[tuple[str, str], TableDef | None]:
        return {n: self.history.definition(*n) for n in self.history.names() if n[0] == self.schema}

    def run(self, *statements: str, sql_mode: str | None = None) -> list[tuple[str, str]]:
        """(default database, statement) as the binlog has them."""
        name = "BINARY LOG" if self.dialect.version >= 80400 and not self.dialect.mariadb else "MASTER"
        file, position = run(self.server, f"SHOW {name} STATUS")[0][:2]
        mode = [] if sql_mode is None else [f"SET sql_mode = '{sql_mode}'"]
        run(self.server, *mode, *statements, database=self.schema, charset="utf8mb4")
        found = []
        for event in run(self.server, f"SHOW BINLOG EVENTS IN '{file}' FROM {position}", charset="utf8mb4"):
            if event[2] == "Query" and event[5] != "BEGIN":
                match = re.fullmatch(r"(?s)(?:use `(.*?)`; )?(.*?)", event[5])
                assert match
                found.append((match[1] or self.schema, match[2]))  # which USE isn't shown for every statement
        return found

    def read(self, *statements: str, sql_mode: str | None = None, bits: int = 0) -> list[Change]:
        """Runs the statements on the server, reads what its binlog has, and takes it for what is in force."""
        changes = []
        for schema, sql in self.run(*statements, sql_mode=sql_mode):
            for change in self.history.read(schema, sql, bits):
                self.history.apply(change)
                changes.append(change)
        return changes

    def check(self) -> None:
        there, known = self.catalogue(), self.known()
        assert known.keys() == there.keys()
        for name, definition in there.items():
            mine = known[name]
            assert mine is not None
            assert mine.columns == definition.columns
            assert mine.indexes == definition.indexes
            assert mine == definition


@contextmanager
def scene(server: Server) -> Iterator[Scene]:
    session = Session(endpoint(server, "m1"))
    try:
        with database(server, prefix="ddl") as schema:
            yield Scene(server, session, schema)
    finally:
        session.close()


@pytest.fixture
def old(servers: Any) -> Iterator[Scene]:
    with scene(servers.sources[0]) as place:
        yield place


@pytest.fixture
def new(mysql97: Server) -> Iterator[Scene]:
    with scene(mysql97) as place:
        yield place


def follow(place: Scene, statements: Sequence[str]) -> None:
    changes = place.read(*statements, sql_mode="")
    assert not [c.reason for c in changes if c.kind == "unknown"]
    place.check()


@pytest.mark.parametrize("statements", [*BOTH.values(), *OLD_ONLY.values()], ids=[*BOTH, *OLD_ONLY])
def test_on_56(old: Scene, statements: Sequence[str]) -> None:
    follow(old, statements)


@pytest.mark.parametrize("statements", [*BOTH.values(), *NEW_ONLY.values()], ids=[*BOTH, *NEW_ONLY])
def test_on_97(new: Scene, statements: Sequence[str]) -> None:
    follow(new, statements)


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDBServer]:
    try:
        mariadb_folder()
    except SandboxError as error:
        pytest.skip(f"Debian's archive gives no MariaDB: {error}")
    with lone_mariadb(tmp_path_factory.mktemp("lone") / "m1") as server:
        yield server


@pytest.mark.parametrize("name", [n for n in BOTH if n != "checks"])
def test_on_mariadb(mariadb: MariaDBServer, name: str) -> None:
    with scene(mariadb) as place:
        follow(place, BOTH[name])


def test_checks_without_a_name_are_not_read_on_mariadb(mariadb: MariaDBServer) -> None:
    with scene(mariadb) as place:
        assert {c.kind for c in place.read(*BOTH["checks"])} == {"unknown", "rename"}
        assert place.known() == {}
