"""python -m tests.benchmarks.decode [--rows N] [--mysql 5.6|9.7] [--runs R] [--json]

Row images of the payment ledger, decoded and rendered by one process, by its CPU time: rows a second for each table.
The seed's inserts have many rows an event; then some rows of each table are updated and deleted, one an event, as
an application does it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from migrate.catalog import read_catalog
from migrate.config import parse_url
from migrate.db import Session
from migrate.sandbox import Sandbox, Server
from migrate.sandbox.seed import seed
from migrate.sync.image import RowDecoder
from migrate.sync.stream import DELETE, INSERT, UPDATE
from tests.binlog import Rows, changes, position

_SINGLE = 2000  # rows that are changed one by one


def _rate(runs: int, count: int, work: Callable[[], Any]) -> int:
    """Things a second of CPU time, the best of the runs."""
    best = float("inf")
    for _ in range(runs):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return round(count / best)


def _measure(decoder: RowDecoder, events: list[Rows], runs: int) -> dict[str, int]:
    inserts = [e for e in events if e.operation == INSERT]
    updates = [e for e in events if e.operation == UPDATE]
    deletes = [e for e in events if e.operation == DELETE]
    found = [image for e in inserts for image in decoder.images(e.data, e.start, e.stop)]
    rows = [decoder.texts(image) for image in found]
    return {
        "rows": len(found),
        "images": _rate(runs, len(found), lambda: [decoder.images(e.data, e.start, e.stop) for e in inserts]),
        "images_alone": _rate(runs, len(deletes), lambda: [decoder.images(e.data, e.start, e.stop) for e in deletes]),
        "key": _rate(runs, len(found), lambda: [decoder.key(image) for image in found]),
        "line": _rate(runs, len(found), lambda: [decoder.line(image) for image in found]),
        "key_literal": _rate(runs, len(found), lambda: [decoder.key_literal(image) for image in found]),
        "unlike": _rate(runs, len(found), lambda: list(map(decoder.unlike, found, rows))),
        "pairs": _rate(runs, len(updates), lambda: [decoder.pairs(e.data, e.start, e.stop) for e in updates]),
    }


def _change(server: Server, schema: str, table: str) -> None:
    with closing(server.connect(database=schema)) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT id FROM {table} LIMIT {_SINGLE}")
        for (key,) in cursor.fetchall():
            cursor.execute(f"UPDATE {table} SET currency = 'XXX' WHERE id = {key}")
            cursor.execute(f"DELETE FROM {table} WHERE id = {key}")


@click.command()
@click.option("--rows", default=20_000, show_default=True, help="Entries of the ledger.")
@click.option("--mysql", default="5.6", show_default=True, help="The server's version.")
@click.option("--runs", default=5, show_default=True, help="The best of so many counts.")
@click.option("--json", "as_json", is_flag=True, help="One document on stdout.")
def main(rows: int, mysql: str, runs: int, as_json: bool) -> None:
    """Measures the decoding of row images."""
    with TemporaryDirectory() as folder:
        sandbox = Sandbox(Path(folder))
        try:
            sandbox.up(instances=1, mysql=mysql)
            found = _on(sandbox.sources[0], rows, runs)
        finally:
            sandbox.down(purge=True)
    if as_json:
        click.echo(json.dumps(found))
        return
    for table, rates in found.items():
        click.echo(f"{table}: " + ", ".join(f"{name} {rate:,}" for name, rate in rates.items()) + " a second")


def _on(server: Server, rows: int, runs: int) -> dict[str, dict[str, int]]:
    since = position(server)
    seed([parse_url(server.url, "m1")], "payment", rows, schemas=1, tables=1)
    with Session(parse_url(server.url, "m1")) as session:
        tables = [t for t in read_catalog(session, "m1") if t.shard.schema.startswith("payment")]
    for table in tables:
        _change(server, table.shard.schema, table.shard.table)
    events = changes(server, since, tables[0].shard.schema)
    found = {}
    for table in tables:
        mine = [e for e in events if e.table_map.table == table.shard.table]
        decoder = RowDecoder(table.shard, table.definition, mine[0].table_map, {})
        found[table.shard.table] = _measure(decoder, mine, runs)
    return found


if __name__ == "__main__":
    main()
