"""`migrate cutover` and `migrate rollback`: one operator at a time, and first of all what a killed run left."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from migrate.config import Config
from migrate.cutover.back import Back
from migrate.cutover.brisk import brisk
from migrate.cutover.fences import fences_of
from migrate.cutover.forward import Forward
from migrate.cutover.journal import CutoverJournal, Run
from migrate.cutover.note import Note
from migrate.cutover.outcome import Outcome
from migrate.cutover.readiness import Verifier
from migrate.db import connect
from migrate.doublewrite.fence import reopen_sources
from migrate.errors import ConnectionLost, MigrateError, NoGo, ServerError
from migrate.lease import lease
from migrate.state import State

log = logging.getLogger("migrate")

__all__ = ["Outcome", "cut_over", "roll_back"]


def cut_over(config: Config, verifier: Verifier, way_back: bool = True) -> Outcome:
    """`migrate cutover --execute`: makes the target primary, or changes nothing and says why.

    A run that was killed is finished if its switch was decided, else undone first. `way_back`: refuses to begin without
    one. NoGo if another operator is at it.
    """
    with _alone(config) as killed, closing(Forward(config, verifier, way_back=way_back)) as forward:
        if killed is not None and killed.direction == "rollback":
            raise NoGo("a rollback was killed on its way: `migrate rollback --execute` finishes or undoes it, first")
        if killed is not None and killed.kept.get("switched"):
            return forward.resume(killed).finish()
        if killed is not None:
            _undo(forward, killed)
            with closing(Forward(config, verifier, way_back=way_back)) as again:
                return again.go(**again.kept)
        return forward.go(**forward.kept)


def roll_back(config: Config, verifier: Verifier) -> Outcome:
    """`migrate rollback --execute`: makes the shards primary again; undoes a cutover that didn't get to its switch."""
    with _alone(config) as killed:
        if killed is not None and killed.direction == "cutover":
            with closing(Forward(config, verifier)) as forward:
                if not killed.kept.get("switched"):
                    _undo(forward, killed)
                    done = "the cutover is undone, the shards are primary as before"
                    return Outcome("rollback", True, done, None, ())
                if not (outcome := forward.resume(killed).finish()).go:
                    return replace(outcome, direction="rollback", go=True)
        elif killed is not None:
            with closing(Back(config, verifier)) as back:
                if killed.kept.get("switched"):
                    return back.resume(killed).finish()
                _undo(back, killed)
        with closing(Back(config, verifier)) as back:
            return back.go(**back.kept)


def _undo(machine: Forward | Back, killed: Run) -> None:
    log.warning("run %d, a %s, was killed: it is undone first", killed.number, killed.direction)
    machine.resume(killed).undo("it was killed")


@contextmanager
def _alone(config: Config) -> Iterator[Run | None]:
    """Keeps other operators off; gives the run that was killed before, if there is one. NoGo if one is at it."""
    try:
        with connect(config.target, patience_s=brisk(config).run.patience_s) as session:
            session.value("SELECT 1")
    except ConnectionLost as error:
        raise _rescued(config, error) from None
    # A lease of its own: that of the migration is held by sync, which goes on meanwhile.
    with lease(replace(config, name=f"{config.name[:55]}/cutover")):
        yield State.settled(config, lambda state: _killed(CutoverJournal(config.name, state.session)))


def _killed(journal: CutoverJournal) -> Run | None:
    journal.install()
    last = journal.last()
    return last if last is not None and last.outcome == "running" else None


def _rescued(config: Config, error: ServerError) -> MigrateError:
    """Lets the application write on the shards again where a run was killed and then the target went away; gives what
    to raise. Nothing is done to shards that have heard of a switch."""
    facts = Note(config).read()
    kept = facts.get("kept", {})
    said = "no fence is known to be up"
    try:
        if opened := reopen_sources(config):
            said = f"the fence of {', '.join(opened)} was lifted without it"
    except ServerError as missing:
        log.debug("no epoch on the shards: %s", missing)
    if facts.get("direction") == "cutover" and kept.get("fenced") and not kept.get("switched"):
        for fence in fences_of(config, double=False):
            said = fence.lift(config, int(facts["run"]), kept, target_away=True)
    return MigrateError(f"the target can't be reached: {error}\n{said}; run the same command again when it is back")
