"""A real MariaDB 10.11, from Debian 12, unpacked into the cache beside its own C library."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from migrate.sandbox.cache import install
from migrate.sandbox.debian import unpack_packages
from migrate.sandbox.server import Server
from migrate.sandbox.toolchain import apt_command
from tests.binlog_lab import free_port, running

_TABLES = ("mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql")


def mariadb_folder() -> Path:
    """The unpacked packages' usr folder. SandboxError if Debian's archive can't give them."""

    def make(folder: Path) -> None:
        unpack_packages(apt_command(), "mariadb-server-core", folder, suite="bookworm", title="MariaDB 10.11")

    return install("mariadb-10.11", make, needs_mb=1000) / "root" / "usr"


class MariaDBServer(Server):
    """A MariaDB with a ROW binlog."""

    kind = "mariadb"

    def __init__(self, folder: Path, port: int, options: Mapping[str, object]):
        super().__init__("m1", folder, port, "secret")
        self._usr, self._options = mariadb_folder(), options

    def locate(self) -> None:
        """It is there since it was made."""

    @property
    def marker(self) -> str:
        return f"--datadir={self.folder / 'data'}"

    def _program(self) -> list[str]:
        folders = sorted(p for top in (self._usr.parent, self._usr) for p in top.glob("lib/*-linux-gnu"))
        (loader,) = (path for folder in folders for path in folder.glob("ld-linux-*.so.*"))
        path = ":".join(map(str, folders))
        flags = ("--no-defaults", f"--basedir={self._usr}", f"--lc-messages-dir={self._usr / 'share' / 'mysql'}")
        return [str(loader), "--library-path", path, str(self._usr / "sbin" / "mariadbd"), *flags]

    def initialise(self) -> None:
        if (self.folder / "data").is_dir():
            return
        for name in ("data/mysql", "tmp", "binlog"):
            (self.folder / name).mkdir(parents=True)
        share = self._usr / "share" / "mysql"
        statements = ["USE mysql;", *((share / name).read_text() for name in _TABLES)]
        statements.append(
            "REPLACE INTO global_priv VALUES ('%', 'migrator', JSON_OBJECT('access', 18446744073709551615, 'plugin', "
            f"'mysql_native_password', 'authentication_string', PASSWORD('{self._password}')));"
        )
        user = ["--user=root"] if os.getuid() == 0 else []
        subprocess.run(
            [*self._program(), self.marker, f"--tmpdir={self.folder / 'tmp'}", "--bootstrap", *user],
            input="\n".join(statements), text=True, check=True, capture_output=True,
        )  # fmt: skip

    def command(self) -> Sequence[str]:
        options = {
            "tmpdir": self.folder / "tmp", "socket": "../mysql.sock", "pid-file": self.folder / "mysql.pid",
            "port": self.port, "bind-address": "127.0.0.1", "server-id": 7, "log-bin": self.folder / "binlog" / "bin",
            "binlog-format": "ROW", "binlog-checksum": "CRC32", "max-allowed-packet": "64M",
            "innodb-buffer-pool-size": "64M", "innodb-flush-log-at-trx-commit": 2, **self._options,
        }  # fmt: skip
        user = ["--user=root"] if os.getuid() == 0 else []
        return [*self._program(), self.marker, *user, *(f"--{key}={value}" for key, value in options.items())]

    def account_sql(self) -> Sequence[str]:
        return []


@contextmanager
def lone_mariadb(folder: Path, **options: object) -> Iterator[MariaDBServer]:
    """A MariaDB in a folder that isn't there, gone at the end."""
    server = MariaDBServer(folder, free_port(), {k.replace("_", "-"): v for k, v in options.items()})
    with running(server):
        yield server
