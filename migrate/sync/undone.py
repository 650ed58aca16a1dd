"""Rows that were rolled back on the source and stand in its binlog all the same: a temporary table took part, or one
without transactions."""

from __future__ import annotations

import logging
from collections import defaultdict

from migrate.position import Position, place
from migrate.sync.batch import Doubt, Layout

log = logging.getLogger("migrate")

_TRANSACTIONAL = ("innodb", "rocksdb", "tokudb")


class ReadAgain(Exception):
    """Rows of the transaction at hand, of which nothing is applied, were rolled back: it is to be read without them."""


class Undone:
    """Which row events of which transactions count for nothing: known once the transaction was read up to its ROLLBACK,
    and good for the next time that it is read. A transaction is told by the place before it, its row events by numbers
    from 1."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], set[tuple[int, int]]] = defaultdict(set)
        self._now: set[tuple[int, int]] = set()

    def begin(self, before: Position) -> None:
        """A transaction begins."""
        self._now = self.known.get(place(before), set())

    @property
    def here(self) -> bool:
        """Whether the transaction at hand has such rows."""
        return bool(self._now)

    def take(self, before: Position, first: int, last: int) -> None:
        """Of the transaction at hand, row events behind `first` up to `last` were rolled back. ReadAgain if that is
        news."""
        if (first, last) not in self._now:
            log.warning("rows of the transaction at %s:%s were rolled back", before["file"], before["offset"])
            self.known[place(before)].add((first, last))
            raise ReadAgain

    def has(self, ordinal: int, layout: Layout, *, overwriting: bool) -> bool:
        """Whether that row event of the transaction at hand is one. Doubt if its table has no transactions, so that the
        change stayed; unless the operator wants the target overwritten: then it counts."""
        if not any(first < ordinal <= last for first, last in self._now):
            return False
        if layout.engine.lower() in _TRANSACTIONAL:
            return True
        if not overwriting:
            raise Doubt(
                layout.target,
                f"a transaction was rolled back that changed {layout.shard}, whose engine {layout.engine} can't roll "
                "back: its changes stayed; make it InnoDB, then let the source win: `overwrite`",
            )
        return False
