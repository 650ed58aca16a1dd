"""The command line `verify`: reads options, calls the library, prints, and exits 1 for a mismatch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from migrate.command import CommandGroup, emit, json_option, with_config, workers_option
from migrate.config import Config
from migrate.errors import MISMATCH
from verify.evidence import folder_of, keep
from verify.repair import Direction, Order, repair, undo
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
@click.option(
    "--evidence",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="VERIFY_EVIDENCE",
    help="The folder for the records of runs; beside the config if not given.",
)
def main(**_: Any) -> None:
    """Proves that the shards and TiDB hold the same rows and the same money.

    Exits 0 if they do, 1 if they don't.
    """


def _folder() -> Path | None:
    folder: Path | None = click.get_current_context().find_root().params.get("evidence")
    return folder


def _finish(config: Config, result: Result, as_json: bool) -> None:
    """Stores the run, tells it, and exits."""
    record = keep(config, result, _folder())
    told = {"run": record.run, "digest": record.digest, "folder": str(_folder() or folder_of(config))}
    line = f"evidence: run {record.run}, {record.digest}; `verify report --run {record.run}` shows it"
    emit(result.document() | {"evidence": told}, f"{result.text()}\n{line}", as_json)
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
    _finish(config, verify_counts(config, tables=tables, workers=workers, progress=True), as_json)


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
    _finish(config, result, as_json)


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
    _finish(config, result, as_json)


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
    _finish(config, verify_balances(config, live=live, limit=limit, workers=workers, progress=True), as_json)


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
    _finish(config, result, as_json)


@main.command(name="repair")
@click.option("--run", type=int, help="The run whose mismatches to mend; the last that named rows if not given.")
@table_option
@click.option(
    "--direction",
    type=click.Choice(["source", "target"]),
    default="source",
    show_default=True,
    help="Which side is right; the other one is written.",
)
@click.option("--execute", is_flag=True, help="Write it; without it, it is only shown.")
@click.option("--reason", help="Why, for the journal; needed to execute.")
@click.option("--ticket", help="Who allowed it, for the journal; needed to execute.")
@click.option("--undo", "undone", type=int, metavar="REPAIR", help="Take back that repair.")
@json_option
@with_config
def mend(
    config: Config,
    run: int | None,
    tables: tuple[str, ...],
    direction: Direction,
    execute: bool,
    reason: str | None,
    ticket: str | None,
    undone: int | None,
    as_json: bool,
) -> None:
    """Mends the rows that a run named, and verifies their tables; shows what it would do without --execute.

    A row is written only if both sides still are as that run saw them. Exits 0 if nothing is left.

    Example: verify -c payment.toml repair --run 12 --execute --reason "lost in failover" --ticket OPS-7
    """
    order = Order(execute, reason, ticket, _folder())
    if undone is not None:
        made = undo(config, undone, order)
    else:
        made = repair(config, order, run=run, tables=tables, direction=direction)
    after = verify_rows(config, tables=made.tables, progress=True) if made.tables else None
    record = keep(config, after, _folder()) if after else None
    document, text = made.document(), made.text()
    if after and record:
        document["verified"] = after.document() | {"run": record.run, "digest": record.digest}
        text += f"\n\nverified again, run {record.run}:\n{after.text()}"
    emit(document, text, as_json)
    if not made.ok or (after and not after.ok and undone is None):
        sys.exit(MISMATCH)


if __name__ == "__main__":
    main()
