"""A small sharded ledger, copied and followed, on which the night is tried: with an application that posts through the
library, whose own journal of acknowledged postings is the judge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from migrate.config import Config, load_config
from migrate.copy.copier import copy
from migrate.cutover.run import Outcome, cut_over, roll_back
from migrate.cutover.verifier import EdgeVerifier
from migrate.db import connect
from migrate.doublewrite.phases import Wish, change
from migrate.errors import MigrateError
from migrate.sandbox import Sandbox
from migrate.sync.status import read_sync_status
from tests.faults.client import Client
from tests.integration.doublewrite_scene import Scene, scene
from tests.integration.shards import Server, run
from verify.evidence import keep
from verify.run import verify_all

ACCOUNTS = 12


class Lab:
    """A migration of a scene, ready for the night: copied, sync running, verified."""

    def __init__(self, made: Scene, folder: Path, *, target_port: int | None = None, **cutover: Any):
        self.scene, self.folder = made, folder
        self.path = folder / "night.toml"
        self.journal = folder / "journal.jsonl"
        self.journal.touch()
        self.target_port = target_port
        self._stack = ExitStack()
        self._sync: Client | None = None
        self._app: App | None = None
        self.write_config(**cutover)

    def write_config(self, patience_s: int = 20, **cutover: Any) -> None:
        """Writes the configuration file; `cutover`: keys of its section, hooks__NAME those of its hooks."""
        made = self.scene
        url = made.target.url
        if self.target_port is not None:
            url = url.replace(f":{url.rpartition(':')[2].rstrip('/')}", f":{self.target_port}")
        hooks = {k.partition("__")[2]: v for k, v in cutover.items() if k.startswith("hooks__")}
        plain = {k: v for k, v in cutover.items() if not k.startswith("hooks__")}
        self.path.write_text(
            f'[migration]\nname = "{made.config.name}"\npack = "{made.config.pack}"\n'
            + "".join(f'[[source]]\nname = "m{i}"\nurl = "{s.url}"\n' for i, s in enumerate(made.sources, 1))
            + f'[target]\nurl = "{url}"\n'
            + "".join(
                f"[[route]]\nschema = '{made.db}'\ntable = '{k}_\\d+'\ntarget = '{made.db}.{k}'\n" for k in made.kinds
            )
            + f"[[ignore]]\nschema = '(?!{made.db}$).*'\n[run]\nworkers = 2\npatience_s = {patience_s}\n"
            + "[cutover]\nlag_s = 10\n"
            + "".join(f"{k} = {json.dumps(v)}\n" for k, v in plain.items())
            + "[cutover.hooks]\n"
            + "".join(f"{k} = {json.dumps(v)}\n" for k, v in hooks.items())
        )
        self.config: Config = load_config(self.path)

    # -- what runs ----------------------------------------------------------------------------------------------------

    def client(self, *words: str, **environment: str) -> Client:
        """A `migrate` command."""
        return Client("-c", str(self.path), *words, environment=environment)

    def start_sync(self) -> None:
        """Has `migrate sync` running and caught up."""
        self._sync = self._stack.enter_context(self.client("sync"))
        self._caught_up(self._sync)

    def _caught_up(self, sync: Client) -> None:
        def follows() -> bool:
            with suppress(MigrateError):
                followers = read_sync_status(self.config).followers
                return len(followers) == len(self.config.sources) and all(
                    f.running and f.told["state"] == "following" and f.lag_s is not None and f.lag_s < 1
                    for f in followers
                )
            return False

        sync.until(follows)

    def sync_ended(self) -> Client:
        """Waits for the end of sync, which the cutover asks for."""
        assert self._sync is not None
        return self._sync.ended(30)

    def ensure_sync(self) -> None:
        """Starts sync again if it has ended; it catches up."""
        if self._sync is None or not self._sync.runs():
            self.start_sync()
        else:
            self._caught_up(self._sync)

    def app(self) -> App:
        """The application, posting."""
        self._app = self._stack.enter_context(App(self)).ready()
        return self._app

    def app_stopped(self) -> None:
        """Lets the application bring its transfer to an end."""
        if self._app is not None:
            self._app.stop()
            self._app = None

    def verify(self) -> Any:
        """`verify all`, with evidence."""
        result = verify_all(self.config)
        keep(self.config, result, self.folder / "evidence")
        return result

    def cut_over(self, **options: Any) -> Outcome:
        verifier = EdgeVerifier(self.config)
        try:
            return cut_over(self.config, verifier, **options)
        finally:
            verifier.close()

    def roll_back(self) -> Outcome:
        verifier = EdgeVerifier(self.config)
        try:
            return roll_back(self.config, verifier)
        finally:
            verifier.close()

    def hook(self, name: str, body: str) -> str:
        """An executable that notes its call, then does that; its path."""
        path = self.folder / f"hook-{name}.sh"
        log = self.folder / "hooks.log"
        path.write_text(f'#!/bin/sh\necho "$MIGRATE_STEP $MIGRATE_DIRECTION $MIGRATE_NAME" >> {log}\n{body}\n')
        path.chmod(0o700)
        return str(path)

    def hooks_called(self) -> list[str]:
        """Which hooks were called, in order; forgets them."""
        log = self.folder / "hooks.log"
        found = [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []
        log.unlink(missing_ok=True)
        return found

    def stopped(self, verb: str, point: str) -> Client:
        """The command, standing still at that point."""
        client = self._stack.enter_context(self.client(verb, "--execute", MIGRATE_FAULT=f"{point}:stop"))
        return client.until(lambda: psutil.Process(client.pid).status() == psutil.STATUS_STOPPED)

    # -- what is so ---------------------------------------------------------------------------------------------------

    def query(self, server: Server, sql: str) -> list[tuple[Any, ...]]:
        return run(server, sql)

    def open_sides(self) -> set[str]:
        """The sides that the library may write on."""
        return ({"source"} if any(self.open_sources()) else set()) | (
            {"target"} if run(self.scene.target, self._writable)[0][0] else set()
        )

    def open_sources(self) -> list[bool]:
        """Whether the library may write on each instance. The target may be down."""
        return [bool(run(s, self._writable)[0][0]) for s in self.scene.sources]

    @property
    def _writable(self) -> str:
        return f"SELECT MAX(writable) FROM migrate_outbox.epoch WHERE migration = '{self.config.name}'"

    def entries(self) -> int:
        return len(self.journal.read_text().splitlines())

    def delivered(self, timeout_s: float = 30) -> None:
        """Waits until nothing is on its way."""
        deadline = time.monotonic() + timeout_s
        while self.scene.pending(everywhere=True) or not self.scene.same():
            assert time.monotonic() < deadline, "the two sides stay different"
            time.sleep(0.1)

    def judge(self) -> int:
        """Both sides hold the same; every acknowledged leg is there once; balances are what the legs make them."""
        self.delivered()
        acknowledged = [json.loads(line) for line in self.journal.read_text().splitlines()]
        entries = self.scene.on_shards("entry", "id, account_id, direction, amount")
        ids = Counter(e[0] for e in entries)
        assert not entries or max(ids.values()) == 1
        lost = {a["id"] for a in acknowledged} - set(ids)
        assert not lost, f"acknowledged legs are lost: {sorted(lost)[:5]}"
        sums: dict[int, Decimal] = dict.fromkeys(range(1, ACCOUNTS + 1), Decimal(1000))
        moves: Counter[int] = Counter()
        for _, account, direction, amount in entries:
            sums[account] += amount if direction == "C" else -amount
            moves[account] += 1
        found = {i: (balance, seq) for i, balance, seq in self.scene.on_shards("account", "id, balance, seq")}
        assert found == {i: (total, moves[i]) for i, total in sums.items()}, "a leg was applied twice, or in part"
        return len(acknowledged)

    def close(self) -> None:
        """Ends all that runs for this lab, what a killed command has left too."""
        self._stack.close()
        for process in psutil.process_iter(["cmdline"]):
            if str(self.path) in (process.info["cmdline"] or []):
                with suppress(psutil.NoSuchProcess):
                    process.kill()


class App:
    """An application process on the library; see tests.faults.doublewrite_app."""

    def __init__(self, lab: Lab):
        words = [str(lab.path), str(lab.journal), lab.scene.db, str(ACCOUNTS)]
        self._log = lab.folder / f"app-{os.urandom(3).hex()}.log"
        self._file = self._log.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.doublewrite_app", *words], stdout=subprocess.PIPE, stderr=self._file
        )

    def ready(self) -> App:
        assert self._process.stdout
        assert self._process.stdout.readline() == b"ready\n", self._log.read_text()
        return self

    def stop(self) -> None:
        """Lets it bring its transfer to an end."""
        self._process.terminate()
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError(f"the application hangs: {self._log.read_text()[-2000:]}") from None
        assert self._process.returncode == 0, self._log.read_text()[-2000:]

    def __enter__(self) -> App:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._file.close()


class Watcher:
    """Looks at the epoch rows of all servers all the time; `both` if ever both sides were open to writes."""

    def __init__(self, lab: Lab):
        self._name, self._sources, self._target = lab.config.name, lab.scene.sources, lab.scene.target
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.looks = 0
        self.both: list[str] = []

    def _look(self) -> None:
        while not self._ended.is_set():
            with suppress(Exception):  # servers may be down
                sql = (f"SELECT MIN(epoch), MAX(epoch), MAX(writable) FROM migrate_outbox.epoch "
                       f"WHERE migration = '{self._name}'")  # fmt: skip
                before = run(self._target, sql)[0]
                sources = [run(source, sql)[0] for source in self._sources]
                self.looks += 1
                # The target was open all the time that the others were asked, if it is so still and in the same epoch.
                if before[2] and any(s[2] for s in sources) and run(self._target, sql)[0] == before:
                    self.both.append(f"{before}, {sources}")
            self._ended.wait(0.02)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(30)
        if kind is None:
            assert self.looks
            assert not self.both, f"two primaries: {self.both}"


@contextmanager
def cutover_lab(sandbox: Sandbox, folder: Path, **cutover: Any) -> Iterator[Lab]:
    """A lab on the sandbox's servers."""
    phase = cutover.pop("phase", "off")
    extra: Mapping[str, str] = cutover.pop("extra", {})
    with scene(sandbox.sources, sandbox.target, folder) as made:
        for n in range(made.shards):
            for statement in extra.values():
                run(made.home(n), statement.format(table=f"{made.db}.account_{n:02}", entry=f"{made.db}.entry_{n:02}"))
            accounts = [i for i in range(1, ACCOUNTS + 1) if i % made.shards == n]
            rows = ", ".join(f"({i}, 'o', 1000)" for i in accounts)
            run(made.home(n), f"INSERT INTO {made.db}.account_{n:02} (id, owner, balance) VALUES {rows}")
        made.ready()
        rules = Path(made.config.pack or "") / "ledger.toml"
        # the second leg of a transfer is a transaction of its own, and may have to wait for the night's end
        off = '[severity]\ndebit_equals_credit = "off"\ntrial_balance = "off"\n'
        rules.write_text(f"{off}{rules.read_text()}")
        lab = Lab(made, folder, **cutover)
        try:
            copy(lab.config, 1)
            lab.start_sync()
            result = lab.verify()
            assert result.ok, result.text()
            if phase != "off":
                change(lab.config, Wish(phase), in_step=True)
            yield lab
        finally:
            lab.close()


def on_target(config: Config, sql: str) -> list[tuple[Any, ...]]:
    with connect(config.target) as session:
        return session.query(sql)
