"""The cut: one position of each instance and one TSO of the target that show the same moment."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from migrate.config import Config, Endpoint
from migrate.db import Session, connect, wait
from migrate.errors import ConfigError, ConnectionLost, MigrateError, OutcomeUnknown, ServerError
from migrate.model import Shard
from verify.halts import Halts, alive, following, held
from verify.snapshot import Busy, Position, open_exactly, open_loosely, read_position

log = logging.getLogger("verify")

_TRIES = 6
_CAUGHT_UP_S = 300  # how long sync may take to apply what it lags behind a cut


class CutLost(MigrateError):
    """A snapshot is gone (connection lost, history collected): what isn't proven yet needs a new cut."""


class HistoryGone(CutLost):
    """The target has collected the history of the cut: the reading took longer than it keeps any."""


@dataclass(frozen=True, slots=True)
class CutRecord:
    """What is told of a cut. `exact`: sync stood at exactly these positions when the target's TSO was taken. If not,
    the two sides show the same moment only as far as nothing was written."""

    number: int
    taken_at: str  # UTC
    positions: dict[str, Position]
    tso: int
    exact: bool
    history: str  # for how long the target keeps it (tidb_gc_life_time)
    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "taken_at": self.taken_at,
            "positions": self.positions,
            "tso": str(self.tso),
            "exact": self.exact,
            "history": self.history,
            "notes": list(self.notes),
        }

    @classmethod
    def of(cls, document: dict[str, Any]) -> CutRecord:
        """The record of such a document."""
        return cls(**{**document, "tso": int(document["tso"]), "notes": tuple(document["notes"])})


@dataclass(slots=True)
class Cut:
    """An open cut: per instance sessions that read it as of its position. Close it. `gone`: it can't be read."""

    record: CutRecord
    sessions: dict[str, list[Session]]
    opened: float  # time.monotonic
    gone: bool = False

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.opened

    def moved(self, config: Config) -> list[str]:
        """The instances that were written since."""
        found = []
        for name, position in self.record.positions.items():
            with connect(_reads_from(config, name), patience_s=config.run.patience_s) as session:
                now = read_position(session)
            if (now.get("file"), now.get("offset")) != (position.get("file"), position.get("offset")):
                found.append(name)
        return found

    def close(self) -> None:
        for sessions in self.sessions.values():
            for session in sessions:
                session.close()


class Cutter:
    """Takes cuts of a migration's tables, one after the other."""

    def __init__(self, config: Config, shards: Sequence[Shard], sessions: int, *, still: bool = False):
        """`shards` in the order of the routes; `sessions`: how many of them each instance is read by; `still`: nobody
        writes to either side, so a cut needs no lock, and sync needn't be halted for it."""
        self.config = config
        self._still = still
        self._shards = {s.name: [shard for shard in shards if shard.instance == s.name] for s in config.sources}
        self._shards = {name: found for name, found in self._shards.items() if found}
        self._sessions = sessions
        self.records: list[CutRecord] = []

    def take(self) -> Cut:
        """A new cut. Where a lock isn't had, sync goes on meanwhile and we try again after a pause.

        Busy, SyncStopped or AccessDenied say why there is none.
        """
        pause = 0.5
        for _ in range(_TRIES - 1):
            try:
                return self._take()
            except (Busy, ConnectionLost, OutcomeUnknown) as error:
                log.warning("waiting: %s (next try in %.1f s)", error, pause)
            wait(pause)
            pause *= 2
        return self._take()

    def _take(self) -> Cut:
        config, instances = self.config, list(self._shards)
        with ExitStack() as undo, connect(config.target, patience_s=config.run.patience_s) as session:
            history = _history(session, config.verify.renew_s)
            notes = []
            ages = following(session, config.name)
            exact = not self._still and alive(ages, instances)
            sessions = {name: undo.enter_context(_Open(config, name, self._sessions)).sessions for name in instances}
            if exact:
                with Halts(session, config.name, instances, _CAUGHT_UP_S) as halts:
                    positions = self._snapshots(sessions, exact)
                    halts.move(positions)
                    tso = read_tso(session)
                    if not halts.standing():
                        raise Busy("sync's halt ran out before the cut was made")
            else:
                if ages and not self._still:
                    notes.append(
                        f"sync doesn't run (last sign of life {min(ages.values()):.0f} s ago): the target stands where "
                        "it stopped"
                    )
                positions = self._snapshots(sessions, exact)
                tso = read_tso(session)
                notes += [
                    f"{name} tells no position (its binlog is off, or the account lacks REPLICATION CLIENT): nobody "
                    "knows whether it was written meanwhile"
                    for name, position in positions.items()
                    if not position
                ]
            notes += held(session, config.name)
            undo.pop_all()
        record = CutRecord(
            len(self.records) + 1,
            datetime.now(UTC).isoformat(timespec="milliseconds"),
            positions,
            tso,
            exact,
            history,
            tuple(notes),
        )
        self.records.append(record)
        return Cut(record, sessions, time.monotonic())

    def _snapshots(self, sessions: dict[str, list[Session]], exact: bool) -> dict[str, Position]:
        """Opens all instances' snapshots side by side."""

        def one(name: str) -> Position:
            own = sessions[name]
            if not exact:
                return open_loosely(own)
            endpoint = _reads_from(self.config, name)
            position, count = open_exactly(endpoint, own, self._shards[name], self.config.verify.lock_s)
            for session in own[count:]:
                session.close()
            del own[count:]
            if name in self.config.replicas:
                return _of_the_source(position, self.config.source(name), endpoint)
            return position

        with ThreadPoolExecutor(len(sessions)) as pool:
            return dict(zip(sessions, pool.map(one, sessions), strict=True))


