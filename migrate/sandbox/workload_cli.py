"""The commands `migrate sandbox seed` and `migrate sandbox traffic`."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import click

from migrate.command import emit, json_option
from migrate.config import Config, load_config
from migrate.errors import ConfigError, Interrupted, MigrateError
from migrate.sandbox.layout import find_layout
from migrate.sandbox.poster import Poster
from migrate.sandbox.progress import Progress
from migrate.sandbox.sandbox import Sandbox
from migrate.sandbox.seed import SeedReport
from migrate.sandbox.seed import seed as make_seed
from migrate.sandbox.traffic import MakePoster, Traffic, TrafficReport
from migrate.sandbox.workload import load_workload

_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")

pack_option = click.option("--pack", help="The pack; the config's if not given.")
root_option = click.option(
    "--root",
    type=click.Path(path_type=Path),
    envvar="MIGRATE_SANDBOX_ROOT",
    help="The sandbox whose config to use where no -c FILE is given.",
)


@click.command()
@pack_option
@click.option("--rows", type=click.IntRange(2), default=100_000, show_default=True, help="Entries, exactly.")
@click.option("--schemas", type=click.IntRange(1), help="Databases, in all; the pack's topology if not given.")
@click.option("--tables", type=click.IntRange(1), help="Shard tables of each kind, in all.")
@click.option("--skew", type=click.FloatRange(0, 1, max_open=True), default=0.0, help="Part of the first shard.")
@click.option("--seed", type=int, default=1, show_default=True, help="Another number makes another ledger.")
@click.option("--force", is_flag=True, help="Drop the pack's databases first, if there are any.")
@root_option
@json_option
@click.pass_context
def seed(
    context: click.Context, *, pack: str | None, rows: int, schemas: int | None, tables: int | None, skew: float,
    seed: int, force: bool, root: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Fills the sources with a ledger that obeys every invariant.

    \b
    Example: migrate sandbox seed --rows 500000
             migrate sandbox seed --schemas 41 --tables 480 --skew 0.5 --force
    """
    config = _config(context, root)
    with ExitStack() as stack:
        bars: list[Progress] = []

        def progress(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(Progress("loading the ledger", total, "rows")))
            bars[0].at(done)

        try:
            report = make_seed(
                config.sources, _pack(config, pack), rows, schemas=schemas, tables=tables, skew=skew, seed=seed,
                force=force, progress=progress,
            )  # fmt: skip
        except KeyboardInterrupt:
            raise Interrupted("stopped with the ledger half made: seed again with --force") from None
    emit(asdict(report), _seed_text(report), as_json)


@click.command()
@pack_option
@click.option(
    "--tps", type=click.FloatRange(0, min_open=True), default=50.0, show_default=True, help="Postings a second."
)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="For how long; until stopped if not given.")
@click.option("--workers", type=click.IntRange(1, 256), default=4, show_default=True, help="Concurrent writers.")
@click.option(
    "--double-write",
    is_flag=True,
    help="Post through migrate.doublewrite: to the primary of the moment, fenced with it.",
)
@click.option("--background", is_flag=True, help="Return at once and go on posting; a SIGTERM to the pid ends it.")
@root_option
@json_option
@click.pass_context
def traffic(
    context: click.Context, *, pack: str | None, tps: float, seconds: float | None, workers: int, double_write: bool,
    background: bool, root: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Keeps posting to the seeded ledger: transfers on and across shards, orders, refunds.

    A SIGINT or SIGTERM ends it with no posting half in. Every acknowledged posting is a line of traffic.jsonl
    beside the config.

    \b
    Example: migrate sandbox traffic --tps 100 --seconds 60
    """
    config = _config(context, root)
    name, folder = _pack(config, pack), config.path.absolute().parent
    journal = folder / "traffic.jsonl"
    if background:
        find_layout(load_workload(name), config.sources)  # fails here, where somebody sees it
        again = ["-c", str(config.path.absolute()), "sandbox", "traffic", "--pack", name, "--tps", str(tps)]
        again += ["--workers", str(workers), *(["--seconds", str(seconds)] if seconds else []), "--json"]
        again += ["--double-write"] if double_write else []
        pid, log = _detach(again, folder / "traffic.log")
        emit({"pid": pid, "log": str(log), "journal": str(journal)}, f"posting; stop it with: kill {pid}", as_json)
        return
    interrupted = False
    with ExitStack() as stack:
        poster: MakePoster = Poster
        if double_write:
            from migrate.sandbox.doubleposter import posters

            poster = stack.enter_context(posters(config, workers))
        writers = Traffic(config.sources, name, tps, workers=workers, journal=journal, poster=poster)
        try:
            writers.start()
            writers.wait(seconds)
        except KeyboardInterrupt:
            interrupted = True
        report = writers.stop()
    emit({**asdict(report), "journal": str(journal)}, _traffic_text(report, journal), as_json)
    if report.in_transit:
        raise MigrateError(f"{len(report.in_transit)} postings are half in: vouchers {report.in_transit[:5]}")
    if interrupted and seconds:
        raise Interrupted("stopped before its time was over; no posting is half in")


def _config(context: click.Context, root: Path | None) -> Config:
    """The config named by -c or MIGRATE_CONFIG, else that of the sandbox. Its sources must be on this machine:
    what drops databases and makes money up must never reach a ledger that somebody lives by."""
    path = context.find_root().params.get("path") or Sandbox(root).config
    if not path.exists():
        raise ConfigError(f"{path}: no such file; run `migrate sandbox up` first, or name a config with -c FILE")
    config = load_config(path)
    for source in config.sources:
        if source.host not in _THIS_MACHINE:
            raise ConfigError(f"{path}: {source.name} is on {source.host}: a sandbox's servers are on this machine")
    return config


def _pack(config: Config, pack: str | None) -> str:
    name = pack or config.pack
    if not name:
        raise ConfigError(f"{config.path}: migration.pack is not set: give --pack NAME")
    return name


def _detach(arguments: list[str], log: Path) -> tuple[int, Path]:
    """Runs this command line in a session of its own, its output in the log."""
    program = [sys.executable, "-c", "from migrate.cli import main; main()", *arguments]
    with log.open("ab") as output:
        child = subprocess.Popen(
            program, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )  # fmt: skip
    return child.pid, log


def _seed_text(report: SeedReport) -> str:
    rows = "\n".join(f"  {table}: {count}" for table, count in report.rows.items())
    return f"{report.shards} shard sets in {report.schemas} schemas, {report.seconds:.1f} s; rows:\n{rows}"


def _traffic_text(report: TrafficReport, journal: Path) -> str:
    errors = "".join(f"\n  {count} x {error}" for error, count in sorted(report.errors.items()))
    return (
        f"posted {report.posted}, failed {report.failed}, half in {len(report.in_transit)} in {report.seconds:.1f} s: "
        f"{report.tps:.1f}/s, p50 {report.p50_ms:.1f} ms, p99 {report.p99_ms:.1f} ms, "
        f"longest {report.longest_ms:.0f} ms\njournal: {journal}{errors}"
    )
