"""Reads while the read side changes: who reads from where, and what both sides answer to the same question.

Whether an account takes part is decided by a hash of its sharding key, so it is always the same accounts. What is
compared is asked again on both sides, after the application has its answer, so that it never waits for it.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import re
import socket
import statistics
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection as SqlConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session as OrmSession

from migrate.config import Config
from migrate.db import Session
from migrate.doublewrite import metrics
from migrate.doublewrite.epoch import Epoch
from migrate.doublewrite.phases import back_off
from migrate.doublewrite.server import Server
from migrate.doublewrite.sharding import Key
from migrate.doublewrite.timed import timed
from migrate.errors import MigrateError

log = logging.getLogger("migrate")
_SAMPLE = 10  # per cent of the reads from the target that are compared in read-switch; more while they are few
_AGAIN_S = (0.1, 0.4, 1.0)  # a difference that goes away is a change on its way
_WINDOW, _SLOW_S, _SLOW = 50, 0.25, 5  # the target is slow if its median is above 250 ms and 5 times the shards'
_NAMED = re.compile(r"%\((\w+)\)s")
Row = tuple[Any, ...]
Ask = Callable[[OrmSession], Iterable[Sequence[Any]]]  # what the application asks one side; rows as it wants them


def bucket(key: Key) -> int:
    """0 to 99, always the same for a sharding key."""
    return zlib.crc32(f"account:{key}".encode()) % 100


def from_target(epoch: Epoch, key: Key) -> bool:
    """Whether reads of that key come from the target in this phase."""
    if epoch.primary == "target":
        return True
    return epoch.phase == "read-switch" and bucket(key) < epoch.share


@dataclass(frozen=True)
class Question:
    """What was answered, to be asked on both sides: a query, or what `asks` a server in the words of its side."""

    key: Key
    sql: str
    args: Any
    epoch: Epoch
    instance: str
    asks: Callable[[str], Sequence[Row]] | None = None


class Comparer:
    """Asks both sides in a thread of its own, counts what differs with the money in it, and backs off."""

    def __init__(self, config: Config, servers: dict[str, Server]):
        self._config, self._servers = config, servers
        self._questions: queue.Queue[Question] = queue.Queue(1000)
        self._pid = 0
        self._epoch = -1
        self._counts: Counter[str] = Counter()
        self._money, self._sample = Decimal(0), ""
        self._seconds: dict[str, deque[float]] = {}
        self._told = 0.0
        self.backed_off = -1  # the epoch in which this process no longer reads from the target

    def wants(self, epoch: Epoch, key: Key) -> bool:
        """Whether a read of that key is to be compared."""
        if epoch.phase == "read-compare":
            return bucket(key) < epoch.share
        if epoch.phase != "read-switch" or not from_target(epoch, key):
            return False
        return random.randrange(100) < max(_SAMPLE, 100 // epoch.share)

    def ask(self, question: Question) -> None:
        """Has it compared soon; not if too much waits already."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            threading.Thread(target=self._work, name="double-write-reads", daemon=True).start()
        try:
            self._questions.put_nowait(question)
        except queue.Full:
            log.debug("a read isn't compared: too many wait")

    def rest(self, timeout_s: float) -> None:
        """Waits until everything asked is compared and told."""
        end = time.monotonic() + timeout_s
        while self._questions.unfinished_tasks and time.monotonic() < end:
            threading.Event().wait(0.02)
        self._tell(force=True)

    def _work(self) -> None:
        sessions: dict[str, Session] = {}
        while True:
            question = self._questions.get()
            try:
                self._compare(question, sessions)
                self._tell()
            except (MigrateError, DBAPIError) as error:  # a side that is away isn't a difference
                log.debug("not compared: %s", error)
                while sessions:
                    sessions.popitem()[1].close()
            except Exception:
                log.exception("not compared: %s", question.sql)
            finally:
                self._questions.task_done()

    def _compare(self, question: Question, sessions: dict[str, Session]) -> None:
        if question.epoch.number != self._epoch:
            self._epoch, self._counts, self._money, self._sample = question.epoch.number, Counter(), Decimal(0), ""
            self._seconds = {side: deque(maxlen=_WINDOW) for side in ("source", "target")}
        difference = self._difference(question, sessions)
        for seconds in _AGAIN_S:
            if not difference:
                break
            threading.Event().wait(seconds)
            difference = self._difference(question, sessions)
        self._counts["compared"] += 1
        metrics.COMPARED.inc()
        if difference:
            money = at_risk(*difference)
            self._counts["mismatched"] += 1
            self._money += money
            self._sample = self._sample or f"key {question.key}: {question.sql[:500]}"
            metrics.MISMATCHED.inc()
            log.error("a read differs on both sides, %s at risk: key %s: %s", money, question.key, question.sql)
            self._back_off(question.epoch, f"a read of key {question.key} differs, {money} at risk")
        elif self._is_slow():
            self._back_off(question.epoch, "the target is slow")

    def _difference(self, question: Question, sessions: dict[str, Session]) -> tuple[list[Row], list[Row]] | None:
        answers: list[Sequence[Row]] = []
        for side, name in (("source", question.instance), ("target", self._config.target.name)):
            if name not in sessions and not question.asks:
                sessions[name] = timed(self._servers[name].endpoint, 30)
            began = time.monotonic()
            if question.asks:
                answers.append(question.asks(name))
            else:
                answers.append(ask(sessions[name], self._servers[name], question.sql, question.args, question.key))
            self._seconds[side].append(time.monotonic() - began)
        source, target = Counter(answers[0]), Counter(answers[1])
        return (list((source - target).elements()), list((target - source).elements())) if source != target else None

    def _is_slow(self) -> bool:
        source, target = self._seconds["source"], self._seconds["target"]
        if len(target) < _WINDOW:
            return False
        return statistics.median(target) > max(_SLOW_S, _SLOW * statistics.median(source))

    def _back_off(self, epoch: Epoch, reason: str) -> None:
        """This process at once, all others by the phase."""
        if epoch.phase != "read-switch" or self.backed_off == epoch.number:
            return
        self.backed_off = epoch.number
        log.error("reads go back to the shards: %s", reason)
        self._tell(force=True)
        back_off(self._config, reason, epoch=epoch.number)

    def _tell(self, force: bool = False) -> None:
        now = time.monotonic()
        if self._epoch < 0 or (now - self._told < 1 and not force):
            return
        self._told = now
        with Session(self._config.target) as session:
            session.execute(
                "REPLACE INTO migrate_meta.read_check (migration, process, epoch, compared, mismatched, money, sample) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s)",
                (self._config.name, f"{socket.gethostname()}:{os.getpid()}", self._epoch, self._counts["compared"],
                 self._counts["mismatched"], self._money, self._sample or None),
            )  # fmt: skip


