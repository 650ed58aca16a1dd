"""The epoch: a row on every server that says which phase it is and whether that server may be written. A transaction
locks it before its first change, so a change of the epoch waits for all open ones, and none of an older one is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from migrate.doublewrite.outbox import SCHEMA

PHASES = ("off", "shadow", "strict", "read-compare", "read-switch", "reversed")
Side = Literal["source", "target"]
COLUMNS = "epoch, phase, share, primary_side, writable"


@dataclass(frozen=True)
class Epoch:
    """`share`: per cent of the accounts that are compared (read-compare) or read from the target (read-switch)."""

    number: int
    phase: str
    share: int
    primary: Side
    writable: bool

    @classmethod
    def of(cls, row: Sequence[Any]) -> Epoch:
        number, phase, share, primary, writable = row[:5]
        return cls(
            int(number), str(phase), int(share), "target" if str(primary) == "target" else "source", bool(writable)
        )

    @property
    def captures(self) -> bool:
        """Whether changes of the primary go into its outbox."""
        return self.phase != "off"

    def __str__(self) -> str:
        share = f" {self.share} %" if self.phase in ("read-compare", "read-switch") else ""
        return f"{self.phase}{share} (epoch {self.number}, {self.primary} is primary)"


def gate(target: bool) -> str:
    """The statement that reads and locks the epoch for (migration, slot). Shared on an instance; TiDB has no shared
    locks, so there every connection has a slot of its own, nearly."""
    lock = "FOR UPDATE" if target else "LOCK IN SHARE MODE"
    return f"SELECT {COLUMNS}, @@sql_mode FROM {SCHEMA}.epoch WHERE migration = %s AND slot = %s {lock}"
