"""Where a benchmark runs: one MySQL 5.6 with a seeded ledger, and a TiDB that starts empty each time."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from migrate.catalog import read_catalog
from migrate.config import parse_url
from migrate.db import connect
from migrate.model import quote
from migrate.sandbox import Sandbox
from migrate.sandbox.seed import seed
from tests.conftest import guarded_sandbox

SCHEMA, TABLE = "payment", "account_entry"
SHARDS = 8

_CONFIG = """\
[migration]
name = "bench"
{pack}
[[source]]
name = "m1"
url = "{source}"
[target]
url = "{target}"
[[route]]
schema = '{schema}_\\d+'
table = '{table}_\\d+'
target = "{schema}.{table}"
[[ignore]]
schema = '{schema}_\\d+'
table = '(?!{table}_\\d+$).*'
[run]
workers = {workers}
"""


class Arena:
    """A seeded source, a target, and a config that routes the entries of all shards into one table.

    The table has a primary key and two more indexes. They are unique in the pack; `unique` leaves them so. TiDB looks
    every key of a unique index up before it takes a row, by LOAD DATA as by INSERT, which is most of a load then.
    """

    def __init__(
        self,
        root: Path,
        sandbox: Sandbox,
        rows: int,
        workers: int,
        shards: int = SHARDS,
        skew: float = 0,
        unique: bool = False,
    ):
        self.root = root
        self.rows = rows
        self.workers = workers
        self.sandbox = sandbox
        self.sandbox.up(instances=1, mysql="5.6")
        self.source, self.target = self.sandbox.sources[0], self.sandbox.target
        self.seeded = seed([parse_url(self.source.url, "m1")], "payment", rows, schemas=1, tables=shards, skew=skew)
        if not unique:
            self._loosen()
        self.config = root / "bench.toml"
        self.config.write_text(
            _CONFIG.format(
                pack="", source=self.source.url, target=self.target.url, schema=SCHEMA, table=TABLE, workers=workers
            )
        )
        self.config.chmod(0o600)
        self.audited = root / "audited.toml"  # the same, with the ledger's control totals
        self.audited.write_text(self.config.read_text().replace('name = "bench"', 'name = "bench"\npack = "payment"'))
        self.audited.chmod(0o600)

    def _loosen(self) -> None:
        """Makes plain indexes of the shards' unique ones."""
        with connect(parse_url(self.source.url, "m1")) as session:
            for shard in read_catalog(session, "m1"):
                if not re.fullmatch(rf"{TABLE}_\d+", shard.shard.table):
                    continue
                changes = [
                    f"DROP KEY {quote(i.name)}, ADD KEY {quote(i.name)} ({', '.join(map(quote, i.columns))})"
                    for i in shard.definition.unique_indexes
                    if not i.primary
                ]
                session.execute(f"ALTER TABLE {shard.shard.sql} {', '.join(changes)}")
                session.query(f"ANALYZE TABLE {shard.shard.sql}")

    def fresh_target(self) -> None:
        """Throws the target away and starts an empty one on the same port."""
        self.target.kill()
        for name in ("data", "tmp", "tmp-storage"):
            shutil.rmtree(self.target.folder / name, ignore_errors=True)
        shutil.rmtree(self.target.folder)
        self.sandbox.up()

    def migrate(self, *verb: str) -> list[str]:
        """Our command line for a verb."""
        return [sys.executable, "-m", "migrate.cli", "-c", str(self.config), *verb]

    def verify(self, *verb: str) -> list[str]:
        """Our verification's command line."""
        return [sys.executable, "-m", "verify.cli", "-c", str(self.audited), *verb]

    def servers_cpu_s(self) -> float:
        """The processor time that both servers have taken so far, in seconds."""
        times = [p.cpu_times() for server in (self.source, self.target) if (p := server.process())]
        return float(sum(t.user + t.system for t in times))

    def target_rows(self) -> int:
        """Rows in the merged table."""
        with self.target.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT COUNT(*) FROM {SCHEMA}.{TABLE}")
            return int(cursor.fetchone()[0])


@contextmanager
def arena(rows: int, workers: int, **options: float) -> Iterator[Arena]:
    """An arena in a temporary folder; its servers are gone afterwards, even if this process is killed."""
    with TemporaryDirectory(prefix="bench-") as folder, guarded_sandbox(Path(folder) / "sandbox") as sandbox:
        yield Arena(Path(folder), sandbox, rows, workers, **options)  # type: ignore[arg-type]
