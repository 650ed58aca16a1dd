"""The command line `verify`: reads options, calls the library, prints, and exits 1 for a mismatch."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import click

from migrate.command import CommandGroup, emit, json_option, with_config, workers_option
from migrate.config import Config
from migrate.errors import MISMATCH
from verify.changes import Direction, Order
from verify.evidence import folder_of, keep
from verify.repair import repair, undo
from verify.report import report_of
from verify.result import Result
from verify.run import LIMIT, verify_all, verify_balances, verify_checksum, verify_counts, verify_rows
from verify.watch import Round, watch, watch_once

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


def _seconds(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """A time as 30s, 10m, 6h or 1d."""
    match = re.fullmatch(r"(\d+)([smhd])", value)
    if not match or not int(match[1]):
        raise click.BadParameter(f"{value!r}: expected a time as 30s, 10m, 6h or 1d", context, parameter)
    return int(match[1]) * {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}[match[2]]


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


@main.command(name="watch")
@click.option("--every", default="10m", show_default=True, callback=_seconds, help="From one round to the next.")
@click.option(
    "--within", default="1d", show_default=True, callback=_seconds, help="Everything is proven again within that."
)
@click.option("--once", is_flag=True, help="One round, for a scheduler that comes every --every.")
@click.option("--new-only", is_flag=True, help="With --once: exit 1 only for what no earlier round has told.")
@strong_option
@workers_option
@json_option
@with_config
def watching(
    config: Config,
    every: float,
    within: float,
    once: bool,
    new_only: bool,
    strong: bool,
    workers: int | None,
    as_json: bool,
) -> None:
    """Verifies again and again while both sides are written: a share of all ranges in each round, the oldest first.

    What was found is remembered: each round tells what is new, what is known and what was mended. A pack's control
    totals and invariants are checked once in --within. With --json each round is a line.

    \b
    Example: verify -c payment.toml watch --every 5m --within 6h
             verify -c payment.toml watch --every 5m --within 6h --once --new-only --json
    """

    def tell(found: Round) -> None:
        keep(config, found.result, _folder())
        click.echo(json.dumps(found.document(), ensure_ascii=False, default=str) if as_json else found.text())

    if not once:
        watch(config, tell, every_s=every, within_s=within, strong=strong, workers=workers)
        return
    found = watch_once(config, every_s=every, within_s=within, strong=strong, workers=workers)
    tell(found)
    if found.new or not (found.ok or new_only):
        sys.exit(MISMATCH)


_out = click.Path(path_type=Path, dir_okay=False, writable=True)


@main.command()
@click.option("--run", type=int, help="The run; the last verification if not given.")
@click.option("--html", type=_out, help="One self-contained page for people.")
@click.option("--junit", type=_out, help="JUnit XML for a CI.")
@click.option("--csv", type=_out, help="All mismatches, one a line.")
@click.option("--unmasked", is_flag=True, help="Show account numbers and all values, which are masked otherwise.")
@click.option("--check-chain", is_flag=True, help="Exit 1 if a stored record was changed, removed or reordered.")
@json_option
@with_config
def report(
    config: Config,
    run: int | None,
    html: Path | None,
    junit: Path | None,
    csv: Path | None,
    unmasked: bool,
    check_chain: bool,
    as_json: bool,
) -> None:
    """The evidence of a run, and whether the chain of all runs is whole.

    Example: verify -c payment.toml report --run 12 --html report.html --junit report.xml --csv mismatches.csv
    """
    made = report_of(config, run, masks=not unmasked, folder=_folder())
    for path, write in ((html, made.write_html), (junit, made.write_junit), (csv, made.write_csv)):
        if path:
            write(path)
    emit(made.document() if as_json else {}, made.text(), as_json)
    if check_chain and not made.chain.ok:
        sys.exit(MISMATCH)


if __name__ == "__main__":
    main()
