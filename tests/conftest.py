"""Real servers for the tests, started when first asked for and shared by the session.

A test makes databases with names of its own. Servers have `connect(**pymysql_options)`, which gives an autocommit
connection: `servers.sources[0].connect(database="x")`, `servers.target.connect()`, `mysql97.connect()`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from migrate.sandbox import Sandbox, Server
from migrate.sandbox.mysqld import find_mysqld
from migrate.sandbox.toolchain import tidb_binary

# Or every command that a test starts would compile all of its modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

_GUARD = """\
import pathlib, sys
from migrate.sandbox import Sandbox
sys.stdin.read()
Sandbox(pathlib.Path(sys.argv[1])).down(purge=True)
"""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Installs what the chosen tests need before the first test's clock runs."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    with session.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        if "servers" in wanted or "sandbox97" in wanted:
            find_mysqld("5.6")
            tidb_binary()
        if "sandbox97" in wanted:
            find_mysqld("9.7")


@contextmanager
def guarded_sandbox(root: Path) -> Iterator[Sandbox]:
    """A sandbox that a process of its own removes at the end, which comes even if the tests are killed."""
    with subprocess.Popen([sys.executable, "-c", _GUARD, str(root)], stdin=subprocess.PIPE, start_new_session=True):
        yield Sandbox(root)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox that is up, with two MySQL 5.6 (`sources`), a TiDB (`target`) and a `config` for `payment`."""
    with guarded_sandbox(tmp_path_factory.mktemp("sandbox")) as sandbox:
        sandbox.up(instances=2, mysql="5.6")
        yield sandbox


@pytest.fixture(scope="session")
def sandbox97(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Another sandbox that is up, with one MySQL 9.7 and a TiDB of its own."""
    with guarded_sandbox(tmp_path_factory.mktemp("sandbox97")) as sandbox:
        sandbox.up(instances=1, mysql="9.7")
        yield sandbox


@pytest.fixture(scope="session")
def mysql97(sandbox97: Sandbox) -> Server:
    """The MySQL 9.7 of `sandbox97`."""
    return sandbox97.sources[0]
