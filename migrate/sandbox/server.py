"""One database server: a process with a folder and a port of its own, known by pid and start time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import pymysql

from migrate.db import wait
from migrate.sandbox.errors import SandboxError

USER = "migrator"
_READY_S = 120.0
_STOP_S = 30.0
_ACCESS_DENIED = 1045

State = Literal["running", "dead", "stopped"]


@dataclass(frozen=True)
class ServerStatus:
    """A server as it is now. `dead` ended without being stopped; the version is known of a running one only."""

    name: str
    kind: str
    version: str | None
    port: int
    pid: int | None
    state: State
    folder: str
    uptime_s: float | None


class Server(ABC):
    """A server in `folder` that listens on 127.0.0.1:`port`. Subclasses say how to run and set it up."""

    kind: str

    def __init__(self, name: str, folder: Path, port: int, password: str):
        self.name, self.folder, self.port, self._password = name, folder, port, password
        self._record = folder / "process.json"
        self._log = folder / "server.log"

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The command line; one argument holds `marker`."""

    @property
    @abstractmethod
    def marker(self) -> str:
        """The argument that only this server's process has."""

    @abstractmethod
    def locate(self) -> None:
        """Finds the program, and installs it if it isn't there. ConfigError if it can't be run."""

    @abstractmethod
    def initialise(self) -> None:
        """Makes the folder ready for a start."""

    @abstractmethod
    def account_sql(self) -> Sequence[str]:
        """The statements a fresh server needs. The last one lets migrator in, so whoever gets in knows they all ran."""

    def environment(self) -> Mapping[str, str]:
        """What the process has in its environment besides ours."""
        return {}

    @property
    def url(self) -> str:
        """Where the server is and who we are there, password included."""
        return f"mysql://{USER}:{self._password}@127.0.0.1:{self.port}"

    def connect(self, **options: Any) -> pymysql.Connection[Any]:
        """A new autocommit connection as migrator; `options` are those of pymysql.connect."""
        settings = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": self._password,
                    "charset": "utf8mb4", "autocommit": True, "local_infile": True, "connect_timeout": 10,
                    "ssl_disabled": True}  # fmt: skip
        return pymysql.connect(**{**settings, **options})

    def version(self) -> str:
        """The version the running server tells."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT VERSION()")
            return str(cursor.fetchone()[0])

    def process(self) -> psutil.Process | None:
        """Our process if it lives. A stranger that got its pid is never taken for it."""
        with suppress(OSError, ValueError, KeyError, psutil.NoSuchProcess):
            record = json.loads(self._record.read_text())
            process = psutil.Process(record["pid"])
            if process.create_time() == record["created"] and _lives(process):
                return process
        return self._unrecorded()

    def _unrecorded(self) -> psutil.Process | None:
        """Our process if whoever started it was killed before it could write the record."""
        for process in psutil.process_iter(["cmdline"]):
            if self.marker in (process.info["cmdline"] or ()) and _lives(process):
                return process
        return None

    def start(self) -> None:
        """Starts the process unless it runs, and doesn't wait for it."""
        if self.process():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.initialise()
        check_port_free(self.port, self.name)
        with self._log.open("ab") as log:
            child = subprocess.Popen(
                list(self.command()), cwd=self.folder, env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        partial = self._record.with_suffix(".partial")
        with suppress(psutil.NoSuchProcess):
            partial.write_text(json.dumps({"pid": child.pid, "created": psutil.Process(child.pid).create_time()}))
            partial.replace(self._record)

    def wait_ready(self) -> None:
        """Returns once the server takes our connections, its accounts made. SandboxError if it dies or hangs."""
        deadline = time.monotonic() + _READY_S
        while True:
            process = self.process()
            if not process:
                raise SandboxError(f"{self.name} ({self.kind}) died at its start; {self._last_words()}")
            try:
                self.connect().close()
                return
            except pymysql.MySQLError as error:
                if time.monotonic() > deadline:
                    raise SandboxError(f"{self.name} ({self.kind}) takes no connections on port {self.port} after "
                                       f"{_READY_S:.0f} s: {error}; {self._last_words()}") from error  # fmt: skip
                if error.args[0] == _ACCESS_DENIED:
                    self._make_accounts()
            wait(0.1)

    def _make_accounts(self) -> None:
        try:
            with self._connect_as_root() as connection, connection.cursor() as cursor:
                for statement in self.account_sql():
                    cursor.execute(statement)
        except pymysql.MySQLError as error:
            raise SandboxError(f"{self.name} ({self.kind}) refuses {USER} and root; somebody changed its accounts: "
                               f"{error.args[-1]}") from error  # fmt: skip

    def _connect_as_root(self) -> pymysql.Connection[Any]:
        """With no password on a fresh server, with ours if the accounts were half made."""
        try:
            return self.connect(user="root", password="")
        except pymysql.MySQLError as error:
            if error.args[0] != _ACCESS_DENIED:
                raise
            return self.connect(user="root")

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-15:] if self._log.exists() else []
        return "\n".join([f"the end of {self._log}:", *(line[:300] for line in lines)])

    def kill(self) -> None:
        """SIGKILL, as a crash would be; the server counts as dead then."""
        if process := self.process():
            with suppress(psutil.NoSuchProcess):
                process.kill()
            _wait(process)

    def request_stop(self) -> None:
        """Asks for a clean shutdown and doesn't wait for it."""
        if process := self.process():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGTERM)

    def wait_stopped(self) -> None:
        """Returns once the process is gone; kills it when the clean shutdown takes too long."""
        process = self.process()
        if process and not _wait(process):
            self.kill()
        self._record.unlink(missing_ok=True)

    def status(self) -> ServerStatus:
        """What there is to tell of it now."""
        process = self.process()
        state: State = "running" if process else "dead" if self._record.exists() else "stopped"
        version = uptime_s = None
        if process:
            with suppress(psutil.NoSuchProcess):
                uptime_s = round(time.time() - process.create_time(), 1)
            with suppress(pymysql.MySQLError):
                version = self.version()
        pid = process.pid if process else None
        return ServerStatus(self.name, self.kind, version, self.port, pid, state, str(self.folder), uptime_s)


def _lives(process: psutil.Process) -> bool:
    """Whether the process still is; one that ended, and whose parent hasn't asked how, is not. As long as threads of
    it are left, its ports are too."""
    try:
        return process.is_running() and (process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
    except psutil.NoSuchProcess:
        return False


def _wait(process: psutil.Process) -> bool:
    """Waits for the process to end, for a while. False if it still lives."""
    deadline = time.monotonic() + _STOP_S
    while _lives(process):
        if time.monotonic() > deadline:
            return False
        with suppress(psutil.TimeoutExpired):
            process.wait(0.05)
    return True


def check_port_free(port: int, name: str) -> None:
    """SandboxError that names the port and, if it can be told, the process that has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise SandboxError(f"port {port} for {name} is taken{_holder(port)}; free it, or make a sandbox "
                               "elsewhere with --root and --port") from error  # fmt: skip


def _holder(port: int) -> str:
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            mine = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if mine and connection.pid:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""