class _Open:
    """Sessions of an instance that are closed again unless the cut succeeds."""

    def __init__(self, config: Config, name: str, count: int):
        endpoint, patience = _reads_from(config, name), config.run.patience_s
        self.sessions: list[Session] = []
        try:
            for _ in range(count):
                self.sessions.append(connect(endpoint, patience_s=patience))
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> _Open:
        return self

    def __exit__(self, *exc: object) -> None:
        for session in self.sessions:
            session.close()


def read_tso(session: Session) -> int:
    """A TSO of the target: what was committed before is seen at it, what is committed from now on isn't."""
    session.execute("BEGIN")
    tso = int(session.value("SELECT @@tidb_current_ts"))
    session.execute("ROLLBACK")
    return tso


def _reads_from(config: Config, instance: str) -> Endpoint:
    return config.replicas.get(instance) or config.source(instance)


def _of_the_source(position: Position, source: Endpoint, replica: Endpoint) -> Position:
    """A replica's position as one of its source, which the two have GTIDs for."""
    with connect(source) as session:
        own = read_position(session)
    known = {part.split(":")[0].strip() for part in own.get("gtid_set", "").split(",") if part}
    parts = [p.strip() for p in position.get("gtid_set", "").split(",") if p and p.split(":")[0].strip() in known]
    if not parts:
        raise ConfigError(
            f"{replica}: a replica without its source's GTIDs has no position that sync could stop at; turn GTIDs on "
            "for both, or take `replica` of this source out of the config"
        )
    if sum(len(p.split(":")) - 1 for p in parts) > sum(len(p.split(":")) - 1 for p in own["gtid_set"].split(",") if p):
        raise Busy(
            f"{replica} has applied transactions out of their order, which no position describes (if it stays so: "
            "slave_preserve_commit_order = ON)"
        )
    return {**position, "gtid_set": ",".join(parts)}


def _history(session: Session, renew_s: int) -> str:
    """How long the target keeps history. ConfigError if that is too short for cuts of that age."""
    text = str(session.value("SELECT @@global.tidb_gc_life_time"))
    seconds = _go_duration(text)
    if seconds < 2 * renew_s:
        raise ConfigError(
            f"the target keeps history for {text} (tidb_gc_life_time), and cuts may get {renew_s} s old with "
            f"statements still running: SET GLOBAL tidb_gc_life_time = '{max(10, renew_s // 20)}m', or lower "
            f"verify.renew_s to {int(seconds // 2)}"
        )
    return text


def _go_duration(text: str) -> float:
    """Seconds of a duration as Go writes it: 1h10m0s."""
    total, number = 0.0, ""
    for letter in text:
        if letter in "hms":
            total += float(number) * {"h": 3600, "m": 60, "s": 1}[letter]
            number = ""
        else:
            number += letter
    return total


def snapshot_target(session: Session, cut: Cut) -> None:
    """Has a session of the target read it as of the cut from now on. HistoryGone if it can't."""
    try:
        session.execute(f"SET SESSION tidb_snapshot = '{cut.record.tso}'")
    except ServerError as error:
        if error.number == 8055:
            raise HistoryGone(f"{session.endpoint}: {error.message}: raise tidb_gc_life_time") from None
        raise
