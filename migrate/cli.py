"""The command line `migrate`: one function a verb. Each verb imports what it needs, so that none pays for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from migrate.command import CommandGroup, emit, json_option, with_config, workers_option
from migrate.config import Config


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    elsewhere={"sandbox": "migrate.sandbox.cli"},
)
@click.version_option(package_name="ledger-migrate")
def cli(**_: Any) -> None:
    """Moves sharded MySQL ledgers into TiDB while money keeps moving.

    \b
    Start on this machine:  migrate rehearse --sandbox
    Your own ledger:        migrate init --pack payment > migration.toml
                            migrate -c migration.toml check
    """


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


def main() -> None:
    """The entry point."""
    cli.main(prog_name="migrate")


if __name__ == "__main__":
    main()
