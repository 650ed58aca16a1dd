"""What the operator decided about a target table that is held."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from migrate.db import Session
from migrate.errors import ConfigError
from migrate.holder import owner
from migrate.position import Position
from migrate.state import State

Kind = Literal["go-on", "skip", "replace", "overwrite"]


@dataclass(frozen=True)
class Held:
    """A target table whose changes from one instance wait, since when, why, at which statement if it is one."""

    instance: str
    target: str
    position: Position
    reason: str
    statement: str | None
    held_at: str
    resolution: Kind | None
    replacement: str | None

    def document(self) -> dict[str, Any]:
        return dict(vars(self))


def read_holds(session: Session, migration: str, instance: str | None = None) -> list[Held]:
    """What is held, of one instance or of all."""
    return [
        Held(where, target, json.loads(position), reason, statement, str(at)[:19], resolution, replacement)
        for where, target, position, reason, statement, at, resolution, replacement in session.query(
            "SELECT instance, target, position, reason, statement, held_at, resolution, replacement FROM "
            "migrate_meta.hold WHERE migration = %s AND (%s IS NULL OR instance = %s) ORDER BY instance, target",
            (migration, instance, instance),
        )
    ]


def resolve(state: State, target: str, kind: Kind, replacement: str | None = None) -> list[Held]:
    """Records the decision, which followers that run carry out within a second; gives what it is about.

    ConfigError if the table isn't held, or if the decision isn't one for its reason.
    """
    held = [h for h in read_holds(state.session, state.name) if h.target == target]
    if not held:
        raise ConfigError(f"{target} is not held; `migrate sync status` shows what is")
    for hold in held:
        if kind in ("skip", "replace") and hold.statement is None:
            raise ConfigError(f"{target} isn't held at a statement: {hold.reason}; go on, or overwrite")
        if kind == "overwrite" and hold.statement is not None:
            raise ConfigError(f"{target} is held at a statement: {hold.statement}; go on, skip or replace it")
    with state.session.transaction():
        state.session.execute(
            "UPDATE migrate_meta.hold SET resolution = %s, replacement = %s WHERE migration = %s AND target = %s",
            (kind, replacement, state.name, target),
        )
        state.journal("hold resolved", target=target, how=kind, by=owner(), replacement=replacement,
                      held=[h.document() for h in held])  # fmt: skip
    return held
