"""Where an instance's binlog stands. Opaque outside the binlog code: a mapping that is stored and handed on."""

from __future__ import annotations

from migrate.db import Session
from migrate.errors import MigrateError, ServerError

Position = dict[str, str]

_SYNTAX = 1064


def capture(session: Session, instance: str) -> Position:
    """The instance's position now. MigrateError if it keeps no binlog or the account may not ask."""
    try:
        rows = session.query("SHOW MASTER STATUS")
    except ServerError as error:
        if error.number != _SYNTAX:  # MySQL 8.4 knows it by another name only
            raise
        rows = session.query("SHOW BINARY LOG STATUS")
    if not rows:
        raise MigrateError(f"{instance} keeps no binlog (log_bin is OFF): start it with --log-bin")
    file, offset = rows[0][:2]
    gtid = session.query("SHOW GLOBAL VARIABLES LIKE 'gtid_executed'")
    uuid = session.query("SHOW GLOBAL VARIABLES LIKE 'server_uuid'")
    return {
        "file": str(file),
        "offset": str(offset),
        "gtid_set": str(gtid[0][1]).replace("\n", "") if gtid else "",
        "server_uuid": str(uuid[0][1]) if uuid else "",
    }
