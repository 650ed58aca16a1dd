"""The double write while everything around it fails: nothing is lost, nothing is there twice, nothing is written on the
wrong side. The applications' own journals of acknowledged legs are the judge."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from migrate.db import connect
from migrate.doublewrite import DoubleWrite, fence
from migrate.doublewrite.phases import Wish, _spread, read, reads
from migrate.doublewrite.status import read_status
from migrate.errors import NoGo
from migrate.sandbox import Sandbox
from tests.conftest import guarded_sandbox
from tests.integration.doublewrite_scene import Scene, scene, until
from tests.integration.shards import run
from tests.proxy import Proxy, proxy
from tests.soak import times

ACCOUNTS = 12
CLIMB_S = 300  # through all phases, on a machine that has other things to do
HUNG_S = 100


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Servers that may be killed."""
    with guarded_sandbox(tmp_path_factory.mktemp("mortal")) as sandbox:
        sandbox.up(instances=2, mysql="5.6")
        yield sandbox


class Stage:
    """A seeded scene whose applications reach the target through a proxy."""

    def __init__(self, made: Scene, sandbox: Sandbox, way: Proxy, folder: Path):
        self.scene, self.sandbox, self.proxy, self.folder = made, sandbox, way, folder
        self.journal = folder / "journal.jsonl"
        self.config = folder / "app.toml"
        url = made.target.url.replace(str(sandbox.target.port), str(way.port))
        self.config.write_text(made.toml(url))

    def app(self, *more: str) -> App:
        return App(self, *more)

    @contextmanager
    def drain(self) -> Iterator[None]:
        """`migrate double-write drain` runs, as it should all the time: deliveries that are late are its."""
        words = [sys.executable, "-m", "migrate.cli", "-c", str(self.config), "double-write", "drain"]
        with (self.folder / "drain.log").open("wb") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
            try:
                yield
                assert process.poll() is None, "drain has ended: " + (self.folder / "drain.log").read_text()[-2000:]
            finally:
                process.kill()

    def more_legs(self, number: int = 4) -> None:
        """Waits until the applications have written so many more."""
        wanted = self.legs() + number
        until(lambda: self.legs() >= wanted, f"{number} more legs")

    def legs(self) -> int:
        """How many legs the applications know to be in."""
        return len(self.journal.read_text().splitlines()) if self.journal.exists() else 0

    def judge(self) -> int:
        """Both sides hold the same; every acknowledged leg is there once; the balances are what the legs make them."""
        made = self.scene
        assert made.pending(everywhere=True) == 0
        assert made.same()
        acknowledged = [json.loads(line) for line in self.journal.read_text().splitlines()]
        entries = made.on_target("entry", "id, account_id, direction, amount")
        ids = Counter(e[0] for e in entries)
        assert max(ids.values()) == 1
        assert not {a["id"] for a in acknowledged} - set(ids), "acknowledged legs are lost"
        sums: dict[int, Decimal] = dict.fromkeys(range(1, ACCOUNTS + 1), Decimal(1000))
        moves: Counter[int] = Counter()
        for _, account, direction, amount in entries:
            sums[account] += amount if direction == "C" else -amount
            moves[account] += 1
        found = {id: (balance, seq) for id, balance, seq in made.on_target("account", "id, balance, seq")}
        assert found == {id: (total, moves[id]) for id, total in sums.items()}, "a leg was applied twice, or in part"
        return len(acknowledged)


