"""Each way to refuse the application's writes: that it refuses them, lets ours through, and is lifted as it was."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymysql
import pytest

from migrate.cutover.fences import fences_of
from migrate.sandbox import Sandbox, Server
from tests.cutover_lab import Lab, cutover_lab
from tests.integration.shards import run


@pytest.fixture(scope="module", params=["5.6", pytest.param("9.7", marks=pytest.mark.soak)])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """On MySQL 5.6 and 9.7, with an account of the application's that doesn't use the library."""
    sandbox: Sandbox = request.getfixturevalue({"5.6": "servers", "9.7": "sandbox97"}[request.param])
    with cutover_lab(sandbox, tmp_path_factory.mktemp("fences")) as made:
        for server in sandbox.sources:
            for host in ("%", "localhost"):  # 5.6 has an anonymous account that wins at localhost
                with suppress(pymysql.Error):
                    run(server, f"CREATE USER 'app'@'{host}' IDENTIFIED BY 'secret'")
                run(server, f"GRANT SELECT, INSERT, UPDATE, DELETE ON {made.scene.db}.* TO 'app'@'{host}'")
        yield made
        made.write_config()
        for server in sandbox.sources:
            for host in ("%", "localhost"):
                run(server, f"DROP USER 'app'@'{host}'")


@pytest.fixture(autouse=True)
def _no_hook_called_yet(lab: Lab) -> None:
    lab.hooks_called()


FENCES: dict[str, dict[str, Any]] = {
    "read-only": {"fence": "read-only"},
    "revoke": {"fence": "revoke", "accounts": ["app@%", "app@localhost"]},
}


def as_app(lab: Lab) -> Any:
    """A connection of the application's own, to shard 1."""
    return lab.scene.home(1).connect(user="app", password="secret")


def write(connection: Any, lab: Lab) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {lab.scene.db}.account_01 SET seq = seq + 1 WHERE id = 1")


def refused(lab: Lab) -> bool:
    try:
        with as_app(lab) as connection:
            write(connection, lab)
    except pymysql.Error:
        return True
    return False


def facts(server: Server) -> list[Any]:
    """What a fence may leave changed."""
    grants = [run(server, f"SHOW GRANTS FOR 'app'@'{host}'") for host in ("%", "localhost")]
    return [run(server, "SELECT @@GLOBAL.read_only"), *grants]


@pytest.mark.parametrize("kind", FENCES)
def test_the_application_is_kept_out_and_let_in_again(lab: Lab, kind: str) -> None:
    lab.write_config(**FENCES[kind], hooks__smoke=lab.hook("smoke", "exit 1"))
    lab.ensure_sync()
    before = [facts(s) for s in lab.scene.sources]
    client = lab.stopped("cutover", "before_smoke")
    assert refused(lab)
    run(lab.scene.home(1), f"UPDATE {lab.scene.db}.account_01 SET seq = seq WHERE id = 1")  # ours may
    client.send(signal.SIGCONT)
    client.ended()
    assert client.code == 1, client.err
    assert [facts(s) for s in lab.scene.sources] == before
    assert not refused(lab)
    lab.delivered()


@pytest.mark.parametrize("kind", FENCES)
def test_it_stays_up_until_the_way_back_is_gone(lab: Lab, kind: str) -> None:
    """The shards refuse the application for as long as the target is primary, and are as they were after the rollback;
    the way back writes there meanwhile."""
    lab.write_config(**FENCES[kind])
    lab.ensure_sync()
    before = [facts(s) for s in lab.scene.sources]
    with as_app(lab) as idle:
        write(idle, lab)
        outcome = lab.cut_over()
        assert outcome.go, outcome.text()
        with pytest.raises(pymysql.Error):
            write(idle, lab)
    assert refused(lab)
    library = lab.scene.open()
    with library.session(5) as session:
        session.connection().exec_driver_sql(f"UPDATE {lab.scene.db}.account SET owner = '{kind}' WHERE id = 5")
    library.close(10)
    outcome = lab.roll_back()
    assert outcome.go, outcome.text()
    home = lab.scene.home(5 % lab.scene.shards)
    assert run(home, f"SELECT owner FROM {lab.scene.db}.account_01 WHERE id = 5") == [(kind,)]
    assert [facts(s) for s in lab.scene.sources] == before
    assert not refused(lab)


def test_killed_it_is_lifted_by_the_next_run(lab: Lab) -> None:
    lab.write_config(**FENCES["read-only"])
    lab.ensure_sync()
    before = [facts(s) for s in lab.scene.sources]
    assert lab.client("cutover", "--execute", MIGRATE_FAULT="after_drain:kill").ended().code == -9
    assert refused(lab)
    lab.client("rollback", "--execute").ok()
    assert [facts(s) for s in lab.scene.sources] == before
    assert not refused(lab)


@pytest.mark.parametrize("kind", FENCES)
def test_an_account_that_could_not_lift_it_is_found_before(lab: Lab, kind: str) -> None:
    """Ready by our account's word, not by another one that may only read."""
    lab.write_config(**FENCES[kind])
    [fence] = fences_of(lab.config, double=False)
    assert not list(fence.problems(lab.config))
    weak = replace(lab.config, sources=tuple(replace(s, user="app", password="secret") for s in lab.config.sources))
    problems = list(fence.problems(weak))
    assert problems
    assert all(said and remedy for said, remedy in problems)


def test_a_fence_of_the_operators_own(lab: Lab) -> None:
    lab.write_config(fence="hook", hooks__fence=lab.hook("fence", ":"), hooks__lift=lab.hook("lift", ":"),
                     hooks__smoke=lab.hook("smoke", "exit 1"))  # fmt: skip
    lab.ensure_sync()
    assert not lab.cut_over().go
    assert lab.hooks_called() == ["fence", "smoke", "lift"]


def test_without_the_library_there_is_no_way_back(lab: Lab, tmp_path: Path) -> None:
    """The switch hook is what opens the target, and comes after the decision."""
    lab.write_config(**FENCES["read-only"], hooks__switch=lab.hook("switch", ":"), hooks__back=lab.hook("back", ":"))
    lab.ensure_sync()
    name = lab.config.name
    rows = [(s, run(s, f"SELECT * FROM migrate_outbox.epoch WHERE migration = '{name}'")) for s in lab.scene.sources]
    phase = run(lab.scene.target, f"SELECT COUNT(*) FROM migrate_meta.phase WHERE migration = '{name}'")
    assert phase == [(1,)] and rows
    run(lab.scene.target, f"DELETE FROM migrate_meta.phase WHERE migration = '{name}'")
    refusal = lab.cut_over()
    assert not refusal.go
    assert "FAIL way back" in refusal.reason
    outcome = lab.cut_over(way_back=False)
    assert outcome.go, outcome.text()
    assert lab.hooks_called() == ["switch"]
    assert refused(lab)
    back = lab.roll_back()
    assert not back.go
    assert "no outbox" in back.reason
