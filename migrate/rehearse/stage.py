"""What the steps of a rehearsal on the sandbox work with, and the steps themselves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic, time
from typing import Any

from migrate.config import Config
from migrate.cutover.reverse import end_reverse
from migrate.db import connect, wait
from migrate.doublewrite.outbox import SCHEMA
from migrate.errors import MigrateError, ServerError
from migrate.rehearse.client import Journal
from migrate.rehearse.judge import judge
from migrate.rehearse.samples import Sampler
from migrate.rehearse.says import switched, verified
from migrate.rehearse.steps import Done, Stopwatch
from migrate.rehearse.tools import Answer, Running, Tools
from migrate.sandbox import Sandbox
from migrate.sync.status import read_sync_status

WRITERS = 8
_UNTIL_S = 60.0
_LEVEL_S = 300.0  # for sync, on a machine that is busy with everything else


class Stage:
    """What the steps of a rehearsal work with. A context manager: at its end nothing of it runs but the servers."""

    def __init__(self, sandbox: Sandbox, config: Config, watch: Stopwatch, tps: float):
        self.sandbox, self.config, self.watch, self.tps = sandbox, config, watch, tps
        self.journal = Journal(config.path.parent / "traffic.jsonl")
        self._stack = ExitStack()
        self.tools = self._stack.enter_context(Tools(config.path, watch.folder))
        self._stack.callback(self._end_reverse)
        self.sampler = self._stack.enter_context(Sampler(config))
        self.sync: Running | None = None
        self.traffic: Running | None = None
        self.told: dict[str, Any] = {}  # the traffic's own report, at its end

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _end_reverse(self) -> None:
        """The process that a cutover started, which outlives it."""
        with suppress(MigrateError):
            end_reverse(self.config)

    # -- steps --------------------------------------------------------------------------------------------------------

    def command(self, *words: str, said: Callable[[dict[str, Any]], str], config: Path | None = None) -> Done:
        """A command of the toolkit as a step."""
        answer = self.tools.run(*words, config=config)
        return Done(answer.ok, said(answer.document) if answer.document else answer.error(), answer.document)

    def start_traffic(self) -> Done:
        self.traffic = self.tools.beside(
            "traffic", "sandbox", "traffic", "--double-write", "--tps", str(self.tps), "--workers", str(WRITERS)
        )
        self.until(lambda: self.journal.count() >= 1, "the first posting")
        said = f"{self.tps:g} postings a second from {WRITERS} writers, through migrate.doublewrite"
        return Done(True, said, {})

    def end_traffic(self) -> Done:
        assert self.traffic is not None
        answer = self.traffic.end()
        self.traffic, self.told = None, answer.document
        said = f"{self.told.get('posted', 0):,} postings" if self.told else answer.error()
        return Done(answer.ok, said, self.told)

    def start_sync(self) -> Done:
        began, since = monotonic(), time()
        self.sync = self.tools.beside("sync", "sync")
        names = {s.name for s in self.config.sources}
        self.until(
            lambda: read_sync_status(self.config, shards=False).caught_up(names, since), "sync to catch up", _LEVEL_S
        )
        took = monotonic() - began
        return Done(True, f"every instance less than a second behind after {took:.1f} s", {"caught_up_s": took})

    def follows(self) -> Done:
        """Waits until the sync that went on by itself is less than a second behind again."""
        began, since = monotonic(), time()
        names = {s.name for s in self.config.sources}
        self.check_lives(sync=True)
        self.until(
            lambda: read_sync_status(self.config, shards=False).caught_up(names, since), "sync to catch up", _LEVEL_S
        )
        return Done(True, f"sync went on by itself, and is level after {monotonic() - began:.1f} s", {})

    def verify(self, *options: str) -> Done:
        """Everything, by the same command that an operator runs: its evidence is what a cutover asks for."""
        return self.command("verify", "all", *options, said=verified)

    def verify_at_rest(self) -> Done:
        """Everything once more, when nobody writes any more and all has arrived: no voucher is in transit."""
        self.follows()
        return self.verify("--strong")

    def cut_over(self, config: Path | None = None) -> Answer:
        return self.tools.run("cutover", "--execute", config=config)

    def cutover(self) -> Done:
        self.follows()
        answer = self.cut_over()
        done = Done(answer.ok, switched(answer), answer.document)
        if answer.ok and self.sync is not None:
            self.until(lambda: self.sync is not None and not self.sync.lives, "sync to end")
        return done

    def rollback(self) -> Done:
        answer = self.tools.run("rollback", "--execute")
        return Done(answer.ok, switched(answer), answer.document)

    def go_on_at_the_target(self, seconds: float) -> Done:
        """Lets the application work on the target, and looks whether the shards follow."""
        before, most = self.journal.count(), 0.0
        self.until_posted(1)
        end = monotonic() + seconds
        while monotonic() < end:
            wait(0.2)
            self.check_lives()
            most = max([most, *(s.lag_s.get("reverse", 0.0) for s in self.sampler.samples[-1:])])
        posted = self.journal.count() - before
        followed = any("reverse" in s.lag_s for s in self.sampler.samples[-10:])
        said = f"{posted:,} postings on the target in {seconds:g} s; the shards followed at most {most:.1f} s behind"
        if not followed:
            said = "`migrate reverse` gave no sign of life"
        return Done(posted > 0 and followed, said, {"postings": posted, "lag_s": most, "followed": followed})

    def audit(self) -> Done:
        """The double write's own look at the rows written lately: on both sides, or under way."""
        return self.command("double-write", "status", said=lambda d: (
            f"{sum(b['changes'] for b in d['backlog'])} changes under way; "
            f"{sum(f['kind'] != 'late' for f in d['findings'])} rows differ otherwise"
        ))  # fmt: skip

    def judged(self) -> Done:
        verdict = judge(self.config, self.journal)
        return Done(verdict.ok, verdict.text(), verdict.document())

    # -- waiting ------------------------------------------------------------------------------------------------------

    def until(self, met: Callable[[], bool], what: str, within_s: float = _UNTIL_S) -> None:
        """Waits until something is so. MigrateError if that takes too long, or if what it needs has ended."""
        end = monotonic() + within_s
        while not met():
            self.check_lives(sync=False)
            if monotonic() > end:
                raise MigrateError(f"waited {within_s:g} s for {what}, in vain")
            wait(0.1)

    def until_posted(self, more: int) -> float:
        """Waits until the client has that many more acknowledgements; gives the seconds that took."""
        began, goal = monotonic(), self.journal.count() + more
        self.until(lambda: self.journal.count() >= goal, "the application's writes to be let in")
        return monotonic() - began

    def check_lives(self, *, sync: bool = False) -> None:
        if self.traffic is not None:
            self.traffic.must_live()
        if sync and self.sync is not None:
            self.sync.must_live()

    def fenced(self) -> list[str]:
        """The instances that refuse the library's writes: what they themselves say is what holds."""
        found = []
        for source in self.config.sources:
            with connect(source) as session:
                row = session.one(f"SELECT writable FROM {SCHEMA}.epoch WHERE migration = %s", [self.config.name])
            found += [] if row[0] else [source.name]
        return found

    def freezes(self) -> tuple[tuple[str, float, float], ...]:
        """All times in which writes were refused: which way, from when to when (epoch seconds)."""
        told = [d["freeze_s"] for d in self.watch.documents.values() if d.get("direction") and d.get("freeze_s")]
        with suppress(ServerError), connect(self.config.target) as session:
            rows = session.query(
                "SELECT direction, UNIX_TIMESTAMP(fenced_at), UNIX_TIMESTAMP(COALESCE(opened_at, NOW(6))) "
                "FROM migrate_meta.cutover WHERE migration = %s AND fenced_at IS NOT NULL ORDER BY run",
                [self.config.name],
            )
            if len(told) == len(rows):  # where a fence was lifted without the target, the target heard of it later
                return tuple(
                    (str(w), float(begin), float(begin) + s) for (w, begin, _), s in zip(rows, told, strict=True)
                )
            return tuple((str(way), float(begin), float(end)) for way, begin, end in rows)
        return ()

    def end_sync(self) -> Done:
        """Ends sync when everything is in: nobody writes any more."""
        assert self.sync is not None
        answer = self.tools.run("sync", "stop")
        if answer.ok:
            answer = self.sync.answer()
        return Done(answer.ok, "everything is applied" if answer.ok else answer.error(), answer.document)
