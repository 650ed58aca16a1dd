"""Counts and control totals of whole tables, and of which of them they can be read again within so many seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import partial

from migrate.config import Config
from migrate.errors import MigrateError
from verify.controls import ControlTotal, Measure, control_totals
from verify.counts import counts
from verify.cut import CutRecord
from verify.cuts import Cuts
from verify.model import TableResult
from verify.readers import Readers
from verify.tables import Pair


@dataclass(frozen=True, slots=True)
class TableTotals:
    """A table's row counts and control totals, the cut that shows them, and the seconds that reading them took."""

    counted: TableResult
    totals: tuple[ControlTotal, ...]
    cut: CutRecord
    seconds: float

    @property
    def name(self) -> str:
        return self.counted.target


def read_totals(
    readers: Readers, pairs: Sequence[Pair], measured: Sequence[Measure]
) -> tuple[list[TableResult], list[ControlTotal]]:
    """Counts and control totals of those tables, side by side."""
    names = {pair.name for pair in pairs}
    totals = control_totals(readers, [m for m in measured if m.pair.name in names])
    return counts(readers, pairs), totals


def time_totals(cuts: Cuts, pairs: Sequence[Pair], measured: Sequence[Measure]) -> list[TableTotals]:
    """The same one table after the other, each at one cut, with its time. The largest is the last, so that its cut is
    the newest."""

    def one(pair: Pair) -> TableTotals:
        record, began = cuts.fresh(), time.monotonic()
        (counted,), totals = read_totals(cuts.readers, [pair], measured)
        return TableTotals(counted, tuple(totals), record, time.monotonic() - began)

    return [cuts.at_one(partial(one, pair)) for pair in _by_size(pairs)]


def time_within(
    config: Config, workers: int | None, pairs: Sequence[Pair], measured: Sequence[Measure], within_s: float
) -> dict[str, float]:
    """The seconds that reading takes, by table, of those that are read within so many seconds, the smallest first; the
    statements that run then are ended."""
    seconds: dict[str, float] = {}
    readers, over = Readers(config, workers), threading.Event()

    def end() -> None:
        over.set()
        readers.__exit__(TimeoutError)

    timer = threading.Timer(within_s, end)
    timer.start()
    try:
        for pair in _by_size(pairs):
            began = time.monotonic()
            read_totals(readers, [pair], measured)
            if over.is_set():
                break
            seconds[pair.name] = time.monotonic() - began
    except (MigrateError, CancelledError, RuntimeError):  # the last: nothing is begun any more
        if not over.is_set():
            raise
    finally:
        timer.cancel()
        timer.join()
        if not over.is_set():
            readers.__exit__(None)
    return seconds


def _by_size(pairs: Sequence[Pair]) -> list[Pair]:
    return sorted(pairs, key=lambda pair: sum(table.rows for table in pair.merged.shards))


def fitting(seconds: Mapping[str, float], within_s: float) -> frozenset[str]:
    """As many of these as take no longer than that together: the quickest ones."""
    found, left = set(), within_s
    for name in sorted(seconds, key=lambda n: (seconds[n], n)):
        left -= seconds[name]
        if left < 0:
            break
        found.add(name)
    return frozenset(found)
