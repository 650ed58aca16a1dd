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
from migrate.sync.stream import COMMIT, HEARTBEAT, IDLE, ROWS, UPDATE, Item, Stream

Keys = Mapping[str, Mapping[Shard, Collection[Key]]]  # by target and shard, as SQL literals of the merged table

_MOST = 5_000_000  # keys; a verification of everything is cheaper then


class Changed:
    """The keys of the rows of all instances that were written since positions. It reads on from where it is, so that
    little is left to read in the freeze."""

    def __init__(self, config: Config, since: Mapping[str, Position]):
        self._readers = [_Reader(config, name, position) for name, position in since.items()]

    def read_to(self, goals: Mapping[str, Position]) -> Keys:
        """The keys written between where it is and these positions. NoGo, with what to do, if a binlog can't tell them,
        or there are too many."""
        with ThreadPoolExecutor(len(self._readers)) as pool:
            found = list(pool.map(lambda reader: reader.read_to(goals[reader.instance]), self._readers))
        return merged(found)


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

    def read_to(self, goal: Position) -> Keys:
        keys: dict[str, dict[Shard, set[Key]]] = defaultdict(lambda: defaultdict(set))
        if reached(self._at, goal):
            return keys
        self._router = self._router or Router(self._config, self.instance)
        number = Stream.server_id(self._config.name, self.instance, "", "changed")
        with Stream(self._config.source(self.instance), self._at, self._router.wanted, server_id=number) as stream:
            for item in stream:
                if item[0] == ROWS:
                    self._take(self._router, item, keys)
                elif item[0] in (COMMIT, IDLE, HEARTBEAT) and reached(stream.position(), goal):
                    break
        self._at = goal
        return keys

    def _take(self, router: Router, item: Item, keys: dict[str, dict[Shard, set[Key]]]) -> None:
        _, operation, table_map, data, start, end, _, _ = item
        layout: Layout | None = table_map.decoder
        if layout is None:
            try:
                layout = table_map.decoder = router.layout(table_map)
            except Doubt as doubt:
                raise NoGo(f"{doubt}; set cutover.digests = 'all', or verify again") from None
            if layout is None:
                return
        decoder, places = layout.decoder, [(p,) for p in layout.places]
        kept = keys[str(layout.target)][layout.shard]

        images: Iterable[Image]
        if operation == UPDATE:
            images = (image for pair in decoder.pairs(data, start, end) for image in pair)
        else:
            images = decoder.images(data, start, end)
        kept.update(tuple(decoder.literals(image, p) for p in places) for image in images)
        if len(kept) > _MOST:
            raise NoGo(
                f"more than {_MOST:,} rows of {layout.shard} were written since the last clean verification: run "
                "`verify all` again shortly before"
            )
