"""python -m tests.benchmarks.catchup: how fast sync catches up with postings that were made while it was away.

One MySQL 5.6 with the payment ledger in 8 shards; each posting changes two accounts and writes two entries. The time
is that of the whole process up to its last COMMIT on the target.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from migrate.config import parse_url
from migrate.db import Session, connect
from migrate.sandbox import Sandbox
from migrate.sandbox.seed import seed
from tests.benchmarks.alone import replay

SHARDS = 8
_ACCOUNTS = 1000  # of each shard
_OWN = 1_000_000_000_000_000_000  # ids above it aren't the seed's

_POST = """
CREATE PROCEDURE bench.post_{n}(how_many INT, first_id BIGINT, only_insert INT)
BEGIN
  DECLARE i INT DEFAULT 0;
  DECLARE a, b, s BIGINT;
  DECLARE x, y INT;
  DECLARE had DECIMAL(20,4);
  WHILE i < how_many DO
    START TRANSACTION;
    SET x = FLOOR(RAND() * {accounts});
    SET y = (x + 1 + FLOOR(RAND() * ({accounts} - 1))) % {accounts};
    SELECT id INTO a FROM bench.account WHERE shard = {n} AND number = x;
    SELECT id INTO b FROM bench.account WHERE shard = {n} AND number = y;
    IF only_insert = 0 THEN
      UPDATE {schema}.account_{n} SET balance = balance - 1.25, entry_seq = entry_seq + 1 WHERE id = a;
    END IF;
    SELECT balance, entry_seq INTO had, s FROM {schema}.account_{n} WHERE id = a;
    INSERT INTO {schema}.account_entry_{n} VALUES (first_id + 2 * i, a, IF(only_insert, first_id + 2 * i, s),
      first_id + i, 'D', 1.25, 'CNY', had + 1.25, had, CONCAT('k', first_id + 2 * i), '转账', NOW(3));
    IF only_insert = 0 THEN
      UPDATE {schema}.account_{n} SET balance = balance + 1.25, entry_seq = entry_seq + 1 WHERE id = b;
    END IF;
    SELECT balance, entry_seq INTO had, s FROM {schema}.account_{n} WHERE id = b;
    INSERT INTO {schema}.account_entry_{n} VALUES (first_id + 2 * i + 1, b, IF(only_insert, first_id + 2 * i + 1, s),
      first_id + i, 'C', 1.25, 'CNY', had - 1.25, had, CONCAT('k', first_id + 2 * i + 1), '转账', NOW(3));
    COMMIT;
    SET i = i + 1;
  END WHILE;
