"""Row images of a real MariaDB 10.11: the matrix of values arrives as that of MySQL does."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrate.model import Target
from migrate.sandbox import Sandbox
from migrate.sandbox.errors import SandboxError
from migrate.sync.stream import INSERT
from tests.binlog import Replay, position, writing
from tests.fidelity import configured, create_target, make_table, run
from tests.integration.test_fidelity_types import GROUPS
from tests.integration.test_sync_fidelity import arrives
from tests.mariadb import lone_mariadb, mariadb_folder


def test_every_value_arrives(servers: Sandbox, tmp_path: Path) -> None:
    try:
        mariadb_folder()
    except SandboxError as error:
        pytest.skip(f"Debian's archive gives no MariaDB: {error}")
    schema, columns = "sync_maria", "sync_maria_columns"
    with lone_mariadb(tmp_path / "m1") as source, writing(servers.target) as writer:
        since = position(source)
        for table, group in GROUPS.items():
            make_table(source, schema, table, group)
        create_target(configured(tmp_path, [source], servers.target, schema))
        replay = Replay(source, schema, since)
        for table, group in GROUPS.items():
            arrives(writer, source, servers.target, Target(schema, table), replay, group)
        since = position(source)
        run(source, f"CREATE DATABASE {columns}",
            f"CREATE TABLE {columns}.t (id INT PRIMARY KEY, v INT AS (id * 2) VIRTUAL, "
            "w VARCHAR(9) AS (CONCAT('x', id)) PERSISTENT, j JSON, u VARCHAR(50) INVISIBLE)",
            f"INSERT INTO {columns}.t (id, j, u) VALUES (1, '[1.50]', 'h'), (2, NULL, NULL)")  # fmt: skip
        assert Replay(source, columns, since).images("t", INSERT) == [(1, b"[1.50]", b"h"), (2, None, None)]
