"""What a follower hears from other terminals and says to them: a thread of its own, over rows of migrate_meta."""

from __future__ import annotations

import json
import logging
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from time import monotonic, time
from typing import Any

from migrate.config import Config
from migrate.db import Session
from migrate.errors import ConnectionLost, OutcomeUnknown, ServerError, TryAgain
from migrate.position import Position, file_number, reached, standing
from migrate.sync.lent import forget_passed

log = logging.getLogger("migrate")

_POLL_S = 0.2
_SAY_S = 0.5
_MEASURE_S = 0.5
_ANSWER_S, _AWAY_S = 2.0, 2.0  # how long the source is waited for, and left alone when it didn't answer
_RATE_S = 5.0
_TIDY_S = 10.0


@dataclass
class Progress:
    """What a follower tells of itself. Counts are of this run; `lag_s` is None until something is known."""

    state: str = "starting"
    reason: str = ""
    position: Position = field(default_factory=dict)
    source_time: float = 0.0
    caught_up_at: float = 0.0  # when the source was last asked where it stands, and all up to there was applied
    clock_s: float = 0.0  # what the source's clock is ahead of ours
    events: int = 0
    changes: int = 0
    transactions: int = 0
    batches: int = 0
    waited_s: float = 0.0  # for the target, with a batch at hand
    retries: int = 0
    reconnects: int = 0
    doubts: int = 0
    lag_bytes: int | None = None
    rate: float = 0.0

    def lag_s(self, now: float) -> float | None:
        """Seconds that the target is behind the source at most; None as long as it isn't known."""
        if now - self.caught_up_at < 2 * _MEASURE_S:
            return 0.0
        if not self.source_time and not self.caught_up_at:
            return None
        return max(0.0, now - max(self.caught_up_at, self.source_time - self.clock_s))


@dataclass(frozen=True)
class Halt:
    """Somebody wants us to stand still: at `position`, or at the next boundary (None)."""

    position: Position | None


class Monitor(threading.Thread):
    """Reads `control`, `halt` and `hold`, and writes `sync_status`. The follower looks at `wanted`, `halt` and
    `resolved` between transactions. A target that is away for a while leaves them as they were."""

    def __init__(self, config: Config, instance: str, progress: Progress):
        super().__init__(daemon=True, name="monitor")
        self._config, self._instance, self._progress = config, instance, progress
        self._ended = threading.Event()
        self._names = (config.name, instance)
        self._reached: tuple[Halt | None, Position] = (None, {})
        self.failed: Exception | None = None
        self.wanted = "run"
        self.halt: Halt | None = None
        self.resolved: set[str] = set()  # held targets that the operator has decided about

    def reached(self, halt: Halt | None, position: Position) -> None:
        """Says that the follower stands, by that halt, at a position with everything before it applied; None: it goes
        on."""
        self._reached = (halt, position)

    def run(self) -> None:
        try:
            self._watch()
        except Exception as error:  # whoever follows must not go on unheard and unseen
            self.failed = error

    def _watch(self) -> None:
        session: Session | None = None
        source: Session | None = None
        said = measured = rated = tidied = 0.0
        changes = 0
        while not self._ended.wait(_POLL_S):
            try:
                session = session or Session(self._config.target)
                self._hear(session)
                now = monotonic()
                if now - measured >= _MEASURE_S:
                    source = self._measured(source)
                    measured = monotonic() if source else monotonic() + _AWAY_S
                if now - rated >= _RATE_S:
                    self._progress.rate = (self._progress.changes - changes) / (now - rated) if rated else 0.0
                    rated, changes = now, self._progress.changes
                if now - said >= _SAY_S:
                    self.say(session)
                    said = now
                if now - tidied >= _TIDY_S:
                    forget_passed(session, *self._names)
                    tidied = now
            except (ConnectionLost, TryAgain, OutcomeUnknown) as error:
                log.debug("%s: monitor: %s", self._instance, error)
                if session is not None:
                    session.close()
                session = None
        if source is not None:
            source.close()
        with suppress(ServerError), session or Session(self._config.target) as last:
            self.say(last)

    def _measured(self, source: Session | None) -> Session | None:
        """Measures, and gives the session to go on with. None if the source is away or stalls: what there is to hear
        and to say must not wait for it."""
        try:
            source = source or Session(replace(self._config.source(self._instance), answer_s=_ANSWER_S))
            self._measure(source)
        except (ConnectionLost, TryAgain) as error:
            log.debug("%s: monitor: %s", self._instance, error)
            if source is not None:
                source.close()
            return None
        return source

    def _measure(self, source: Session) -> None:
        """How far the source is ahead of what is applied."""
        told = self._progress
        at, asked = told.position, time()
        told.clock_s = float(source.value("SELECT UNIX_TIMESTAMP(NOW(6))")) - asked
        now = standing(source, self._instance)
        comparable = at and (at["server_uuid"] == now["server_uuid"] or (at["gtid_set"] and now["gtid_set"]))
        if comparable and reached(at, now):
            told.caught_up_at = asked
        told.lag_bytes = _bytes_behind(source, now, at)

    def _hear(self, session: Session) -> None:
        name, instance = self._names
        self.wanted = session.value("SELECT wanted FROM migrate_meta.control WHERE migration = %s", [name]) or "run"
        rows = session.query(
            "SELECT position FROM migrate_meta.halt WHERE migration = %s AND instance = %s AND `until` > NOW(6)",
            self._names,
        )
        self.halt = Halt(json.loads(rows[0][0]) if rows[0][0] else None) if rows else None
        self.resolved = {
            target
            for (target,) in session.query(
                "SELECT target FROM migrate_meta.hold WHERE migration = %s AND instance = %s AND resolution IS NOT "
                "NULL",
                self._names,
            )
        }
        stands, position = self._reached
        # Only for what the follower saw when it stopped: a position that was set since then is yet to be reached.
        if stands is not None and stands == self.halt:
            wanted = rows[0][0]
            session.execute(
                "UPDATE migrate_meta.halt SET reached_at = NOW(6), reached = %s WHERE migration = %s AND instance = %s "
                f"AND reached_at IS NULL AND position {'IS NULL' if wanted is None else 'IS NOT NULL'}",
                (json.dumps(position), name, instance),
            )

    def say(self, session: Session) -> None:
        """Writes the status now."""
        now = time()
        state: dict[str, Any] = {**vars(self._progress), "lag_s": self._progress.lag_s(now), "said_at": now}
        session.execute(
            "INSERT INTO migrate_meta.sync_status (migration, instance, heartbeat, state) VALUES (%s, %s, NOW(6), %s) "
            "ON DUPLICATE KEY UPDATE heartbeat = VALUES(heartbeat), state = VALUES(state)",
            (*self._names, json.dumps(state)),
        )

    def end(self) -> None:
        self._ended.set()
        self.join(timeout=10)


def _bytes_behind(source: Session, now: Position, position: Position) -> int | None:
    """How much binlog there is between two positions; None if that can't be told (they are of two servers)."""
    if not position or position["server_uuid"] != now["server_uuid"]:
        return None
    first, last = file_number(position["file"]), file_number(now["file"])
    whole = 0
    if first < last:
        sizes = {file_number(str(row[0])): int(row[1]) for row in source.query("SHOW BINARY LOGS")}
        whole = sum(size for number, size in sizes.items() if first <= number < last)
    return max(0, whole + int(now["offset"]) - int(position["offset"]))
