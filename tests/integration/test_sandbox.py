"""The sandbox against real servers: they come up, survive crashes, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from migrate.config import load_config
from migrate.errors import ConfigError
from migrate.sandbox import Sandbox, SandboxError, Server
from migrate.sandbox.blueprint import free_ports
from migrate.sandbox.cli import sandbox as command
from migrate.sandbox.mysql import MySQLServer
from migrate.sandbox.mysqld import find_mysqld
from tests.conftest import guarded_sandbox

_UP = "import sys, pathlib, json; from migrate.sandbox import Sandbox; " \
      "print(json.dumps(Sandbox(pathlib.Path(sys.argv[1])).up(instances=1).as_json()))"  # fmt: skip


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox of the test's own, not made yet."""
    with guarded_sandbox(tmp_path / "box") as sandbox:
        yield sandbox


def processes_of(root: Path) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"])
            if any(str(root) in argument for argument in p.info["cmdline"] or ())
            and ("mysqld" in p.name() or "tidb" in p.name())]  # fmt: skip


def query(server: Server, sql: str) -> list[tuple[object, ...]]:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def test_up_again_returns_the_same(servers: Sandbox) -> None:
    before = [(s.name, s.pid) for s in servers.status()]
    first, config = servers.up(), servers.config.read_text()
    assert servers.up() == first
    assert servers.config.read_text() == config
    assert [(s.name, s.pid) for s in servers.status()] == before


def test_config_is_valid_and_private(servers: Sandbox) -> None:
    config = load_config(servers.config)
    assert [source.name for source in config.sources] == ["m1", "m2"]
    assert [source.port for source in config.sources] == [source.port for source in servers.sources]
    assert config.target.port == servers.target.port
    assert config.routes
    for name in ("config.toml", "sandbox.json"):
        assert (servers.root / name).stat().st_mode & 0o777 == 0o600


def test_no_password_in_the_process_list(servers: Sandbox) -> None:
    password = load_config(servers.config).target.password
    assert password.isalnum()
    for server in servers.servers:
        process = server.process()
        assert process and password not in " ".join(process.cmdline())


@pytest.mark.parametrize("name", ["m1", "m2", "tidb"])
def test_killed_server_comes_back_with_its_data(servers: Sandbox, name: str) -> None:
    server, database = servers.server(name), f"sandbox_kill_{name}"
    query(server, f"CREATE DATABASE {database}")
    query(server, f"CREATE TABLE {database}.t (id INT PRIMARY KEY)")
    query(server, f"INSERT INTO {database}.t VALUES (1), (2)")
    servers.kill(name)
    assert {s.name: s.state for s in servers.status()}[name] == "dead"
    servers.up()
    assert {s.state for s in servers.status()} == {"running"}
    assert query(server, f"SELECT COUNT(*) FROM {database}.t") == [(2,)]
    query(server, f"DROP DATABASE {database}")


def test_restart_keeps_data(servers: Sandbox) -> None:
    before = servers.server("m1").process()
    servers.restart("m1")
    assert servers.server("m1").process() != before
    assert query(servers.server("m1"), "SELECT 1") == [(1,)]


def test_sources_write_what_sync_reads(servers: Sandbox) -> None:
    assert query(servers.sources[0], "SELECT @@gtid_mode, @@binlog_format, @@log_bin, @@server_id")[0] == (
        "ON", "ROW", 1, 1)  # fmt: skip
    assert query(servers.sources[1], "SELECT @@server_id, VERSION() LIKE '5.6%'") == [(2, 1)]
    assert query(servers.sources[0], "SELECT COUNT(*) FROM mysql.user WHERE user = ''") == [(0,)]
    assert ("test",) not in query(servers.sources[0], "SHOW DATABASES")


def test_target_reads_the_past(servers: Sandbox) -> None:
    with servers.target.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE sandbox_past")
        cursor.execute("CREATE TABLE sandbox_past.t (id INT PRIMARY KEY)")
        cursor.execute("INSERT INTO sandbox_past.t VALUES (1)")
        cursor.execute("SELECT SLEEP(0.01)")  # AS OF is by the millisecond
        cursor.execute("BEGIN")
        cursor.execute("SELECT @@tidb_current_ts")
        ((moment,),) = cursor.fetchall()
        cursor.execute("COMMIT")
        cursor.execute("DELETE FROM sandbox_past.t")
        cursor.execute(f"SELECT id FROM sandbox_past.t AS OF TIMESTAMP TIDB_PARSE_TSO({moment})")
        assert cursor.fetchall() == ((1,),)
        cursor.execute(f"SET @@tidb_snapshot = '{moment}'")
        cursor.execute("SELECT id FROM sandbox_past.t")
        assert cursor.fetchall() == ((1,),)
        cursor.execute("SET @@tidb_snapshot = ''")
        cursor.execute("DROP DATABASE sandbox_past")


def test_mysql97(mysql97: Server) -> None:
    assert query(mysql97, "SELECT VERSION() LIKE '9.%', @@gtid_mode, @@binlog_format") == [(1, "ON", "ROW")]
    assert query(mysql97, "SELECT DISTINCT plugin FROM mysql.user WHERE user = 'migrator'") == [
        ("caching_sha2_password",)
    ]


