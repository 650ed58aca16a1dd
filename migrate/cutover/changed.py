"""Which rows were written since a position, by the binlog: what a verification in the freeze must look at again."""

from __future__ import annotations

from collections import defaultdict
from zlib import crc32

from migrate.config import Config
from migrate.errors import NoGo
from migrate.model import Shard
from migrate.position import Position, reached
from migrate.sync.batch import Doubt, Layout
from migrate.sync.router import Router
from migrate.sync.stream import COMMIT, HEARTBEAT, IDLE, ROWS, UPDATE, Stream

_MOST = 5_000_000  # keys; a verification is cheaper then


class Changed:
    """The keys of the rows of one instance that were written since `since`, as SQL literals of the merged table, by
    target and shard. It can be read on further, so that little is left to read in the freeze."""

    def __init__(self, config: Config, instance: str, since: Position):
        self._config, self.instance, self._at = config, instance, since
        self.keys: dict[str, dict[Shard, set[str]]] = defaultdict(lambda: defaultdict(set))
        self._count = 0

    def read_to(self, goal: Position) -> None:
        """Reads the binlog up to that position. NoGo if rows of more keys were written than can be kept."""
        if reached(self._at, goal):
            return
        router = Router(self._config, self.instance)
        number = 0x6000_0000 | crc32(f"{self._config.name}/{self.instance}/changed".encode()) & 0x0FFF_FFFF
        with Stream(self._config.source(self.instance), self._at, router.wanted, server_id=number) as stream:
            for item in stream:
                if item[0] == ROWS:
                    self._take(router, item)
                elif item[0] in (COMMIT, IDLE, HEARTBEAT) and reached(stream.position(), goal):
                    break
            self._at = stream.position()

    def _take(self, router: Router, item: tuple) -> None:  # type: ignore[type-arg]
        _, operation, table_map, data, start, end, _, _ = item
        layout: Layout | None = table_map.decoder
        if layout is None:
            try:
                layout = table_map.decoder = router.layout(table_map)
            except Doubt as doubt:
                raise NoGo(f"{doubt}; set cutover.digests = 'all', or verify again") from None
            if layout is None:
                return
        kept = self.keys[str(layout.target)][layout.shard]
        literal = layout.decoder.key_literal
        before = len(kept)
        if operation == UPDATE:
            for old, new in layout.decoder.pairs(data, start, end):
                kept.add(literal(old))
                kept.add(literal(new))
        else:
            kept.update(map(literal, layout.decoder.images(data, start, end)))
        self._count += len(kept) - before
        if self._count > _MOST:
            raise NoGo(
                f"more than {_MOST:,} rows of {self.instance} were written since the last clean verification: verify "
                "again shortly before the cutover"
            )
