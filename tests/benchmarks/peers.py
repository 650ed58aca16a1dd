"""The peers, with the same threads and the least that they need: Dumpling, Lightning (tidb backend), and
sync-diff-inspector."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import urlsplit

from migrate.sandbox.toolchain import peer_binary
from tests.benchmarks.arena import SCHEMA, TABLE, Arena


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


def sync_diff(arena: Arena) -> list[str]:
    """sync-diff-inspector, which compares the shards with the merged table by checksums, with four threads."""
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
    return [str(peer_binary("sync_diff_inspector")), "--config", str(config)]
