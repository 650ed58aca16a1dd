"""Rows that differ on both sides though nothing of them is under way. Those of the outbox are looked at, and those
applied lately; verification does all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from migrate.config import Config, Endpoint
from migrate.db import connect, wait
from migrate.doublewrite.apply import Applier
from migrate.doublewrite.errors import Refused
from migrate.doublewrite.outbox import SCHEMA
from migrate.doublewrite.phase import Phase, side_servers
from migrate.doublewrite.router import Image, Router
from migrate.doublewrite.server import Written, written_tables

Kind = Literal["late", "missing", "extra", "different"]
_MOST = 20_000  # rows of each server that are compared
_LATELY_S = 3600
_AGAIN_S = (0.3, 1.0)
RowKey = tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """A row that isn't the same on both sides. late: its change waits in the outbox; missing, extra, different: on the
    secondary, compared with the primary, and nothing is under way. Images are as the secondary has them."""

    kind: Kind
    target: str
    shard: str
    key: RowKey  # on the primary
    columns: tuple[str, ...]
    wanted: Image | None
    found: Image | None
    money: Decimal
    currency: str | None
    reason: str = ""
    stuck: bool = False  # the secondary can't have the primary's row, for that reason

    def document(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "target": self.target, "shard": self.shard, "key": list(self.key),
            "columns": list(self.columns), "money": str(self.money), "currency": self.currency, "reason": self.reason,
            "primary": dict(self.wanted) if self.wanted else None,
            "secondary": dict(self.found) if self.found else None,
        }  # fmt: skip

    def __str__(self) -> str:
        money = f", {self.money} {self.currency or ''} at risk".rstrip() if self.money else ""
        reason = f" ({self.reason})" if self.reason else ""
        key, columns = ", ".join(self.key), ", ".join(self.columns)
        return f"{self.kind}: {self.target} {key} of {self.shard}: {columns}{money}{reason}"


class Sides:
    """Sessions on all servers, and their tables: reads one row on both sides."""

    def __init__(self, config: Config, router: Router, phase: Phase, stack: ExitStack):
        self.config, self.router, self.phase = config, router, phase
        self.sessions = {
            e.name: stack.enter_context(connect(e, patience_s=config.run.patience_s))
            for e in (*config.sources, config.target)
        }
        self.appliers = {
            name: Applier(config.name, router, written_tables(session, config, router))
            for name, session in self.sessions.items()
        }
        self.shards = {str(s): s for s in router.shards}

    @property
    def forward(self) -> bool:
        return self.phase.epoch.primary == "source"

    def primary(self, shard: str) -> Endpoint:
        return self.config.source(self.shards[shard].instance) if self.forward else self.config.target

    def secondary(self, shard: str) -> Endpoint:
        return self.config.target if self.forward else self.config.source(self.shards[shard].instance)

    def table(self, endpoint: Endpoint, target: str, shard: str) -> Written:
        place = self.shards[shard]
        schema, name = target.split(".") if endpoint == self.config.target else (place.schema, place.table)
        return self.appliers[endpoint.name].table((schema, name))

    def translate(self, shard: str, image: Image | None) -> Image | None:
        """A row of the primary as the secondary has it."""
        if image is None:
            return None
        turn = self.router.forward if self.forward else self.router.back
        return turn(self.shards[shard], image)

    def merged(self, shard: str, image: Image | None) -> Image | None:
        """A row of the secondary as the target has it; None if it can't have it."""
        if image is None or self.forward:
            return image
        try:
            return self.router.forward(self.shards[shard], image)
        except Refused:
            return None

    def key(self, target: str, shard: str, key: RowKey) -> RowKey:
        """The key on the secondary of a row with that key on the primary."""
        mine, other = (self.table(side(shard), target, shard).images for side in (self.primary, self.secondary))
        remapped = self.router.tables[target].remap(self.shards[shard])
        values = dict(zip(mine.key_names, key, strict=True))
        row = {**dict.fromkeys(remapped), **values}  # a mapped row may lack columns
        turned = self.translate(shard, row) or {}
        return tuple(str(turned[n]) for n in other.key_names)

    def rows(
        self, endpoint: Endpoint, target: str, shard: str, keys: Sequence[RowKey], *, lock: bool = False
    ) -> dict[RowKey, Image]:
        written = self.table(endpoint, target, shard)
        return self.appliers[endpoint.name].current(self.sessions[endpoint.name], written, keys, lock=lock)


