"""The commands `migrate sandbox`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from migrate.command import emit, json_option
from migrate.sandbox.sandbox import Description, Sandbox
from migrate.sandbox.server import ServerStatus
from migrate.sandbox.workload_cli import seed, traffic

root_option = click.option(
    "--root",
    type=click.Path(path_type=Path),
    envvar="MIGRATE_SANDBOX_ROOT",
    help="The sandbox's folder; one below the user's state folder if not given.",
)


@click.group()
def sandbox() -> None:
    """Real MySQL shards and a real TiDB on this machine, a seeded ledger, and writers that keep posting to it."""


sandbox.add_command(seed)
sandbox.add_command(traffic)


@sandbox.command()
@click.option("--instances", type=click.IntRange(1, 64), help="MySQL instances; 2 if not given.")
@click.option("--mysql", metavar="5.6|9.7|PATH", help="The version, or a mysqld of your own; 5.6 if not given.")
@click.option("--tidb", metavar="PATH", help="A tidb-server; of PATH, of tiup, or built once if not given.")
@click.option("--port", type=int, help="The first of consecutive ports; free ones if not given.")
@click.option("--pack", help="The pack whose routes the config gets; payment if not given.")
@root_option
@json_option
def up(
    *,
    instances: int | None,
    mysql: str | None,
    tidb: str | None,
    port: int | None,
    pack: str | None,
    root: Path | None,
    as_json: bool,
) -> None:
    """Makes the sandbox, or starts what of it doesn't run, and writes a config for it.

    \b
    Example: migrate sandbox up --instances 2 --mysql 5.6
    """
    made = Sandbox(root).up(instances=instances, mysql=mysql, tidb=tidb, port=port, pack=pack)
    emit(made.as_json(), _how_to_go_on(made), as_json)


@sandbox.command()
@root_option
@json_option
def status(root: Path | None, as_json: bool) -> None:
    """Shows every server: version, port, pid, state, uptime.

    \b
    Example: migrate sandbox status
    """
    box = Sandbox(root)
    servers = box.status()
    config = str(box.config) if servers else None
    document = {"root": str(box.root), "config": config, "servers": [asdict(server) for server in servers]}
    emit(document, _table(servers) if servers else f"no sandbox at {box.root}", as_json)


@sandbox.command()
@click.option("--purge", is_flag=True, help="Delete the data and the whole folder, too.")
@root_option
@json_option
def down(purge: bool, root: Path | None, as_json: bool) -> None:
    """Stops every server; the data stays for the next `up` unless --purge is given.

    \b
    Example: migrate sandbox down --purge
    """
    box = Sandbox(root)
    stopped = [server.name for server in box.servers]
    box.down(purge=purge)
    text = f"{', '.join(stopped)} stopped; data {'deleted' if purge else 'kept'}" if stopped else "nothing to stop"
    emit({"root": str(box.root), "stopped": stopped, "purged": purge and bool(stopped)}, text, as_json)


def _how_to_go_on(made: Description) -> str:
    servers = [f"{source.name} MySQL {source.version}" for source in made.sources]
    return "\n".join([
        f"up: {', '.join(servers)}, tidb {made.target.version}",
        f"config: {made.config}",
        "",
        "go on with:",
        f"  export MIGRATE_CONFIG={made.config}",
        "  migrate sandbox seed",
        "  migrate check",
    ])  # fmt: skip


def _table(servers: list[ServerStatus]) -> str:
    head = ("name", "kind", "version", "port", "pid", "state", "uptime", "folder")
    rows = [
        (s.name, s.kind, s.version or "-", str(s.port), str(s.pid or "-"), s.state, _uptime(s.uptime_s), s.folder)
        for s in servers
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    return "\n".join(line.rstrip() for line in lines)


def _uptime(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
