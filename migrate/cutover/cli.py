"""The commands `migrate cutover` and `migrate rollback`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from migrate.command import emit, json_option, with_config
from migrate.config import Config
from migrate.errors import MISMATCH

_execute = click.option("--execute", is_flag=True, help="Do it; without it every action is shown and nothing written.")


@click.command()
@with_config
@_execute
@click.option("--no-way-back", is_flag=True, help="Go without the double write: what the target writes stays there.")
@json_option
def cutover(config: Config, execute: bool, no_way_back: bool, as_json: bool) -> None:
    """Makes the target primary: fence, proof, drain, verification, switch, within cutover.freeze_s, or not at all.

    Run it again after a crash: it finishes or undoes. Exits 1 for a no-go; then everything is as it was before.

    \b
    Example: migrate -c migration.toml cutover
             migrate -c migration.toml cutover --execute
    """
    from migrate.cutover.plan import plan_cutover
    from migrate.cutover.run import cut_over

    if execute:
        _executed(config, as_json, lambda verifier: cut_over(config, verifier, way_back=not no_way_back))
    else:
        _shown(config, as_json, lambda verifier: plan_cutover(config, verifier, way_back=not no_way_back))


@click.command()
@with_config
@_execute
@json_option
def rollback(config: Config, execute: bool, as_json: bool) -> None:
    """Makes the shards primary again, with all that the target wrote since, or undoes a cutover that was killed.

    Run it again after a crash: it finishes or undoes. Exits 1 for a no-go; then everything is as it was before.

    \b
    Example: migrate -c migration.toml rollback
             migrate -c migration.toml rollback --execute
    """
    from migrate.cutover.plan import plan_rollback
    from migrate.cutover.run import roll_back

    if execute:
        _executed(config, as_json, lambda verifier: roll_back(config, verifier))
    else:
        _shown(config, as_json, lambda verifier: plan_rollback(config, verifier))


def _executed(config: Config, as_json: bool, work: Callable[[Any], Any]) -> None:
    from migrate.cutover.verifier import EdgeVerifier

    verifier = EdgeVerifier(config)
    try:
        outcome = work(verifier)
    finally:
        verifier.close()
        runs = verifier.store()
    evidence = f"\nevidence: run {', '.join(map(str, runs))}; `verify report --run N` shows one" if runs else ""
    emit(outcome.document() | {"executed": True, "evidence": runs}, outcome.text() + evidence, as_json)
    if not outcome.go:
        sys.exit(MISMATCH)


def _shown(config: Config, as_json: bool, work: Callable[[Any], Any]) -> None:
    from migrate.cutover.verifier import EdgeVerifier

    plan = work(EdgeVerifier(config))
    emit(plan.document(), plan.text(), as_json)
    if not plan.ready:
        sys.exit(MISMATCH)
