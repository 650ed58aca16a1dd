"""Follows the binlog of one instance, whatever comes: lost connections, pauses, tables that are held and released."""

from __future__ import annotations

import logging
import sys

from migrate.config import Config
from migrate.db import connect, wait
from migrate.errors import ConnectionLost
from migrate.model import Target
from migrate.position import Position
from migrate.state import State
from migrate.sync.marks import Marks
from migrate.sync.monitor import Monitor, Progress
from migrate.sync.passage import Passage
from migrate.sync.resolution import Held, read_holds
from migrate.sync.router import Router

log = logging.getLogger("migrate")

# An applier that has its answer from the target waits so long at most for the thread that decodes: 5 ms, which is
# Python's own, would be as long as a statement.
_SWITCH_S = 0.0005


def follow(config: Config, instance: str, until: Position | None) -> Progress:
    """Follows an instance until it is told to stop, or to exactly `until`; gives what it did.

    A source that goes away is waited for up to the config's patience, from the last batch that came on.
    """
    sys.setswitchinterval(_SWITCH_S)
    progress = Progress(reason=f"connecting to {config.source(instance)}")
    monitor = Monitor(config, instance, progress)
    monitor.start()
    waited, pause, seen = 0.0, 0.2, 0
    try:
        while True:
            try:
                reason = _once(config, instance, monitor, progress, until)
            except ConnectionLost as error:
                if progress.batches > seen:
                    waited, pause, seen = 0.0, 0.2, progress.batches
                if waited >= config.run.patience_s:
                    raise
                progress.state, progress.reason = "waiting", str(error)
                progress.reconnects += 1
                log.warning("%s: waiting: %s (next try in %.1f s)", instance, error, pause)
                wait(pause)
                if monitor.wanted == "stop":
                    progress.state = "stopped"
                    return progress
                waited, pause = waited + pause, min(2 * pause, 10)
                continue
            if reason in ("end", "stop"):
                progress.state = "stopped" if reason == "stop" else "ended"
                return progress
            if reason == "pause":
                progress.state, progress.reason = "paused", "by an operator; `migrate sync resume` goes on"
                while monitor.wanted == "pause":
                    wait(0.1)
    finally:
        monitor.end()


def _once(config: Config, instance: str, monitor: Monitor, progress: Progress, until: Position | None) -> str:
    """One passage of the instance, after what the operator decided about held tables."""
    with connect(config.target, patience_s=config.run.patience_s) as session:
        holds = read_holds(session, config.name, instance)
    marks = Marks(config.name, instance)
    for held in holds:
        if held.resolution is not None:
            reason = _release(config, held, marks, monitor, progress)
            if reason in ("stop", "pause"):
                return reason
    with connect(config.target, patience_s=config.run.patience_s) as session:
        holds = read_holds(session, config.name, instance)
    router = Router(config, instance)
    router.held = {Target(*h.target.split(".", 1)) for h in holds}
    return Passage(config, instance, router, marks, monitor, progress, end=until).run()


def _release(config: Config, held: Held, marks: Marks, monitor: Monitor, progress: Progress) -> str:
    """Brings a held table to where its instance is, as the operator decided, and lets it go on with the others."""
    target = Target(*held.target.split(".", 1))
    with connect(config.target, patience_s=config.run.patience_s) as session:
        at = marks.read(session)
        if len({m.seq for m in at}) > 1 or at[0].inside:  # first to the end of a transaction, with all parts
            return "later"
    router = Router(config, held.instance, only=target)
    own = Marks(config.name, held.instance, target)
    progress.state, progress.reason = "releasing", f"{target} is brought to where {held.instance} is"
    reason = Passage(config, held.instance, router, own, monitor, progress, end=at[0].position, held=held).run()
    if reason == "end":
        State.settled(config, lambda state: _let_go(state, own, held))
    return reason


def _let_go(state: State, marks: Marks, held: Held) -> None:
    with state.session.transaction():
        marks.release(state.session)
        state.journal("hold released", target=held.target, instance=held.instance, how=held.resolution)
