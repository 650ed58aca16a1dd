"""Row events of a real server, as the stream gives them."""

from __future__ import annotations

from contextlib import closing
from typing import Any, NamedTuple

from migrate.config import parse_url
from migrate.db import Session
from migrate.position import Position, capture
from migrate.sandbox import Server
from migrate.sync.stream import COMMIT, ROWS, Stream


class Rows(NamedTuple):
    """A row event: INSERT, UPDATE or DELETE of the stream, the table map, where the images lie, the columns in them."""

    operation: int
    table_map: Any
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
