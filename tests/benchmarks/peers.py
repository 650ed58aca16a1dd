"""The peers, with the same threads and the least that they need: Dumpling and Lightning (tidb backend)."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from migrate.model import quote
from migrate.sandbox.toolchain import peer_binary
from tests.benchmarks.arena import SCHEMA, TABLE, Arena
from tests.benchmarks.stopwatch import Timing

_CHUNK_ROWS = 50_000  # what sync-diff-inspector takes, up to 500 million rows


def dumpling(arena: Arena, out: Path) -> list[str]:
    """Exports the same tables as CSV."""
    url = urlsplit(arena.source.url)
    return [
        str(peer_binary("dumpling")), "-h", "127.0.0.1", "-P", str(url.port), "-u", str(url.username),
        "-p", str(url.password), "--filetype", "csv", "-f", f"{SCHEMA}_*.{TABLE}_*", "-t", str(arena.workers),
        "-r", "0", "-o", str(out), "-L", str(arena.root / "dumpling.log"),
    ]  # fmt: skip


def lightning(arena: Arena, data: Path, *, routed: bool) -> list[str]:
    """Loads CSV into the target; `routed` merges Dumpling's shards, our own export needs no routes."""
    url = urlsplit(arena.target.url)
    config = arena.root / "lightning.toml"
    status = arena.target.folder / "tidb.toml"
    port = next(
        line.split("=")[1].strip() for line in status.read_text().splitlines() if line.startswith("status-port")
    )
    route = f"""
[[routes]]
schema-pattern = "{SCHEMA}_*"
table-pattern = "{TABLE}_*"
target-schema = "{SCHEMA}"
target-table = "{TABLE}"
"""
    config.write_text(f"""\
[lightning]
level = "warn"
file = "{arena.root / "lightning.log"}"
check-requirements = false
region-concurrency = {arena.workers}
[checkpoint]
enable = false
[tikv-importer]
backend = "tidb"
[mydumper]
data-source-dir = "{data}"
no-schema = true
[tidb]
host = "127.0.0.1"
port = {url.port}
user = "{url.username}"
password = "{url.password}"
status-port = {port}
pd-addr = "127.0.0.1:1"
[post-restore]
checksum = "off"
analyze = "off"
{route if routed else ""}""")
    return [str(peer_binary("tidb-lightning")), "-config", str(config)]


def sync_diff(arena: Arena) -> list[str] | None:
    """Compares the shards with the merged table by checksums; None where sync_diff_inspector isn't on PATH."""
    program = shutil.which("sync_diff_inspector")
    if not program:
        return None
    source, target = urlsplit(arena.source.url), urlsplit(arena.target.url)
    shutil.rmtree(arena.root / "diff", ignore_errors=True)
    config = arena.root / "diff.toml"

    def server(name: str, url: object, rest: str) -> str:
        return f"""\
[data-sources.{name}]
host = "127.0.0.1"
port = {url.port}
user = "{url.username}"
password = "{url.password}"
{rest}
"""  # type: ignore[attr-defined]

    config.write_text(f"""\
check-thread-count = 4
export-fix-sql = false
{server("source", source, 'route-rules = ["merge"]')}
{server("target", target, "")}
[routes.merge]
schema-pattern = "{SCHEMA}_*"
table-pattern = "{TABLE}_*"
target-schema = "{SCHEMA}"
target-table = "{TABLE}"
[task]
output-dir = "{arena.root / "diff"}"
source-instances = ["source"]
target-instance = "target"
target-check-tables = ["{SCHEMA}.{TABLE}"]
""")
    return [program, "--config", str(config)]


def checksums(arena: Arena) -> Timing:
    """The checksum statements of sync-diff-inspector alone, for where it can't be had: what its servers have to do, so
    that it can't be faster. Of each chunk, on the target and on every shard, the count and the XOR of both halves of
    each row's MD5, all statements at once as far as eight connections carry; its start, the cutting into chunks and
    whatever it does with the answers are left out."""
    with arena.target.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            f"SELECT column_name FROM information_schema.columns WHERE (table_schema, table_name) = "
            f"('{SCHEMA}', '{TABLE}') ORDER BY ordinal_position"
        )
        columns = [quote(row[0]) for row in cursor.fetchall()]
        cursor.execute(f"SELECT id FROM {SCHEMA}.{TABLE} ORDER BY id")
        keys = [row[0] for row in cursor.fetchall()]
    with arena.source.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            f"SELECT table_schema, table_name FROM information_schema.tables WHERE table_name REGEXP '^{TABLE}_[0-9]+$'"
        )
        shards = [f"{quote(schema)}.{quote(table)}" for schema, table in cursor.fetchall()]
    row = f"CONCAT_WS(',', {', '.join(columns)}, CONCAT({', '.join(f'ISNULL({c})' for c in columns)}))"
    halves = (f"CAST(CONV(SUBSTRING(MD5({row}), {start}, 16), 16, 10) AS UNSIGNED)" for start in (1, 17))
    select = f"SELECT COUNT(*), BIT_XOR({' ^ '.join(halves)}) FROM"
    bounds = [*keys[::_CHUNK_ROWS], keys[-1] + 1]
    local = threading.local()

    def ask(server: Any, table: str, chunk: int) -> tuple[int, int]:
        known = local.__dict__.setdefault("connections", {})
        if server not in known:
            known[server] = server.connect()
        with known[server].cursor() as cursor:
            cursor.execute(f"{select} {table} WHERE id >= {bounds[chunk]} AND id < {bounds[chunk + 1]}")
            count, checksum = cursor.fetchone()
            return int(count), int(checksum)

    begun = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        asked = []
        for chunk in range(len(bounds) - 1):
            asked.append(
                [pool.submit(ask, arena.target, f"{SCHEMA}.{TABLE}", chunk)]
                + [pool.submit(ask, arena.source, shard, chunk) for shard in shards]
            )
        for target, *sources in asked:
            xor = 0
            for source in sources:
                xor ^= source.result()[1]
            if target.result() != (sum(s.result()[0] for s in sources), xor):
                raise AssertionError("the peer's checksums differ")
    return Timing(time.perf_counter() - begun, 0)
