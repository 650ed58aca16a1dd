"""The TiDB of a sandbox: one process with an embedded store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from migrate.sandbox.server import USER, Server
from migrate.sandbox.toolchain import tidb_binary

# AS OF reads ask for the time up to which history was deleted. The embedded store deletes none and has no such row.
_SAFE_POINT = """REPLACE INTO mysql.tidb (variable_name, variable_value, comment)
VALUES ('tikv_gc_safe_point', '20160102-15:04:05.000 +0000', 'All versions after safe point can be accessed.')"""

# The embedded store keeps the locks of a transaction in memory only, so that kill -9 between the batches of one COMMIT
# leaves a part of it, and one that async commit has answered is lost: in one region and one batch it is whole or not
# there, and it is there once it is answered. Its one-phase commit may take a place in time before a snapshot that is
# being read: rows went while a query went from their index to them (error 8133). A real TiKV does all of that right.
_WHOLE = (
    "SET GLOBAL tidb_txn_commit_batch_size = 1073741824",
    "SET GLOBAL tidb_enable_async_commit = OFF",
    "SET GLOBAL tidb_enable_1pc = OFF",
)


class TiDBServer(Server):
    """A tidb-server on unistore, which survives being killed."""

    kind = "tidb"

    def __init__(self, name: str, folder: Path, port: int, password: str, *, status_port: int, wanted: str | None):
        super().__init__(name, folder, port, password)
        self._status_port, self._wanted = status_port, wanted

    @cached_property
    def _program(self) -> Path:
        return tidb_binary(Path(self._wanted) if self._wanted else None)

    def locate(self) -> None:
        self._program  # noqa: B018

    @property
    def marker(self) -> str:
        return f"--config={self.folder / 'tidb.toml'}"

    def command(self) -> Sequence[str]:
        return [str(self._program), self.marker]

    def initialise(self) -> None:
        text = json.dumps  # a JSON string is a TOML string
        (self.folder / "tidb.toml").write_text(f"""\
host = "127.0.0.1"
port = {self.port}
socket = ""
store = "unistore"
path = {text(str(self.folder / "data"))}
temp-dir = {text(str(self.folder / "tmp"))}
tmp-storage-path = {text(str(self.folder / "tmp-storage"))}
new_collations_enabled_on_first_bootstrap = true
skip-register-to-dashboard = true
split-table = false

[status]
status-host = "127.0.0.1"
status-port = {self._status_port}

[log]
level = "warn"
slow-query-file = {text(str(self.folder / "slow.log"))}

[log.file]
filename = {text(str(self.folder / "server.log"))}
""")

    def account_sql(self) -> Sequence[str]:
        own, password = f"'{USER}'@'%'", self._password
        return [
            _SAFE_POINT,
            *_WHOLE,
            "SET GLOBAL local_infile = ON",
            f"CREATE USER IF NOT EXISTS {own} IDENTIFIED BY 'not yet {password}'",
            f"GRANT ALL ON *.* TO {own} WITH GRANT OPTION",
            f"ALTER USER 'root'@'%' IDENTIFIED BY '{password}'",
            f"ALTER USER {own} IDENTIFIED BY '{password}'",
        ]
