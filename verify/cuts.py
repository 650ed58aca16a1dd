"""The cuts of one run: one in use at a time, given up for a new one when it is old, lost, or nothing may be read."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from verify.cut import CutLost, CutRecord, Cutter, HistoryGone
from verify.readers import Readers
from verify.tables import Pair
from verify.throttle import Throttle

log = logging.getLogger("verify")

T = TypeVar("T")

LOSSES = 20  # of cuts in a row
_STATEMENT_SHARDS = 200  # that one statement of `rows` reads


class Cuts:
    """Hands the readers a cut that can be read. `records`: those that were used, by other runs' proofs too."""

    def __init__(self, readers: Readers, pairs: Sequence[Pair], *, still: bool = False):
        """`still`: nobody writes to either side and everybody waits for us, so cuts are taken at once."""
        self.readers = readers
        self._still = still
        self.throttle = Throttle(readers.config)
        shards = [table.shard for pair in pairs for table in pair.merged.shards]
        most = max(Counter((p.name, t.shard.instance) for p in pairs for t in p.merged.shards).values())
        # a statement's stream holds its session until the others of the same comparison are read, too
        self._cutter = Cutter(readers.config, shards, readers.threads + 1 + most // _STATEMENT_SHARDS, still=still)
        self._adopted: list[CutRecord] = []
        self._moved: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.throttle.close()

    @property
    def records(self) -> tuple[CutRecord, ...]:
        return (*self._adopted, *self._cutter.records)

    def adopt(self, records: Iterable[CutRecord]) -> None:
        """Counts an earlier run's cuts in."""
        self._adopted += [r for _, r in sorted({(r.taken_at, r.tso): r for r in records}.items())]

    def renew(self) -> None:
        """Gives the cut in use up."""
        self._leave()

    def fresh(self) -> CutRecord:
        """The cut in use if it can be read still and isn't old, else a new one, when the sources may be read."""
        if self._hold_off():
            self._leave()  # a snapshot that is kept open makes its server keep old versions
            self.throttle.wait()
        if self.worn:
            self._leave()
            self.readers.use(self._cutter.take())
        cut = self.readers.cut
        assert cut is not None
        return cut.record

    @property
    def exact(self) -> bool:
        """Whether the cut in use shows both sides at one moment."""
        return self._still or (self.readers.cut is not None and self.readers.cut.record.exact)

    @property
    def age_s(self) -> float:
        """How old the cut in use is."""
        return self.readers.cut.age_s if self.readers.cut else 0.0

    @property
    def pausing(self) -> bool:
        """Whether to begin nothing more until `fresh` was asked."""
        return self.worn or self._hold_off()

    def _hold_off(self) -> bool:
        """Whether the sources should be left alone now."""
        return not self._still and self.throttle.reason() is not None

    @property
    def worn(self) -> bool:
        """Whether the cut in use can't be read, or is old."""
        cut = self.readers.cut
        return cut is None or cut.gone or cut.age_s > self.readers.config.verify.renew_s

    def at_one(self, work: Callable[[], T]) -> T:
        """Does the work, all of it at one cut; if that is lost, again at a new one."""
        for losses in range(LOSSES):
            self.fresh()
            try:
                return work()
            except CutLost as error:
                if losses == LOSSES - 1 or isinstance(error, HistoryGone):
                    raise
                log.warning("a new cut: %s", error)
        raise AssertionError

    def moved(self) -> list[str]:
        """The instances that were written since a cut that isn't exact, so that its two sides aren't of one moment."""
        cut = self.readers.cut
        if cut is not None and not cut.record.exact and not self._still:
            self._moved |= set(cut.moved(self.readers.config))
        return sorted(self._moved)

    def notes(self) -> list[str]:
        """What a reader of the result must know of the cuts."""
        found = list(dict.fromkeys(note for record in self.records for note in record.notes))
        if moved := self.moved():
            found.append(
                f"{', '.join(moved)} was written while it was verified, and sync doesn't run: the two sides were not "
                "read at one cut, so a difference may be of this moment only; start `migrate sync`, or stop the writers"
            )
        return found

    def _leave(self) -> None:
        self.moved()
        self.readers.use(None)
