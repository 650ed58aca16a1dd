"""Where an instance's binlog stands. Opaque outside the binlog code: a mapping that is stored and handed on.

Its entries are all text: `file` and `offset`, between two transactions; `gtid_set`, the GTIDs of all transactions up
to there ("" if the server has none); `server_uuid`, whose binlog the file is (of MariaDB its server_uid); and, where
known, `created`, when the server made the file (epoch seconds), by which a file is told from another of the same name,
and `prepared`, the XA transactions that are prepared there and not committed (space-separated).
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import lru_cache

from migrate.db import Session
from migrate.errors import AccessDenied, MigrateError, ServerError
from migrate.sync.gtid import GtidSet, parse_gtid_set
from migrate.sync.wire import file_created

Position = dict[str, str]

_SYNTAX = 1064


def capture(session: Session, instance: str) -> Position:
    """The instance's position now, to start from. MigrateError if it keeps no binlog or the account may not ask."""
    position = standing(session, instance)
    with suppress(AccessDenied):  # who may not replicate can copy
        position["created"] = str(file_created(session.endpoint, position["file"], int(position["offset"])))
    return position


def standing(session: Session, instance: str) -> Position:
    """The instance's position now, to compare with: it doesn't say when its file was made. Cheap. Errors: capture's."""
    try:
        rows = session.query("SHOW MASTER STATUS")
    except ServerError as error:
        if error.number != _SYNTAX:  # MySQL 8.4 knows it by another name only
            raise
        rows = session.query("SHOW BINARY LOG STATUS")
    if not rows:
        raise MigrateError(f"{instance} keeps no binlog (log_bin is OFF): start it with --log-bin")
    file, offset = str(rows[0][0]), int(rows[0][1])
    return {"file": file, "offset": str(offset), "gtid_set": _gtids(session), "server_uuid": server_uuid(session)}


def _gtids(session: Session) -> str:
    """What is committed, or is about to be: a transaction stands in the binlog before it is in gtid_executed. The set
    may hold later ones than the place; whoever reads rows at the place reads them too."""
    if not session.query("SHOW GLOBAL VARIABLES LIKE 'gtid_executed'"):
        return ""
    owned = owned_gtids(str(session.value("SELECT @@GLOBAL.gtid_owned") or ""))
    gtids = GtidSet.parse(str(session.value("SELECT @@GLOBAL.gtid_executed") or ""))
    for gtid in owned:
        gtids.add_gtid(gtid)
    return str(gtids)


def owned_gtids(text: str) -> set[str]:
    """The GTIDs that sessions own, from before they are written to the binlog until they are committed; the text has
    them as uuid[:tag]:number#session, further ones of the same uuid behind colons, uuids between commas."""
    found = set()
    for owned in filter(None, re.split(r"[,\s]+", text)):
        source, *pieces = owned.split(":")
        tag = ""
        for piece in pieces:
            if piece[:1].isdigit():
                found.add(f"{source}{tag}:{piece.split('#')[0]}")
            else:
                tag = f":{piece}"
    return found


def server_uuid(session: Session) -> str:
    """What tells the server from others: its UUID, or MariaDB's server_uid; "" where it has none (before 10.11)."""
    rows = session.query("SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid', 'server_uid')")
    return str(rows[0][1]) if rows else ""


def place(position: Position) -> tuple[int, int]:
    """The position as a number of its file and an offset in it, to compare with others of the same server."""
    return file_number(position["file"]), int(position["offset"])


@lru_cache(maxsize=64)
def file_number(file: str) -> int:
    """The number at the end of a binlog file's name. MigrateError if it has none."""
    number = file.rpartition(".")[2]
    if not number.isdigit():
        raise MigrateError(f"{file!r} isn't the name of a binlog file: it doesn't end in a number")
    return int(number)


def covers(position: Position, gtid: str | None, file: str, end_offset: int) -> bool:
    """Whether a transaction (its GTID if it has one, and where it ends) has been passed at a position: by its GTID
    where both have them, else by its place, which must be of the same server."""
    if gtid and position["gtid_set"]:
        return parse_gtid_set(position["gtid_set"]).contains(gtid)
    return (file_number(file), end_offset) <= place(position)


def reached(position: Position, goal: Position) -> bool:
    """Whether all that has been passed at `goal` has been passed at `position` too."""
    if position["server_uuid"] == goal["server_uuid"]:
        return place(position) >= place(goal)
    if not (position["gtid_set"] and goal["gtid_set"]):
        raise MigrateError("positions of two servers can be compared by their GTIDs only, and these have none")
    return GtidSet.parse(goal["gtid_set"]).within(GtidSet.parse(position["gtid_set"]))
