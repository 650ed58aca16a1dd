"""TiDB primary: what it writes comes back into the original shards, and the phases on the way there and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from migrate.doublewrite import DoubleWrite, Fenced, NotOnBothSides, Refused, WrongPrimary, fence
from migrate.doublewrite.audit import Sides
from migrate.doublewrite.canal import Sink
from migrate.doublewrite.phases import read
from migrate.doublewrite.pump import Pump
from migrate.doublewrite.repair import repair, undo
from migrate.doublewrite.status import read_status
from migrate.errors import ConfigError, NoGo
from migrate.sandbox import Sandbox
from tests.integration.doublewrite_scene import PATIENCE_S, Scene, delivered, scene
from tests.integration.shards import run
from verify.changes import Order
from verify.journal import BY_DOUBLE_WRITE, Journal, unverified
from verify.repair import undo as verify_undo


@pytest.fixture
def stage(servers: Sandbox, tmp_path: Path) -> Iterator[Scene]:
    with scene(servers.sources, servers.target, tmp_path) as made:
        yield made.ready()


def post(ledger: DoubleWrite, id: int, amount: str = "1", *, first: bool = False) -> None:
    with ledger.session(id) as session:
        if first:
            session.execute(text(f"INSERT INTO account (id, owner, balance) VALUES ({id}, 'o', 100)"))
        else:
            session.execute(text(f"UPDATE account SET balance = balance - {amount}, seq = seq + 1 WHERE id = {id}"))


def to_reversed(stage: Scene, ledger: DoubleWrite) -> None:
    """All phases in order, each with what it asks for."""
    stage.phase("shadow")
    stage.phase("strict")
    stage.phase("read-compare", 100)
    for share in (1, 10, 50, 100):
        compared(stage, ledger)
        stage.phase("read-switch", share)
    compared(stage, ledger)
    stage.phase("reversed")


def compared(stage: Scene, ledger: DoubleWrite) -> None:
    """Reads of many accounts, all of which are compared where both sides are asked."""
    ledger._refresh()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("migrate.doublewrite.reading._SAMPLE", 100)
        patch.setattr("migrate.doublewrite.reading._SLOW_S", 1e6)  # a busy machine is no reason to back off
        for id in (1, 2, 3, 4, 5, *range(100, 300)):
            with ledger.reading(id) as session:
                session.execute(text("SELECT id, balance FROM account WHERE id = :id"), {"id": id}).all()
        ledger._comparer.rest(PATIENCE_S)


@pytest.mark.timeout(300)
def test_through_all_phases_and_back(stage: Scene) -> None:
    all_phases_and_back(stage)


def all_phases_and_back(stage: Scene) -> None:
    """On servers of any version."""
    ledger = stage.open()
    stage.phase("shadow")
    for id in range(1, 9):
        post(ledger, id, first=True)
    delivered(ledger)
    stage.phase("off")
    to_reversed(stage, ledger)
    late = ledger.engine_of("m1").execution_options(sharding_key=2)  # as a session that was routed before the change
    with pytest.raises(WrongPrimary), late.begin() as connection:
        connection.execute(text("UPDATE account SET balance = 0 WHERE id = 2"))
    ledger._refresh()
    assert ledger.server(1) == "target"
    with ledger.session(1) as session:  # one transaction over shards that had none
        session.execute(text(f"UPDATE {stage.db}.account SET balance = balance - 30 WHERE id = 1"))
        session.execute(text("UPDATE account SET balance = balance + 30 WHERE id = 2"))
        session.execute(text("INSERT INTO account (id, owner, balance) VALUES (9, 'new', 9)"))
        session.execute(text("DELETE FROM account WHERE id = 3"))
        session.execute(text("INSERT INTO entry (id, account_id, voucher_id, direction, amount, once) VALUES "
                             "(1, 1, 1, 'D', 30, 'a'), (2, 2, 1, 'C', 30, 'b')"))  # fmt: skip
    with pytest.raises(Refused, match="is a shard"), ledger.session(1) as session:
        session.execute(text(f"UPDATE {stage.db}.account_01 SET balance = 0"))
    assert stage.pending(everywhere=True) == 6
    assert not stage.same()
    assert stage.reverse().applied == 6
    assert stage.same()
    post(ledger, 4)
    back = stage.phase("strict")  # drains what is left by itself
    assert (back.epoch.primary, back.forward) == ("source", "outbox")
    assert stage.same()
    with pytest.raises(WrongPrimary), ledger.engine_of("target").begin() as connection:
        connection.execute(text(f"UPDATE {stage.db}.account SET balance = 0 WHERE id = 2"))
    ledger._refresh()
    post(ledger, 5, "7")
    assert stage.same()
    assert stage.phase("off").forward == "sync"
    ledger.close()


def test_illegal_changes_say_what_is_legal(stage: Scene) -> None:
    with pytest.raises(NoGo, match="no way to reversed; legal: shadow"):
        stage.phase("reversed")
    with pytest.raises(NoGo, match="unknown phase"):
        stage.phase("on")
    stage.phase("shadow")
    with pytest.raises(NoGo, match="no way to read-switch"):
        stage.phase("read-switch", 1)
    stage.phase("strict")
    stage.phase("read-compare", 10)
    with pytest.raises(NoGo, match="one step up at a time"):
        stage.phase("read-switch", 50)
    with pytest.raises(NoGo, match="no read has been compared"):
        stage.phase("read-switch", 1)


def test_a_backlog_or_a_difference_stops_the_way_up(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = stage.open()
    stage.phase("shadow")
    monkeypatch.setattr(type(ledger.phase), "delivers", property(lambda _: False))
    post(ledger, 1, first=True)
    run(stage.home(1), f"UPDATE migrate_outbox.outbox SET created_at = NOW(6) - INTERVAL 9 SECOND "
                       f"WHERE migration = '{stage.config.name}'")  # fmt: skip
    with pytest.raises(NoGo, match=r"m2: 1 changes wait, the oldest for \d+ s: `migrate double-write drain`"):
        stage.phase("strict")
    stage.drain()
    stage.phase("strict")
    stage.phase("read-compare", 100)
    run(stage.target, f"UPDATE {stage.db}.account SET balance = 1")
    ledger._refresh()
    with ledger.reading(1) as session:
        assert session.execute(text("SELECT balance FROM account WHERE id = 1")).scalar() == 100
    ledger._comparer.rest(PATIENCE_S)
    with pytest.raises(NoGo, match="1 of 1 reads differed"):
        stage.phase("read-switch", 1)
    assert read_status(stage.config).reads == (1, 1, Decimal(99))


@pytest.mark.soak
def test_reads_back_off_by_themselves(stage: Scene) -> None:
    ledger = stage.open()
    stage.phase("shadow")
    for id in range(1, 200):
        post(ledger, id, first=True)
    delivered(ledger)
    stage.drain()
    stage.phase("strict")
    stage.phase("read-compare", 100)
    for share in (1, 10):
        compared(stage, ledger)
        stage.phase("read-switch", share)
    run(stage.target, f"UPDATE {stage.db}.account SET balance = balance + 0.0001")
    compared(stage, ledger)
    assert (read(stage.config).epoch.phase, read(stage.config).epoch.share) == ("read-switch", 1)
    ledger._refresh()


def test_strict_reports_what_is_on_one_side_only(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = stage.open()
    stage.phase("shadow")
    post(ledger, 1, first=True)
    delivered(ledger)
    stage.phase("strict")
    post(ledger, 1)
    assert stage.same()  # at once, without waiting
    ledger.deadline_s = 0.3
    with monkeypatch.context() as away:
        away.setattr("migrate.doublewrite.apply.Applier.apply", lambda *_: (_ for _ in ()).throw(OSError("away")))
        with pytest.raises(NotOnBothSides, match="don't write it again"):
            post(ledger, 1)
        delivered(ledger)
        assert stage.pending() == 1
    assert stage.on_shards("account", "balance") == [(Decimal(98),)]
    assert stage.drain().applied == 1
    assert stage.same()


def test_the_fence_holds_and_is_lifted(stage: Scene) -> None:
    ledger = stage.open()
    stage.phase("shadow")
    post(ledger, 1, first=True)
    with ledger.engine(2).connect() as straggler:
        straggler.execute(text("INSERT INTO account (id, owner, balance) VALUES (2, 'x', 1)"))
        with pytest.raises(NoGo, match="stayed open for 1 s"):
            fence.fence(stage.config, within_s=1)
        straggler.commit()
    post(ledger, 1)  # lifted again
    proofs = fence.fence(stage.config, within_s=5)
    assert [p.server for p in proofs] == ["m1", "m2"]
    for _ in range(2):
        with pytest.raises(Fenced, match="fenced"):
            post(ledger, 1)
    fence.proof(stage.config)
    with pytest.raises(NoGo, match="isn't primary"):
        fence.fence(stage.config, "target")
    fence.lift(stage.config)
    post(ledger, 1)
    fence.fence(stage.config)
    delivered(ledger)
    stage.drain()
    assert fence.switch(stage.config, "reversed").epoch.primary == "target"
    ledger._refresh()
    post(ledger, 1)
    with pytest.raises(NoGo, match="nothing is fenced"):
        fence.switch(stage.config, "strict")
    stage.reverse()
    assert stage.same()


def test_a_writer_without_the_library_breaks_the_proof(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    fence.fence(stage.config)
    rogue = f"INSERT INTO {stage.db}.account_00 (id, owner, balance) VALUES (4, 'rogue', 1)"
    monkeypatch.setattr("migrate.doublewrite.fence.wait", lambda _: run(stage.home(0), rogue))
    with pytest.raises(NoGo, match="m1 is fenced, and somebody who doesn't use the library writes"):
        fence.proof(stage.config)


def test_a_row_that_changes_while_both_sides_are_read_is_no_difference(
    stage: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = stage.open(deadline_s=2)
    stage.phase("shadow")
    post(ledger, 1, first=True)
    delivered(ledger)
    read_rows = Sides.rows

    def read_and_post(*args: Any, **options: Any) -> Any:
        found = read_rows(*args, **options)
        post(ledger, 1)
        delivered(ledger)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Sides, "rows", read_and_post)
        assert {f.kind for f in read_status(stage.config).findings} == {"late"}
    assert not read_status(stage.config).findings


def test_differences_are_held_found_priced_and_repaired(stage: Scene) -> None:
    ledger = stage.open(deadline_s=2)
    stage.phase("shadow")
    for id in range(1, 5):
        post(ledger, id, first=True)
    delivered(ledger)
    stage.drain()
    run(stage.target, f"UPDATE {stage.db}.account SET balance = 1 WHERE id = 1",
        f"DELETE FROM {stage.db}.account WHERE id = 2",
        f"UPDATE {stage.db}.account SET owner = 'rogue' WHERE id = 3")  # fmt: skip
    for id in (1, 2, 4):
        post(ledger, id, "5")
    post(ledger, 1, "2")
    delivered(ledger)
    report = stage.drain()
    assert sorted(r.split(":")[0] for r in report.held.values()) == [
        "different", "different", "missing",
    ]  # fmt: skip
    assert stage.pending() == 3
    status = read_status(stage.config)
    assert not status.ok
    assert {(f.kind, f.key, f.money) for f in status.findings} == {
        ("different", ("1",), Decimal(92)), ("missing", ("2",), Decimal(95)), ("different", ("3",), Decimal(0)),
    }  # fmt: skip
    assert "different: " + stage.db + ".account 1" in status.text()
    rogue = stage.on_target("account")
    shown = repair(stage.config)
    assert (len(shown.done), shown.ok, stage.pending()) == (3, False, 3)
    begin = partial(Journal.begin, stage.config, BY_DOUBLE_WRITE)
    mended = repair(stage.config, lambda right, undone: begin(right, ("test", "T-1"), undone))
    assert mended.ok, mended.text()
    assert stage.same()
    assert stage.pending() == 0
    assert read_status(stage.config).ok
    assert mended.number in unverified(stage.config)  # which a cutover looks at
    rows = run(stage.target, "SELECT action, state, JSON_VALID(before_image), JSON_VALID(after_image) FROM "
                             f"migrate_meta.repair_row WHERE repair = {mended.number} ORDER BY 1")  # fmt: skip
    assert rows == [("insert", "done", None, 1), ("update", "done", 1, 1), ("update", "done", 1, 1)]
    post(ledger, 4, "1")
    post(ledger, 1, "1")  # no longer as the repair left it
    stage.drain()
    way = (stage.config, mended.number, *Journal.rows(stage.config, mended.number)[1:])
    assert len(undo(*way).done) == 3
    assert stage.same()
    undone = undo(*way, lambda right, undone: begin(right, ("test", "T-2"), undone))
    assert [(m.key["id"], m.why) for m in undone.left] == [("1", "it has changed since it was repaired")]
    assert {r for r in stage.on_target("account") if r[0] in (2, 3)} == {r for r in rogue if r[0] in (2, 3)}
    assert {(f.kind, f.key) for f in read_status(stage.config).findings} == {("missing", ("2",)), ("different", ("3",))}
    with pytest.raises(ConfigError, match="is of the double write"):
        verify_undo(stage.config, mended.number, Order(execute=True, reason="r", ticket="t"))
    assert repair(stage.config, lambda right, undone: begin(right, ("test", "T-3"), undone)).ok
    assert stage.same()


def test_canal_json_of_ticdc(stage: Scene, tmp_path: Path) -> None:
    run(stage.home(1), f"INSERT INTO {stage.db}.account_01 VALUES (1, 'a', 'CNY', 1000, 5, 0, '2026-01-01 00:00:00')")

    def message(kind: str, commit: int, old: dict[str, Any] | None = None, **row: Any) -> str:
        full = {"id": "1", "owner": "é", "currency": "CNY", "opening": "1000.0000", "balance": "5.0000", "seq": "0",
                "touched": "2026-01-01 00:00:00", **row}  # fmt: skip
        return json.dumps({
            "id": 0, "database": stage.db, "table": "account", "pkNames": ["id"], "isDdl": False, "type": kind,
            "es": commit >> 18, "ts": 0, "sql": "", "sqlType": {"id": -5}, "mysqlType": {"id": "bigint"},
            "data": [full], "old": [old] if old else None, "_tidb": {"commitTs": commit},
        })  # fmt: skip

    folder = tmp_path / "sink" / stage.db / "account" / "100" / "2026-11-22"
    folder.mkdir(parents=True)
    lines = [
        message("INSERT", 5, id="4"),  # before the switch: came from the shards
        message("UPDATE", 20, {"owner": "a"}, balance="5.0000"),  # only what was changed is in `old`
        message("INSERT", 30, id="5", owner="x"),
        message("INSERT", 30, id="5", owner="x"),  # written twice
        message("DELETE", 40, id="5", owner="x"),
        message("INSERT", 45, id="2"),
        json.dumps(
            {"type": "TIDB_WATERMARK", "isDdl": False, "database": "", "table": "", "_tidb": {"watermarkTs": 46}}
        ),
        message("INSERT", 50, id="3"),  # beyond the checkpoint
    ]
    (folder / "CDC000001.json").write_text("\n".join(lines[:4]) + "\n")
    (folder / "CDC000002.json").write_text("\n".join(lines[4:]) + "\n")
    (tmp_path / "sink" / "metadata").write_text('{"checkpoint-ts":46}')
    for expected in (4, 0):
        sink = Sink(stage.config, stage.router, tmp_path / "sink", after=10)
        report = Pump(stage.config, stage.router, [sink]).run(until_empty=True, seconds=PATIENCE_S)
        assert report.ok
        assert report.applied == 4
        assert stage.on_shards("account", "id, owner") == [(1, "é"), (2, "é")], expected
    ddl = json.dumps({"type": "ALTER", "isDdl": True, "database": stage.db, "table": "account", "sql": "ALTER TABLE x"})
    (folder / "CDC000003.json").write_text(ddl + "\n")
    with pytest.raises(NoGo, match="carries a DDL"):
        Sink(stage.config, stage.router, tmp_path / "sink", after=10).read()


def test_the_commands(stage: Scene, tmp_path: Path) -> None:
    from migrate.cli import cli

    path = tmp_path / "migration.toml"
    path.write_text(stage.toml())

    def command(*words: str) -> Any:
        result = CliRunner().invoke(
            cli, ["-c", str(path), *words, "--json"], catch_exceptions=False, standalone_mode=False
        )
        return json.loads(result.stdout)

    assert command("double-write", "install")["executed"] is False
    assert command("double-write", "install", "--execute")["executed"] is True
    assert command("double-write", "phase", "shadow", "--in-step")["phase"] == "shadow"
    ledger = stage.open()
    post(ledger, 1, first=True)
    delivered(ledger)
    assert command("double-write", "drain", "--until-empty")["ok"] is True
    assert command("double-write", "status")["backlog"] == []
    assert command("double-write", "phase")["forward"] == "outbox"
    assert command("double-write", "repair")["ok"] is True
    assert command("reverse", "--until-empty")["applied"] == 0