def ask(session: Session, server: Server, sql: str, args: Any, key: Key) -> list[Row]:
    """The answer of one side to a query of the application, its tables named as they are there."""
    plan = server.plan(sql, args is not None)
    text = plan.render(lambda name: server.rename(name, key))
    if args is None:
        return session.query(text)
    values = plan.parameters(args, 0, len(plan.text))
    text = _NAMED.sub("%s", text)
    return session.query(text, values) if values else session.query(text.replace("%%", "%"))


def answer(reader: SqlConnection, old: Ask, new: Ask) -> list[Row]:
    """What the application asks the side that the connection, which only reads, is on."""
    connection: Any = reader.connection.dbapi_connection
    connection.reading = lambda sql, args: None
    with OrmSession(reader, info={"side": connection.side}) as session:
        return [tuple(row) for row in (new if connection.side == "target" else old)(session)]


def at_risk(source: Sequence[Row], target: Sequence[Row]) -> Decimal:
    """The money in the rows that only one side has: by how much the amounts of counterparts differ, and the whole
    amounts of rows without one. Counterparts begin alike, or are all that is left on both sides."""

    def amounts(row: Row | None) -> dict[int, Decimal]:
        return {i: v for i, v in enumerate(row or ()) if isinstance(v, Decimal)}

    others = list(target)
    left_over: list[Row | None] = []
    pairs: list[tuple[Row | None, Row | None]] = []
    for row in source:
        alike = next((o for o in others if o[:1] == row[:1]), None)
        if alike is None:
            left_over.append(row)
        else:
            others.remove(alike)
            pairs.append((row, alike))
    if len(left_over) == len(others):
        pairs += zip(left_over, others, strict=True)
    else:
        pairs += [*((row, None) for row in left_over), *((None, row) for row in others)]
    total = Decimal(0)
    for one, other in pairs:
        left, right = amounts(one), amounts(other)
        places = set(left) | set(right)
        total += max((abs(left.get(i, Decimal(0)) - right.get(i, Decimal(0))) for i in places), default=Decimal(0))
    return total
