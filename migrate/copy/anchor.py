"""Where a copy is anchored: the position of each instance, and the tables as they are defined at exactly it."""

from __future__ import annotations

import logging
from time import monotonic

from migrate.config import Config, Endpoint
from migrate.db import Session, wait
from migrate.errors import MigrateError, NoGo
from migrate.model import MergedTable
from migrate.position import Position, capture, owned_gtids
from migrate.source import fingerprint, on_every_instance, read_routing
from migrate.xa import in_sql, prepared

log = logging.getLogger("migrate")

_SETTLE_S = 1.0  # what a transaction may take from the binlog to the tables, where the server can't tell
_LONGEST_S = 60.0


def anchor(config: Config, tables: tuple[MergedTable, ...]) -> tuple[tuple[MergedTable, ...], dict[str, Position]]:
    """The routed tables, `tables` or newer, and the positions at which those definitions are in force.

    What is read from now on holds every transaction before these positions. Where a statement changes a definition
    meanwhile, it is done again.
    """
    while True:
        positions = on_every_instance(config, _settled_position)
        again = read_routing(config).checked()
        if fingerprint(again) == fingerprint(tables):
            return again, positions
        log.warning("waiting: a table was changed while the positions were read; reading again")
        wait(0.2)
        tables = again


def _settled_position(session: Session, endpoint: Endpoint) -> Position:
    """A position whose transactions are all in the tables. A transaction stands in the binlog before it is committed:
    read between the two, its rows would be in the binlog too early and in the tables too late. So does an XA
    transaction from when it is prepared. The end of each is waited for, and the position names it: sync meets it there,
    and all of it was read."""
    open_xa = prepared(session) or set()
    position = capture(session, endpoint.name)
    if open_xa := open_xa | (prepared(session) or set()):
        _await_end(session, endpoint.name, open_xa)
        position["prepared"] = " ".join(sorted(open_xa))
    if ("gtid_mode", "ON") not in session.query("SHOW GLOBAL VARIABLES LIKE 'gtid_mode'"):
        wait(_SETTLE_S)
        return position
    begun, pause = monotonic(), 0.002
    committing = _committing(session)
    while committing:
        if monotonic() - begun > _LONGEST_S:
            raise MigrateError(
                f"{endpoint.name}: {', '.join(sorted(committing))} of @@GLOBAL.gtid_owned isn't committed after "
                f"{_LONGEST_S:.0f} s: end the session that has it, then run the same command again"
            )
        wait(pause)
        committing &= _committing(session)
        pause = min(2 * pause, 1)
    return position


def _await_end(session: Session, name: str, xids: set[str]) -> None:
    begun = monotonic()
    log.warning("%s: waiting: %d XA transactions are prepared and not ended", name, len(xids))
    while xids := xids & (prepared(session) or set()):
        if monotonic() - begun > _LONGEST_S:
            xid = in_sql(min(xids))
            raise NoGo(
                f"{name}: {len(xids)} XA transactions were prepared before the copy and haven't ended after "
                f"{_LONGEST_S:.0f} s, {xid} for one: what they changed would be in neither the copy nor sync. End them "
                f"(XA RECOVER shows them; XA COMMIT {xid} or XA ROLLBACK {xid}), then run the same command again"
            )
        wait(0.1)


def _committing(session: Session) -> set[str]:
    return owned_gtids(str(session.value("SELECT @@GLOBAL.gtid_owned") or ""))
