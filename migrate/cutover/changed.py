"""Which rows were written since a position, by the binlog: what a verification in the freeze must look at again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from migrate.config import Config
from migrate.errors import NoGo
from migrate.model import Key, Shard
from migrate.position import Position, reached
from migrate.sync.batch import Doubt, Image, Layout
from migrate.sync.router import Router
from migrate.sync.stream import COMMIT, HEARTBEAT, IDLE, ROWS, STATEMENT, UPDATE, Item, Stream

Keys = Mapping[str, Mapping[Shard, Collection[Key]]]  # by target and shard, as SQL literals of the merged table

_PORTION = 500_000  # keys of all instances that are held at a time where any number may have been written
_MOST = 5_000_000  # keys that are held at a time at all


class Changed:
    """The keys of the rows of all instances that were written since positions. It reads on from where it is, so that
    little is left to read in the freeze."""

    def __init__(self, config: Config, since: Mapping[str, Position]):
        self._readers = [_Reader(config, name, position) for name, position in since.items()]

    def portion(self, goals: Mapping[str, Position]) -> tuple[Keys, bool]:
        """The next half a million keys or so that were written between where it is and these positions, by whole
        transactions, and whether these are all. NoGo, with what to do, if a binlog can't tell them."""
        most = max(1, _PORTION // len(self._readers))
        with ThreadPoolExecutor(len(self._readers)) as pool:
            found = list(pool.map(lambda reader: reader.read_to(goals[reader.instance], most), self._readers))
        return merged(found), all(reader.at(goals[reader.instance]) for reader in self._readers)

    def read_to(self, goals: Mapping[str, Position]) -> Keys:
        """The keys written between where it is and these positions. NoGo, with what to do, if a binlog can't tell them,
        or there are too many to hold."""
        found, there = self.portion(goals)
        while not there:
            more, there = self.portion(goals)
            found = merged([found, more])
            if how_many(found) > _MOST:
                raise NoGo(f"more than {_MOST:,} rows were written since the last look: try again when less is written")
        return found


def merged(many: Iterable[Keys]) -> Keys:
    """All those keys together."""
    every: dict[str, dict[Shard, set[Key]]] = defaultdict(lambda: defaultdict(set))
    for keys in many:
        for target, shards in keys.items():
            for shard, some in shards.items():
                every[target][shard].update(some)
    return every


def how_many(keys: Keys) -> int:
    return sum(len(some) for shards in keys.values() for some in shards.values())


class _Reader:
    """One instance."""

    def __init__(self, config: Config, instance: str, since: Position):
        self._config, self.instance, self._at = config, instance, since
        self._router: Router | None = None

    def at(self, goal: Position) -> bool:
        return reached(self._at, goal)

    def read_to(self, goal: Position, most: int) -> Keys:
        """The keys up to there, or up to the end of the transaction with which they are `most`."""
        keys: dict[str, dict[Shard, set[Key]]] = defaultdict(lambda: defaultdict(set))
        if self.at(goal):
            return keys
        count = 0
        self._router = self._router or Router(self._config, self.instance)
        number = Stream.server_id(self._config.name, self.instance, "", "changed")
        with Stream(self._config.source(self.instance), self._at, self._router.wanted, server_id=number) as stream:
            for item in stream:
                if item[0] == ROWS:
                    count += self._take(self._router, item, keys)
                    if count > _MOST:
                        raise NoGo(
                            f"one transaction on {self.instance} wrote more than {_MOST:,} rows: run `verify all` "
                            "again, so that it lies before the last clean verification"
                        )
                elif item[0] == STATEMENT:
                    self._refuse(self._router, item)
                elif item[0] in (COMMIT, IDLE, HEARTBEAT) and reached(stream.position(), goal):
                    self._at = goal
                    break
                elif item[0] == COMMIT and count >= most:
                    self._at = stream.position()
                    break
        return keys

    def _refuse(self, router: Router, item: Item) -> None:
        """NoGo if a statement changed rows of ours and doesn't say which."""
        _, schema, sql, sql_mode = item
        for change, shard, target in router.changes(schema, sql, sql_mode):
            if target is not None and change.kind in ("truncate", "dml"):
                raise NoGo(
                    f"the binlog doesn't tell which rows of {shard} were changed by {change.statement!r}: set "
                    "cutover.digests = 'all', or verify again"
                )

    def _take(self, router: Router, item: Item, keys: dict[str, dict[Shard, set[Key]]]) -> int:
        """Adds the keys of an event; how many weren't there."""
        _, operation, table_map, data, start, end, _, _ = item
        layout: Layout | None = table_map.decoder
        if layout is None:
            try:
                layout = table_map.decoder = router.layout(table_map)
            except Doubt as doubt:
                raise NoGo(f"{doubt}; set cutover.digests = 'all', or verify again") from None
            if layout is None:
                return 0
        decoder, places = layout.decoder, [(p,) for p in layout.places]
        kept = keys[str(layout.target)][layout.shard]

        images: Iterable[Image]
        if operation == UPDATE:
            images = (image for pair in decoder.pairs(data, start, end) for image in pair)
        else:
            images = decoder.images(data, start, end)
        before = len(kept)
        kept.update(tuple(decoder.literals(image, p) for p in places) for image in images)
        return len(kept) - before
