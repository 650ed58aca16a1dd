"""The command line `migrate`: one function a verb. Each verb imports what it needs, so that none pays for all."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from migrate.command import CommandGroup, emit, json_option, with_config, workers_option
from migrate.config import Config
from migrate.errors import MISMATCH


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    elsewhere={
        "rehearse": "migrate.rehearse.cli",
        "sandbox": "migrate.sandbox.cli",
        "sync": "migrate.sync.cli",
        "double-write": "migrate.doublewrite.cli",
        "reverse": "migrate.doublewrite.cli",
        "cutover": "migrate.cutover.cli",
        "rollback": "migrate.cutover.cli",
    },
)
@click.version_option(package_name="ledger-migrate")
def cli(**_: Any) -> None:
    """Moves sharded MySQL ledgers into TiDB while money keeps moving.

    \b
    Start on this machine:  migrate rehearse --sandbox
    Your own ledger:        migrate init --pack payment --out migration.toml
                            migrate -c migration.toml check
    """


@cli.command()
@click.option("--pack", default="payment", show_default=True, help="The pack whose routes and roles to start from.")
@click.option("--out", "path", type=click.Path(path_type=Path), help="The file to write; PACK.toml if not given.")
def init(pack: str, path: Path | None) -> None:
    """Writes a config to start from.

    \b
    Example: migrate init --pack payment --out migration.toml
    """
    from migrate.start import write_config

    path = path or Path(f"{Path(pack).name}.toml")
    write_config(pack, path)
    click.echo(f"{path}: name your servers in it, then run: migrate -c {path} check")


@cli.command()
@with_config
@click.option("--out", "folder", type=click.Path(path_type=Path), help="A directory to export into: is there room?")
@click.option("--no-scan", is_flag=True, help="Leave out the scans of data: equal keys and unfit values.")
@json_option
def check(config: Config, folder: Path | None, no_scan: bool, as_json: bool) -> None:
    """Preflight: everything that would go wrong, each with its remedy. Exits 1 if something would.

    \b
    Example: migrate -c migration.toml check
    """
    from migrate.preflight import run_preflight

    report = run_preflight(config, export_dir=folder, scan=not no_scan)
    emit(report.document(), report.text(), as_json)
    if not report.ok:
        sys.exit(MISMATCH)


@cli.command()
@with_config
@click.option("--exact", is_flag=True, help="Count the rows instead of taking the servers' estimates.")
@click.option("--no-scan", is_flag=True, help="Leave out the scan for equal keys.")
@workers_option
@json_option
def plan(config: Config, exact: bool, no_scan: bool, workers: int | None, as_json: bool) -> None:
    """Shards, routes, key collisions, rows, bytes, chunks, time. Exits 1 if the migration can't start so.

    \b
    Example: migrate -c migration.toml plan --exact
    """
    from migrate.plan import make_plan

    made = make_plan(config, exact=exact, scan=not no_scan, workers=workers)
    emit(made.document(), made.text(), as_json)
    if not made.ok:
        sys.exit(MISMATCH)


@cli.command()
@with_config
@click.option("--out", "folder", required=True, type=click.Path(path_type=Path), help="The directory for the files.")
@click.option("--zstd", is_flag=True, help="Compress the files.")
@workers_option
@json_option
def export(config: Config, folder: Path, zstd: bool, workers: int | None, as_json: bool) -> None:
    """Exports the shards into files that Lightning, IMPORT INTO and `load` read.

    \b
    Example: migrate -c migration.toml export --out /data/export
    """
    from migrate.copy.exporter import export as run

    report = run(config, folder, workers or config.run.workers, compress=zstd)
    emit(report.document(), report.text(), as_json)


@cli.command()
@with_config
@click.option("--from", "folder", required=True, type=click.Path(path_type=Path), help="A directory of `export`.")
@workers_option
@json_option
def load(config: Config, folder: Path, workers: int | None, as_json: bool) -> None:
    """Loads exported files into the target tables, exactly once.

    \b
    Example: migrate -c migration.toml load --from /data/export
    """
    from migrate.copy.copier import load as run

    report = run(config, folder, workers or config.run.workers)
    emit(report.document(), report.text(), as_json)


@cli.command()
@with_config
@workers_option
@json_option
def copy(config: Config, workers: int | None, as_json: bool) -> None:
    """Copies the shards into the target tables, without files between, exactly once.

    \b
    Example: migrate -c migration.toml copy --workers 8
    """
    from migrate.copy.copier import copy as run

    report = run(config, workers or config.run.workers)
    emit(report.document(), report.text(), as_json)


@cli.command()
@with_config
@click.option("--execute", is_flag=True, help="Create the tables; without it nothing is written.")
@json_option
def schema(config: Config, execute: bool, as_json: bool) -> None:
    """Shows the target's DDL, what changes and why; creates it with --execute.

    \b
    Example: migrate -c migration.toml schema --execute
    """
    from migrate.copy.gate import check_shapes
    from migrate.db import connect
    from migrate.schema import create_schema
    from migrate.source import read_routing

    tables = read_routing(config).checked()
    check_shapes(tables)
    with connect(config.target, patience_s=config.run.patience_s) as session:
        report = create_schema(session, tables, execute)
    emit(report.document(), report.text(), as_json)


@cli.command()
@with_config
@click.option("--watch", is_flag=True, help="Again every second, as long as something is under way.")
@json_option
def status(config: Config, watch: bool, as_json: bool) -> None:
    """Shows where everything stands: copy, sync, phase, cutover; who runs it, and how long it will take.

    \b
    Example: migrate -c migration.toml status --watch
    """
    from migrate.db import wait
    from migrate.status import read_status

    found = read_status(config)
    while watch and found.goes_on:
        click.clear()
        emit(found.document(), found.text(), as_json)
        wait(1)
        found = read_status(config)
    emit(found.document(), found.text(), as_json)


def main() -> None:
    """The entry point."""
    cli.main(prog_name="migrate")


if __name__ == "__main__":
    main()