def compare_rows(config: Config, router: Router, phase: Phase) -> list[Finding]:
    """Compares the rows of the outboxes and those applied lately on both sides."""
    with ExitStack() as stack:
        sides = Sides(config, router, phase, stack)
        todo = _keys(sides)
        findings = [f for place, keys in todo.items() for f in _differences(sides, *place, sorted(keys))]
        for seconds in _AGAIN_S:  # what goes away by itself was on its way
            if not findings:
                break
            wait(seconds)
            again: dict[tuple[str, str], list[RowKey]] = {}
            for f in findings:
                again.setdefault((f.target, f.shard), []).append(f.key)
            findings = [f for place, keys in again.items() for f in _differences(sides, *place, keys)]
        return findings


def _keys(sides: Sides) -> dict[tuple[str, str], set[RowKey]]:
    found: dict[tuple[str, str], set[RowKey]] = {}
    migration = sides.config.name
    for endpoint in side_servers(sides.config, sides.phase.epoch.primary):
        for target, shard, key in sides.sessions[endpoint.name].query(
            f"SELECT target, shard, row_key FROM {SCHEMA}.outbox WHERE migration = %s ORDER BY seq LIMIT {_MOST}",
            [migration],
        ):
            found.setdefault((target, shard), set()).add(tuple(json.loads(key)))
    names = [*(e.name for e in side_servers(sides.config, sides.phase.epoch.primary)), "repair"]
    for endpoint in side_servers(sides.config, "target" if sides.forward else "source"):
        for target, shard, key in sides.sessions[endpoint.name].query(
            f"SELECT target, shard, row_key FROM {SCHEMA}.applied WHERE migration = %s AND source IN "
            f"({', '.join(['%s'] * len(names))}) AND applied_at > NOW(6) - INTERVAL {_LATELY_S} SECOND "
            f"ORDER BY applied_at DESC LIMIT {_MOST}",
            [migration, *names],
        ):
            found.setdefault((target, shard), set()).add(tuple(json.loads(key)))
    return {place: keys for place, keys in found.items() if place[1] in sides.shards}


def _differences(sides: Sides, target: str, shard: str, keys: Sequence[RowKey]) -> Iterator[Finding]:
    """A change of the primary that was delivered before the secondary was read is in what is read there, and one that
    came later shows in the primary's row. So only this order tells a row that differs from one that is being changed:
    the primary, what waits, the secondary, and the primary again."""
    primary, secondary = sides.primary(shard), sides.secondary(shard)
    there = {key: sides.key(target, shard, key) for key in keys}
    wanted = sides.rows(primary, target, shard, keys)
    pending = _pending(sides, primary, target, shard)
    found = sides.rows(secondary, target, shard, [*there.values()])
    written = sides.table(secondary, target, shard)
    unlike: dict[RowKey, tuple[str, ...]] = {}
    stuck: dict[RowKey, str] = {}
    translated: dict[RowKey, Image | None] = {}
    for key, other in there.items():
        try:
            translated[key] = sides.translate(shard, wanted.get(key))
        except Refused as error:
            unlike[key], stuck[key] = ("the whole row",), str(error)
            continue
        if columns := written.images.unlike(translated[key], found.get(other)):
            unlike[key] = columns
    now = sides.rows(primary, target, shard, [*unlike]) if unlike else {}
    for key, columns in unlike.items():
        want, have = translated.get(key), found.get(there[key])
        money, currency = written.at_stake(sides.merged(shard, have), sides.merged(shard, want))
        kind: Kind = (
            "different" if key in stuck else "missing" if have is None else "extra" if want is None else "different"
        )
        reason = stuck.get(key) or pending.get(key) or ""
        if not reason and (key in pending or now.get(key) != wanted.get(key)):
            kind = "late"
        yield Finding(kind, target, shard, key, columns, want, have, money, currency, reason, stuck=key in stuck)


def _pending(sides: Sides, primary: Endpoint, target: str, shard: str) -> dict[RowKey, str | None]:
    """The keys of which a change waits, with why if it is held."""
    return {
        tuple(json.loads(key)): held
        for key, held in sides.sessions[primary.name].query(
            f"SELECT row_key, MAX(held) FROM {SCHEMA}.outbox WHERE migration = %s AND target = %s AND shard = %s "
            "GROUP BY row_key",
            (sides.config.name, target, shard),
        )
    }
