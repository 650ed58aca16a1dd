"""Waits until everything that was written before the fence is on the other side."""

from __future__ import annotations

from time import monotonic

from migrate.config import Config
from migrate.db import Session, connect, wait
from migrate.doublewrite.pump import drain as deliver
from migrate.doublewrite.pump import reverse
from migrate.doublewrite.router import Router
from migrate.errors import NoGo
from migrate.position import Position, reached
from migrate.sync.marks import Marks
from migrate.sync.status import read_sync_status


def drain_binlogs(config: Config, final: dict[str, Position], within_s: float) -> str:
    """Until sync has applied every instance up to its final position. NoGo if it doesn't in time, with what it says."""
    begun = monotonic()
    with connect(config.target, patience_s=config.run.patience_s) as session:
        while behind := _behind(config, session, final):
            if monotonic() - begun > within_s:
                status = read_sync_status(config, session)
                raise NoGo(f"sync has not applied {', '.join(behind)} within {within_s:.1f} s\n{status.text()}")
            wait(0.01)
        if holds := read_sync_status(config, session).hold_lines():
            raise NoGo("tables are held, so the target lacks changes:\n" + "\n".join(holds))
    return ", ".join(f"{name} is applied up to {p['file']}:{p['offset']}" for name, p in final.items())


def _behind(config: Config, session: Session, final: dict[str, Position]) -> list[str]:
    return [
        name
        for name, position in final.items()
        if not all(
            mark.inside == 0 and reached(mark.position, position) for mark in Marks(config.name, name).read(session)
        )
    ]


def drain_outbox(config: Config, side: str, within_s: float) -> str:
    """Until the outboxes of that side are empty, delivering them here. NoGo if something of them is refused."""
    router = Router.of(config)
    pump = deliver(config, router) if side == "source" else reverse(config, router)
    report = pump.run(until_empty=True, seconds=within_s)
    if report.pending or not report.ok:
        raise NoGo(f"the outbox of the {side} isn't empty after {within_s:.1f} s: {report.text()}")
    return report.text()
