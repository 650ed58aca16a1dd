"""What the operator sees when something is wrong: one clear line, the right exit code, no traceback, no secret."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from migrate.sandbox import Sandbox
from migrate.sandbox.blueprint import free_ports
from tests.faults.client import Client
from tests.faults.ledger import Ledger, Migration, query

SECRET = "hunter-2-%-and-a-half"


@pytest.fixture(scope="module")
def ledger(servers: Sandbox) -> Iterator[Ledger]:
    made = Ledger(servers, "errors", 300)
    made.fill()
    yield made
    made.drop()


@pytest.fixture
def migration(ledger: Ledger, tmp_path: Path) -> Migration:
    """A migration whose password comes from the environment."""
    made = Migration(ledger, tmp_path, patience_s=1)
    return made


def with_password(migration: Migration, *servers: str) -> None:
    """Takes the password of these servers from the environment."""
    text = migration.config.read_text()
    for server in migration.ledger.sandbox.servers:
        if server.name in servers:
            text = text.replace(server.url, re.sub(r":[^:@/]+@", ":${LEDGER_PASSWORD}@", server.url))
    migration.config.write_text(text)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda text: text.replace("[target]", "[target"), "line"),
        (lambda text: text.replace("workers = 2", "workres = 2"), "run.workres: unknown key"),
        (lambda text: text.replace("workers = 2", "workers = 0"), "run.workers"),
        (lambda text: re.sub(r":[^:@/]+@", ":${NO_SUCH_VARIABLE}@", text), "NO_SUCH_VARIABLE is not set"),
        (lambda text: text.replace("'entry_\\d+'", "'entry_('"), "not a regular expression"),
        (lambda text: "", "missing"),
    ],
    ids=["syntax", "unknown key", "value", "environment", "pattern", "empty"],
)
def test_bad_config(migration: Migration, spoil: Callable[[str], str], words: str) -> None:
    migration.config.write_text(spoil(migration.config.read_text()))
    client = migration.run("copy").fails(2, str(migration.config), words)
    assert len(client.err.strip().splitlines()) == 1


@pytest.mark.parametrize("verb", ["check", "plan", "schema", "status", "export --out files", "load --from files"])
def test_every_verb_reads_the_config_first(migration: Migration, verb: str) -> None:
    migration.config.write_text("[migration\nname = 1\n")
    client = migration.run(*verb.split()).fails(2, str(migration.config), "line 1")
    assert len(client.err.strip().splitlines()) == 1


def test_config_missing(tmp_path: Path) -> None:
    Client("-c", str(tmp_path / "nowhere.toml"), "copy").fails(2, "nowhere.toml", "no such file")
    Client("copy").fails(2, "-c FILE", "MIGRATE_CONFIG")
    Client("copy", environment={"MIGRATE_CONFIG": str(tmp_path)}).fails(2, str(tmp_path))


def test_usage(migration: Migration) -> None:
    for arguments in (["no-such-verb"], ["copy", "--no-such-option"], ["copy", "--workers", "0"], ["load"], []):
        client = migration.run(*arguments)
        client.ended()
        assert client.code == 2, client.err
        assert "Error: " in client.err or "Usage: " in client.err
        assert "Traceback" not in client.err


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize(
    ("verb", "name"), [("copy", "m1"), ("copy", "tidb"), ("schema", "tidb"), ("status", "tidb"), ("export", "m1")]
)
def test_wrong_password(migration: Migration, name: str, debug: bool, verb: str) -> None:
    with_password(migration, name)
    arguments = ["--out", str(migration.folder / "files")] if verb == "export" else []
    before = ["--debug"] if debug else []
    client = Client("-c", str(migration.config), *before, verb, *arguments, environment={"LEDGER_PASSWORD": SECRET})
    client.ended()
    assert client.code == 2, client.err
    errors = [line for line in client.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Access denied" in errors[0]
    assert ("Traceback" in client.err) == debug
    assert SECRET not in client.err + client.out
    assert not debug or "traceback" in client.err


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
def test_the_password_is_nowhere(migration: Migration, debug: bool) -> None:
    """Not in the output of a copy that works or fails, nor in what `ps` shows of it or its workers."""
    migration.create()
    password = migration.target.url.split(":")[2].split("@")[0]
    with_password(migration, "m1", "m2", "tidb")
    before = ["--debug"] if debug else []
    environment = {"LEDGER_PASSWORD": password, "MIGRATE_FAULT": "after_chunk_commit:stop"}
    with Client("-c", str(migration.config), *before, "copy", environment=environment) as client:
        client.until_stopped()
        for process in [psutil.Process(client.pid), *client.workers()]:
            assert password not in " ".join(process.cmdline())
        for worker in client.workers():
            worker.resume()
        client.ok()
    assert password not in client.err + client.out
    query(migration.target, f"DROP TABLE {migration.table}")
    query(migration.target, f"DELETE FROM migrate_meta.migration WHERE name = '{migration.name}'")
    failed = Client("-c", str(migration.config), *before, "copy", environment=environment).ended()
    assert failed.code == 1
    assert password not in failed.err + failed.out


@pytest.mark.parametrize("name", ["m1", "target"])
def test_no_server_on_the_port(ledger: Ledger, tmp_path: Path, name: str) -> None:
    (port,) = free_ports(1)
    url = f"mysql://migrator:{SECRET.replace('%', '%25')}@127.0.0.1:{port}"
    migration = Migration(ledger, tmp_path, patience_s=1, **{name: url})
    client = migration.run("copy").fails(3, f"127.0.0.1:{port}", "refused")
    assert SECRET not in client.err


def test_no_privilege(ledger: Ledger, tmp_path: Path) -> None:
    server = ledger.sandbox.sources[0]
    query(server, "GRANT USAGE ON *.* TO 'nobody'@'%' IDENTIFIED BY 'nothing'")
    query(server, "GRANT USAGE ON *.* TO 'nobody'@'localhost' IDENTIFIED BY 'nothing'")
    query(server, "GRANT SELECT ON errors_0.* TO 'nobody'@'%'")
    query(server, "GRANT SELECT ON errors_0.* TO 'nobody'@'localhost'")
    migration = Migration(ledger, tmp_path, m1=f"mysql://nobody:nothing@127.0.0.1:{server.port}")
    out = str(tmp_path / "files")
    migration.run("export", "--out", out).fails(2, "m1 (nobody@", "REPLICATION CLIENT")
    on_target = ledger.sandbox.target
    query(on_target, "CREATE USER IF NOT EXISTS 'nobody'@'%' IDENTIFIED BY 'nothing'")
    migration = Migration(ledger, tmp_path, target=f"mysql://nobody:nothing@127.0.0.1:{on_target.port}")
    migration.run("copy").fails(2, "target (nobody@", "denied")


def test_unknown_pack(tmp_path: Path) -> None:
    Client("init", "--pack", "no-such-pack").fails(2, "no-such-pack")
    Client("sandbox", "up", "--root", str(tmp_path / "box"), "--pack", "no-such-pack").fails(2, "no-such-pack")


def test_json_of_a_failure(migration: Migration) -> None:
    client = migration.run("copy", "--json").fails(1, "missing on the target")
    assert client.out == ""
    out = json.loads(migration.run("export", "--json", "--out", str(migration.folder / "files")).ok().out)
    assert out["rows"] == 1200


def test_a_reader_that_goes_away(migration: Migration) -> None:
    """`migrate status | head -0` isn't a traceback."""
    client = Client("-c", str(migration.config), "status", before=("bash", "-c", '"$@" | exec 0<&- true', "piped"))
    client.ended()
    assert "Traceback" not in client.err
    assert "Exception ignored" not in client.err
