"""Takes changes to the secondary as soon as they are committed, in threads of the application's process. What it can't
bring there in time stays in the outbox, where `migrate double-write drain` finds it."""

from __future__ import annotations

import heapq
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from migrate.config import Config, Endpoint
from migrate.db import Session
from migrate.doublewrite import metrics, outbox
from migrate.doublewrite.apply import Applier, Conflict
from migrate.doublewrite.outbox import SCHEMA, Change
from migrate.doublewrite.server import Server
from migrate.doublewrite.timed import timed
from migrate.errors import ConnectionLost, OutcomeUnknown

log = logging.getLogger("migrate")
WORKERS = 4
_MOST = 10_000  # transactions that wait in memory; what is more stays in the outbox only
_READ_TIMEOUT_S = 30.0


@dataclass(order=True)
class _Parcel:
    """A transaction's changes under way. `due` and `until` by the monotonic clock."""

    due: float
    number: int
    source: Endpoint = field(compare=False)
    changes: Sequence[Change] = field(compare=False)
    until: float = field(compare=False)
    done: Future[bool] = field(compare=False)
    sent: float = field(compare=False, default_factory=time.monotonic)


class Courier:
    """Delivers forward: from instances to the target. `may_deliver`: whether that is ours to do now."""

    def __init__(self, config: Config, target: Server, may_deliver: Callable[[], bool]):
        self._config, self._target, self._may_deliver = config, target, may_deliver
        self._parcels: list[_Parcel] = []
        self._wake = threading.Condition()
        self._pid = 0
        self._number = 0
        self._busy = 0

    def send(self, source: Endpoint, changes: Sequence[Change], within_s: float) -> Future[bool]:
        """Delivers soon. The future says whether it is done, at the latest about `within_s` seconds from now."""
        done: Future[bool] = Future()
        now = time.monotonic()
        with self._wake:
            self._start()
            if len(self._parcels) >= _MOST:
                done.set_result(False)
                return done
            self._number += 1
            heapq.heappush(self._parcels, _Parcel(now, self._number, source, changes, now + within_s, done))
            self._wake.notify()
        return done

    def rest(self, timeout_s: float) -> bool:
        """Waits until nothing is under way; False if something still is after that time."""
        end = time.monotonic() + timeout_s
        with self._wake:
            while (self._parcels or self._busy) and time.monotonic() < end:
                self._wake.wait(0.05)
            return not self._parcels and not self._busy

    def _start(self) -> None:
        """Starts the threads: in this process, not in the one that it was forked from."""
        if self._pid == os.getpid():
            return
        self._pid, self._busy, self._parcels = os.getpid(), 0, []
        for number in range(WORKERS):
            threading.Thread(target=self._work, name=f"courier-{number}", daemon=True).start()

    def _work(self) -> None:
        sessions: dict[str, Session] = {}
        while True:
            parcel = self._take()
            try:
                again = self._deliver(parcel, sessions)
            except Exception as error:  # the secondary may be anything: the change stays in the outbox
                log.debug("not delivered now: %s", error)
                if isinstance(error, ConnectionLost | OutcomeUnknown):
                    while sessions:
                        sessions.popitem()[1].close()
                again = not isinstance(error, Conflict)
            with self._wake:
                self._busy -= 1
                now = time.monotonic()
                if again and now < parcel.until:
                    parcel.due = now + min(0.05, max(0.005, (now - parcel.sent) / 4))
                    heapq.heappush(self._parcels, parcel)
                elif not parcel.done.done():
                    parcel.done.set_result(False)
                    metrics.LATE.inc(len(parcel.changes))
                self._wake.notify_all()

    def _take(self) -> _Parcel:
        with self._wake:
            while True:
                now = time.monotonic()
                if self._parcels and self._parcels[0].due <= now:
                    self._busy += 1
                    return heapq.heappop(self._parcels)
                self._wake.wait(self._parcels[0].due - now if self._parcels else None)

    def _session(self, sessions: dict[str, Session], endpoint: Endpoint) -> Session:
        if endpoint.name not in sessions:
            sessions[endpoint.name] = timed(endpoint, _READ_TIMEOUT_S)
        return sessions[endpoint.name]

    def _deliver(self, parcel: _Parcel, sessions: dict[str, Session]) -> bool:
        """Tries once. True if another try makes sense."""
        if not self._may_deliver():
            return True
        source = self._session(sessions, parcel.source)
        target = self._session(sessions, self._config.target)
        txn = parcel.changes[0].txn
        hashes = sorted({c.row_hash for c in parcel.changes})
        pending = source.query(
            f"SELECT seq, txn, row_no, row_hash FROM {SCHEMA}.outbox WHERE migration = %s "
            f"AND row_hash IN ({', '.join(['%s'] * len(hashes))})",
            [self._config.name, *hashes],
        )
        seqs = {row_no: seq for seq, t, row_no, _ in pending if t == txn}
        mine = [numbered(c, seqs[c.row_no]) for c in parcel.changes if c.row_no in seqs]
        if mine:
            last = {c.row_hash: c.seq for c in mine}
            before = {seq for seq, t, _, row_hash in pending if t != txn and seq < last.get(row_hash, 0)}
            if before and not self._are_applied(target, parcel.source.name, before):
                return True
            Applier(self._config.name, self._target.router, self._target.tables).apply(target, mine)
        if not parcel.done.done():
            parcel.done.set_result(True)
        metrics.DELIVERED.inc(len(mine))
        metrics.DELIVERY_SECONDS.observe(time.monotonic() - parcel.sent)
        outbox.remove(source, self._config.name, [c.seq for c in mine])
        return False

    def _are_applied(self, target: Session, source: str, seqs: set[int]) -> bool:
        marks = ", ".join(["%s"] * len(seqs))
        found = target.value(
            f"SELECT COUNT(*) FROM {SCHEMA}.applied WHERE migration = %s AND source = %s AND seq IN ({marks})",
            [self._config.name, source, *sorted(seqs)],
        )
        return int(found) == len(seqs)


def numbered(change: Change, seq: int) -> Change:
    """The change with the number that the outbox gave it."""
    return Change(**(vars(change) | {"seq": seq}))
