"""The command `migrate rehearse`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from migrate.command import emit, json_option, with_config, workers_option
from migrate.config import Config
from migrate.errors import MISMATCH, ConfigError
from migrate.rehearse.outcome import Rehearsal
from migrate.rehearse.project import Size


def _sizes(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Size, ...]:
    sizes = []
    for value in values:
        match = re.fullmatch(r"(\d+),(\d+),(\d+)", value)
        if not match or not all(map(int, match.groups())):
            raise click.BadParameter(f"{value!r}: expected ROWS,SHARDS,WRITES", context, parameter)
        sizes.append(Size(int(match[1]), int(match[2]), float(match[3])))
    return tuple(sizes)


@click.command()
@click.option("--sandbox", "on_sandbox", is_flag=True, help="On servers of this machine, made for it.")
@click.option("--pack", default="payment", show_default=True, help="Sandbox: the ledger to rehearse with.")
@click.option("--rows", type=click.IntRange(2), default=50_000, show_default=True, help="Sandbox: entries to seed.")
@click.option("--traffic", "tps", type=click.FloatRange(0, min_open=True), default=100.0, show_default=True,
              metavar="TPS", help="Sandbox: postings a second, from before the copy to the end.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(1), default=15.0, show_default=True,
              help="Sandbox: how long they go on on the target before the way back.")  # fmt: skip
@click.option("--faults", metavar="LIST", default="", help="Sandbox: slow-hook, straggler, target-killed-in-drain, "
              "planted-mismatch, with commas between; or all.")  # fmt: skip
@click.option("--mysql", default="5.6", show_default=True, metavar="5.6|9.7|PATH", help="Sandbox: sources' version.")
@click.option("--instances", type=click.IntRange(1, 64), default=2, show_default=True, help="Sandbox: MySQL servers.")
@click.option("--root", type=click.Path(path_type=Path), help="The folder for the evidence, and for the sandbox's "
              "servers, which are made anew.")  # fmt: skip
@click.option(
    "--project",
    "sizes",
    multiple=True,
    callback=_sizes,
    metavar="ROWS,SHARDS,WRITES",
    help="Project the freeze for so many rows, shard tables and postings a second; may be repeated.",
)
@workers_option
@json_option
@click.pass_context
def rehearse(
    context: click.Context, *, on_sandbox: bool, pack: str, rows: int, tps: float, seconds: float, faults: str,
    mysql: str, instances: int, root: Path | None, sizes: tuple[Size, ...], workers: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Does the whole migration beforehand, with a stopwatch, and says go or no-go. Exits 1 for a no-go.

    With --sandbox: everything on servers made for it, under live traffic: copy, sync, cutover and the way back.
    Without it, on the sources of a config with a throw-away target: everything but fence and switch; the sources are
    only read, and the freeze is projected from what was measured.

    \b
    Example: migrate rehearse --sandbox
             migrate rehearse --sandbox --faults all --traffic 200
             migrate -c production-to-throw-away.toml rehearse
    """
    if on_sandbox:
        from migrate.rehearse.sandbox import rehearse_on_sandbox

        made = rehearse_on_sandbox(
            pack=pack, rows=rows, mysql=mysql, instances=instances, root=root, tps=tps, seconds=seconds,
            faults=[f for f in faults.split(",") if f], wanted=sizes,
        )  # fmt: skip
    else:
        if faults:
            raise ConfigError("--faults: only with --sandbox; nothing is broken on servers that aren't made for it")
        made = context.invoke(with_config(_on_source), root, workers, sizes)
    made.write()
    emit(made.document(), made.text(), as_json)
    if not made.go:
        sys.exit(MISMATCH)


def _on_source(config: Config, root: Path | None, workers: int | None, sizes: tuple[Size, ...]) -> Rehearsal:
    from migrate.rehearse.source import rehearse_on_source

    return rehearse_on_source(config, root, workers=workers, wanted=sizes)
