"""Whether single rows are equal on both sides: those that were written since everything was."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from migrate.errors import ConfigError
from migrate.model import Key, Shard
from verify.checksum import checksums
from verify.cuts import Cuts
from verify.narrow import rows_of
from verify.prove import Part, Proven, prove_parts
from verify.ranges import Keys
from verify.result import Result
from verify.tables import Pair

_AT_ONCE = 1000  # keys of one statement
_CLOSER = 30  # where some of them differ

Changed = Mapping[str, Mapping[Shard, Collection[Key]]]


def verify_keys(cuts: Cuts, pairs: Sequence[Pair], changed: Changed, limit: int) -> Result:
    """Compares exactly the rows of those keys: their digests (64 bits), and the rows that differ by name.

    `changed` has, by target table and by the shard on which a row of it was written, the values of its key as SQL
    literals of the merged table. Result.tables are the tables that have any; none if there are none.
    """
    proven = _proven(cuts, pairs, changed)
    by_name = {pair.name: pair for pair in pairs}
    # A row may have left the shard where it was written for another one, where it wasn't touched since.
    bad = [_widened(by_name[p.part.pair.name], p.part) for p in proven if not p.proof.equal]
    proven = [p for p in proven if p.proof.equal] + prove_parts(cuts, bad, strong=True)
    return rows_of(cuts, pairs, checksums([by_name[n] for n in sorted(changed)], proven), False, True, limit)


def unequal_keys(cuts: Cuts, pairs: Sequence[Pair], changed: Changed) -> dict[str, dict[Shard, set[Key]]]:
    """Those of the keys that weren't found equal; up to thirty others for each that isn't. (With a thousand, where
    rows are on their way all the time, hardly a statement would be without one.)"""
    found = _differing(_proven(cuts, pairs, changed))
    return _differing(_proven(cuts, pairs, found, _CLOSER))


def _differing(proven: Iterable[Proven]) -> dict[str, dict[Shard, set[Key]]]:
    """The keys of those parts whose two sides differ."""
    found: dict[str, dict[Shard, set[Key]]] = {}
    for one in proven:
        keys = one.part.pair.keys
        if not one.proof.equal and keys is not None:
            for shard, rows in keys.rows.items():
                found.setdefault(one.part.pair.name, {}).setdefault(shard, set()).update(rows)
    return found


def _proven(cuts: Cuts, pairs: Sequence[Pair], changed: Changed, at_once: int = _AT_ONCE) -> list[Proven]:
    by_name = {pair.name: pair for pair in pairs}
    if unknown := sorted(set(changed) - set(by_name)):
        raise ConfigError(f"no route leads to {', '.join(unknown)}; known: {', '.join(sorted(by_name))}")
    parts = [
        Part(
            0, _narrowed(by_name[name], Keys(tuple(c.name for c in by_name[name].merged.definition.key_columns), rows))
        )
        for name, shards in sorted(changed.items())
        for rows in _batches(shards, at_once)
    ]
    return prove_parts(cuts, [replace(part, number=n) for n, part in enumerate(parts)], strong=True)


def _batches(shards: Mapping[Shard, Collection[Key]], at_once: int) -> Iterator[dict[Shard, tuple[Key, ...]]]:
    """The keys in groups that one statement takes, with the shards in order."""
    every: Iterable[tuple[Shard, Key]] = ((shard, key) for shard in sorted(shards) for key in sorted(shards[shard]))
    iterator = iter(every)
    while some := list(islice(iterator, at_once)):
        group: dict[Shard, list[Key]] = {}
        for shard, key in some:
            group.setdefault(shard, []).append(key)
        yield {shard: tuple(keys) for shard, keys in group.items()}


def _narrowed(pair: Pair, keys: Keys) -> Pair:
    """Those keys of the pair, on those shards only."""
    shards = tuple(table for table in pair.merged.shards if table.shard in keys.rows)
    return replace(pair, merged=replace(pair.merged, shards=shards), keys=keys)


def _widened(pair: Pair, part: Part) -> Part:
    """The same keys on all shards."""
    assert part.pair.keys is not None
    every = part.pair.keys.everywhere(table.shard for table in pair.merged.shards)
    return replace(part, pair=replace(pair, keys=every))
