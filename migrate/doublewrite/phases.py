"""Changes of the phase: which are legal, under which conditions, and how each reaches every server and process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from migrate.config import Config, Endpoint
from migrate.db import Session, connect, wait
from migrate.doublewrite import fence, pump
from migrate.doublewrite import phase as phases
from migrate.doublewrite.epoch import Epoch, Side
from migrate.doublewrite.outbox import SCHEMA, install
from migrate.doublewrite.phase import Phase
from migrate.doublewrite.router import Router, refuse_one_way
from migrate.doublewrite.server import check_unseen_writers, written_tables
from migrate.doublewrite.source import Outbox
from migrate.errors import NoGo
from migrate.faults import fault_point
from migrate.holder import owner
from migrate.position import Position, capture
from migrate.state import State
from migrate.sync.status import read_sync_status

SHARES = (1, 10, 50, 100)  # per cent of the accounts that read-switch reads from the target, one step at a time
_NEXT = {
    "off": ("shadow",),
    "shadow": ("off", "strict"),
    "strict": ("off", "shadow", "read-compare"),
    "read-compare": ("off", "shadow", "strict", "read-switch"),
    "read-switch": ("off", "shadow", "strict", "read-compare", "read-switch", "reversed"),
    "reversed": ("off", "shadow", "strict"),
}
_FRESH_S = 5.0  # how old the oldest change in the outbox may be where a phase builds on a secondary that follows


@dataclass(frozen=True)
class Wish:
    """A phase to go to. `primary`: needed from reversed to off only, which both sides may end as."""

    phase: str
    share: int = 0
    primary: Side | None = None


def install_everywhere(config: Config) -> None:
    """Creates schema migrate_outbox on every server, and the phase, which is off. Safe to repeat. ConfigError if
    rows of a mapped table can't be written back."""
    refuse_one_way(config)
    for endpoint in (*config.sources, config.target):
        with connect(endpoint, patience_s=config.run.patience_s) as session:
            install(session, config.name, target=endpoint == config.target)
    with State.open(config) as state:
        phases.create(state.session, config.name)
        state.journal("double_write_installed")


def read(config: Config) -> Phase:
    """The phase of a config's migration."""
    with connect(config.target, patience_s=config.run.patience_s) as session:
        return phases.read(session, config.name)


def change(config: Config, wish: Wish, *, in_step: bool = False, within_s: float = 30) -> Phase:
    """Goes to another phase, or finishes a change that was interrupted. NoGo if it isn't legal now, with what to do.

    `in_step`: the operator's word that the target holds what the shards hold, where no sync can prove it. `within_s`:
    how long writes may stay fenced while the primary changes; after that the fence is lifted and nothing has changed.
    """
    router = Router.of(config)
    with State.open(config) as state, phases.locked(state) as phase:
        primary = _checked(phase, wish)
        if phase.pending is None:
            _check_conditions(config, state, router, phase, wish)
    if phase.pending is not None or primary != phase.epoch.primary:
        return _change_primary(config, router, phase, wish, within_s)
    if phase.forward == "handover" and wish.phase == phase.epoch.phase:
        return _hand_over(config, within_s)
    if phase.epoch.phase == "off" and wish.phase != "off":
        return _begin(config, wish, in_step, within_s)
    if wish.phase == "off":
        return _end(config, router, within_s)
    return _spread(config, wish, phase.forward)


def back_off(config: Config, reason: str, *, epoch: int) -> Phase:
    """Reads fewer accounts from the target: one step back, if the phase is still that of the epoch. By the library."""
    phase = read(config)
    if phase.epoch.number != epoch or phase.epoch.phase != "read-switch" or phase.pending:
        return phase
    lower = [s for s in SHARES if s < phase.epoch.share]
    wish = Wish("read-switch", lower[-1]) if lower else Wish("read-compare", 10)
    with State.open(config) as state:
        state.journal("back_off", reason=reason, **{"from": phase.epoch.share, "to": wish.share if lower else 0})
    return _spread(config, wish, phase.forward)


def _checked(phase: Phase, wish: Wish) -> Side:
    """The side that will be primary. NoGo if there is no way from here to there."""
    now = phase.epoch
    if wish.phase not in _NEXT:
        raise NoGo(f"unknown phase {wish.phase!r}; known: {', '.join(_NEXT)}")
    if phase.pending is None and now.phase == "off" and now.primary == "target":
        raise NoGo("the double write has ended with the target as primary: what was written since is in no outbox")
    ending = now.phase == "off" and now.primary == "source" and phase.forward != "sync"
    if ending and wish.phase != "off":
        raise NoGo("the way to off was interrupted: finish it with `migrate double-write phase off`")
    going_on = ending or (phase.forward == "handover" and wish.phase == now.phase)
    if phase.pending is None and not going_on and wish.phase not in _NEXT[now.phase]:
        raise NoGo(f"from {now} there is no way to {wish.phase}; legal: {', '.join(_NEXT[now.phase])}")
    if wish.phase == "read-switch":
        at = now.share if now.phase == "read-switch" else 0
        higher = [s for s in SHARES if s > at][:1]
        if wish.share not in SHARES or (wish.share > at and wish.share not in higher) or wish.share == at:
            raise NoGo(f"read-switch goes {', '.join(map(str, SHARES))} %, one step up at a time: it is at {at} %")
    if wish.phase == "read-compare" and not 1 <= wish.share <= 100:
        raise NoGo("read-compare needs a share of 1 to 100 %")
    if wish.phase == "reversed" and phase.pending is None and now.share != 100:
        raise NoGo("reads come from the target in part only: go to read-switch with 100 % first (or use the cutover)")
    if now.phase == "reversed" and wish.phase == "off" and wish.primary is None:
        raise NoGo("say which side stays primary: --primary target ends the migration, --primary source goes back")
    if wish.phase == "reversed":
        return "target"
    return wish.primary or ("target" if now.phase == "reversed" and wish.phase == "off" else "source")


