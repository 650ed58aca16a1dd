"""The commands `migrate double-write ..` and `migrate reverse`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from prometheus_client import start_http_server

from migrate.command import emit, json_option, with_config
from migrate.config import Config
from migrate.doublewrite.epoch import Side
from migrate.errors import MISMATCH, ConfigError

_workers = click.option("--workers", type=click.IntRange(1, 64), default=4, show_default=True, help="Parallel lanes.")
_rate = click.option("--rate", type=click.IntRange(0), default=0, help="The most changes a second; 0: no limit.")
_metrics = click.option("--metrics-port", type=click.IntRange(1, 65_535), help="Serves Prometheus metrics there.")
_empty = click.option("--until-empty", is_flag=True, help="End when nothing is left; without it, go on until stopped.")


@click.group("double-write")
def double_write() -> None:
    """The application's double writes: phases, backlog, differences, repair."""


@double_write.command()
@with_config
@click.option("--execute", is_flag=True, help="Create them; without it nothing is written.")
@json_option
def install(config: Config, execute: bool, as_json: bool) -> None:
    """Creates schema migrate_outbox on every instance and on the target, and the phase, which is off.

    \b
    Example: migrate -c migration.toml double-write install --execute
    """
    from migrate.doublewrite.phases import install_everywhere
    from migrate.doublewrite.router import refuse_one_way

    refuse_one_way(config)
    servers = [str(e) for e in (*config.sources, config.target)]
    if execute:
        install_everywhere(config)
    what = "installed on" if execute else "would create schema migrate_outbox, with --execute, on"
    emit({"ok": True, "executed": execute, "servers": servers}, f"{what} {', '.join(servers)}", as_json)


@double_write.command()
@with_config
@click.argument("name", metavar="off|shadow|strict|read-compare|read-switch|reversed", required=False)
@click.option("--share", type=click.IntRange(1, 100), help="Per cent of accounts, for read-compare and read-switch.")
@click.option("--primary", type=click.Choice(["source", "target"]), help="From reversed to off: who stays primary.")
@click.option(
    "--in-step", is_flag=True, help="From off: the target holds what the shards hold, though no sync says so."
)
@click.option("--within", "within_s", type=click.FloatRange(1), default=30.0, show_default=True,
              help="Seconds that writes may stay fenced, or sync may take to the handover.")  # fmt: skip
@click.option("--undo", is_flag=True, help="Lift a fence that an interrupted change of the primary left.")
@json_option
def phase(
    config: Config, name: str | None, share: int | None, primary: str | None, in_step: bool, within_s: float,
    undo: bool, as_json: bool,
) -> None:  # fmt: skip
    """Shows the phase, or goes to another one. Every application process follows within about a second.

    \b
    Example: migrate -c migration.toml double-write phase shadow
             migrate -c migration.toml double-write phase read-switch --share 10
    """
    from migrate.doublewrite import fence, phases

    if undo:
        now = fence.lift(config)
    elif name is None:
        now = phases.read(config)
    else:
        default = {"read-compare": 10, "read-switch": 1}.get(name, 0)
        side = {"source": "source", "target": "target", None: None}[primary]
        wish = phases.Wish(name, share or default, side)  # type: ignore[arg-type]
        now = phases.change(config, wish, in_step=in_step, within_s=within_s)
    epoch = now.epoch
    document = {
        "ok": now.pending is None, "phase": epoch.phase, "share": epoch.share, "epoch": epoch.number,
        "primary": epoch.primary, "forward": now.forward, "pending": now.pending,
    }  # fmt: skip
    emit(document, f"{epoch}; the shards' changes come by {now.forward}", as_json)


@double_write.command()
@with_config
@click.option("--no-compare", is_flag=True, help="Only the phase and the backlog, no rows of either side.")
@json_option
def status(config: Config, no_compare: bool, as_json: bool) -> None:
    """Backlog by age, shard and money, and rows that are late, missing, extra or different. Exits 1 if any row differs
    and isn't under way.

    \b
    Example: migrate -c migration.toml double-write status
    """
    from migrate.doublewrite.status import read_status

    found = read_status(config, compare=not no_compare)
    emit(found.document(), found.text(), as_json)
    if not found.ok:
        sys.exit(MISMATCH)


