"""Compares, before a freeze, the rows that were written since the last clean verification, until only so few of them
are left, or were written meanwhile, that comparing those takes a small part of the freeze."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from migrate.config import Config
from migrate.cutover.changed import Changed, Keys, how_many, merged
from migrate.cutover.readiness import Clean
from migrate.errors import NoGo
from migrate.position import Position
from migrate.source import capture_positions

log = logging.getLogger("migrate")

_FEW = 10_000  # keys, which any freeze has time for
_SHARE = 0.25  # of the freeze, that comparing more than a few may take
_SHRINKS = 0.8  # a lap has at most so much of the one before it, or we don't get there
_STUCK = 2  # laps that didn't shrink: one may have had a burst of writes

DOES = (
    "compare the rows written since the last clean verification, live, until only those that are being written may "
    "differ; see how long counts and control totals take, which decides of which tables the freeze reads them"
)
CATALOGUES = "read both sides' catalogues"
IN_FREEZE = (
    "compare the rows written since the step `ahead`, and counts and control totals of the tables of which, by that "
    "step, reading them takes a third of cutover.freeze_s at most"
)


class Narrowed:
    """`left`: the keys that are to be compared (again) in the freeze.

    A lap compares what was written up to its beginning; what was written while it ran is the next one's. So laps get
    shorter, as long as rows are compared faster than they are written.
    """

    def __init__(self, config: Config, clean: Clean, compare: Callable[[Keys], Keys]):
        """`compare` gives those of the keys whose rows weren't found equal but may be on their way; NoGo if two sides
        differ that can't be."""
        self._config, self._clean, self._compare = config, clean, compare
        self._changed = Changed(config, clean.positions)
        self.left: Keys = {}
        self._counts: list[int] = []
        self._key_s = 0.0  # seconds a key, of the last lap

    def lap(self, *, unless_few: bool = False) -> bool:
        """Compares what is left and what was written since the last lap, of which half a million keys are held at a
        time. False if it did nothing, `unless_few`: what there is fits into the freeze."""
        goals, began, count, there = capture_positions(self._config), monotonic(), 0, False
        while not there:
            keys, there = self._changed.portion(goals)
            self.left = merged([self.left, keys])
            if unless_few and there and not count and self._fits(how_many(self.left)):
                return False
            if how_many(self.left):
                count += how_many(self.left)
                self.left = self._compare(self.left)
        seconds = monotonic() - began
        self._counts.append(count)
        self._key_s = seconds / max(count, 1)
        log.info("%d rows were compared in %.1f s", count, seconds)
        return True

    def narrow(self) -> None:
        """Lap after lap, one at least, until what is left fits. NoGo if it doesn't get less."""
        stuck = 0
        while self.lap(unless_few=bool(self._counts)):
            *_, before, count = (float("inf"), *self._counts)
            stuck = stuck + 1 if count > before * _SHRINKS and not self._fits(int(count)) else 0
            if stuck == _STUCK:
                raise NoGo(
                    f"{count:,} rows were written while as many were compared, {1 / self._key_s:,.0f} a second: to "
                    f"compare them takes longer than {self._budget_s:.1f} s, which they may take of the freeze. Try "
                    "again when less is written, with more workers (run.workers), or with a larger cutover.freeze_s"
                )

    def read_to(self, goals: dict[str, Position]) -> Keys:
        """What is left, and what was written since the last look up to these positions."""
        return merged([self.left, self._changed.read_to(goals)])

    @property
    def said(self) -> str:
        """How it went."""
        laps = f" in {len(self._counts)} laps" if len(self._counts) > 1 else ""
        return (
            f"{sum(self._counts):,} rows that were written since run {self._clean.run} were compared{laps}; "
            f"{how_many(self.left):,} are to be compared in the freeze"
        )

    def _fits(self, count: int) -> bool:
        return count <= _FEW or count * self._key_s <= self._budget_s

    @property
    def _budget_s(self) -> float:
        return self._config.cutover.freeze_s * _SHARE
