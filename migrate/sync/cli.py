"""`migrate sync` and what steers it from another terminal."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable
from time import monotonic
from typing import Any

import click

from migrate.command import emit, json_option, with_config
from migrate.config import Config
from migrate.errors import MISMATCH, ConfigError, MigrateError, ServerError
from migrate.position import Position

_SAY_S = 10


@click.group(invoke_without_command=True)
@click.option("--until-caught-up", is_flag=True, help="End when every instance is less than a second behind.")
@click.option(
    "--until",
    multiple=True,
    metavar="INSTANCE=POSITION|now",
    help="End at exactly that position: INSTANCE=FILE:OFFSET or INSTANCE=GTID_SET, one for each instance; or where "
    "the instances stand now.",
)
@click.option("--metrics", metavar="[HOST:]PORT", help="Serve Prometheus metrics there; the host is 127.0.0.1.")
@click.option("--log-json", is_flag=True, help="Log lines as JSON.")
@json_option
@click.pass_context
def sync(
    context: click.Context, until_caught_up: bool, until: tuple[str, ...], metrics: str | None, log_json: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Follows the binlogs of all instances into the target, from where the copy began. Exits 1 if tables are held.

    \b
    Example: migrate -c migration.toml sync
             migrate -c migration.toml sync --until-caught-up
             migrate -c migration.toml sync --until m1=mysql-bin.000007:4711
    """
    if context.invoked_subcommand is None:
        context.invoke(with_config(_run), until_caught_up, until, metrics, log_json, as_json)


def _run(
    config: Config, until_caught_up: bool, until: tuple[str, ...], metrics: str | None, log_json: bool, as_json: bool
) -> None:
    from migrate.sync.metrics import metrics_server
    from migrate.sync.run import sync as run

    if log_json:
        _log_as_json()
    if until and until_caught_up:
        raise ConfigError("--until and --until-caught-up exclude each other")
    with metrics_server(config, metrics) as collector:
        say = _tell_as_json() if log_json else _teller()

        def watch(status: Any) -> None:
            collector.status = status
            say(status)

        report = run(config, until_caught_up=until_caught_up, until=_positions(config, until), watch=watch)
    emit(report.document(), report.text(), as_json)
    if not report.ok:
        sys.exit(MISMATCH)


def _positions(config: Config, until: tuple[str, ...]) -> dict[str, Position] | None:
    """The positions to end at, by instance. ConfigError says what is wrong with one."""
    if not until:
        return None
    if until == ("now",):
        from migrate.source import capture_positions

        return capture_positions(config)
    names = {s.name for s in config.sources}
    found: dict[str, Position] = {}
    for text in until:
        name, _, where = text.partition("=")
        if name not in names:
            raise ConfigError(f"--until {text}: expected INSTANCE=POSITION with one of {', '.join(sorted(names))}")
        try:
            found[name] = _position(config, name, where)
        except (ValueError, MigrateError) as error:
            if isinstance(error, ServerError):
                raise
            raise ConfigError(f"--until {text}: {error}") from None
    if missing := names - set(found):
        raise ConfigError(f"--until: no position for {', '.join(sorted(missing))}: it would never end")
    return found


def _position(config: Config, instance: str, text: str) -> Position:
    """FILE:OFFSET or a GTID set of an instance as a position. ValueError says what is wrong."""
    if match := re.fullmatch(r"([^\s:]+\.\d+):(\d+)", text):
        from migrate.db import connect
        from migrate.position import server_uuid

        with connect(config.source(instance), patience_s=config.run.patience_s) as session:
            uuid = server_uuid(session)
        return {"file": match[1], "offset": match[2], "gtid_set": "", "server_uuid": uuid}
    from migrate.sync.gtid import parse_gtid_set

    gtids = parse_gtid_set(text)
    if not gtids:
        raise ValueError("it is neither FILE:OFFSET nor a set of GTIDs")
    return {"file": "", "offset": "0", "gtid_set": str(gtids), "server_uuid": ""}


def _teller() -> Callable[[Any], None]:
    """Shows the status: over and over in place on a terminal, else as a line now and then."""
    said = 0.0

    def tell(status: Any) -> None:
        nonlocal said
        if monotonic() - said < (1 if sys.stderr.isatty() else _SAY_S):
            return
        said = monotonic()
        lines = status.text()
        click.echo(f"\x1b[2J\x1b[H{lines}" if sys.stderr.isatty() else lines, err=True)

    return tell


def _tell_as_json() -> Callable[[Any], None]:
    said = 0.0

    def tell(status: Any) -> None:
        nonlocal said
        if monotonic() - said >= _SAY_S:
            said = monotonic()
            logging.getLogger("migrate").info("status", extra={"status": status.document()})

    return tell


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "at": self.formatTime(record),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        told |= {"status": status} if (status := getattr(record, "status", None)) else {}
        return json.dumps(told, ensure_ascii=False)


def _log_as_json() -> None:
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_JsonLines())


@sync.command()
@with_config
@json_option
def status(config: Config, as_json: bool) -> None:
    """Shows lag, rates and reasons per instance, which tables are held, and which shards wait for others.

    \b
    Example: migrate -c migration.toml sync status
    """
    from migrate.sync.status import read_sync_status

    found = read_sync_status(config)
    emit(found.document(), found.text(), as_json)


def _steer(wanted: str, text: str, done: str) -> click.Command:
    @with_config
    @json_option
    def steer(config: Config, as_json: bool) -> None:
        from migrate.state import State
        from migrate.sync.run import command

        State.settled(config, lambda state: command(state, wanted))
        emit({"ok": True, "wanted": wanted}, done, as_json)

    name = {"run": "resume"}.get(wanted, wanted)
    steer.__doc__ = f"{text}\n\n    \b\n    Example: migrate -c migration.toml sync {name}\n    "
    return sync.command(name=name)(steer)


_steer("stop", "Ends a sync that runs; what is applied stays, and the next one goes on from there.",
       "sync ends when its batches are in")  # fmt: skip
_steer("pause", "Lets a sync that runs stand still, until it is resumed.", "sync pauses when its batches are in")
_steer("run", "Lets a paused sync go on.", "sync goes on")


def _release(kind: Any, text: str, example: str = "") -> None:
    @with_config
    @click.argument("target")
    @json_option
    def release(config: Config, target: str, as_json: bool, replacement: str | None = None) -> None:
        from migrate.state import State
        from migrate.sync.resolution import resolve

        held = State.settled(config, lambda state: resolve(state, target, kind, replacement))
        emit(
            {"ok": True, "target": target, "how": kind, "held": [h.document() for h in held]},
            f"{target}: {kind}; carried out by the sync that runs, or by the next one",
            as_json,
        )

    release.__doc__ = f"{text}\n\n    \b\n    Example: migrate -c migration.toml sync {kind} payment.account{example}\n"
    if kind == "replace":
        release = click.option("--with", "replacement", required=True, help="The statement to run on the target.")(
            release
        )
    sync.command(name=kind)(release)


_release("go-on", "Tries again with a held table, after what held it was mended (on the target, or by hand).")
_release("skip", "Lets a held table go on without the statement that it is held at: the target doesn't get it.")
_release("replace", "Runs another statement on the target instead of the one that a table is held at, and goes on.",
         " --with 'ALTER TABLE ..'")  # fmt: skip
_release("overwrite", "Lets the source win: rows of a held table that changed on the target are overwritten.")