@double_write.command()
@with_config
@_empty
@_workers
@_rate
@click.option("--retry-held", is_flag=True, help="Try again what could not be applied.")
@_metrics
@json_option
def drain(
    config: Config, until_empty: bool, workers: int, rate: int, retry_held: bool, metrics_port: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Takes to the target what the application's own deliveries left in the shards' outboxes. Exits 1 if something
    can't be applied.

    \b
    Example: migrate -c migration.toml double-write drain --until-empty
    """
    from migrate.doublewrite import phases, pump
    from migrate.doublewrite.router import Router
    from migrate.doublewrite.source import Outbox

    now = phases.read(config)
    if not now.delivers:
        raise ConfigError(
            f"{now.epoch}, and the shards' changes come by {now.forward}: nothing is delivered from the outbox; "
            "see `migrate double-write phase`"
        )
    if metrics_port:
        start_http_server(metrics_port)
    if retry_held:
        for source in config.sources:
            Outbox(config, source).release()
    report = pump.drain(config, Router.of(config), workers=workers, rate=rate).run(until_empty=until_empty)
    emit(report.document(), report.text(), as_json)
    if not report.ok:
        sys.exit(MISMATCH)


@double_write.command()
@with_config
@click.option("--execute", is_flag=True, help="Write; without it the rows are only shown, before and after.")
@click.option("--reason", help="Why, for the journal; needed with --execute.")
@click.option("--ticket", default="", help="Who allowed it, for the journal.")
@click.option("--undo", "undone", type=int, metavar="REPAIR", help="Take back that repair.")
@json_option
def repair(
    config: Config, execute: bool, reason: str | None, ticket: str, undone: int | None, as_json: bool
) -> None:  # fmt: skip
    """Writes the primary's row to the secondary where they differ: only if it is still as it was found, and with a
    journal, by which it can be undone. Exits 1 if something is left.

    \b
    Example: migrate -c migration.toml double-write repair --execute --reason "ticket 4711"
             migrate -c migration.toml double-write repair --undo 12 --execute --reason "wrong side"
    """
    from migrate.doublewrite import repair as mending
    from verify.journal import BY_DOUBLE_WRITE, Journal

    if execute and not reason:
        raise ConfigError("--reason: say why, it is kept in the journal")

    def begin(right: Side, undo_of: int | None) -> Journal:
        return Journal.begin(config, BY_DOUBLE_WRITE, right, (reason or "", ticket), undo_of)

    if undone is None:
        report = mending.repair(config, begin if execute else None)
    else:
        run, right, rows = Journal.rows(config, undone)
        if run != BY_DOUBLE_WRITE:
            raise ConfigError(f"repair {undone} is of run {run}: `verify repair --undo {undone}` takes it back")
        report = mending.undo(config, undone, right, rows, begin if execute else None)
    emit(report.document(), report.text(), as_json)
    if not report.ok:
        sys.exit(MISMATCH)


@click.command()
@with_config
@_empty
@_workers
@_rate
@click.option("--canal", type=click.Path(path_type=Path), help="Read the folder of a TiCDC storage sink (canal-json).")
@click.option("--after", type=click.IntRange(0), default=0, help="With --canal: the TSO since which TiDB is primary.")
@click.option("--retry-held", is_flag=True, help="Try again what could not be applied.")
@_metrics
@json_option
def reverse(
    config: Config, until_empty: bool, workers: int, rate: int, canal: Path | None, after: int, retry_held: bool,
    metrics_port: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Brings what TiDB writes as primary back into the original shards, each row into its own. Exits 1 if something
    can't be applied.

    \b
    Example: migrate -c migration.toml reverse
             migrate -c migration.toml reverse --canal /mnt/ticdc --after 449918007904436226 --until-empty
    """
    from migrate.doublewrite import pump
    from migrate.doublewrite.canal import Sink
    from migrate.doublewrite.router import Router
    from migrate.doublewrite.source import Outbox, Source

    if metrics_port:
        start_http_server(metrics_port)
    router = Router.of(config)
    source: Source = Sink(config, router, canal, after) if canal else Outbox(config, config.target)
    if retry_held and isinstance(source, Outbox):
        source.release()
    report = pump.Pump(config, router, [source], workers=workers, rate=rate).run(until_empty=until_empty)
    emit(report.document(), report.text(), as_json)
    if not report.ok:
        sys.exit(MISMATCH)