class App:
    """One application process."""

    def __init__(self, stage: Stage, *more: str):
        words = [str(stage.config), str(stage.journal), stage.scene.db, str(ACCOUNTS), *more]
        self._ready = False
        self._log = (stage.folder / f"app-{os.urandom(3).hex()}.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.doublewrite_app", *words], stdout=subprocess.PIPE, stderr=self._log
        )

    def ready(self) -> App:
        assert self._process.stdout
        if not self._ready:
            assert self._process.stdout.readline() == b"ready\n", self.log()
            self._ready = True
        return self

    def log(self) -> str:
        """What it said so far."""
        return Path(self._log.name).read_text()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(HUNG_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it hung: {self.log()[-2000:]}") from None
        assert self._process.returncode == 0, self.log()[-2000:]

    def __enter__(self) -> App:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self.kill()
        self._log.close()


@contextmanager
def staged(sandbox: Sandbox, folder: Path) -> Iterator[Stage]:
    with scene(sandbox.sources, sandbox.target, folder) as made, proxy(sandbox.target.port) as way:
        made.ready(patience_s=60)
        made.phase("shadow")
        ledger = made.open()
        for id in range(1, ACCOUNTS + 1):
            with ledger.session(id) as session:
                session.connection().exec_driver_sql(
                    f"INSERT INTO {made.db}.account (id, owner, balance) VALUES ({id}, 'o', 1000)"
                )
        ledger.close(10)
        made.drain()
        yield Stage(made, sandbox, way, folder)


def outages(sandbox: Sandbox, way: Proxy, seconds: float) -> None:
    """Cuts off, stalls, kills and restarts the target, again and again."""
    end = time.monotonic() + seconds
    for fault in iter(lambda: random.choice(("cut", "stall", "refuse", "kill", "slow")), None):
        if time.monotonic() > end:
            return
        if fault == "cut":
            way.cut()
        elif fault in ("stall", "slow"):
            for _ in range(1 if fault == "stall" else 10):
                way.stall()
                time.sleep(1.5 if fault == "stall" else 0.1)
                way.flow()
                time.sleep(0.05)
        elif fault == "refuse":
            way.refuse()
            time.sleep(1)
            way.accept()
        else:
            sandbox.kill("tidb")
            sandbox.restart("tidb")
        time.sleep(random.uniform(0.5, 1.5))


def chaos(stage: Stage, seconds: float, kills: int, legs: int) -> None:
    """Outages and kills for so long, at least until so many legs are in; then everything is delivered."""
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        apps = [stack.enter_context(stage.app()) for _ in range(3)]
        for app in apps:
            app.ready()
        trouble = pool.submit(outages, stage.sandbox, stage.proxy, seconds)
        for _ in range(kills):
            time.sleep(seconds / kills * random.uniform(0.5, 1))
            victim = random.randrange(len(apps))
            apps[victim].kill()
            apps[victim] = stack.enter_context(stage.app())
        trouble.result()
        for app in apps:
            app.ready()
        until(lambda: stage.legs() >= legs, f"{legs} legs")
        for app in apps:
            app.stop()
    report = stage.scene.drain()
    assert report.ok, report.text()
    assert read_status(stage.scene.config).ok


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_outages_and_kills(mortal: Sandbox, tmp_path: Path) -> None:
    with staged(mortal, tmp_path) as stage:
        chaos(stage, seconds=12, kills=5, legs=50)
        assert stage.judge() >= 50


@pytest.mark.parametrize("fault", ["refuse", pytest.param("stall", marks=pytest.mark.soak)])
def test_an_application_starts_while_the_target_is_away(mortal: Sandbox, tmp_path: Path, fault: str) -> None:
    """It writes the shards all the time, and delivers by itself when the target is back."""
    with staged(mortal, tmp_path) as stage:
        stage.proxy.refuse() if fault == "refuse" else stage.proxy.stall()
        with stage.app() as app:
            app.ready()
            until(lambda: stage.legs() >= 6, "legs on the shards")
            assert not stage.scene.on_target("entry")
            stage.proxy.accept() if fault == "refuse" else stage.proxy.flow()
            until(lambda: stage.scene.on_target("entry", "id"), "the application delivers")
            app.stop()
        stage.scene.drain()
        assert stage.judge() >= 6


def test_an_application_waits_for_a_primary_that_is_away(mortal: Sandbox, tmp_path: Path) -> None:
    with staged(mortal, tmp_path) as stage:
        fence.fence(stage.scene.config)
        fence.switch(stage.scene.config, "reversed")
        stage.proxy.refuse()
        with stage.app() as app:
            until(lambda: "waiting: target" in app.log(), "it says what it waits for")
            stage.proxy.accept()
            app.ready()
            stage.more_legs()
            app.stop()
        assert stage.scene.reverse().ok
        stage.judge()


def test_the_shards_answer_for_a_target_that_is_away(mortal: Sandbox, tmp_path: Path) -> None:
    with staged(mortal, tmp_path) as stage:
        _spread(stage.scene.config, Wish("read-switch", 100), "outbox")
        ledger = DoubleWrite.open(stage.config)
        sql = f"UPDATE {stage.scene.db}.account SET owner = 'there' WHERE id = 1"
        run(stage.scene.target, sql)

        def owner() -> Any:
            with ledger.reading(1) as session:
                return session.execute(text("SELECT owner FROM account WHERE id = 1")).scalar()

        assert owner() == "there"
        stage.proxy.refuse()
        assert owner() == "o"
        run(stage.scene.target, sql.replace("there", "o"))
        stage.proxy.accept()
        ledger.close()


@pytest.mark.soak
@pytest.mark.timeout(1500)
def test_ten_minutes_of_outages_and_fifty_kills(mortal: Sandbox, tmp_path: Path) -> None:
    with staged(mortal, tmp_path) as stage:
        stage.scene.phase("strict")
        chaos(stage, seconds=times(600, 120), kills=times(50, 10), legs=200)
        stage.judge()


LADDER = (("shadow", 0), ("strict", 0), ("read-compare", 100), ("read-switch", 1), ("read-switch", 10),
          ("read-switch", 50), ("read-switch", 100), ("reversed", 0))  # fmt: skip


def climb(stage: Stage, phase: str) -> None:
    """Goes up to that phase under load, step by step, each as soon as its conditions hold; where reads differed, and on
    a busy machine a late delivery is enough for that, from strict on again, as an operator would."""
    end = time.monotonic() + CLIMB_S
    while (now := read(stage.scene.config).epoch).phase != phase:
        at = LADDER.index((now.phase, 100 if now.phase == "read-compare" else now.share))
        step = LADDER[at + 1]
        try:
            stage.scene.phase(*step)
        except NoGo as error:
            assert time.monotonic() < end, error
            if "differed" in str(error):
                stage.scene.phase("strict")
            time.sleep(0.2)
        else:
            stage.more_legs()


def before_the_switch(stage: Stage) -> None:
    """All reads come from the target, and some are compared; the steps between are another test's."""
    epoch = _spread(stage.scene.config, Wish("read-switch", 100), "outbox").epoch.number
    with connect(stage.scene.config.target) as session:
        until(lambda: reads(session, stage.scene.config.name, epoch)[0], "a read is compared")


def killed_at(point: str, words: list[str], before: Callable[[], None] = lambda: None) -> None:
    """Runs a command until it dies at that point: its conditions may need a while."""

    def dies() -> bool:
        before()
        done = subprocess.run(words, env={**os.environ, "MIGRATE_FAULT": point}, capture_output=True, check=False)
        assert done.returncode in (0, 1, -9), done.stderr
        return done.returncode == -9

    until(dies, f"{words[-2:]} dies at {point}", CLIMB_S)


def switched(stage: Stage, words: list[str]) -> None:
    """Runs the command until it has made the target primary."""

    def done() -> bool:
        if subprocess.run(words, capture_output=True, check=False).returncode == 0:
            return True
        if read(stage.scene.config).pending is None:  # its fence was lifted: its conditions have to hold again
            before_the_switch(stage)
        return False

    until(done, "the target is primary", CLIMB_S)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_every_phase_change_under_load_with_a_process_that_lags(mortal: Sandbox, tmp_path: Path) -> None:
    with (
        staged(mortal, tmp_path) as stage, stage.drain(), stage.app("rests") as quick,
        stage.app("rests", "lags") as slow,
    ):  # fmt: skip
        quick.ready(), slow.ready()
        climb(stage, "reversed")
        for name in ("strict", "shadow"):
            stage.scene.phase(name)
            stage.more_legs()
        climb(stage, "reversed")
        quick.stop(), slow.stop()
        entries = stage.scene.on_target("entry", "id")
        assert stage.scene.reverse().ok
        assert stage.scene.on_target("entry", "id") == entries, "something was written on the shards after the switch"
        stage.judge()


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_command_that_dies_while_it_changes_the_primary(mortal: Sandbox, tmp_path: Path) -> None:
    with staged(mortal, tmp_path) as stage, stage.drain(), stage.app("rests") as app:
        app.ready()
        words = [sys.executable, "-m", "migrate.cli", "-c", str(stage.config), "double-write", "phase", "reversed"]
        for point in ("before_fence", "after_fence", "switch_recorded", "before_open", "after_open"):
            killed_at(f"{point}:kill", words, before=lambda: before_the_switch(stage))
            sql = f"SELECT MAX(writable) FROM migrate_outbox.epoch WHERE migration = '{stage.scene.config.name}'"
            open_ = [run(s, sql)[0][0] for s in (*stage.scene.sources, stage.scene.target)]
            assert not (open_[-1] and any(open_[:-1])), f"{point}: two primaries"
            switched(stage, words)
            stage.more_legs()
            stage.scene.phase("strict")
        app.stop()
        stage.scene.drain()
        stage.judge()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_reverse_is_killed_and_goes_on(mortal: Sandbox, tmp_path: Path) -> None:
    with staged(mortal, tmp_path) as stage, stage.app("rests") as app:
        app.ready()
        before_the_switch(stage)
        climb(stage, "reversed")
        words = [sys.executable, "-m", "migrate.cli", "-c", str(stage.config), "reverse", "--until-empty"]
        for point in ("before_deliver:kill:2", "after_deliver:kill:1", "after_deliver:kill:3"):
            killed_at(point, words, before=stage.more_legs)
        mortal.kill("m1")
        mortal.restart("m1")
        app.stop()
        subprocess.run(words, check=True, capture_output=True)
        assert read_status(stage.scene.config).ok
        stage.judge()
