"""What a range of a table adds up to on both sides, out of one scan a side: its digest, and its control totals."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from migrate.db import Session
from migrate.model import ShardTable
from verify.controls import Figures, Group, Measure, add_up, without_days
from verify.digest import totals_of
from verify.model import Totals
from verify.tables import Pair

Groups = dict[Group, Figures]


@dataclass(frozen=True, slots=True)
class Tally:
    """One side of some rows: their digest, and for each measure the figures by group. `+` is associative and
    commutative, and Tally() is neutral."""

    totals: Totals = field(default_factory=Totals)
    groups: tuple[Groups, ...] = ()

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.totals + other.totals, _merged(self.groups, other.groups))


@dataclass(frozen=True, slots=True)
class Proof:
    """Both sides of some rows, read at one cut, and each shard's share: its figures have no days. `+` as above; the
    sum is equal if all of its summands are."""

    source: Tally = field(default_factory=Tally)
    target: Tally = field(default_factory=Tally)
    shards: Mapping[str, Tally] = field(default_factory=dict)
    equal: bool = True

    @classmethod
    def of(cls, measures: Sequence[Measure], shards: Sequence[tuple[str, Tally]], target: Tally) -> Proof:
        source = Tally()
        for _, tally in shards:
            source += tally
        own = {
            shard: Tally(t.totals, tuple(without_days(m, g) for m, g in zip(measures, t.groups, strict=True)))
            for shard, t in shards
        }
        return cls(source, target, own, source == target)

    def __add__(self, other: Proof) -> Proof:
        shards = {
            shard: self.shards.get(shard, Tally()) + other.shards.get(shard, Tally())
            for shard in (*self.shards, *(s for s in other.shards if s not in self.shards))
        }
        return Proof(self.source + other.source, self.target + other.target, shards, self.equal and other.equal)

    def dump(self) -> bytes:
        """As bytes to store."""
        document = {"source": _dump(self.source), "shards": {name: _dump(t) for name, t in self.shards.items()}}
        if not self.equal:
            document["target"] = _dump(self.target)
        return zlib.compress(json.dumps(document, separators=(",", ":")).encode())

    @classmethod
    def load(cls, data: bytes) -> Proof:
        document = json.loads(zlib.decompress(data))
        source = _load(document["source"])
        target = _load(document["target"]) if "target" in document else source
        return cls(source, target, {name: _load(t) for name, t in document["shards"].items()}, source == target)


def read_tally(
    session: Session,
    pair: Pair,
    measures: Sequence[Measure],
    shard: ShardTable | None,
    strong: bool = False,
    condition: str = "",
) -> Tally:
    """Reads one side of the pair's range; a shard of None is the target. The first measure comes out of the digest's
    scan, unless this process must finish the digest."""
    digest = pair.on_source(shard) if shard else pair.on_target()
    within = [Measure(pair, m.by, m.sums, m.day) for m in measures]
    if digest.finished or not within:
        totals, groups = digest.totals(session, strong, condition), []
    else:
        first, sums = within.pop(0).read(session, shard, condition, digest.sums(strong))
        totals, groups = sum((totals_of(row) for row in sums), Totals()), [first]
    return Tally(totals, (*groups, *(m.read(session, shard, condition)[0] for m in within)))


def _merged(one: tuple[Groups, ...], other: tuple[Groups, ...]) -> tuple[Groups, ...]:
    if not one or not other:
        return one or other
    return tuple(add_up((a.items(), b.items())) for a, b in zip(one, other, strict=True))


def _dump(tally: Tally) -> Any:
    t = tally.totals
    groups = [
        [[group, f.rows, list(map(str, f.sums)), _text(f.low), _text(f.high)] for group, f in groups.items()]
        for groups in tally.groups
    ]
    return [[str(t.rows), str(t.first), str(t.second)], groups]


def _load(document: Any) -> Tally:
    totals, groups = document
    return Tally(
        Totals(*map(int, totals)),
        tuple(
            {
                tuple(group): Figures(rows, tuple(map(Decimal, sums)), _number(low), _number(high))
                for group, rows, sums, low, high in listed
            }
            for listed in groups
        ),
    )


def _text(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
