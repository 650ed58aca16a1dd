"""A sandbox: MySQL instances and a TiDB below one folder, that come up again with the same ports and data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import platformdirs

from migrate.errors import ConfigError
from migrate.packs import pack_dir
from migrate.sandbox.blueprint import Blueprint, absolute_program, pack_reference, write_private
from migrate.sandbox.cache import locked
from migrate.sandbox.errors import readable_disk_errors
from migrate.sandbox.mysql import MySQLServer
from migrate.sandbox.progress import say
from migrate.sandbox.server import Server, ServerStatus
from migrate.sandbox.tidb import TiDBServer

_LOCK = ".lock"


@dataclass(frozen=True)
class Address:
    """A server that is up. The URL holds the password."""

    name: str
    url: str
    version: str


@dataclass(frozen=True)
class Description:
    """What `up` made: the config to give to -c, and the servers."""

    config: Path
    sources: tuple[Address, ...]
    target: Address
    root: Path

    def as_json(self) -> dict[str, Any]:
        """The document that `migrate sandbox up --json` prints."""
        return {
            "config": str(self.config),
            "sources": [asdict(source) for source in self.sources],
            "target": {"url": self.target.url, "version": self.target.version},
            "root": str(self.root),
        }


class Sandbox:
    """The sandbox below `root`, whether it is up, down or not made yet."""

    def __init__(self, root: Path | None = None):
        self.root = (root or platformdirs.user_state_path("migrate-sandbox")).absolute()
        self.config = self.root / "config.toml"

    def up(
        self,
        instances: int | None = None,
        mysql: str | None = None,
        tidb: str | None = None,
        port: int | None = None,
        pack: str | None = None,
    ) -> Description:
        """Makes the sandbox, or starts what of it doesn't run, on the same ports with the same data.

        `mysql` is "5.6", "9.7" or a path to mysqld, `tidb` a path to tidb-server, `port` the first of consecutive
        ports. None stands for what the sandbox has, or at first for 2 instances of 5.6, free ports, pack `payment`.
        """
        mysql, tidb = absolute_program(mysql), absolute_program(tidb)
        with self._lock():
            blueprint = Blueprint.load(self.root)
            if blueprint:
                blueprint.refuse_changes(instances, mysql, tidb, port)
                blueprint = blueprint.model_copy(update={"pack": pack_reference(pack or blueprint.pack)})
            else:
                self._refuse_strange_folder()
                chosen = pack_reference(pack or "payment")
                blueprint = Blueprint.new(2 if instances is None else instances, mysql or "5.6", tidb, port, chosen)
            servers = _servers(self.root, blueprint)
            for server in servers:
                server.locate()
            blueprint.save(self.root)
            _start(servers)
            write_private(self.config, _config_text(blueprint, servers))
            *sources, target = (Address(s.name, s.url, s.version()) for s in servers)
            return Description(self.config, tuple(sources), target, self.root)

    @property
    def servers(self) -> list[Server]:
        """The instances and, last, the TiDB; nothing if the sandbox isn't made."""
        blueprint = Blueprint.load(self.root)
        return _servers(self.root, blueprint) if blueprint else []

    @property
    def sources(self) -> list[Server]:
        """The MySQL instances."""
        return self.servers[:-1]

    @property
    def target(self) -> Server:
        """The TiDB."""
        return self.server("tidb")

    def server(self, name: str) -> Server:
        """The server of that name: m1, m2, ..., tidb."""
        servers = {s.name: s for s in self.servers}
        if name not in servers:
            raise ConfigError(f"no server {name!r} in the sandbox {self.root}; it has: {', '.join(servers) or 'none'}")
        return servers[name]

    def status(self) -> list[ServerStatus]:
        """Every server as it is now; nothing if the sandbox isn't made."""
        return [server.status() for server in self.servers]

    def down(self, purge: bool = False) -> None:
        """Stops every server cleanly, or by force after half a minute; `purge` removes the whole folder too."""
        if not Blueprint.load(self.root):
            return
        with self._lock():
            _stop(self.servers)
            if purge and Blueprint.load(self.root):
                _remove(self.root)

    def kill(self, name: str) -> None:
        """Kills a server as a crash would."""
        self.server(name).kill()

    def restart(self, name: str) -> None:
        """Starts a server, after a clean stop if it runs."""
        server = self.server(name)
        with self._lock():
            _stop([server])
            _start([server])

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with readable_disk_errors(self.root):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(self.root / _LOCK, f"another command works on the sandbox {self.root}; waiting for it"):
                yield

    def _refuse_strange_folder(self) -> None:
        if any(path.name != _LOCK for path in self.root.iterdir()):
            raise ConfigError(f"{self.root} isn't empty and holds no sandbox; use another --root")


def _servers(root: Path, blueprint: Blueprint) -> list[Server]:
    *ports, tidb_port, status_port = blueprint.ports
    password = blueprint.password
    instances = [
        MySQLServer(f"m{number}", root / f"m{number}", port, password, number=number, wanted=blueprint.mysql)
        for number, port in enumerate(ports, 1)
    ]
    tidb = TiDBServer("tidb", root / "tidb", tidb_port, password, status_port=status_port, wanted=blueprint.tidb)
    return [*instances, tidb]


def _start(servers: Sequence[Server]) -> None:
    """Starts those that don't run and waits for all. If that fails, those are gone again."""
    idle = [server for server in servers if not server.process()]
    if idle:
        say(f"starting {', '.join(server.name for server in idle)} ...")
    try:
        for server in idle:
            server.start()
        for server in servers:
            server.wait_ready()
    except BaseException:
        for server in idle:
            server.kill()
        _stop(idle)
        raise


def _stop(servers: Sequence[Server]) -> None:
    for server in servers:
        server.request_stop()
    for server in servers:
        server.wait_stopped()


def _remove(root: Path) -> None:
    """Removes the folder, the blueprint after the data, so that an interrupted removal can be repeated."""
    for path in root.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    shutil.rmtree(root)


def _config_text(blueprint: Blueprint, servers: Sequence[Server]) -> str:
    *sources, target = servers
    lines = ["[migration]", 'name = "sandbox"', f"pack = {json.dumps(blueprint.pack)}", ""]
    for source in sources:
        lines += ["[[source]]", f'name = "{source.name}"', f'url = "{source.url}"', ""]
    lines += ["[target]", f'url = "{target.url}"', ""]
    routes = pack_dir(blueprint.pack) / "routes.toml"
    return "\n".join(lines) + (routes.read_text(encoding="utf-8") if routes.is_file() else "")
