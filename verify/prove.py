"""Proves tables range by range: both sides of a range are read at one cut, and what was proven is kept as it goes.

A range that is equal at its cut is proven for that cut, whatever the cuts of its neighbours are: both sides of it are
read over the same keys. So a table of many ranges is equal if all are, each at its own cut; sums over ranges of several
cuts are exact, but they are the figures of no single moment.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from migrate.db import Session
from migrate.model import Shard, ShardTable
from verify.controls import Measure
from verify.cut import CutLost, CutRecord, HistoryGone
from verify.cuts import LOSSES, Cuts
from verify.ranges import EVERYTHING, Range, in_order, tile, tiling_column, weigh
from verify.readers import Readers
from verify.resume import Resume
from verify.scan import Scan, check_count, scan
from verify.tables import Pair
from verify.tally import Proof, Tally, read_tally

log = logging.getLogger("verify")

_SAMPLED = 64  # shards whose keys place the bounds of the ranges
_STEPS = 2  # keys looked at for each range, on every sampled shard: they may all lie alike
_SHARD_ROWS = 5_000  # of a range, at least: a statement has a cost of its own


@dataclass(frozen=True, slots=True)
class Part:
    """A range of a table, the `number`th of a run. It is proven as a whole, or not yet."""

    number: int
    pair: Pair
    measures: tuple[Measure, ...] = ()


@dataclass(frozen=True, slots=True)
class Proven:
    """A part, what it adds up to, and the cut that shows it. `kept`: by an earlier run, which was killed."""

    part: Part
    proof: Proof
    cut: CutRecord
    kept: bool = False


def plan(readers: Readers, pairs: Sequence[Pair], measured: Sequence[Measure] = (), rows: int = 0) -> list[Part]:
    """The parts of all tables, each of about `rows` rows (as the config says if 0)."""
    found: list[Part] = []
    for pair in pairs:
        own = tuple(m for m in measured if m.pair.name == pair.name)
        ranges = _ranges(readers, pair, rows or readers.config.verify.range_rows)
        found += (Part(0, pair.within(r), own) for r in ranges)
    return [replace(part, number=n) for n, part in enumerate(found)]


def prove(
    cuts: Cuts, pairs: Sequence[Pair], measured: Sequence[Measure], strong: bool, resume: Resume | None = None
) -> list[Proven]:
    """Proves all ranges of those tables. With `resume`, a run that was killed is gone on with."""
    kept = resume.kept() if resume else []
    if not kept:
        parts = plan(cuts.readers, pairs, measured)
        if resume:
            resume.plan([(part.pair.name, part.pair.range) for part in parts])
        return prove_parts(cuts, parts, strong, resume)
    by_name = {pair.name: pair for pair in pairs}
    parts = [
        Part(n, by_name[k.target].within(k.range), tuple(m for m in measured if m.pair.name == k.target))
        for n, k in enumerate(kept)
    ]
    done = [Proven(part, k.proof, k.cut, kept=True) for part, k in zip(parts, kept, strict=True) if k.proof and k.cut]
    numbers = {p.part.number for p in done}
    rest = prove_parts(cuts, [part for part in parts if part.number not in numbers], strong, resume)
    return sorted([*done, *rest], key=lambda p: p.part.number)


def prove_parts(cuts: Cuts, parts: Sequence[Part], strong: bool, resume: Resume | None = None) -> list[Proven]:
    """Proves those parts, in their order, at as many cuts as it takes."""
    found: list[Proven] = []
    todo = deque(parts)
    losses = 0
    while todo:
        record = cuts.fresh()
        running: deque[tuple[Part, Scan[Tally]]] = deque()
        begun = False  # a cut proves one part at least
        try:
            while todo or running:
                while todo and len(running) < cuts.readers.threads and (not begun or not cuts.pausing):
                    running.append((todo[0], _start(cuts.readers, todo.popleft(), strong)))
                    begun = True
                if not running:
                    break
                part, scanned = running[0]
                found.append(Proven(part, _proof(cuts.readers, part, scanned), record))
                running.popleft()
                if resume:
                    resume.save(part.number, record, found[-1].proof)
        except CutLost as error:
            losses += 4 if isinstance(error, HistoryGone) else 1
            if losses >= LOSSES:
                raise
            log.warning("a new cut: %s", error)
            cuts.readers.drain()
            todo.extendleft(part for part, _ in reversed(running))
    return found


def _start(readers: Readers, part: Part, strong: bool) -> Scan[Tally]:
    def read(session: Session, shard: ShardTable | None, condition: str) -> Tally:
        return read_tally(session, part.pair, part.measures, shard, strong, condition)

    return scan(readers, part.pair, read)


def _proof(readers: Readers, part: Part, scanned: Scan[Tally]) -> Proof:
    tables = {table.shard: table for table in part.pair.merged.shards}
    own: dict[Shard, Tally] = {}
    for shard, tallies in scanned.parts():
        own[shard] = sum(tallies, Tally())
        if len(tallies) > 1:
            check_count(readers, tables[shard], own[shard].totals.rows)
    return Proof.of(part.measures, [(str(shard), own[shard]) for shard in tables], scanned.target.result())


def _ranges(readers: Readers, pair: Pair, rows: int) -> list[Range]:
    """Ranges of about so many rows that tile the table; one, of all, if it is small, or its key's order may differ
    between the servers."""
    shards = pair.merged.shards
    rows = max(rows, _SHARD_ROWS * len(shards))
    total = sum(t.rows for t in shards)
    column = tiling_column(pair.merged.definition.key_columns)
    if column is None or total < 2 * rows:
        return [EVERYTHING]
    sampled = {*shards[:: -(-len(shards) // _SAMPLED)], max(shards, key=lambda t: t.rows)}
    share = sum(t.rows for t in sampled) / total
    weighed = []
    for table in sampled:
        remap = {name.lower(): r for name, r in pair.merged.remap(table.shard).items()}.get(column.name.lower())
        endpoint = readers.config.source(table.shard.instance)
        step = max(10, rows * table.rows // total // _STEPS)
        weighed.append(readers.submit(endpoint, partial(weigh, table=table, remap=remap, step=step)))
    return tile(column, in_order(column, (w for future in weighed for w in future.result())), int(rows * share))
