"""Fences a side, proves that the fence holds, lifts it, or opens the other side instead.

A fence is a committed row on each server, changed under a lock that every writing transaction of the library shares:
when the change has been made, no transaction that was let in before is open, and none is let in any more. At no time
are both sides open: the other one is opened only when every server of the first is fenced, and that is recorded before.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from migrate.config import Config, Endpoint
from migrate.db import Session, connect, wait
from migrate.doublewrite import phase as phases
from migrate.doublewrite.epoch import Epoch, Side
from migrate.doublewrite.outbox import SCHEMA, SLOTS
from migrate.doublewrite.phase import Phase, side_servers
from migrate.errors import ConnectionLost, NoGo, ServerError, TryAgain
from migrate.faults import fault_point
from migrate.position import Position, capture
from migrate.state import State

T = TypeVar("T")
log = logging.getLogger("migrate")
_AT_ONCE = 16  # slots of the target that are locked by one statement
_SPREAD_S = 10
_LOCK_WAIT = 1205
_PAUSE_S = 0.05  # between two tries


@dataclass(frozen=True)
class FenceProof:
    """What shows that no older transaction is open on a server. `waited_s`: for those that were. `position`: of an
    instance, after the fence; `older`: transactions of others than the library, begun before it and still open."""

    server: str
    epoch: int
    waited_s: float
    position: Position | None
    older: tuple[str, ...]


def fence(config: Config, side: Side = "source", *, within_s: float = 10) -> list[FenceProof]:
    """Refuses every write of the library on that side, from now until `lift` or `switch`. Safe to repeat.

    NoGo if an open transaction isn't over within `within_s` seconds; then nothing stays fenced.
    """
    with State.open(config) as state, phases.locked(state) as phase:
        if phase.epoch.primary != side:
            raise NoGo(f"the {side} isn't primary: {phase.epoch}")
        if phase.pending is None:
            epoch = replace(phase.epoch, number=phase.epoch.number + 1)
            phases.write(state, phase.epoch, phase.forward, {"step": "fence", "side": side, "epoch": epoch.number})
            state.journal("fence", side=side, epoch=epoch.number)
        elif phase.pending["step"] != "fence":
            raise NoGo("a switch of the primary has begun: finish it first, by the command that began it")
        else:
            epoch = replace(phase.epoch, number=int(phase.pending["epoch"]))
    fault_point("before_fence")
    closed = replace(epoch, writable=False)
    try:
        return on_servers(side_servers(config, side), lambda e: _close(config, e, closed, within_s))
    except TryAgain as error:
        lift(config)
        raise NoGo(f"not fenced, and lifted again: a transaction stayed open for {within_s:.0f} s: {error}") from None


def proof(config: Config, side: Side = "source", *, since: float = 0.2) -> list[FenceProof]:
    """Looks whether the fence holds: every server's row says so, and no instance's position moves in `since` seconds.
    NoGo if not."""
    before = on_servers(side_servers(config, side), lambda e: _look(config, e))
    wait(since)
    after = on_servers(side_servers(config, side), lambda e: _look(config, e))
    for one, two in zip(before, after, strict=True):
        if one.position != two.position:
            raise NoGo(f"{one.server} is fenced, and somebody who doesn't use the library writes to it: from "
                       f"{one.position} to {two.position}")  # fmt: skip
    return after


def lift(config: Config, *, of: int | None = None) -> Phase:
    """Opens the fenced side again, as it was. NoGo if the other side has been opened meanwhile. Safe to repeat.

    `of`: the number of the fence's epoch; another one is left as it is.
    """
    with State.open(config) as state, phases.locked(state) as phase:
        if phase.pending is None or of not in (None, int(phase.pending["epoch"])):
            return phase
        if phase.pending["step"] == "switch" and not opened_meanwhile(config):
            raise NoGo("the switch of the primary has begun, there is no way back before its end: finish it")
        epoch = replace(phase.epoch, number=int(phase.pending["epoch"]) + 1, writable=True)
        on_servers(side_servers(config, epoch.primary), lambda e: _reopen(config, e, epoch))
        phases.write(state, epoch, phase.forward, None)
        state.journal("lift", side=epoch.primary, epoch=epoch.number)
    return Phase(epoch, phase.forward, None)


def reopen_sources(config: Config) -> list[str]:
    """Opens the fenced instances again where the target, which has the phase, is away; gives their names. `lift`
    follows when it is back.

    Safe as long as no instance has heard of a switch, which closes all of them for good before it opens the target:
    NoGo if one has. A switch that is recorded, and finds that an instance was opened, is given up.
    """

    def reopen(endpoint: Endpoint) -> str | None:
        with connect(endpoint, patience_s=config.run.patience_s) as session, session.transaction():
            opened = session.execute(
                f"UPDATE {SCHEMA}.epoch SET epoch = epoch + 1, writable = 1 WHERE migration = %s AND slot = 0 AND "
                "writable = 0 AND primary_side = 'source'",
                [config.name],
            )
            return endpoint.name if opened else None

    def look(endpoint: Endpoint) -> str:
        with suppress(ConnectionLost):  # the others needn't wait for it
            return _primary(replace(config, run=config.run.model_copy(update={"patience_s": 0})), endpoint)[0]
        return ""

    if "target" in on_servers(config.sources, look):
        raise NoGo("the target is primary, or about to be: only the command that began the switch can end it")
    return [name for name in on_servers(config.sources, reopen) if name]


def opened_meanwhile(config: Config) -> bool:
    """Whether an instance is open, as the primary: then the target isn't, and no switch that has begun can open it."""
    return ("source", True) in on_servers(config.sources, lambda e: _primary(config, e))


