"""Where a stream may start: the position against what the server has now. Anything doubtful is refused."""

from __future__ import annotations

from time import monotonic

from migrate.db import wait
from migrate.errors import MigrateError, NoGo, ServerError
from migrate.position import Position, file_number
from migrate.sync.gtid import GtidSet
from migrate.sync.wire import Wire

_NOT_BINLOGGING = 1381
_LARGEST_OFFSET = 0xFFFFFFFF
_MOST_COMMITTING = 1000
_SETTLE_S = 15.0  # what a committed transaction may take from the binlog into gtid_executed, with semi-sync
_AGAIN = "copy again from a new position: give the migration another name and start with an empty target"


def request(wire: Wire, start: Position, uuid: str) -> bool:
    """Asks the server (of that UUID) for all that follows a position. True if by file and offset, False if by GTIDs.

    NoGo if what follows the position isn't there, or isn't known to be what followed it.
    """
    gtids = GtidSet.parse(start["gtid_set"])
    if uuid != start["server_uuid"]:
        if not gtids:
            raise NoGo(
                f"{wire.endpoint} is the server {uuid or 'without UUID'}, the position {_text(start)} is of the "
                f"server {start['server_uuid'] or 'without UUID'} and has no GTIDs: a file's name and offset mean "
                f"nothing on another server; connect to the one that it was, or {_AGAIN}"
            )
        _check_gtids(wire, start, gtids)
        wire.dump_gtids(gtids.encode())
        return False
    files = _files(wire)
    if start["file"] in files:
        return _by_place(wire, start, gtids, files[start["file"]])
    if files and file_number(next(iter(files))) > file_number(start["file"]):
        if gtids and _mode(wire) == "ON":  # all of what was purged may be in the set
            _check_gtids(wire, start, gtids)
            wire.dump_gtids(gtids.encode())
            return False
        raise NoGo(
            f"{wire.endpoint} has purged {start['file']}, from which sync goes on at {_text(start)}; its oldest binlog "
            f"is {next(iter(files))}: changes are lost to it. Keep binlogs longer (binlog_expire_logs_seconds, "
            f"expire_logs_days) and {_AGAIN}"
        )
    raise _reset(wire, start, f"its binlogs are {', '.join(list(files)[-3:])}")


def _by_place(wire: Wire, start: Position, gtids: GtidSet, size: int) -> bool:
    offset = int(start["offset"])
    if offset > size:
        raise _reset(wire, start, f"that file has {size} bytes")
    _check_executed(wire, start, gtids)
    if offset > _LARGEST_OFFSET:
        if _mode(wire) != "ON":
            raise NoGo(
                f"{wire.endpoint}: the position {_text(start)} is beyond 4 GiB, where the protocol can't start "
                f"without GTIDs; {_AGAIN}"
            )
        wire.dump_gtids(gtids.encode())
        return False
    if offset < size and not wire.event_begins(start["file"], offset):
        raise _reset(wire, start, "no event begins there")
    wire.dump(start["file"], offset)
    return True


def _check_gtids(wire: Wire, start: Position, gtids: GtidSet) -> None:
    """What GTIDs are needed for: that the server has all that we have, and still has what we lack."""
    if _mode(wire) != "ON":
        raise NoGo(
            f"{wire.endpoint} has gtid_mode {_mode(wire)}: sync goes on there by GTIDs from {_text(start)}, since the "
            "server or its binlog isn't the one that it was; set gtid_mode = ON"
        )
    purged = GtidSet.parse(str(wire.value("SELECT @@GLOBAL.gtid_purged") or ""))
    lost = purged.minus(gtids)
    if lost:
        raise NoGo(
            f"{wire.endpoint} has purged transactions that sync hasn't seen: {lost}; it stands at {_text(start)}. "
            f"Point it to a server that still has them, or {_AGAIN}"
        )
    _check_executed(wire, start, gtids)


def _check_executed(wire: Wire, start: Position, gtids: GtidSet) -> None:
    """That the server has executed all that we have; it may need a moment to say so of its last transactions."""
    if wire.mariadb or not gtids:
        return
    deadline = monotonic() + _SETTLE_S
    while missing := gtids.minus(GtidSet.parse(str(wire.value("SELECT @@GLOBAL.gtid_executed") or ""))):
        if len(missing) > _MOST_COMMITTING or monotonic() > deadline:
            raise NoGo(
                f"{wire.endpoint} doesn't have transactions that sync has applied: {missing}; it stands at "
                f"{_text(start)}. The server was reset (RESET MASTER, RESET BINARY LOGS AND GTIDS), restored from an "
                f"older state, or a failover lost them. Point sync to a server that has them, or {_AGAIN}"
            )
        wait(0.1)


def check_created(wire: Wire, start: Position, created: int) -> None:
    """That the file at which the stream begins was made when the position says. NoGo if it is another."""
    if start.get("created", str(created)) != str(created):
        raise _reset(wire, start, "the file of that name is a newer one")


def _reset(wire: Wire, start: Position, why: str) -> NoGo:
    return NoGo(
        f"{wire.endpoint} doesn't have the position {_text(start)}: {why}. Its binlog was reset (RESET MASTER, RESET "
        f"BINARY LOGS AND GTIDS) or cut by a crash; {_AGAIN}"
    )


def refused(wire: Wire, start: Position, error: ServerError) -> MigrateError:
    """What the server answered to the request, or later in the stream, and waiting doesn't mend."""
    if "same server_uuid/server_id" in error.message:  # of its number there are many reasons
        return wire.lost("another stream with our server_id began")
    return NoGo(
        f"{wire.endpoint} refuses to send its binlog at {wire.file}:{wire.offset} (sync began at {_text(start)}): "
        f"{error.message}. Nothing was applied past it; mend what it names, or {_AGAIN}"
    )


def _mode(wire: Wire) -> str:
    rows = wire.query("SHOW GLOBAL VARIABLES LIKE 'gtid_mode'")
    return str(rows[0][1]) if rows else "OFF"


def _files(wire: Wire) -> dict[str, int]:
    """Size in bytes of each binlog file, oldest first."""
    try:
        rows = wire.query("SHOW BINARY LOGS")
    except ServerError as error:
        if error.number != _NOT_BINLOGGING:
            raise
        raise NoGo(f"{wire.endpoint} keeps no binlog (log_bin is OFF): start it with --log-bin") from None
    return {str(row[0]): int(row[1]) for row in rows}


def _text(start: Position) -> str:
    gtids = start["gtid_set"]
    shown = gtids if len(gtids) < 200 else f"{gtids[:200]}.."
    return f"{start['file']}:{start['offset']}" + (f" ({shown})" if shown else "")
