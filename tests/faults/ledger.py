"""A small ledger on real servers, and migrations of it: what the fault tests break, and judge by their own check."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from migrate.config import load_config
from migrate.db import connect
from migrate.sandbox import Sandbox, Server
from migrate.schema import create_schema
from migrate.source import read_routing
from tests.faults.client import Client

_TABLE = """(id BIGINT NOT NULL PRIMARY KEY, account BIGINT NOT NULL, amount DECIMAL(18,4) NOT NULL, memo VARCHAR(120),
    ref CHAR(24) NOT NULL, at DATETIME(6) NOT NULL, UNIQUE KEY ref (ref), KEY account (account))
    ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"""
_DIGIT = "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 " \
         "UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)"  # fmt: skip
_SUM = "COUNT(*), SUM(CRC32(MD5(CONCAT_WS('|', id, account, amount, IFNULL(memo, '~'), ref, at)))), SUM(amount)"
_numbers = itertools.count(1)


def query(server: Server, sql: str) -> list[tuple[Any, ...]]:
    """What the server answers, over a connection of its own."""
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


class Ledger:
    """Four shard tables, `{name}_{i}.entry_00` and `entry_01` on each of two instances, with text that needs care."""

    def __init__(self, sandbox: Sandbox, name: str, rows: int):
        self.sandbox, self.name, self.rows = sandbox, name, rows
        self.shards = [(server, f"{name}_{i}.entry_{j:02}") for i, server in enumerate(sandbox.sources) for j in (0, 1)]

    def fill(self) -> None:
        """Makes the shards, `rows` rows each."""
        for number, (server, table) in enumerate(self.shards):
            n = " + ".join(f"{10**i} * d{i}.d" for i in range(len(str(self.rows - 1))))
            digits = ", ".join(f"{_DIGIT} d{i}" for i in range(len(str(self.rows - 1))))
            query(server, f"CREATE DATABASE IF NOT EXISTS {table.split('.')[0]}")
            query(server, f"CREATE TABLE {table} {_TABLE}")
            query(server, f"""INSERT INTO {table} SELECT id, id % 97, (id % 100000) / 7, CASE WHEN id % 13 = 0 THEN NULL
                WHEN id % 17 = 0 THEN CONCAT('a "quote", a \\\\ and a\\n line ', id)
                ELSE CONCAT('Zahlung für ', id) END,
                CONCAT('ref-', id), '2020-01-01' + INTERVAL id % 1000000 SECOND
                FROM (SELECT {number} * 1000000000 + {n} AS id FROM {digits}) ids
                WHERE id < {number} * 1000000000 + {self.rows}""")  # fmt: skip

    def drop(self) -> None:
        """Removes the shards."""
        for server, table in self.shards:
            query(server, f"DROP DATABASE IF EXISTS {table.split('.')[0]}")

    def sums(self) -> tuple[int, int, Any]:
        """Rows, digest and money of all shards together."""
        parts = [query(server, f"SELECT {_SUM} FROM {table}")[0] for server, table in self.shards]
        return sum(p[0] for p in parts), sum(p[1] for p in parts), sum(p[2] for p in parts)


class Migration:
    """A migration of a ledger into a target of its own, with a config that a test may change."""

    def __init__(
        self, ledger: Ledger, folder: Path, *, into: str = "", chunk_rows: int = 500, patience_s: int = 60, **urls: str
    ):
        self.ledger, self.folder = ledger, folder
        self.name = f"{ledger.name}_{next(_numbers)}"
        self.target = ledger.sandbox.target
        self.table = into or f"{self.name}.entry"
        self.config = folder / f"{self.name}.toml"
        servers = [(s.name, urls.get(s.name, s.url)) for s in ledger.sandbox.sources]
        self.config.write_text(
            f'[migration]\nname = "{self.name}"\n'
            + "".join(f'[[source]]\nname = "{name}"\nurl = "{url}"\n' for name, url in servers)
            + f"""\
[target]
url = "{urls.get("target", self.target.url)}"
[[route]]
schema = '{ledger.name}_\\d+'
table = 'entry_\\d+'
target = "{self.table}"
[[ignore]]
schema = '(?!{ledger.name}_).*'
[run]
workers = 2
chunk_rows = {chunk_rows}
patience_s = {patience_s}
"""
        )

    def create(self) -> Migration:
        """Creates the target table, empty."""
        query(self.target, f"DROP TABLE IF EXISTS {self.table}")
        config = load_config(self.config)
        with connect(config.target) as session:
            create_schema(session, read_routing(config).checked(), execute=True)
        return self

    def client(self, *verb: str, **environment: str) -> Client:
        """Starts `migrate -c CONFIG VERB`."""
        return Client("-c", str(self.config), *verb, environment=environment)

    def run(self, *verb: str, **environment: str) -> Client:
        """Runs `migrate -c CONFIG VERB` to its end."""
        return self.client(*verb, **environment).ended()

    def rows(self) -> int:
        """The rows on the target now."""
        return int(query(self.target, f"SELECT COUNT(*) FROM {self.table}")[0][0])

    def rows_of(self, shard: int) -> int:
        """The rows on the target that came from that shard of the ledger."""
        first = (shard + 1) * 1_000_000_000
        where = f"id >= {first} AND id < {first + 1_000_000_000}"
        return int(query(self.target, f"SELECT COUNT(*) FROM {self.table} WHERE {where}")[0][0])

    def chunks(self) -> int:
        """The chunks whose checkpoint is on the target now."""
        sql = f"SELECT COUNT(loaded_rows) FROM migrate_meta.chunk WHERE migration = '{self.name}'"
        return int(query(self.target, sql)[0][0])

    def assert_same(self) -> tuple[int, int, Any]:
        """Both sides hold the same rows; gives their sums."""
        on_source = self.ledger.sums()
        assert query(self.target, f"SELECT {_SUM} FROM {self.table}")[0] == on_source
        return on_source

    def assert_moved(self) -> None:
        """Both sides hold the same rows, none twice, the checkpoints say so, and sync knows from where to go on."""
        on_source = self.assert_same()
        twice = f"SELECT COUNT(*) - COUNT(DISTINCT id), COUNT(*) - COUNT(DISTINCT ref) FROM {self.table}"
        assert query(self.target, twice) == [(0, 0)]
        checked = (f"SELECT SUM(loaded_rows), SUM(loaded_rows IS NULL) FROM migrate_meta.chunk "
                   f"WHERE migration = '{self.name}'")  # fmt: skip
        assert query(self.target, checked) == [(on_source[0], 0)]
        instances = len(self.ledger.sandbox.sources)
        anchored = f"SELECT COUNT(*), COUNT(consistent) FROM migrate_meta.`position` WHERE migration = '{self.name}'"
        assert query(self.target, anchored) == [(instances, instances)]
        defined = f"SELECT COUNT(*) FROM migrate_meta.shard_schema WHERE migration = '{self.name}'"
        assert query(self.target, defined) == [(len(self.ledger.shards),)]
