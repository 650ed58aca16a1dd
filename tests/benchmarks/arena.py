"""Where a benchmark runs: one MySQL 5.6 with a seeded ledger, and a TiDB that starts empty each time."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from migrate.config import parse_url
from migrate.sandbox import Sandbox
from migrate.sandbox.seed import seed

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
    """A seeded source, a target, and a config that routes the entries of all shards into one table."""

    def __init__(self, root: Path, rows: int, workers: int, shards: int = SHARDS, skew: float = 0):
        self.root = root
        self.rows = rows
        self.workers = workers
        self.sandbox = Sandbox(root / "sandbox")
        self.sandbox.up(instances=1, mysql="5.6")
        self.source, self.target = self.sandbox.sources[0], self.sandbox.target
        seed([parse_url(self.source.url, "m1")], "payment", rows, schemas=1, tables=shards, skew=skew)
        self.config = root / "bench.toml"
        self.config.write_text(
            _CONFIG.format(
                pack="", source=self.source.url, target=self.target.url, schema=SCHEMA, table=TABLE, workers=workers
            )
        )
        self.config.chmod(0o600)

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
        return [sys.executable, "-m", "verify.cli", "-c", str(self.config), *verb]

    def target_rows(self) -> int:
        """Rows in the merged table."""
        with self.target.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT COUNT(*) FROM {SCHEMA}.{TABLE}")
            return int(cursor.fetchone()[0])


@contextmanager
def arena(rows: int, workers: int, **options: float) -> Iterator[Arena]:
    """An arena in a temporary folder; everything of it is gone afterwards."""
    with TemporaryDirectory(prefix="bench-") as folder:
        made = Arena(Path(folder), rows, workers, **options)  # type: ignore[arg-type]
        try:
            yield made
        finally:
            made.sandbox.down(purge=True)
