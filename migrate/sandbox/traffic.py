"""Writers that keep posting to a seeded ledger at a set pace, and a journal of every posting that was acknowledged."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from migrate.config import Endpoint
from migrate.db import connect
from migrate.errors import ConfigError
from migrate.model import quote
from migrate.sandbox.flowjobs import FlowJobs, read_flows
from migrate.sandbox.jobs import Job, Jobs
from migrate.sandbox.layout import Layout, find_layout
from migrate.sandbox.poster import Outcome, Poster
from migrate.sandbox.postings import Accounts
from migrate.sandbox.rows import normal
from migrate.sandbox.workload import Workload, load_workload

MakePoster = Callable[[Workload, threading.Event, Callable[[str], None]], Poster]
SETTLE_S = 60.0  # how long half-posted transfers may go on after a stop


@dataclass(frozen=True)
class TrafficReport:
    """What the writers did. `in_transit`: vouchers of postings that are half in, for we had to give up."""

    posted: int
    failed: int
    in_transit: tuple[int, ...]
    seconds: float
    tps: float
    p50_ms: float
    p99_ms: float
    longest_ms: float
    errors: dict[str, int]  # by server and message
    fenced: int = 0  # postings that a fence held up; each was tried again


class Traffic:
    """Postings on `workers` connections per server, `tps` a second together. A context manager, or start and stop."""

    def __init__(
        self,
        sources: Sequence[Endpoint],
        pack: str,
        tps: float,
        *,
        workers: int = 4,
        journal: Path | None = None,
        stop: threading.Event | None = None,
        poster: MakePoster = Poster,
    ):
        if tps <= 0 or workers < 1:
            raise ConfigError("tps and workers: more than 0")
        self._workload = load_workload(pack)
        self._poster = poster
        self._sources, self._tps, self._journal = sources, tps, journal
        self._file: int | None = None
        self._workers = min(workers, max(1, int(tps)))
        self._stop, self._give_up = stop or threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._latencies: list[float] = []
        self._outcomes: Counter[Outcome] = Counter()
        self._in_transit: list[int] = []
        self._fenced = 0
        self._errors: Counter[str] = Counter()
        self._broken: BaseException | None = None
        self._began = self._ended = 0.0

    def start(self) -> None:
        """Begins to post. ConfigError if the servers hold no ledger of the pack."""
        layout = find_layout(self._workload, self._sources)
        make = read_flows(self._workload, layout) if self._workload.flows else None
        if make is None:
            accounts = read_accounts(self._workload, layout)
        if self._journal:
            self._file = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._began = time.monotonic()
        for number in range(self._workers):
            jobs = make(number, self._workers) if make else Jobs(self._workload, layout, accounts)
            thread = threading.Thread(target=self._work, args=(number, jobs), name=f"traffic-{number}")
            thread.start()
            self._threads.append(thread)

    def wait(self, seconds: float | None) -> None:
        """Returns after so many seconds, or as soon as the stop event is set or a worker broke down."""
        self._stop.wait(seconds)

    def stop(self, settle_s: float = SETTLE_S) -> TrafficReport:
        """Lets every worker bring its posting to an end, for `settle_s` at most, and says what was done."""
        self._stop.set()
        deadline = time.monotonic() + settle_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._give_up.set()
        for thread in self._threads:
            thread.join()
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._broken:
            raise self._broken
        return self.report()

    def report(self) -> TrafficReport:
        """What was done until now."""
        with self._lock:
            seconds = (self._ended if self._stop.is_set() else time.monotonic()) - self._began
            sorted_ms = np.sort(np.array(self._latencies or [0.0])) * 1000
            p50, p99, longest = (round(float(np.quantile(sorted_ms, q)), 2) for q in (0.5, 0.99, 1))
            posted = self._outcomes["posted"]
            return TrafficReport(
                posted, self._outcomes["failed"], tuple(self._in_transit), round(seconds, 2),
                round(posted / seconds, 1) if seconds > 0 else 0.0, p50, p99, longest, dict(self._errors), self._fenced,
            )  # fmt: skip

    def __enter__(self) -> Traffic:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._file is not None or any(t.is_alive() for t in self._threads):
            self.stop()

    def _work(self, number: int, made: Jobs | FlowJobs) -> None:
        """The life of one thread. It takes every n-th posting of the schedule and leaves nothing waiting."""
        poster = self._poster(self._workload, self._give_up, self._note)
        try:
            self._keep_posting(number, made, poster)
            for job in made.settle():
                if not self._post(poster, job) and self._give_up.is_set():
                    return
        except BaseException as error:
            self._broken = error
            self._stop.set()
        finally:
            poster.close()
            self._ended = time.monotonic()

    def _keep_posting(self, number: int, made: Jobs | FlowJobs, poster: Poster) -> None:
        every = self._workers / self._tps
        batch = int(min(256, max(16, 1 / every)))
        due = self._began + number / self._tps
        while not self._stop.is_set():
            dues = np.maximum(due + every * np.arange(batch), time.monotonic())
            times = ((time.time() - time.monotonic() + dues) * 1000).astype(np.int64)
            lost: set[int] = set()
            for job in made.make(times):
                if self._stop.wait(max(0.0, due - time.monotonic())):
                    job.done(False)
                    return
                due += every
                if job.original in lost or not self._post(poster, job):
                    lost.add(job.number)

    def _post(self, poster: Poster, job: Job) -> bool:
        began, fenced = time.perf_counter(), poster.fenced
        outcome = poster.post(job)
        took, fenced = time.perf_counter() - began, poster.fenced - fenced
        job.done(outcome == "posted")
        if outcome == "posted" and self._file is not None and job.record["entries"]:
            told = {"at_ms": int(time.time() * 1000), "took_ms": round(took * 1000, 1), "fenced": fenced}
            os.write(self._file, json.dumps({**told, **job.record}).encode() + b"\n")
        with self._lock:
            self._fenced += fenced > 0
            self._outcomes[outcome] += 1
            if outcome == "posted":
                self._latencies.append(took)
            if outcome == "in_transit":
                self._in_transit.append(job.record["voucher"])
        return outcome == "posted"

    def _note(self, error: str) -> None:
        with self._lock:
            self._errors[error] += 1


def run_traffic(
    sources: Sequence[Endpoint],
    pack: str,
    tps: float,
    seconds: float | None,
    *,
    workers: int = 4,
    journal: Path | None = None,
    stop: threading.Event | None = None,
) -> TrafficReport:
    """Posts for so many seconds, or until `stop` is set; then brings what is half posted to an end and reports."""
    with Traffic(sources, pack, tps, workers=workers, journal=journal, stop=stop) as traffic:
        traffic.wait(seconds)
        return traffic.stop()


def read_accounts(workload: Workload, layout: Layout) -> Accounts:
    """The accounts that the servers hold. A shard set is written to as often as it has accounts."""
    role = workload.ledger.role.account
    nature = quote(role.nature) if role.nature else f"'{role.increases}'"
    columns = f"{quote(role.id)}, {quote(role.currency)}, {nature}"
    found: list[list[tuple[Any, ...]]] = []
    sessions = {source: connect(source) for source in {place.source for place in layout}}
    try:
        for place in layout:
            found.append(sessions[place.source].query(f"SELECT {columns} FROM {place.table(workload.account_table)}"))
    finally:
        for session in sessions.values():
            session.close()
    ids, currencies, natures = zip(*(row for rows in found for row in rows), strict=True)
    counts = [len(rows) for rows in found]
    shards = np.repeat(np.arange(len(layout), dtype=np.int64), counts)
    return Accounts(np.array(ids, dtype=np.int64), shards, currencies, natures, normal(counts).tolist())