def _check_conditions(config: Config, state: State, router: Router, phase: Phase, wish: Wish) -> None:
    """NoGo, with all that is missing."""
    problems: list[str] = []
    if phase.epoch.phase == "off":
        for endpoint in (*config.sources, config.target):
            with connect(endpoint) as session:
                check_unseen_writers(session, [*written_tables(session, config, router)])
    if wish.phase in ("strict", "read-compare", "read-switch", "reversed") and phase.epoch.primary == "source":
        for source in config.sources:
            box = Outbox(config, source)
            pending, age = box.backlog()
            held = box.held()
            box.close()
            if age > _FRESH_S:
                problems.append(f"{source.name}: {pending} changes wait, the oldest for {age:.0f} s: "
                                "`migrate double-write drain`")  # fmt: skip
            if held:
                problems.append(f"{source.name}: {len(held)} rows are held: `migrate double-write status`, then repair")
    up = wish.share > (phase.epoch.share if phase.epoch.phase == "read-switch" else 0)
    if (wish.phase == "read-switch" and up) or wish.phase == "reversed":
        compared, mismatched = reads(state.session, config.name, phase.epoch.number)
        if mismatched:
            problems.append(f"{mismatched} of {compared} reads differed on both sides in this phase")
        elif not compared:
            problems.append("no read has been compared in this phase yet")
    if problems:
        raise NoGo(f"not to {wish.phase} yet:\n  " + "\n  ".join(problems))


def reads(session: Session, migration: str, epoch: int) -> tuple[int, int]:
    """Reads that were compared in an epoch, and those that differed."""
    compared, mismatched = session.one(
        "SELECT COALESCE(SUM(compared), 0), COALESCE(SUM(mismatched), 0) FROM migrate_meta.read_check "
        "WHERE migration = %s AND epoch = %s",
        (migration, epoch),
    )
    return int(compared), int(mismatched)


def _spread(
    config: Config, wish: Wish, forward: str, inside: Callable[[Session, Endpoint], None] | None = None
) -> Phase:
    """A change that leaves the primary where it is. Interrupted, it has reached some servers; again, it reaches all."""
    with State.open(config) as state, phases.locked(state) as phase:
        epoch = Epoch(phase.epoch.number + 1, wish.phase, wish.share, phase.epoch.primary, writable=True)
        fault_point("before_fence")
        fence.spread(config, epoch, inside)
        phases.write(state, epoch, forward, None)
        state.journal("phase", **{"from": str(phase.epoch), "to": str(epoch)}, forward=forward)
    return Phase(epoch, forward, None)


def _begin(config: Config, wish: Wish, in_step: bool, within_s: float) -> Phase:
    """From off: the outbox has everything from a position on, up to which sync applies, and no further."""
    with connect(config.target) as session:
        one = "SELECT COUNT(*) FROM migrate_meta.{} WHERE migration = %s"
        syncs = bool(session.value(one.format("applied"), [config.name]))
        copied = bool(session.value(one.format("`position`"), [config.name]))
    synced = syncs or (copied and not in_step)
    if not synced and not in_step:
        raise NoGo("no copy and no sync has brought the target up to now: run them, or say --in-step if the target "
                   "holds what the shards hold and nobody writes until this command has ended")  # fmt: skip
    positions: dict[str, Position] = {}

    def take(session: Session, endpoint: Endpoint) -> None:
        positions[endpoint.name] = capture(session, endpoint.name)

    if not synced:
        return _spread(config, wish, "outbox", take)
    _stand_still(config, within_s)
    try:
        _spread(config, wish, "handover", take)
    except BaseException:
        _go_on(config)
        raise
    with State.open(config) as state:
        for name, position in positions.items():
            state.session.execute(
                "REPLACE INTO migrate_meta.halt (migration, instance, position, requested_by, `until`) "
                "VALUES (%s, %s, %s, %s, '2038-01-01')",
                (config.name, name, json.dumps(position), f"double-write {owner()}"[:200]),
            )
        state.journal("handover", positions=positions)
    return _hand_over(config, within_s)


