"""The command line `verify`: reads options, calls the library, prints, and exits 1 for a mismatch."""

from __future__ import annotations

import sys
from typing import Any

import click

from migrate.command import CommandGroup, emit, json_option, with_config, workers_option
from migrate.config import Config
from migrate.errors import MISMATCH
from verify.result import Result
from verify.run import LIMIT, verify_all, verify_balances, verify_checksum, verify_counts, verify_rows

table_option = click.option(
    "--table", "tables", multiple=True, metavar="SCHEMA.TABLE", help="Only this target table; may be repeated."
)
strong_option = click.option("--strong", is_flag=True, help="A 64-bit digest instead of 32; nearly twice the work.")
limit_option = click.option(
    "--limit", type=click.IntRange(1), default=LIMIT, show_default=True, help="Most mismatches to name per table."
)
live_option = click.option(
    "--live", is_flag=True, help="Money moves, though sync doesn't run: young vouchers may miss a leg."
)
anew_option = click.option(
    "--anew", is_flag=True, help="Prove everything now, what a killed run had proven in the last hours too."
)


@click.group(cls=CommandGroup)
def main(**_: Any) -> None:
    """Proves that the shards and TiDB hold the same rows and the same money.

    Exits 0 if they do, 1 if they don't.
    """


def _finish(result: Result, as_json: bool) -> None:
    emit(result.document(), result.text(), as_json)
    if not result.ok:
        sys.exit(MISMATCH)


@main.command()
@table_option
@workers_option
@json_option
@with_config
def counts(config: Config, tables: tuple[str, ...], workers: int | None, as_json: bool) -> None:
    """Row counts of every table on both sides.

    Example: verify -c payment.toml counts
    """
    _finish(verify_counts(config, tables=tables, workers=workers, progress=True), as_json)


@main.command()
@strong_option
@anew_option
@table_option
@workers_option
@json_option
@with_config
def checksum(
    config: Config, strong: bool, anew: bool, tables: tuple[str, ...], workers: int | None, as_json: bool
) -> None:
    """Digests of all rows of every table on both sides, and the control totals of the pack's ledger, in one pass.

    Killed, the same command goes on where it was.

    Example: verify -c payment.toml checksum --strong
    """
    result = verify_checksum(config, strong=strong, tables=tables, workers=workers, progress=True, resume=not anew)
    _finish(result, as_json)


@main.command()
@click.option("--full", is_flag=True, help="Compare every table bucket by bucket, even where its digest agrees.")
@limit_option
@strong_option
@anew_option
@table_option
@workers_option
@json_option
@with_config
def rows(
    config: Config,
    full: bool,
    limit: int,
    strong: bool,
    anew: bool,
    tables: tuple[str, ...],
    workers: int | None,
    as_json: bool,
) -> None:
    """Names the rows that are missing, extra, different or duplicate.

    Example: verify -c payment.toml rows --table payment.account_entry
    """
    result = verify_rows(
        config, full=full, strong=strong, limit=limit, tables=tables, workers=workers, progress=True, resume=not anew
    )
    _finish(result, as_json)


@main.command()
@live_option
@limit_option
@workers_option
@json_option
@with_config
def balances(config: Config, live: bool, limit: int, workers: int | None, as_json: bool) -> None:
    """Control totals, accounts that differ, and the ledger's invariants.

    Example: verify -c payment.toml balances --json
    """
    _finish(verify_balances(config, live=live, limit=limit, workers=workers, progress=True), as_json)


@main.command(name="all")
@strong_option
@anew_option
@live_option
@limit_option
@workers_option
@json_option
@with_config
def everything(
    config: Config, strong: bool, anew: bool, live: bool, limit: int, workers: int | None, as_json: bool
) -> None:
    """Counts, digests, the rows of what differs, and balances.

    Example: verify -c payment.toml all --strong
    """
    result = verify_all(config, strong=strong, live=live, limit=limit, workers=workers, progress=True, resume=not anew)
    _finish(result, as_json)


if __name__ == "__main__":
    main()
