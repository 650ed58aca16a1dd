"""Cuts of a live system: both sides are written all the time, and verification sees one moment of both."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from migrate.config import Config, Verify, parse_url
from migrate.db import Session, connect
from migrate.errors import AccessDenied, ConfigError, ConnectionLost
from migrate.model import Shard
from migrate.sandbox import Sandbox
from tests.follower import Follower, Writers, await_true, make_state
from tests.verify_lab import Lab
from verify.cut import Cut, Cutter, HistoryGone, read_tso, snapshot_target
from verify.halts import Halts, SyncStopped
from verify.run import verify_all, verify_checksum, verify_rows
from verify.snapshot import Busy, open_exactly, read_position

ACCOUNT = "id BIGINT NOT NULL PRIMARY KEY, balance DECIMAL(20,4) NOT NULL"
ENTRY = "id BIGINT NOT NULL PRIMARY KEY, account BIGINT NOT NULL, amount DECIMAL(20,4) NOT NULL, memo VARCHAR(20)"
SHARDS = 4
ROWS = 200


@pytest.fixture
def lab(servers: Sandbox, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(servers.sources, servers.target, tmp_path, "vc")
    lab.table("account", ACCOUNT, [(n, "1000") for n in range(ROWS)], shards=SHARDS)
    lab.table("entry", ENTRY, [(n, n % ROWS, "1.5", "x") for n in range(ROWS)], shards=SHARDS)
    yield lab
    lab.drop()


@contextmanager
def synced(lab: Lab, config: Config, lag_s: float = 0.0) -> Iterator[list[Follower]]:
    """A follower for each instance; they begin where the two sides are equal."""
    make_state(config)
    with ExitStack() as stack:
        yield [
            stack.enter_context(Follower(source.name, source, lab.target, config.name, lag_s)) for source in lab.sources
        ]


@contextmanager
def live(lab: Lab, config: Config, tps: float = 25.0) -> Iterator[Writers]:
    """Writers on the shards, and followers that apply what they write."""
    with synced(lab, config), Writers(lab.sources, lab.schema, SHARDS, tps) as writers:
        yield writers


def shards_of(lab: Lab, instance: int = 0) -> list[Shard]:
    return [
        Shard(lab.sources[instance].name, lab.schema, f"{table}_{n}")
        for table in ("account", "entry")
        for n in range(SHARDS)
        if n % len(lab.sources) == instance
    ]


def test_thirty_verifications_in_a_row_see_no_difference_and_then_every_planted_fault(lab: Lab) -> None:
    config = replace(lab.config(), name=lab.schema)
    with live(lab, config) as writers:
        before = writers.done
        for _ in range(30):
            result = verify_checksum(config)
            assert result.ok, result.text()
            assert [cut.exact for cut in result.cuts] == [True]
        assert writers.done > before + 5
        lab.on_target(
            "UPDATE $.entry SET amount = amount + 0.0001 WHERE id = 7",
            "DELETE FROM $.entry WHERE id = 8",
            "INSERT INTO $.entry VALUES (-5, 1, 2, 'ghost')",
        )
        result = verify_rows(config)
        assert {(m.kind, m.key["id"]) for m in result.mismatches if m.key} == {
            ("different", "7"), ("missing", "8"), ("extra", "-5")
        }  # fmt: skip
        assert not result.ok


def test_without_sync_differences_are_told_to_be_of_the_moment(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(lab.config(), name=lab.schema)
    monkeypatch.setattr("verify.narrow._LATE_S", 0.5)
    with Writers(lab.sources, lab.schema, SHARDS) as writers:
        writers.await_done(10)
        result = verify_rows(config)
    assert not result.ok
    assert any("was written while it was verified, and sync doesn't run" in note for note in result.notes)
    assert not any(cut.exact for cut in result.cuts)


def test_what_catches_up_is_late_and_no_difference(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that writes both sides itself, the target a moment later: no cut can be had."""
    lab.run(lab.sources[0], "INSERT INTO $.entry_0 VALUES (10000, 1, 1, 'x'), (10004, 1, 1, 'x')")
    lab.on_target("DELETE FROM $.entry WHERE id = 3")

    def catch_up(seconds: float) -> None:
        lab.on_target("INSERT INTO $.entry VALUES (10000, 1, 1, 'x')")

    monkeypatch.setattr("verify.narrow.wait", catch_up)
    result = verify_rows(lab.config())
    assert {(m.kind, m.key["id"]) for m in result.mismatches if m.key} == {
        ("late", "10000"), ("missing", "10004"), ("missing", "3")
    }  # fmt: skip
    assert not result.ok
    lab.on_target("DELETE FROM $.entry WHERE id = 10000", "INSERT INTO $.entry VALUES (10004, 1, 1, 'x')")
    lab.on_target("INSERT INTO $.entry SELECT 3, 3, 1.5, 'x'")
    result = verify_rows(lab.config())
    assert result.ok, result.text()
    assert [m.kind for m in result.mismatches] == ["late"]


