"""Where a passage through the binlog is to end, exactly."""

from __future__ import annotations

from dataclasses import dataclass

from migrate.errors import NoGo
from migrate.position import Position, place, reached
from migrate.sync.marks import Mark


@dataclass(frozen=True)
class Goal:
    """A position of an instance, or none. `exactly`: it must be the end of a transaction, and not be passed."""

    instance: str
    position: Position | None
    exactly: bool

    def __bool__(self) -> bool:
        return self.position is not None

    def reached(self, position: Position) -> bool:
        return self.position is not None and reached(position, self.position)

    def check_start(self, mark: Mark) -> None:
        """NoGo if what is applied goes beyond."""
        goal, at = self.position, mark.position
        if goal is not None and self.exactly and reached(at, goal) and (mark.inside or not reached(goal, at)):
            raise NoGo(f"{self.instance}: sync is beyond {_text(goal)} already, at {_text(at)}")

    def check_end(self, at: Position) -> None:
        """NoGo if the transaction that ends there goes beyond."""
        goal = self.position
        if goal is None or not self.exactly or at["server_uuid"] != goal["server_uuid"]:
            return
        if place(at) > place(goal):
            raise NoGo(
                f"{self.instance}: no transaction ends at {_text(goal)}; the one that is under way there ends at "
                f"{_text(at)}, and isn't applied"
            )


def _text(position: Position) -> str:
    return f"{position['file']}:{position['offset']}" if position["file"] else position["gtid_set"]
