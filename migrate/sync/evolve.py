"""What a shard's DDL means for the merged table on the target."""

from __future__ import annotations

from dataclasses import dataclass

from migrate.model import MergedTable, Shard, TableDef
from migrate.sync.change import Change


@dataclass(frozen=True, slots=True)
class Pass:
    """Nothing is to be done on the target; `note` says why, for the log and the status ('' if there is nothing)."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class Apply:
    """The statements to run on the target, one by one, before rows of the new shape arrive.

    After each of them, or after a crash between them, `decide` on the target as it is then gives the rest.
    """

    statements: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Hold:
    """The target table stops here, for the reason, till the operator has done what `remedy` says."""

    reason: str
    remedy: str


Decision = Pass | Apply | Hold


def decide(change: Change, shard: Shard, merged: MergedTable, target: TableDef | None) -> Decision:
    """What the change of `shard` means for the target table of `merged`, which is `target` on TiDB now.

    `shard` is the table under the name that is routed (`change.schema`, `change.table`, or the new name of a rename).
    `merged.shards` are all shards of the target with their definitions in force before the change; a shard that is
    new is not among them.
    """
    return Hold("not read yet", "")


def apart(merged: MergedTable) -> list[str]:
    """Which change has come to which shards, a sentence each; none if all have the same definition."""
    return []