def _primary(config: Config, endpoint: Endpoint) -> tuple[str, bool]:
    """Which side is primary by that server's word, and whether it may be written."""
    with connect(endpoint, patience_s=config.run.patience_s) as session:
        sql = f"SELECT primary_side, writable FROM {SCHEMA}.epoch WHERE migration = %s"
        rows = session.query(sql, [config.name])
    return (str(rows[0][0]), bool(rows[0][1])) if rows else ("source", True)


def switch(config: Config, name: str, *, share: int = 0, forward: str | None = None) -> Phase:
    """Makes the other side primary, in phase `name`; the one that is primary now must be fenced and drained.

    From the moment that it is recorded there is only forward: after a crash, the same call finishes it.
    """
    with State.open(config) as state:
        with phases.locked(state) as phase:
            if phase.pending is None:
                raise NoGo("nothing is fenced")
            if phase.pending["step"] == "fence":
                proof(config, phase.epoch.primary, since=0)
                number = int(phase.pending["epoch"]) + 1
                side: Side = "target" if phase.epoch.primary == "source" else "source"
                pending: dict[str, Any] = {"step": "switch", "phase": name, "share": share, "side": side,
                                           "epoch": number, "forward": forward or phase.forward}  # fmt: skip
                phases.write(state, phase.epoch, phase.forward, pending)
                state.journal("switch", **pending)
            else:
                pending = phase.pending
        fault_point("switch_recorded")
        return _finish(config, state, pending)


def _finish(config: Config, state: State, pending: dict[str, Any]) -> Phase:
    side: Side = "target" if pending["side"] == "target" else "source"
    other: Side = "source" if side == "target" else "target"
    opened = Epoch(int(pending["epoch"]), str(pending["phase"]), int(pending["share"]), side, writable=True)
    closed, look = replace(opened, writable=False), _still_closed(config, opened)
    on_servers(side_servers(config, other), lambda e: _put(config, e, closed, 10, look))
    fault_point("before_open")
    on_servers(side_servers(config, side), lambda e: _put(config, e, opened, 10))
    fault_point("after_open")
    with phases.locked(state) as phase:
        if phase.pending == pending:
            phases.write(state, opened, pending["forward"], None)
            state.journal("primary", side=side, phase=opened.phase, epoch=opened.number)
    return Phase(opened, str(pending["forward"]), None)


def spread(config: Config, epoch: Epoch, inside: Callable[[Session, Endpoint], None] | None = None) -> None:
    """Puts an epoch with the same primary on every server. `inside` is called on each instance while no writing
    transaction of the library is open there. NoGo if one stays open for ten seconds; again, it reaches all servers."""
    sources = replace(epoch, writable=epoch.primary == "source")
    try:
        on_servers(config.sources, lambda e: _put(config, e, sources, _SPREAD_S, inside))
        _put(config, config.target, replace(epoch, writable=epoch.primary == "target"), _SPREAD_S)
    except TryAgain as error:
        raise NoGo(f"{epoch} hasn't reached every server: a transaction stayed open for {_SPREAD_S} s: {error}; run "
                   "the same command again") from None  # fmt: skip


def on_servers(servers: Sequence[Endpoint], work: Callable[[Endpoint], T]) -> list[T]:
    """Does the work for each server at once."""
    with ThreadPoolExecutor(len(servers)) as pool:
        return list(pool.map(work, servers))


def _put(
    config: Config, endpoint: Endpoint, epoch: Epoch, within_s: float,
    inside: Callable[[Session, Endpoint], None] | None = None,
) -> None:  # fmt: skip
    """Changes a server's epoch when no transaction of an older one is open any more. An older epoch changes nothing.

    An application whose locks cross ours may make us the victim of a deadlock: nothing has changed then, and we queue
    up again. A transaction that stays open through `within_s` raises TryAgain.
    """
    end = time.monotonic() + within_s
    with connect(endpoint, patience_s=config.run.patience_s) as session:
        while True:
            try:
                return _attempt(config, session, epoch, end - time.monotonic(), inside)
            except TryAgain as error:
                if error.number == _LOCK_WAIT or time.monotonic() >= end:
                    raise
                log.warning("the epoch of %s is tried again: %s", endpoint.name, error)
            wait(_PAUSE_S)


