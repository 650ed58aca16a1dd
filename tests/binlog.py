"""Row events of a real server, as the stream gives them, decoded and written as sync does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple

from migrate.catalog import read_catalog
from migrate.config import parse_url
from migrate.db import Session
from migrate.model import Interleave, ShardTable, Target
from migrate.position import Position, capture
from migrate.sandbox import Server
from migrate.sync.image import Image, RowDecoder
from migrate.sync.stream import COMMIT, ROWS, UPDATE, Stream
from migrate.sync.tablemap import TableMap
from migrate.sync.writer import RawRow, Writer


class Rows(NamedTuple):
    """A row event: INSERT, UPDATE or DELETE of the stream, the table map, where the images lie, the columns in them."""

    operation: int
    table_map: TableMap
    data: bytes
    start: int
    stop: int
    before: bytes | None
    after: bytes | None


def position(server: Server) -> Position:
    """Where the server's binlog stands now."""
    with Session(parse_url(server.url, server.name)) as session:
        return capture(session, server.name)


def changes(server: Server, since: Position, schema: str) -> list[Rows]:
    """The row events of a schema from a position up to now."""
    run_up_to = position(server)
    found: list[Rows] = []
    endpoint = parse_url(server.url, server.name)
    if since["file"] == run_up_to["file"] and since["offset"] == run_up_to["offset"]:
        return found
    with closing(Stream(endpoint, since, lambda s, _: s == schema, server_id=4_000_000_001)) as stream:
        for item in stream:
            if item[0] == ROWS:
                found.append(Rows(*item[1:]))
            elif item[0] == COMMIT and (item[2], item[3]) >= (run_up_to["file"], int(run_up_to["offset"])):
                break
    return found


class Replay:
    """The row events of a schema since a position, by table, with decoders by its definitions now."""

    def __init__(self, source: Server, schema: str, since: dict[str, str], remap: dict[str, Interleave] | None = None):
        with Session(parse_url(source.url, source.name)) as session:
            self.tables = {t.shard.table: t for t in read_catalog(session, source.name, [schema])}
        self.events: dict[str, list[Rows]] = {name: [] for name in self.tables}
        for event in changes(source, since, schema):
            self.events[event.table_map.table].append(event)
        self._remap = remap or {}

    def decoder(self, table: str) -> RowDecoder:
        found: ShardTable = self.tables[table]
        told = self.events[table][0].table_map
        decoder = RowDecoder(found.shard, found.definition, told, self._remap)
        for event in self.events[table]:
            decoder.require_full(event.before, event.after)
        return decoder

    def images(self, table: str, operation: int) -> list[Image]:
        decoder = self.decoder(table)
        events = [e for e in self.events[table] if e.operation == operation]
        return [image for e in events for image in decoder.images(e.data, e.start, e.stop)]

    def pairs(self, table: str) -> list[tuple[Image, Image]]:
        decoder = self.decoder(table)
        events = [e for e in self.events[table] if e.operation == UPDATE]
        return [pair for e in events for pair in decoder.pairs(e.data, e.start, e.stop)]


def store(writer: Writer, target: Target, decoder: RowDecoder, images: Sequence[Image]) -> None:
    """Loads the images' lines. AssertionError if the target says anything against them."""
    taken = writer.load(target, decoder.columns, list(map(decoder.line, images)), replace=False)
    assert taken == (len(images), 0), writer.warnings()


def shown(writer: Writer, target: Target, decoder: RowDecoder, where: str) -> list[RawRow]:
    """Rows of the target as `unlike` takes them."""
    return writer.rows(f"SELECT {decoder.select} FROM {target.sql} WHERE {where}")


@contextmanager
def writing(server: Server) -> Iterator[Writer]:
    """A connection as sync writes by."""
    writer = Writer(parse_url(server.url, server.name))
    try:
        yield writer
    finally:
        writer.close()
