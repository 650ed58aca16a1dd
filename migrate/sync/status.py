"""Where the followers of a migration stand, as they themselves wrote it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from migrate.config import Config
from migrate.db import Session, connect
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
        return self.age_s < _FRESH_S and self.told["state"] not in ("stopped",)

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
class SyncStatus:
    """All followers, and the target tables that wait for the operator."""

    followers: tuple[FollowerStatus, ...]
    holds: tuple[Held, ...]

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
        }

    def text(self) -> str:
        lines = [f.text() for f in self.followers] or ["sync has not run yet"]
        return "\n".join([*lines, *self.hold_lines()])


def read_sync_status(config: Config, session: Session | None = None) -> SyncStatus:
    """The status now, over the session if one is given."""
    if session is None:
        with connect(config.target, patience_s=config.run.patience_s) as own:
            return read_sync_status(config, own)
    followers = tuple(
        FollowerStatus(instance, float(age), json.loads(state))
        for instance, age, state in session.query(
            "SELECT instance, TIMESTAMPDIFF(MICROSECOND, heartbeat, NOW(6)) / 1e6, state FROM migrate_meta.sync_status "
            "WHERE migration = %s ORDER BY instance",
            [config.name],
        )
    )
    return SyncStatus(followers, tuple(read_holds(session, config.name)))