def test_a_static_source_is_verified_without_sync(lab: Lab) -> None:
    result = verify_all(lab.config())
    assert result.ok
    (cut,) = result.cuts
    assert not cut.exact
    assert cut.positions.keys() == {s.name for s in lab.sources}
    assert all(p["gtid_set"] and p["file"] for p in cut.positions.values())
    assert not any("written" in note for note in result.notes)


def test_ranges_of_many_cuts_are_proven_each_at_its_own(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verify.prove._SHARD_ROWS", 1)
    monkeypatch.setattr(Cut, "age_s", 1e9)
    config = replace(lab.config(), name=lab.schema, verify=Verify(range_rows=40))
    for source in lab.sources:
        lab.run(source, *(f"ANALYZE TABLE $.account_{n}" for n in range(SHARDS) if lab.sources[n % 2] is source))
    with live(lab, config):
        result = verify_checksum(config)
        assert result.ok, result.text()
        assert len(result.cuts) > 5
        assert len({cut.tso for cut in result.cuts}) == len(result.cuts)
        lab.on_target("DELETE FROM $.account WHERE id = 111")
        (found,) = verify_rows(config).mismatches
        assert (found.kind, found.key) == ("missing", {"id": "111"})


def test_a_lost_snapshot_is_replaced_by_a_new_cut(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sessions of the first cut are killed as soon as it is taken."""
    take = Cutter.take

    def killed(self: Cutter) -> object:
        cut = take(self)
        if len(self.records) == 1:
            for source in lab.sources:
                for session in cut.sessions[source.name]:
                    lab.run(source, f"KILL {session.connection_id}")
        return cut

    monkeypatch.setattr(Cutter, "take", killed)
    config = replace(lab.config(), name=lab.schema)
    with live(lab, config):
        result = verify_checksum(config)
    assert result.ok, result.text()
    assert len(result.cuts) == 2


def test_a_tso_shows_what_was_committed_before_it_and_nothing_else(lab: Lab) -> None:
    lab.on_target("CREATE TABLE $.t (id INT PRIMARY KEY, v INT)", "INSERT INTO $.t VALUES (1, 0)")
    endpoint = lab.config().target
    with connect(endpoint) as writer, connect(endpoint) as asker, connect(endpoint) as reader:
        for n in range(1, 301):
            writer.execute(f"UPDATE {lab.schema}.t SET v = {n}")
            tso = read_tso(asker)
            writer.execute(f"UPDATE {lab.schema}.t SET v = -1")
            reader.execute(f"SET tidb_snapshot = '{tso}'")
            assert reader.value(f"SELECT v FROM {lab.schema}.t") == n


def test_the_lock_waits_for_open_transactions_and_never_beyond_its_bound(lab: Lab) -> None:
    """MySQL 5.6 gives LOCK TABLES beside an open transaction, which then commits behind the position, unless InnoDB is
    made to take part."""
    endpoint = parse_url(lab.sources[0].url, "m1")
    with lab.sources[0].connect(autocommit=False) as writer, writer.cursor() as cursor:
        cursor.execute(f"UPDATE {lab.schema}.account_0 SET balance = balance + 1 WHERE id = 0")
        with connect(endpoint) as reader, pytest.raises(Busy, match=r"no lock on 4 tables within 1 s.*open for \d+ s"):
            open_exactly(endpoint, [reader], shards_of(lab), 1)
        # nobody waits for the lock that wasn't had
        lab.run(
            lab.sources[0], "SET innodb_lock_wait_timeout = 5, lock_wait_timeout = 5",
            "UPDATE $.account_2 SET balance = 0 WHERE id = 2", "DELETE FROM $.entry_0 WHERE id = 0",
        )  # fmt: skip
        committer = threading.Timer(0.5, writer.commit)
        committer.start()
        with connect(endpoint) as reader, connect(endpoint) as now:
            position, count = open_exactly(endpoint, [reader], shards_of(lab), 60)
            assert (position, count) == (read_position(now), 1)
            assert reader.value(f"SELECT balance FROM {lab.schema}.account_0 WHERE id = 0") == 1001
        committer.join()


def test_recent_mysql_is_locked_against_open_transactions_too(sandbox97: Sandbox, tmp_path: Path) -> None:
    lab = Lab(sandbox97.sources, sandbox97.target, tmp_path, "vc97")
    try:
        lab.table("account", ACCOUNT, [(n, "1000") for n in range(20)], shards=2)
        assert verify_all(lab.config()).ok
        endpoint = parse_url(lab.sources[0].url, "m1")
        shards = [Shard("m1", lab.schema, f"account_{n}") for n in range(2)]
        with lab.sources[0].connect(autocommit=False) as writer, writer.cursor() as cursor:
            cursor.execute(f"UPDATE {lab.schema}.account_0 SET balance = balance + 1 WHERE id = 0")
            with connect(endpoint) as reader, pytest.raises(Busy, match="no lock on 2 tables within 1 s"):
                open_exactly(endpoint, [reader], shards, 1)
            committer = threading.Timer(0.5, writer.commit)
            committer.start()
            with connect(endpoint) as reader, connect(endpoint) as now:
                assert open_exactly(endpoint, [reader], shards, 60) == (read_position(now), 1)
                assert reader.value(f"SELECT balance FROM {lab.schema}.account_0 WHERE id = 0") == 1001
            committer.join()
    finally:
        lab.drop()


def test_a_verifier_that_stands_still_holds_no_lock_beyond_the_bound(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = parse_url(lab.sources[0].url, "m1")
    held: list[bool] = []

    def stand_still(session: Session) -> dict[str, str]:
        lab.run(lab.sources[0], "UPDATE $.account_0 SET balance = 5 WHERE id = 0")  # waits for the lock
        with pytest.raises(ConnectionLost):  # which ended with its session
            session.value("SELECT 1")
        held.append(True)
        return {"file": "bin.000001", "offset": "4"}

    monkeypatch.setattr("verify.snapshot._settled_position", stand_still)
    with connect(endpoint) as reader, pytest.raises(Busy):
        open_exactly(endpoint, [reader], shards_of(lab), 1)
    assert held == [True]


@pytest.mark.parametrize("account", ["no lock", "no position"])
def test_missing_grants_are_named(lab: Lab, account: str) -> None:
    source = lab.sources[0]
    grants = "SELECT, REPLICATION CLIENT" if account == "no lock" else "SELECT, LOCK TABLES"
    lab.run(
        source,
        f"GRANT {grants} ON *.* TO 'auditor'@'%' IDENTIFIED BY 'x'",
        f"GRANT {grants} ON *.* TO 'auditor'@'localhost' IDENTIFIED BY 'x'",
    )
    endpoint = parse_url(f"mysql://auditor:x@127.0.0.1:{source.port}", "m1")
    expected = "GRANT SELECT, LOCK TABLES ON" if account == "no lock" else "GRANT REPLICATION CLIENT ON"
    try:
        with connect(endpoint) as reader, pytest.raises(AccessDenied, match=expected) as caught:
            open_exactly(endpoint, [reader], shards_of(lab), 2)
        assert caught.value.exit_code == 2
    finally:
        lab.run(source, "DROP USER 'auditor'@'%', 'auditor'@'localhost'")


def test_many_tables_are_held_by_one_global_lock(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verify.snapshot._MANY", 1)
    config = replace(lab.config(), name=lab.schema)
    with live(lab, config):
        for _ in range(5):
            assert verify_checksum(config).ok


def test_a_halt_is_over_when_its_verifier_is(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verify.halts._LASTS_S", 2)
    config = replace(lab.config(), name=lab.schema)
    names = [s.name for s in lab.sources]
    with synced(lab, config) as followers, Writers(lab.sources, lab.schema, SHARDS), connect(config.target) as session:
        halts = Halts(session, config.name, names, 30)
        halts.__enter__()  # and never left, as if the process had been killed
        stood = [f.applied for f in followers]
        good = "SELECT COUNT(*) FROM migrate_meta.halt WHERE migration = %s AND `until` > NOW(6)"
        while True:
            applied = [f.applied for f in followers]
            if not session.value(good, [config.name]):
                break
            assert applied == stood
        assert not halts.standing()
        await_true(lambda: all(f.applied > then for f, then in zip(followers, stood, strict=True)))
        assert verify_checksum(config).ok  # the old rows hinder nobody


def test_sync_that_died_or_lags_too_much_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(lab.config(), name=lab.schema)
    monkeypatch.setattr("verify.cut._CAUGHT_UP_S", 1)
    with synced(lab, config, lag_s=3.0), Writers(lab.sources, lab.schema, SHARDS) as writers:
        writers.await_done(20)
        with pytest.raises(SyncStopped, match=r"sync of m1, m2 didn't .* within 1 s"):
            verify_checksum(config)
    make_state(config)
    insert = "REPLACE INTO migrate_meta.sync_status VALUES ('{}', '{}', NOW(6) - INTERVAL {} SECOND, '{{}}')"
    with connect(config.target) as session:
        session.execute(insert.format(config.name, "m1", 0))
        session.execute(insert.format(config.name, "m2", 60))
        with pytest.raises(SyncStopped, match="sync runs for m1 and not for m2"):
            verify_checksum(config)
        session.execute(insert.format(config.name, "m1", 30))
        result = verify_checksum(config)
        assert any("sync doesn't run (last sign of life 3" in note for note in result.notes)
        assert not session.value("SELECT COUNT(*) FROM migrate_meta.halt WHERE migration = %s", [config.name])
        session.execute("DELETE FROM migrate_meta.sync_status WHERE migration = %s", [config.name])


def test_two_verifications_at_a_time_take_turns(lab: Lab) -> None:
    config = replace(lab.config(), name=lab.schema)
    begin = threading.Barrier(4)

    def verified(_: int) -> bool:
        begin.wait()
        return verify_checksum(config).ok

    with live(lab, config), ThreadPoolExecutor(4) as pool:
        assert list(pool.map(verified, range(4))) == [True] * 4


def test_of_halts_asked_for_at_once_one_is_first(lab: Lab) -> None:
    """Nothing stands in the table yet, so there is no row of it to lock."""
    config = replace(lab.config(), name=lab.schema)
    make_state(config)
    for _ in range(10):
        with ExitStack() as stack, ThreadPoolExecutor(4) as pool:
            sessions = [stack.enter_context(connect(config.target)) for _ in range(4)]
            halts = [Halts(session, config.name, ["m1", "m2"], 5) for session in sessions]
            holders = list(pool.map(lambda h: h._insert(), halts))
            sessions[0].execute("DELETE FROM migrate_meta.halt WHERE migration = %s", [config.name])
        assert holders.count(None) == 1
        assert len(set(holders) - {None}) == 1


def test_history_that_the_target_forgets_too_early_is_an_error(lab: Lab) -> None:
    config = replace(lab.config(), verify=Verify(renew_s=400))
    with pytest.raises(ConfigError, match=r"keeps history for 10m0s .*tidb_gc_life_time = '20m', or lower .* to 300"):
        verify_checksum(config)


def test_history_that_is_gone_is_told(lab: Lab) -> None:
    config = lab.config()
    cut = Cutter(config, shards_of(lab), 1).take()
    cut.record = replace(cut.record, tso=5)
    with connect(config.target) as session, pytest.raises(HistoryGone, match="GC safe point"):
        snapshot_target(session, cut)
    cut.close()