def test_commands(servers: Sandbox) -> None:
    def json_of(*arguments: str) -> dict[str, object]:
        result = CliRunner().invoke(command, [*arguments, "--root", str(servers.root), "--json"])
        assert result.exit_code == 0, result.stderr
        document: dict[str, object] = json.loads(result.stdout)
        return document

    up = json_of("up")
    assert up["config"] == str(servers.config)
    assert [source["url"] for source in up["sources"]] == [s.url for s in servers.sources]  # type: ignore[attr-defined]
    status = json_of("status")
    assert [s["state"] for s in status["servers"]] == ["running"] * 3  # type: ignore[attr-defined]
    text = CliRunner().invoke(command, ["status", "--root", str(servers.root)]).stdout
    assert "m1" in text and "running" in text


def test_concurrent_ups_make_one_sandbox_and_down_leaves_nothing(box: Sandbox) -> None:
    both = [
        subprocess.Popen([sys.executable, "-c", _UP, str(box.root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    (first, first_log), (second, second_log) = (process.communicate() for process in both)
    assert json.loads(first) == json.loads(second)
    assert b"waiting" in first_log + second_log
    assert len(processes_of(box.root)) == 2
    box.down()
    assert processes_of(box.root) == []
    assert {s.state for s in box.status()} == {"stopped"}
    box.down(purge=True)
    assert not box.root.exists()


def test_interrupted_up_leaves_no_process(box: Sandbox) -> None:
    up = [sys.executable, "-m", "migrate.cli", "sandbox", "up", "--instances", "1", "--root", str(box.root)]
    with subprocess.Popen(up, stderr=subprocess.DEVNULL) as process:
        while not (box.root / "tidb" / "process.json").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert processes_of(box.root) == []


def test_server_of_a_killed_up_is_found_again(box: Sandbox) -> None:
    box.up(instances=1)
    (record := box.root / "m1" / "process.json").unlink()
    pid = box.server("m1").status().pid
    assert pid
    box.down()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert not record.exists()


def test_half_made_accounts_are_made_whole(mysql97: Server, servers: Sandbox) -> None:
    for server in (mysql97, servers.sources[0], servers.target):
        query(server, "DROP USER 'migrator'@'%'")
        server.wait_ready()
        assert "ON *.* TO" in (grants := str(query(server, "SHOW GRANTS"))) and "WITH GRANT OPTION" in grants


def test_taken_port_is_named_with_its_holder(box: Sandbox) -> None:
    free = set(free_ports(1000))
    port = next(p for p in free if p - 1 in free)
    named = rf"port {port} for m2 is taken by process {os.getpid()} "
    with socket.create_server(("127.0.0.1", port)), pytest.raises(SandboxError, match=named):
        box.up(port=port - 1)
    assert processes_of(box.root) == []


def test_server_that_dies_shows_its_log(box: Sandbox, tmp_path: Path) -> None:
    program = tmp_path / "tidb-server"
    program.write_text("#!/bin/sh\necho no luck today\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(SandboxError, match=r"tidb .* died at its start(.|\n)*no luck today"):
        box.up(instances=1, mysql=find_mysqld("5.6").command[0], tidb=str(program))
    assert processes_of(box.root) == []


def test_stranger_with_our_pid_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (tmp_path / "process.json").write_text(json.dumps({"pid": stranger.pid, "created": 1.0}))
        server = MySQLServer("m1", tmp_path, 3306, "", number=1, wanted="5.6")
        assert server.status().state == "dead"
        server.kill()
        server.request_stop()
        server.wait_stopped()
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"mysql": "/nowhere/mysqld"}, "no mysqld to run at '/nowhere/mysqld'"),
        ({"mysql": "4.1"}, "no mysqld to run at '4.1'"),
        ({"tidb": "/nowhere/tidb-server"}, "no tidb-server to run at /nowhere/tidb-server"),
        ({"pack": "nopack"}, "unknown pack 'nopack'"),
        ({"instances": 0}, "1 to 64 instances"),
        ({"port": 65_534}, "port 65534 is out of range"),
    ],
)
def test_bad_input_is_named(tmp_path: Path, wanted: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sandbox(tmp_path / "box").up(**wanted)  # type: ignore[arg-type]
    assert Sandbox(tmp_path / "box").status() == []


def test_a_made_sandbox_refuses_other_versions(servers: Sandbox) -> None:
    for wanted in ({"instances": 3}, {"mysql": "9.7"}, {"tidb": "/other"}, {"port": 4000}):
        with pytest.raises(ConfigError, match="this sandbox was made with"):
            servers.up(**wanted)


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="holds no sandbox"):
        Sandbox(tmp_path).up()
    Sandbox(tmp_path).down(purge=True)
    assert (tmp_path / "thesis.txt").exists()


def test_unknown_server_is_named(servers: Sandbox) -> None:
    with pytest.raises(ConfigError, match=r"no server 'm9' .* m1, m2, tidb"):
        servers.kill("m9")
