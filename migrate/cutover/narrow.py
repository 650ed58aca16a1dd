"""Compares, before a freeze, the rows that were written since the last clean verification, where the two sides have no
common cut: what is equal needn't be compared in the freeze, unless it is written again."""

from __future__ import annotations

from migrate.config import Config
from migrate.cutover.changed import Changed, Keys, how_many, merged
from migrate.cutover.readiness import Verifier
from migrate.errors import NoGo
from migrate.source import capture_positions

_PASSES = 5  # over rows that are written while they are compared
_FEW = 10_000  # keys, which the freeze has time for


DOES = (
    "compare the rows written since the last clean verification, live, until only those that are being written may "
    "differ"
)


class Narrowed:
    """`left`: the keys that weren't found equal yet. `said`: how it went."""

    def __init__(self, config: Config, verifier: Verifier):
        """Does it. NoGo if there is no clean verification to begin with."""
        clean = verifier.last_clean()
        if clean is None:
            raise NoGo("no clean `verify all` is in the evidence; set cutover.digests = 'all'")
        prepared = verifier.prepare()
        self._changed = Changed(config, clean.positions)
        self.left: Keys = {}
        counts: list[int] = []
        while len(counts) < _PASSES and (not counts or counts[-1] > _FEW):
            # what was delivered to the shards is in their binlogs, too
            self.left = self.read_to_now(config)
            counts.append(how_many(self.left))
            self.left = verifier.unequal(self.left)
        self.said = (
            f"{prepared}\n{counts[0]:,} rows were written since run {clean.run}; {how_many(self.left):,} are to be "
            "compared again in the freeze"
        )

    def read_to_now(self, config: Config) -> Keys:
        """What is left, and what was written since the last look."""
        return merged([self.left, self._changed.read_to(capture_positions(config))])