def _attempt(
    config: Config, session: Session, epoch: Epoch, within_s: float,
    inside: Callable[[Session, Endpoint], None] | None,
) -> None:  # fmt: skip
    # On an instance exactly the one row, each time: a range locks the gap beside it too, and to widen a lock is to
    # wait behind the transactions that wait for us.
    target = session.endpoint == config.target
    slots = [f"BETWEEN {n} AND {n + _AT_ONCE - 1}" for n in range(0, SLOTS, _AT_ONCE)] if target else ["= 0"]
    session.execute("SET SESSION innodb_lock_wait_timeout = %s", [max(1, math.ceil(within_s))])
    with session.transaction("BEGIN PESSIMISTIC" if target else "BEGIN"):
        # TiDB grants a statement all of its locks or none: asked for at once, the slots of an application that keeps
        # writing are never all free.
        for some in slots:
            session.query(
                f"SELECT slot FROM {SCHEMA}.epoch WHERE migration = %s AND slot {some} FOR UPDATE", [config.name]
            )
        if inside is not None:
            inside(session, session.endpoint)
        session.execute(
            f"UPDATE {SCHEMA}.epoch SET epoch = %s, phase = %s, share = %s, primary_side = %s, writable = %s "
            f"WHERE migration = %s AND slot {f'< {SLOTS}' if target else '= 0'} AND epoch <= %s",
            (epoch.number, epoch.phase, epoch.share, epoch.primary, int(epoch.writable), config.name, epoch.number),
        )


def _still_closed(config: Config, epoch: Epoch) -> Callable[[Session, Endpoint], None]:
    """NoGo if the fence of a server was lifted after the switch was recorded (`reopen_sources`)."""

    def look(session: Session, endpoint: Endpoint) -> None:
        sql = f"SELECT MAX(epoch), MAX(writable) FROM {SCHEMA}.epoch WHERE migration = %s"
        number, writable = session.one(sql, [config.name])
        if writable or number > epoch.number:
            raise NoGo(f"the fence of {endpoint.name} was lifted meanwhile: the switch is given up")

    return look


def _reopen(config: Config, endpoint: Endpoint, epoch: Epoch) -> None:
    """Opens a server again. One that never closed is left alone: who kept it open may be there still."""
    with connect(endpoint, patience_s=config.run.patience_s) as session:
        sql = f"SELECT COUNT(*) FROM {SCHEMA}.epoch WHERE migration = %s AND writable = 0"
        closed = session.value(sql, [config.name])
    if closed:
        _put(config, endpoint, epoch, 10)


def _close(config: Config, endpoint: Endpoint, epoch: Epoch, within_s: float) -> FenceProof:
    began = time.monotonic()
    _put(config, endpoint, epoch, within_s)
    return replace(_look(config, endpoint), waited_s=round(time.monotonic() - began, 3))


def _look(config: Config, endpoint: Endpoint) -> FenceProof:
    """NoGo if the server isn't fenced."""
    with connect(endpoint, patience_s=config.run.patience_s) as session:
        rows = session.query(
            f"SELECT MIN(epoch), MAX(epoch), MAX(writable), COUNT(*) FROM {SCHEMA}.epoch WHERE migration = %s",
            [config.name],
        )
        lowest, highest, writable, count = rows[0]
        if not count or writable or lowest != highest:
            raise NoGo(f"{endpoint.name} isn't fenced: epochs {lowest} to {highest}, writable {writable}")
        position = capture(session, endpoint.name) if endpoint != config.target else None
        return FenceProof(endpoint.name, int(highest), 0.0, position, _older(session, endpoint == config.target))


def _older(session: Session, target: bool) -> tuple[str, ...]:
    """Open transactions; nothing where the account may not see them."""
    try:
        if target:
            rows = session.query(
                "SELECT CONCAT(SESSION_ID, ' ', USER, ' since ', START_TIME) FROM information_schema.CLUSTER_TIDB_TRX "
                "WHERE SESSION_ID <> CONNECTION_ID()"
            )
        else:
            rows = session.query(
                "SELECT CONCAT(trx_mysql_thread_id, ' since ', trx_started) FROM information_schema.INNODB_TRX "
                "WHERE trx_mysql_thread_id <> CONNECTION_ID() AND (trx_rows_modified > 0 OR trx_rows_locked > 0)"
            )
    except ServerError:
        return ()
    return tuple(str(r[0]) for r in rows)
