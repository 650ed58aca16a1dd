"""The epoch's gate and the locks beside it: a change of the phase takes its turn among transactions of all kinds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from migrate.config import Endpoint, Run
from migrate.db import Session
from migrate.doublewrite import DoubleWrite, Fenced, Refused, fence
from migrate.doublewrite.phases import Wish, _spread
from migrate.errors import ConnectionLost, NoGo
from migrate.sandbox import Sandbox
from tests.binlog_lab import free_port
from tests.integration.doublewrite_scene import PATIENCE_S, Scene, scene, until
from tests.integration.shards import run


@pytest.fixture
def stage(servers: Sandbox, tmp_path: Path) -> Iterator[Scene]:
    with scene(servers.sources, servers.target, tmp_path) as made:
        yield made.ready()


def neighbours(stage: Scene) -> None:
    """Other migrations whose rows of the epoch stand before and behind this one's: where a range ends matters."""
    for source in stage.sources:
        for name in (f"{stage.config.name[:-1]}!", f"{stage.config.name}~"):
            run(source, f"REPLACE INTO migrate_outbox.epoch VALUES ('{name}', 0, 0, 'off', 0, 'source', 1)")


def waiters(stage: Scene, number: int, table: str = "epoch") -> int:
    """Transactions that wait for a lock on that table of the shard's instance."""
    time.sleep(0.15)  # InnoDB tells what it told last to whoever asks again within 0.1 s
    sql = f"SELECT COUNT(*) FROM information_schema.INNODB_LOCKS l JOIN information_schema.INNODB_TRX t " \
          f"ON t.trx_requested_lock_id = l.lock_id WHERE l.lock_table LIKE '%{table}%'"  # fmt: skip
    return int(run(stage.home(number), sql)[0][0])


def test_a_change_of_the_phase_is_no_victim_of_those_who_queue_at_the_gate(stage: Scene) -> None:
    """It locks each row of the epoch once and for all: another lock later would wait behind the queue, which waits for
    the first one."""
    stage.phase("shadow")
    neighbours(stage)
    ledger = stage.open()

    def post(id: int) -> None:
        with ledger.session(id) as session:
            session.execute(text(f"INSERT INTO account (id, owner, balance) VALUES ({id}, 'o', 1)"))

    with ThreadPoolExecutor(2) as pool:
        posted = []

        def queue_up(session: Session, endpoint: Endpoint) -> None:
            number = int(endpoint.name[1:]) - 1
            posted.append(pool.submit(post, number))
            until(lambda: waiters(stage, number), f"a transaction at the gate of {endpoint.name}")

        epoch = _spread(stage.config, Wish("strict"), "outbox", queue_up).epoch
        for one in posted:
            one.result(PATIENCE_S)
    assert {e for s in stage.sources for (e,) in stage.outbox(s, "epoch")} <= {epoch.number}
    stage.drain()
    assert stage.same()
    ledger.close()


def test_a_row_that_is_locked_to_be_changed_keeps_a_change_of_the_phase_waiting(stage: Scene) -> None:
    """Its transaction passes the gate before it locks anything: behind the gate it would hold up those who have passed,
    and the change of the phase waits for those."""
    stage.phase("shadow")
    ledger = stage.open()
    for id in (1, 5):  # two rows of one shard
        with ledger.session(id) as session:
            session.execute(text(f"INSERT INTO account (id, owner, balance) VALUES ({id}, 'o', 1)"))
    change = "UPDATE account SET balance = balance + 1 WHERE id = {}"
    with ThreadPoolExecutor(2) as pool, ledger.engine(1).connect() as one, ledger.engine(1).connect() as two:
        one.execute(text("SELECT balance FROM account WHERE id = 1 FOR UPDATE"))
        two.execute(text(change.format(5)))
        phase = pool.submit(stage.phase, "strict")
        until(lambda: waiters(stage, 1), "the change of the phase waits for both")
        second = pool.submit(two.execute, text(change.format(1)))
        until(lambda: waiters(stage, 1, "account"), "the second waits for the first's row")
        one.execute(text(change.format(1)))
        one.commit()
        second.result(PATIENCE_S)
        two.commit()
        assert phase.result(PATIENCE_S).epoch.phase == "strict"
    stage.drain()
    assert stage.on_target("account", "id, balance") == [(1, 3), (5, 2)]
    ledger.close()


def test_a_locking_read_is_fenced_like_a_change(stage: Scene) -> None:
    stage.phase("shadow")
    ledger = stage.open()
    fence.fence(stage.config)
    with pytest.raises(Fenced), ledger.session(1) as session:
        session.execute(text("SELECT balance FROM account WHERE id = 1 FOR UPDATE"))
    with ledger.session(1) as session:  # what isn't locked may be read
        assert not session.execute(text("SELECT balance FROM account WHERE id = 1")).all()
    with pytest.raises(Refused, match="writes and locks nothing"), ledger.reading(1) as session:
        session.execute(text("SELECT balance FROM account WHERE id = 1 LOCK IN SHARE MODE"))
    fence.lift(stage.config)
    ledger.close()


def test_a_transaction_that_stays_open_is_named_and_the_phase_is_changed_later(
    stage: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence, "_SPREAD_S", 1)
    stage.phase("shadow")
    ledger = stage.open()
    with ledger.engine(1).connect() as open_:
        open_.execute(text("INSERT INTO account (id, owner, balance) VALUES (1, 'o', 1)"))
        with pytest.raises(NoGo, match=r"strict .* a transaction stayed open for 1 s: m2 .*run the same command again"):
            stage.phase("strict")
        open_.commit()
    assert stage.phase("strict").epoch.phase == "strict"
    ledger.close()


def test_an_application_says_which_instance_it_needs(stage: Scene) -> None:
    """And doesn't wait for it for ever."""
    away = replace(stage.config.sources[1], port=free_port())
    config = replace(stage.config, sources=(stage.config.sources[0], away), run=Run(patience_s=0))
    with pytest.raises(ConnectionLost, match=rf"m2 .*{away.port}.* the application can't start without this one"):
        DoubleWrite(config)
