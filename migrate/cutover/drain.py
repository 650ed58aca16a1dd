"""Waits until everything that was written before the fence is on the other side."""

from __future__ import annotations

from time import monotonic

from migrate.config import Config
from migrate.db import Session, connect, wait
from migrate.doublewrite.pump import Outbox, drain
from migrate.doublewrite.router import Router
from migrate.errors import NoGo
from migrate.position import Position, reached
from migrate.sync.marks import Marks
from migrate.sync.status import FollowerStatus, read_sync_status

_LOOK_S = 0.01


def drain_binlogs(config: Config, final: dict[str, Position], within_s: float) -> str:
    """Until sync has applied every instance up to its final position. NoGo if it doesn't in time, with what it says."""
    begun = monotonic()
    with connect(config.target, patience_s=config.run.patience_s) as session:
        while behind := _behind(config, session, final):
            if monotonic() - begun > within_s:
                status = read_sync_status(config, session)
                raise NoGo(f"sync has not applied {', '.join(behind)} within {within_s:.1f} s\n{status.text()}")
            wait(_LOOK_S)
        if holds := read_sync_status(config, session).hold_lines():
            raise NoGo("tables are held, so the target lacks changes:\n" + "\n".join(holds))
    return ", ".join(f"{name} is applied up to {p['file']}:{p['offset']}" for name, p in final.items())


def _behind(config: Config, session: Session, final: dict[str, Position]) -> list[str]:
    """The instances of which something isn't applied."""
    found = [
        name
        for name, position in final.items()
        if not all(m.inside == 0 and reached(m.position, position) for m in Marks(config.name, name).read(session))
    ]
    if found:  # where nothing but other tables was written last, only the follower itself knows how far it is
        told = {f.instance: f for f in read_sync_status(config, session).followers}
        found = [name for name in found if name not in told or not _has_read(told[name], final[name])]
    return found


def _has_read(follower: FollowerStatus, goal: Position) -> bool:
    at = follower.told["position"]
    return bool(follower.running and follower.told["state"] == "following" and at and reached(at, goal))


def deliver(config: Config, router: Router, within_s: float) -> str:
    """Brings to the target what is in the instances' outboxes. NoGo if something stays there."""
    report = drain(config, router).run(until_empty=True, seconds=within_s)
    if report.pending or not report.ok:
        raise NoGo(f"the outboxes of the shards aren't empty after {within_s:.1f} s: {report.text()}")
    _nothing_held([Outbox(config, source) for source in config.sources])
    return f"the outboxes of the shards are empty; {report.applied:,} changes were left in them"


def drain_reverse(config: Config, within_s: float) -> str:
    """Until `migrate reverse` has emptied the target's outbox. NoGo if it doesn't in time, or can't."""
    box = Outbox(config, config.target)
    begun = monotonic()
    while pending := box.backlog()[0]:
        if monotonic() - begun > within_s:
            box.close()
            raise NoGo(
                f"{pending:,} changes are still in the outbox of the target after {within_s:.1f} s: is `migrate "
                "reverse` running? (`migrate double-write status`)"
            )
        wait(_LOOK_S)
    _nothing_held([box])
    return "the outbox of the target is empty"


def _nothing_held(boxes: list[Outbox]) -> None:
    held = [f"{len(rows):,} rows of {box.name}" for box in boxes if (rows := box.held())]
    for box in boxes:
        box.close()
    if held:
        raise NoGo(
            f"changes of {', '.join(held)} could not be applied on the other side and are held: `migrate double-write "
            "status` names them, then repair them or let them be tried again (--retry-held)"
        )
