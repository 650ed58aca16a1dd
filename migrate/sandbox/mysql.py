"""One MySQL instance of a sandbox."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from migrate.sandbox.mysqld import Mysqld, find_mysqld
from migrate.sandbox.server import USER, Server


class MySQLServer(Server):
    """A MySQL with GTIDs and a ROW binlog."""

    kind = "mysql"

    def __init__(self, name: str, folder: Path, port: int, password: str, *, number: int, wanted: str):
        super().__init__(name, folder, port, password)
        self._number, self._wanted = number, wanted

    @cached_property
    def _program(self) -> Mysqld:
        return find_mysqld(self._wanted)

    def locate(self) -> None:
        self._program  # noqa: B018

    @property
    def marker(self) -> str:
        return f"--datadir={self.folder / 'data'}"

    def environment(self) -> Mapping[str, str]:
        return self._program.env

    def initialise(self) -> None:
        for name in ("tmp", "binlog"):
            (self.folder / name).mkdir(exist_ok=True)
        if not (self.folder / "data").is_dir():
            self._program.initialise(self.folder / "data")
        for name in ("mysql.sock", "mysql.sock.lock", "mysql.pid"):
            (self.folder / name).unlink(missing_ok=True)  # of a killed one, whose pid may be another's by now

    def command(self) -> Sequence[str]:
        options = {
            "tmpdir": self.folder / "tmp",
            "socket": "../mysql.sock",  # from the data folder; a whole path may be longer than a socket's may be
            "pid-file": self.folder / "mysql.pid",
            "port": self.port,
            "bind-address": "127.0.0.1",
            "server-id": self._number,
            "log-bin": self.folder / "binlog" / "bin",
            "binlog-format": "ROW",
            "sync-binlog": 0,
            "gtid-mode": "ON",
            "enforce-gtid-consistency": "ON",
            "character-set-server": "utf8mb4",
            "sql-mode": "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION",
            "local-infile": "ON",
            "secure-file-priv": "",
            "max-connections": 500,
            "max-allowed-packet": "64M",
            "innodb-buffer-pool-size": "256M",
            "innodb-flush-log-at-trx-commit": 2,
            **self._options_of_version(),
        }
        user = ["--user=root"] if os.getuid() == 0 else []
        return [*self._program.command, self.marker, *user, *(f"--{key}={value}" for key, value in options.items())]

    def _options_of_version(self) -> dict[str, object]:
        if self._program.version >= (8, 0):
            return {"mysqlx": "OFF"}
        options: dict[str, object] = {"log-slave-updates": "ON", "myisam-recover-options": "BACKUP,FORCE"}
        if self._program.version < (5, 7):
            options["performance-schema"] = "OFF"  # 400 MB, at its defaults
        return options

    def account_sql(self) -> Sequence[str]:
        own, password = f"'{USER}'@'%'", self._password
        if self._program.version < (5, 7):
            return [
                "SET SESSION sql_log_bin = 0",
                f"UPDATE mysql.user SET password = PASSWORD('{password}') WHERE user = 'root'",
                f"GRANT ALL ON *.* TO {own} IDENTIFIED BY '{password}' WITH GRANT OPTION",
                "FLUSH PRIVILEGES",
            ]
        return [
            "SET SESSION sql_log_bin = 0",
            f"CREATE USER IF NOT EXISTS {own} IDENTIFIED BY 'not yet {password}'",
            f"GRANT ALL ON *.* TO {own} WITH GRANT OPTION",
            f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{password}'",
            f"ALTER USER {own} IDENTIFIED BY '{password}'",
        ]