def _stand_still(config: Config, within_s: float) -> None:
    """Has sync stand where it is, so that it isn't past the position that it is to hand over at before that is known.
    NoGo if it doesn't come to that in time. Should this process die, sync goes on by itself soon."""
    with State.open(config) as state:
        for source in config.sources:
            state.session.execute(
                "REPLACE INTO migrate_meta.halt (migration, instance, requested_by, `until`) "
                "VALUES (%s, %s, %s, NOW(6) + INTERVAL %s SECOND)",
                (config.name, source.name, f"double-write {owner()}"[:200], 60 + int(within_s)),
            )
    waited = 0.0
    while True:
        with connect(config.target, patience_s=config.run.patience_s) as session:
            runs = {f.instance for f in read_sync_status(config, session, shards=False).followers if f.running}
            stands = session.query(
                "SELECT instance FROM migrate_meta.halt WHERE migration = %s AND reached_at IS NOT NULL", [config.name]
            )
        left = runs - {str(instance) for (instance,) in stands}
        if not left:
            return
        if waited >= within_s:
            _go_on(config)
            raise NoGo(f"sync of {', '.join(sorted(left))} doesn't stand still for the handover: see `migrate status`")
        wait(0.2)
        waited += 0.2


def _go_on(config: Config) -> None:
    """Lets sync go on."""
    with State.open(config) as state:
        state.session.execute(
            "DELETE FROM migrate_meta.halt WHERE migration = %s AND requested_by = %s",
            (config.name, f"double-write {owner()}"[:200]),
        )


def _hand_over(config: Config, within_s: float) -> Phase:
    """Waits until sync has reached the position from which the outbox has everything; then the outbox delivers."""
    waited = 0.0
    while True:
        with State.open(config) as state, phases.locked(state) as phase:
            left = state.session.query(
                "SELECT instance FROM migrate_meta.halt WHERE migration = %s "
                "AND (reached_at IS NULL OR position IS NULL)",
                [config.name],
            )
            if phase.forward != "handover" or not left:
                if phase.forward == "handover":
                    phases.write(state, phase.epoch, "outbox", None)
                    state.journal("handed_over")
                return phases.read(state.session, config.name)
        if waited >= within_s:
            raise NoGo(f"{phase.epoch}: changes are captured, but sync hasn't reached the handover on "
                       f"{', '.join(str(i) for (i,) in left)}: let it run, and run this command again")  # fmt: skip
        wait(0.2)
        waited += 0.2


def _end(config: Config, router: Router, within_s: float) -> Phase:
    """To off, the shards primary: what is in the outbox is delivered, then sync goes on. Its way from the handover to
    the end is a replay of what is there already."""
    positions: dict[str, Position] = {}

    def take(session: Session, endpoint: Endpoint) -> None:
        positions[endpoint.name] = capture(session, endpoint.name)

    before = read(config)
    _spread(config, Wish("off"), before.forward, take)
    if before.forward == "outbox":
        empty(pump.drain(config, router), within_s, "run `migrate double-write drain`, then this command again")
    with State.open(config) as state, phases.locked(state) as phase:
        for name, position in positions.items():
            state.session.execute(
                "UPDATE migrate_meta.`position` SET consistent = %s WHERE migration = %s AND instance = %s",
                (json.dumps(position), config.name, name),
            )
            state.session.execute(
                "DELETE FROM migrate_meta.halt WHERE migration = %s AND instance = %s AND requested_by LIKE %s",
                (config.name, name, "double-write %"),
            )
        phases.write(state, phase.epoch, "sync", None)
        state.journal("handed_back", positions=positions)
    return read(config)


def _change_primary(config: Config, router: Router, phase: Phase, wish: Wish, within_s: float) -> Phase:
    """Fences the side that is primary, drains its outbox into the other one, and opens that."""
    pending: dict[str, Any] = phase.pending or {}
    if pending.get("step") != "switch":
        fence.fence(config, phase.epoch.primary, within_s=within_s)
        fault_point("after_fence")
        way = pump.drain if phase.epoch.primary == "source" else pump.reverse
        try:
            empty(way(config, router), within_s, "the fence was lifted, nothing has changed")
        except BaseException:
            fence.lift(config)
            raise
    elif (pending["phase"], int(pending["share"])) != (wish.phase, wish.share):
        raise NoGo(f"a switch to {pending['phase']} has begun: finish that first")
    forward = phase.forward
    if phase.epoch.primary == "target":
        forward = "sync" if wish.phase == "off" else "outbox"
    return fence.switch(config, wish.phase, share=wish.share, forward=forward)


def empty(way: pump.Pump, within_s: float, otherwise: str) -> None:
    """Pumps until nothing is left. NoGo if that takes too long, or if something can't be applied."""
    report = way.run(until_empty=True, seconds=within_s)
    if report.held:
        raise NoGo(f"{len(report.held)} changes can't be applied: {next(iter(report.held.items()))}; {otherwise}")
    if report.pending:
        raise NoGo(f"{report.pending} changes are still in the outbox after {within_s:.0f} s; {otherwise}")


def anything_held(session: Session, migration: str) -> int:
    """Changes of that server that wait for a repair."""
    sql = f"SELECT COUNT(*) FROM {SCHEMA}.outbox WHERE migration = %s AND held IS NOT NULL"
    return int(session.value(sql, [migration]) or 0)
