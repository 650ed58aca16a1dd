"""Has sync's followers stand still at given positions, by the table that they watch, while a cut is made."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from migrate.db import Session, patiently, wait
from migrate.errors import MigrateError, ServerError, TryAgain
from verify.snapshot import Position

log = logging.getLogger("verify")

_LASTS_S = 15  # a halt of a verifier that died
_ALIVE_S = 10  # a follower with an older heartbeat is dead
_POLL_S = 0.05
_NO_TABLE = 1146, 1049
_OTHERS_S = 120  # how long another verifier's cut is waited for


class SyncStopped(MigrateError):
    """A follower gave no sign of life, or didn't stand still in time."""


def following(session: Session, migration: str) -> dict[str, float]:
    """Seconds since each follower's last sign of life, by instance; of one that said that it ends, too many for it to
    be alive. {} if sync never ran."""
    try:
        rows = session.query(
            "SELECT instance, TIMESTAMPDIFF(MICROSECOND, heartbeat, NOW(6)), "
            "COALESCE(state->>'$.state' IN ('stopped', 'ended'), 0) FROM migrate_meta.sync_status WHERE migration = %s",
            [migration],
        )
    except ServerError as error:
        if error.number in _NO_TABLE:
            return {}
        raise
    return {str(instance): max(int(age) / 1e6, _ALIVE_S * int(over)) for instance, age, over in rows}


def alive(ages: Mapping[str, float], instances: Sequence[str]) -> bool:
    """Whether sync runs. SyncStopped if it does for some of the instances only: no cut could span them."""
    running = [i for i in instances if ages.get(i, _ALIVE_S) < _ALIVE_S]
    if running and len(running) < len(instances):
        dead = ", ".join(i for i in instances if i not in running)
        raise SyncStopped(
            f"sync runs for {', '.join(running)} and not for {dead}: start it there, or stop it everywhere"
        )
    return bool(running)


def held(session: Session, migration: str) -> list[str]:
    """What sync holds back for the operator, in words: those tables can't be equal."""
    try:
        rows = session.query(
            "SELECT target, instance, reason FROM migrate_meta.hold WHERE migration = %s AND resolution IS NULL",
            [migration],
        )
    except ServerError as error:
        if error.number in _NO_TABLE:
            return []
        raise
    return [f"{target}: sync holds back the changes of {instance}: {reason}" for target, instance, reason in rows]


class Halts:
    """All followers of a migration, standing still while the block lasts.

    The rows are good for some seconds only and are renewed while we wait, so a verifier that is killed costs sync no
    more than that. SyncStopped if the followers don't get where they are asked to within `patience_s`.
    """

    def __init__(self, session: Session, migration: str, instances: Sequence[str], patience_s: float):
        self._session, self._migration, self._instances = session, migration, list(instances)
        self._patience_s = patience_s
        self._me = f"verify {socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._renewed = 0.0
        self._wanted: Mapping[str, Position] = {}

    def __enter__(self) -> Self:
        """Asks them to stop at the next transaction's end, and returns once they do."""
        deadline = time.monotonic() + _OTHERS_S
        while holder := patiently(_OTHERS_S, self._insert, TryAgain):
            if time.monotonic() > deadline:
                raise SyncStopped(f"{holder} keeps sync halted for a cut of its own; wait for it")
            log.info("waiting: %s takes a cut", holder)
            wait(0.2)
        try:
            self._await("stop")
        except BaseException:
            self._delete()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._delete()

    def move(self, positions: Mapping[str, Position]) -> None:
        """Lets each go on up to exactly its position, and returns once all stand there."""
        self._wanted = positions
        for instance, position in positions.items():
            self._session.execute(
                "UPDATE migrate_meta.halt SET position = %s, reached_at = NULL, reached = NULL, "
                f"`until` = NOW(6) + INTERVAL {_LASTS_S} SECOND WHERE migration = %s AND instance = %s "
                "AND requested_by = %s",
                (json.dumps(position), self._migration, instance, self._me),
            )
        self._await("apply what was written up to the cut")

    def standing(self) -> bool:
        """Whether all stand where they were asked to, by our word and not by one that has run out."""
        return self._reached() == set(self._instances)

    def _insert(self) -> str | None:
        """Asks for the halts, all or none; who has asked for others that are good still."""
        with self._session.transaction():
            # TiDB locks rows, not gaps: where no halt is there yet, the migration's own row makes verifiers take turns
            self._session.query("SELECT 1 FROM migrate_meta.migration WHERE name = %s FOR UPDATE", [self._migration])
            rows = self._session.query(
                "SELECT requested_by FROM migrate_meta.halt WHERE migration = %s AND `until` > NOW(6) FOR UPDATE",
                [self._migration],
            )
            if rows:
                return str(rows[0][0])
            for instance in self._instances:
                self._session.execute(
                    "REPLACE INTO migrate_meta.halt (migration, instance, requested_by, `until`) "
                    f"VALUES (%s, %s, %s, NOW(6) + INTERVAL {_LASTS_S} SECOND)",
                    (self._migration, instance, self._me),
                )
        self._renewed = time.monotonic()
        return None

    def _delete(self) -> None:
        self._session.execute(
            "DELETE FROM migrate_meta.halt WHERE migration = %s AND requested_by = %s", (self._migration, self._me)
        )

    def _reached(self) -> set[str]:
        rows = self._session.query(
            "SELECT instance, reached FROM migrate_meta.halt WHERE migration = %s AND requested_by = %s "
            "AND reached_at IS NOT NULL AND `until` > NOW(6)",
            (self._migration, self._me),
        )
        return {str(instance) for instance, where in rows if self._is_there(str(instance), json.loads(where or "{}"))}

    def _is_there(self, instance: str, position: Position) -> bool:
        """Whether a follower that says it stands does so where it should, as far as two files of one server tell."""
        wanted = self._wanted.get(instance, {})
        if not wanted.get("file") or wanted["server_uuid"] != position.get("server_uuid"):
            return True
        if (position["file"], position["offset"]) == (wanted["file"], wanted["offset"]):
            return True
        return bool(wanted["gtid_set"]) and position.get("gtid_set") == wanted["gtid_set"]

    def _await(self, what: str) -> None:
        began = told = time.monotonic()
        while missing := sorted(set(self._instances) - self._reached()):
            now = time.monotonic()
            ages = following(self._session, self._migration)
            dead = [i for i in missing if ages.get(i, _ALIVE_S) >= _ALIVE_S]
            if dead:
                raise SyncStopped(f"sync of {', '.join(dead)} gives no sign of life; start it again")
            if now - began > self._patience_s:
                raise SyncStopped(
                    f"sync of {', '.join(missing)} didn't {what} within {self._patience_s:g} s; "
                    "wait until it has caught up (migrate status)"
                )
            if now - self._renewed > _LASTS_S / 5:
                self._session.execute(
                    f"UPDATE migrate_meta.halt SET `until` = NOW(6) + INTERVAL {_LASTS_S} SECOND "
                    "WHERE migration = %s AND requested_by = %s",
                    (self._migration, self._me),
                )
                self._renewed = now
            if now - told > 5:
                log.warning("waiting: sync of %s has yet to %s", ", ".join(missing), what)
                told = now
            wait(_POLL_S)
