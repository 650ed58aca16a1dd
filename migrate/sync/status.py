"""Where the followers of a migration stand, as they themselves wrote it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from migrate.config import Config
from migrate.db import Session, connect
from migrate.model import Shard, TableDef
from migrate.state import State
from migrate.sync.resolution import Held, read_holds

_FRESH_S = 5.0


@dataclass(frozen=True)
class FollowerStatus:
    """One follower: its own words, and how old they are (s)."""

    instance: str
    age_s: float
    told: dict[str, Any]

    @property
    def running(self) -> bool:
        return self.age_s < _FRESH_S and self.told["state"] not in ("stopped", "ended")

    @property
    def lag_s(self) -> float | None:
        return self.told["lag_s"]  # type: ignore[no-any-return]

    def text(self) -> str:
        told = self.told
        if not self.running:
            return f"{self.instance}: not running (last heard of {self.age_s:.0f} s ago)"
        lag = "unknown" if self.lag_s is None else f"{self.lag_s:.1f} s"
        size = "" if told["lag_bytes"] is None else f", {told['lag_bytes'] / 1e6:,.1f} MB"
        left = ""
        if told["lag_bytes"] and self.lag_s and told["rate"]:
            left = f", {told['rate']:,.0f} changes/s"
        why = f" ({told['reason']})" if told["reason"] else ""
        where = f"{told['position'].get('file')}:{told['position'].get('offset')}"
        return f"{self.instance}: {told['state']}{why}, lag {lag}{size}{left}, at {where}"


@dataclass(frozen=True)
class Late:
    """A shard that lacks columns or indexes which other shards of its target table have by now."""

    target: str
    shard: Shard
    lacks: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        return {"target": self.target, "shard": str(self.shard), "lacks": list(self.lacks)}


@dataclass(frozen=True)
class SyncStatus:
    """All followers, the target tables that wait for the operator, and the shards whose DDL others are ahead of."""

    followers: tuple[FollowerStatus, ...]
    holds: tuple[Held, ...]
    waiting: tuple[Late, ...] = ()

    def caught_up(self, instances: set[str], since: float) -> bool:
        """Whether each of them has said, after `since` (epoch seconds), that it is less than a second behind."""
        near = {
            f.instance
            for f in self.followers
            if f.told["said_at"] > since and f.running and f.lag_s is not None and f.lag_s < 1
        }
        return instances <= near

    def hold_lines(self) -> list[str]:
        lines = []
        for hold in self.holds:
            lines.append(f"HELD {hold.target} (changes of {hold.instance} since {hold.held_at}): {hold.reason}")
            if hold.statement:
                lines.append(f"  at the statement: {hold.statement}")
            if hold.resolution:
                lines.append(f"  decided: {hold.resolution}; carried out when sync runs")
        return lines

    def document(self) -> dict[str, Any]:
        return {
            "instances": [
                {"instance": f.instance, "running": f.running, "heard_s_ago": round(f.age_s, 1), **f.told}
                for f in self.followers
            ],
            "holds": [h.document() for h in self.holds],
            "late_shards": [w.document() for w in self.waiting],
        }

    def text(self) -> str:
        lines = [f.text() for f in self.followers] or ["sync has not run yet"]
        late = [f"LATE {w.shard} lacks {', '.join(w.lacks)}, which {w.target} has" for w in self.waiting]
        return "\n".join([*lines, *late, *self.hold_lines()])


def read_sync_status(config: Config, session: Session | None = None, *, shards: bool = True) -> SyncStatus:
    """The status now, over the session if one is given; without looking at each shard's definition if not `shards`."""
    if session is None:
        with connect(config.target, patience_s=config.run.patience_s) as own:
            return read_sync_status(config, own, shards=shards)
    followers = tuple(
        FollowerStatus(instance, float(age), json.loads(state))
        for instance, age, state in session.query(
            "SELECT instance, TIMESTAMPDIFF(MICROSECOND, heartbeat, NOW(6)) / 1e6, state FROM migrate_meta.sync_status "
            "WHERE migration = %s ORDER BY instance",
            [config.name],
        )
    )
    late = tuple(_late(config, State(config.name, session).definitions())) if shards else ()
    return SyncStatus(followers, tuple(read_holds(session, config.name)), late)


def _of_one_shape(config: Config, route: tuple[str, int]) -> tuple[str, int]:
    """The route if it maps columns, else all plain ones to its target as one."""
    return route if config.routes[route[1]].mapped else (route[0], -1)


def _late(config: Config, definitions: dict[Shard, TableDef]) -> Iterator[Late]:
    # By route: what a mapped table is merged of may be of several shapes, a route's shards are of one.
    merged: dict[tuple[str, int], dict[Shard, TableDef]] = defaultdict(dict)
    for shard, definition in definitions.items():
        routes = ((r.target, i) for i, r in enumerate(config.routes) if r.matches(shard.schema, shard.table))
        route = next(routes, None)
        if route is not None:
            merged[_of_one_shape(config, route)][shard] = definition
    for (target, _), shards in sorted(merged.items()):
        if len(set(shards.values())) > 1:
            wanted = dict.fromkeys(name for definition in shards.values() for name in _parts(definition))
            for shard, definition in sorted(shards.items()):
                if lacks := tuple(name for name in wanted if name not in _parts(definition)):
                    yield Late(target, shard, lacks)


@lru_cache
def _parts(definition: TableDef) -> dict[str, None]:
    """What a table has, by name: columns, and indexes by their columns."""
    names = [c.name.lower() for c in definition.columns]
    return dict.fromkeys([*names, *(f"INDEX ({', '.join(i.columns)})" for i in definition.indexes)])
