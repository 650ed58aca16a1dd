"""What a repair is told to do, what it did to each row, and how that is told. Plain data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from migrate.errors import ConfigError
from verify.images import Image
from verify.model import Values

Direction = Literal["source", "target"]
Action = Literal["insert", "update", "delete"]
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Order:
    """Whether to write, and who allowed it: ConfigError without a reason and a ticket. `folder`: of the evidence."""

    execute: bool = False
    reason: str | None = None
    ticket: str | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.execute and not (self.reason and self.ticket):
            raise ConfigError("--execute needs --reason and --ticket: the journal says who changed a ledger, and why")

    @property
    def why(self) -> tuple[str, str]:
        return self.reason or "", self.ticket or ""


@dataclass(slots=True)
class Change:
    """One row's repair: its images before and after on the side that is written, and what became of it. `agreed`: there
    was nothing to do, as when a repair that was killed had done it."""

    target: str
    key: Values | None
    kind: str
    shard: str | None
    at_risk: dict[str, str]
    action: Action | None = None
    before: Image | None = None
    after: Image | None = None
    state: Literal["planned", "done", "agreed", "left"] = "left"
    why: str = ""

    def document(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "key": self.key,
            "kind": self.kind,
            "shard": self.shard,
            "action": self.action,
            "state": self.state,
            "why": self.why,
            "before": self.before.values if self.before else None,
            "after": self.after.values if self.after else None,
            "at_risk": self.at_risk,
        }


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair did, or would do. `number` is its own, by which it is undone; None for a dry run."""

    run: int
    direction: Direction
    changes: tuple[Change, ...]
    number: int | None = None
    undone: int | None = None

    @property
    def ok(self) -> bool:
        return all(change.state != "left" for change in self.changes)

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that were written, by this or by the killed repair that it went on with."""
        if self.number is None:
            return ()
        return tuple(dict.fromkeys(change.target for change in self.changes if change.state in ("done", "agreed")))

    def document(self) -> dict[str, Any]:
        return {
            "command": "verify repair",
            "ok": self.ok,
            "executed": self.number is not None,
            "repair": self.number,
            "undone": self.undone,
            "run": self.run,
            "direction": self.direction,
            "changes": [change.document() for change in self.changes],
        }

    def text(self) -> str:
        written = "the target's rows" if self.direction == "source" else "the shards' rows"
        what = f"repair of run {self.run}" if self.number is None else f"repair {self.number} of run {self.run}"
        lines = [
            f"{what}: the {self.direction} is right, {written} {'would be' if self.number is None else 'were'} written"
        ]
        for change in self.changes[:_SHOWN]:
            lines += _change_lines(change)
        if len(self.changes) > _SHOWN:
            lines.append(f"  .. and {len(self.changes) - _SHOWN:,} more; --json has them")
        count = {state: sum(c.state == state for c in self.changes) for state in ("planned", "done", "agreed", "left")}
        agreed = f", {count['agreed']} need none" if count["agreed"] else ""
        told = f"{count['done']} repaired, {count['planned']} to repair, {count['left']} left as they are{agreed}"
        lines += ["", told]
        if self.number is None:
            lines.append("nothing was written: add --execute with --reason and --ticket to do it")
        else:
            lines.append(f"to take it back: verify repair --undo {self.number} --execute --reason .. --ticket ..")
        return "\n".join(lines)


def _change_lines(change: Change) -> Iterator[str]:
    key = ", ".join(f"{name}={value}" for name, value in (change.key or {}).items()) or "(no key)"
    yield f"  {change.target}  {key}: {change.action or change.kind}, {change.state}" + (
        f": {change.why}" if change.why else ""
    )
    before, after = (image.values if image else {} for image in (change.before, change.after))
    for name in dict.fromkeys((*before, *after)):
        if change.action and before.get(name) != after.get(name):
            yield f"      {name}: {_shown(before, name)} -> {_shown(after, name)}"


def _shown(values: Values, name: str) -> str:
    return "(no row)" if name not in values else "NULL" if values[name] is None else str(values[name])
