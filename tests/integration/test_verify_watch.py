"""Watching: a share of the ranges a round, all of them within the period, and news told once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from migrate.config import Config, Verify, load_config, parse_url
from migrate.db import connect
from migrate.sandbox import Sandbox
from tests.follower import await_true, make_state
from tests.verify_lab import Lab
from verify.cli import main
from verify.run import verify_checksum
from verify.throttle import Throttle
from verify.watch import Round, watch_once

ROWS = 400


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verify.prove._SHARD_ROWS", 1)
    monkeypatch.setattr("verify.watch._ROWS", 40)


@pytest.fixture
def lab(servers: Sandbox, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(servers.sources, servers.target, tmp_path, "vw")
    yield lab
    lab.drop()


def watched(lab: Lab) -> Config:
    """A table of ten ranges."""
    lab.table("t", "id BIGINT NOT NULL PRIMARY KEY, v INT", [(n, n % 7) for n in range(ROWS)])
    for number, source in enumerate(lab.sources):
        lab.run(source, f"ANALYZE TABLE $.t_{number}")
    return lab.config()


def one_round(config: Config, every_s: float = 25, within_s: float = 100) -> Round:
    return watch_once(config, every_s=every_s, within_s=within_s)


def keys(found: tuple[dict[str, Any], ...]) -> set[str]:
    return {f["key"]["id"] for f in found}


def test_everything_is_proven_within_the_period_and_the_oldest_goes_first(lab: Lab) -> None:
    config = watched(lab)
    rounds = [one_round(config) for _ in range(4)]
    assert all(r.ok for r in rounds)
    assert rounds[0].of >= 9
    share = -(-rounds[0].of // 4)
    assert [r.ranges for r in rounds[:3]] == [share] * 3
    assert [r.never for r in rounds] == [max(0, rounds[0].of - share * n) for n in range(1, 5)]
    rows = sum(t.target_rows for r in rounds for t in r.result.tables)
    assert rows >= ROWS
    with connect(config.target) as session:
        session.execute(
            "UPDATE migrate_meta.verify_watch SET checked_at = NOW(6) - INTERVAL 80 SECOND WHERE migration = %s",
            [config.name],
        )
    assert one_round(config).ranges == rounds[0].of  # a watcher that was away makes up for it


def test_a_table_that_grows_is_cut_anew_without_losing_the_age_of_a_proof(lab: Lab) -> None:
    config = watched(lab)
    before = one_round(config, 1, 1)
    assert (before.ranges, before.never) == (before.of, 0)
    more = [(n, 1) for n in range(1000, 1800)]
    for number, source in enumerate(lab.sources):
        lab.insert(source, f"t_{number}", more[number::2])
        lab.run(source, f"ANALYZE TABLE $.t_{number}")
    lab.insert(lab.target, "t", more)
    after = one_round(config)
    assert after.ok
    assert after.of > 1.5 * before.of
    assert after.never == 0


def test_news_is_told_once_until_it_is_mended(lab: Lab) -> None:
    config = watched(lab)
    assert one_round(config, 1, 1).ok
    lab.on_target("UPDATE $.t SET v = 99 WHERE id = 5", "DELETE FROM $.t WHERE id = 300")
    found = one_round(config, 1, 1)
    assert (keys(found.new), found.known, found.ok) == ({"5", "300"}, (), False)
    lab.on_target("UPDATE $.t SET v = 98 WHERE id = 5")  # the same row, still wrong
    found = one_round(config)  # a share of the ranges, and those with something open
    assert (found.new, keys(found.known), found.ok) == ((), {"5", "300"}, False)
    lab.on_target("UPDATE $.t SET v = 5 WHERE id = 5", "INSERT INTO $.t VALUES (-7, 0)")
    found = one_round(config, 1, 1)
    assert (keys(found.new), keys(found.known), found.mended) == ({"-7"}, {"300"}, 1)
    lab.on_target("INSERT INTO $.t VALUES (300, 6)", "DELETE FROM $.t WHERE id = -7")
    found = one_round(config)
    assert (found.new, found.known, found.mended, found.ok) == ((), (), 2, True)


def test_the_exit_code_tells_what_is_open_or_only_what_is_new(lab: Lab) -> None:
    config = watched(lab)
    command = ["-c", str(config.path), "watch", "--every", "1m", "--within", "1m", "--once", "--json"]

    def exits(*options: str) -> tuple[int, int]:
        done = CliRunner().invoke(main, [*command, *options])
        return done.exit_code, len(json.loads(done.stdout)["watch"]["new"])

    assert exits() == (0, 0)
    lab.on_target("DELETE FROM $.t WHERE id = 5")
    assert exits("--new-only") == (1, 1)
    assert exits("--new-only") == (0, 0)
    assert exits() == (1, 0)
    lab.on_target("DELETE FROM $.t WHERE id = 6")
    assert exits("--new-only") == (1, 1)
    assert CliRunner().invoke(main, [*command, "--every", "5x"]).exit_code == 2


def test_watching_a_live_system_goes_on_over_a_round_that_fails(lab: Lab) -> None:
    config = watched(lab)
    make_state(config)
    with connect(config.target) as session:  # of m1 only: no cut can be made
        session.execute(
            "REPLACE INTO migrate_meta.sync_status VALUES (%s, 'm1', NOW(6) + INTERVAL 1 HOUR, '{}')", [config.name]
        )
    command = [sys.executable, "-m", "verify.cli", "-c", str(config.path), "watch", "--every", "1s", "--within", "2s"]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "this round proved nothing: sync runs for m1 and not for m2" in process.stderr.readline()
        with connect(config.target) as session:
            session.execute("DELETE FROM migrate_meta.sync_status WHERE migration = %s", [config.name])
        first = json.loads(process.stdout.readline())
        lab.on_target("DELETE FROM $.t WHERE id = 5")
        deadline = time.monotonic() + 60
        while not (found := json.loads(process.stdout.readline()))["watch"]["new"]:
            assert time.monotonic() < deadline
        process.terminate()
        assert process.wait(60) == 130
    assert first["ok"]
    assert [f["kind"] for f in found["watch"]["new"]] == ["missing"]


def test_a_busy_source_is_waited_for_with_the_reason(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    config = replace(watched(lab), verify=Verify(threads_running=3))
    with ThreadPoolExecutor(5) as pool:
        sleepers = [pool.submit(lab.run, lab.sources[0], "DO SLEEP(100)") for _ in range(4)]
        await_true(lambda: len(sleeping(lab)) == len(sleepers))
        verified = pool.submit(verify_checksum, config)
        try:
            await_true(lambda: "waiting: m1 runs " in caplog.text)
            assert not verified.done()
        finally:
            lab.run(lab.sources[0], *(f"KILL QUERY {number}" for number in sleeping(lab)))
        assert verified.result(60).ok


def sleeping(lab: Lab) -> list[int]:
    """The connections of the first source that sleep in a statement."""
    with lab.sources[0].connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT ID FROM information_schema.PROCESSLIST WHERE INFO = 'DO SLEEP(100)'")
        return [int(number) for (number,) in cursor.fetchall()]


def executed(server: Any) -> str:
    """The GTIDs of a server."""
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@global.gtid_executed")
        return str(cursor.fetchone()[0]).replace("\n", "")


@pytest.fixture(scope="module")
def replica(servers: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A replica of the sandbox's first source, in a sandbox of its own."""
    from tests.conftest import guarded_sandbox

    source = servers.sources[0]
    with guarded_sandbox(tmp_path_factory.mktemp("replica")) as sandbox:
        sandbox.up(instances=1, mysql="5.6")
        server = sandbox.sources[0]
        config = load_config(servers.config).sources[0]
        with server.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SET GLOBAL server_id = 77")
            cursor.execute("RESET MASTER")
            cursor.execute(f"SET GLOBAL gtid_purged = '{executed(source)}'")
            cursor.execute(
                f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={source.port}, MASTER_USER='{config.user}', "
                f"MASTER_PASSWORD='{config.password}', MASTER_AUTO_POSITION=1"
            )
            cursor.execute("START SLAVE")
        yield server


def test_a_replica_is_read_instead_of_its_source_at_a_position_of_the_source(lab: Lab, replica: Any) -> None:
    config = watched(lab)
    config = replace(config, replicas={"m1": parse_url(replica.url, "m1")})
    with replica.connect() as connection, connection.cursor() as cursor:
        await_true(lambda: executed(replica) == executed(lab.sources[0]))
        assert Throttle(config).reason() is None
        result = verify_checksum(config)
        assert result.ok, result.text()
        (cut,) = result.cuts
        assert cut.positions["m1"]["gtid_set"] == executed(lab.sources[0])
        cursor.execute(f"DELETE FROM {lab.schema}.t_0 WHERE id = 4")  # only a reader of the replica can see that
        assert verify_checksum(config).tables[0].extra == 1
        cursor.execute("STOP SLAVE")
        assert "doesn't replicate" in str(Throttle(config).reason())
