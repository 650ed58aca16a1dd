"""`migrate cutover` and `migrate rollback`: one operator at a time, and first of all what a killed run left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from migrate.config import Config
from migrate.cutover.back import Back
from migrate.cutover.forward import Forward
from migrate.cutover.journal import CutoverJournal, Run
from migrate.cutover.machine import Outcome
from migrate.cutover.readiness import Verifier
from migrate.errors import NoGo
from migrate.lease import lease
from migrate.state import State


@contextmanager
def _alone(config: Config) -> Iterator[Run | None]:
    """Keeps other operators off; gives the run that was killed before, if there is one. NoGo if one is at it."""
    # A lease of its own: that of the migration is held by sync, which goes on meanwhile.
    with lease(replace(config, name=f"{config.name[:55]}/cutover")):
        yield State.settled(config, lambda state: _killed(CutoverJournal(config.name, state.session)))


def _killed(journal: CutoverJournal) -> Run | None:
    journal.install()
    last = journal.last()
    return last if last is not None and last.outcome == "running" else None


def cut_over(config: Config, verifier: Verifier, *, way_back: bool = True) -> Outcome:
    """`migrate cutover --execute`: makes the target primary, or changes nothing and says why."""
    with _alone(config) as killed, ExitStack() as stack:
        forward = Forward(config, verifier)
        stack.callback(forward.close)
        if killed is not None and killed.direction == "rollback":
            raise NoGo("a rollback was killed on its way: run `migrate rollback --execute` to finish it first")
        if killed is not None and killed.kept.get("switched"):
            return forward.resume(killed).finish()
        if killed is not None:
            forward.resume(killed).undo("it was killed")
        return forward.go(way_back=way_back)


def roll_back(config: Config, verifier: Verifier) -> Outcome:
    """`migrate rollback --execute`: makes the shards primary again; undoes a cutover that didn't get to its switch."""
    with _alone(config) as killed, ExitStack() as stack:
        back = Back(config, verifier)
        stack.callback(back.close)
        if killed is not None and killed.direction == "cutover":
            forward = Forward(config, verifier)
            stack.callback(forward.close)
            if not killed.kept.get("switched"):
                forward.resume(killed).undo("it was killed")
                return Outcome("rollback", True, "the cutover is undone, the shards are primary", None, ())
            forward.resume(killed).finish()
        elif killed is not None and killed.kept.get("switched"):
            return back.resume(killed).finish()
        elif killed is not None:
            back.resume(killed).undo("it was killed")
        return back.go()