END
"""


class Ledger:
    """A sandbox whose ledger is copied already, and that can be posted to."""

    def __init__(self, root: Path, accounts: int = _ACCOUNTS):
        self.sandbox = Sandbox(root / "sandbox")
        self.sandbox.up(instances=1, mysql="5.6")
        self.source = parse_url(self.sandbox.sources[0].url, "m1")
        self.target = parse_url(self.sandbox.target.url, "target")
        seed([self.source], "payment", 80_000, schemas=1, tables=SHARDS)
        self.config = root / "bench.toml"
        text = (root / "sandbox" / "config.toml").read_text() + "\n[[ignore]]\nschema = 'bench'\n"
        self.config.write_text(text)
        self.config.chmod(0o600)
        self._next = 8 * _OWN
        with connect(self.source) as session:
            self._prepare(session, accounts)
        self.migrate("schema", "--execute")
        self.migrate("copy")

    def _prepare(self, session: Session, accounts: int) -> None:
        tables = session.query(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_NAME REGEXP '^account_[0-9]+$'"
        )
        self.schema = tables[0][0]
        self.numbers = sorted(name.rpartition("_")[2] for _, name in tables)
        session.execute("CREATE DATABASE bench")
        session.execute("CREATE TABLE bench.account (shard INT, number INT, id BIGINT, PRIMARY KEY (shard, number))")
        for n in self.numbers:
            for copy in range(1, 5):  # the seed gives 200 accounts to a shard
                session.execute(
                    f"INSERT INTO {self.schema}.account_{n} SELECT id + {copy} * {_OWN}, user_id, name, kind, "
                    "currency, 0, 0, 0, status, remark, created_at, updated_at "
                    f"FROM {self.schema}.account_{n} WHERE id < {_OWN} LIMIT 200"
                )
            session.execute("SET @n = -1")
            found = session.execute(
                f"INSERT INTO bench.account SELECT {int(n)}, @n := @n + 1, id FROM {self.schema}.account_{n} "
                f"ORDER BY id LIMIT {accounts}"
            )
            session.execute(_POST.format(n=n, schema=self.schema, accounts=found))

    def migrate(self, *verb: str) -> str:
        """Runs our command line; gives what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "migrate.cli", "-c", str(self.config), *verb],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise AssertionError(f"migrate {' '.join(verb)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    def post(self, postings: int, *, only_insert: bool = False) -> None:
        """Makes postings, evenly over the shards."""
        each = postings // SHARDS

        def one(place: tuple[int, str]) -> None:
            number, n = place
            with connect(self.source) as session:
                session.execute(f"CALL bench.post_{n}({each}, {self._next + number * 2 * each}, {int(only_insert)})")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(one, enumerate(self.numbers)))
        self._next += 2 * postings * 2

    def catch_up(self) -> dict[str, Any]:
        """Runs sync until it is caught up; gives changes, seconds to the last COMMIT, and the rate."""
        with connect(self.target) as session:
            begun = session.value("SELECT UNIX_TIMESTAMP(NOW(6))")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        report = json.loads(self.migrate("sync", "--until-caught-up", "--json"))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        with connect(self.target) as session:
            ended = session.value("SELECT UNIX_TIMESTAMP(MAX(committed_at)) FROM migrate_meta.applied")
        seconds = float(ended - begun)
        return {
            "changes": report["changes"], "seconds": round(seconds, 3), "rate": round(report["changes"] / seconds),
            "cpu_s": round(cpu, 2), "waited_s": sum(i["waited_s"] for i in report["instances"].values()),
        }  # fmt: skip


@contextmanager
def ledger() -> Iterator[Ledger]:
    """A ledger in a temporary folder; everything of it is gone afterwards."""
    with TemporaryDirectory(prefix="catchup-") as folder:
        sandbox = Sandbox(Path(folder) / "sandbox")
        try:
            yield Ledger(Path(folder))
        finally:
            sandbox.down(purge=True)


@click.command()
@click.option("--postings", default=40_000, show_default=True)
@click.option("--runs", default=3, show_default=True)
@click.option("--only-insert", is_flag=True, help="Entries only: nothing to merge.")
@click.option("--target-alone", is_flag=True, help="Then, what the target does with the same statements alone.")
@click.option("--json", "as_json", is_flag=True)
def main(postings: int, runs: int, only_insert: bool, target_alone: bool, as_json: bool) -> None:
    """Posts, then lets sync catch up; several times over."""
    results = []
    limit: dict[str, Any] = {}
    with ledger() as place:
        for _ in range(runs):
            begun = time.monotonic()
            place.post(postings, only_insert=only_insert)
            click.echo(f"posted in {time.monotonic() - begun:.1f} s", err=True)
            results.append(place.catch_up())
            click.echo(str(results[-1]), err=True)
        if target_alone:
            place.post(postings, only_insert=only_insert)
            changes, seconds = replay(place.config)
            limit = {"target_alone_changes_s": round(changes / seconds), "target_alone_s": round(seconds, 3)}
            click.echo(str(limit), err=True)
        place_ok = "clean"
        subprocess.run(
            [sys.executable, "-m", "verify.cli", "-c", str(place.config), "checksum"], check=True, capture_output=True
        )
    median = statistics.median(r["rate"] for r in results)
    document = {"ours_changes_s": median, "runs": results, "checksum": place_ok, **limit}
    alone = f"; the target alone: {limit['target_alone_changes_s']:,}" if limit else ""
    click.echo(json.dumps(document, indent=2) if as_json else f"{median:,.0f} row changes/s (median of {runs}){alone}")


if __name__ == "__main__":
    main()
