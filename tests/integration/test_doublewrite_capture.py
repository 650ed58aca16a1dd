"""What an application writes is captured or refused: ORM, Core, text, plain DB-API, asyncio; on real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pymysql
import pytest
from sqlalchemy import delete, insert, select, text, update

from migrate.doublewrite import DoubleWrite, Refused
from migrate.sandbox import Sandbox
from tests.integration.doublewrite_scene import Scene, delivered, models, scene
from tests.integration.shards import run


@pytest.fixture(scope="module")
def stage(servers: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(servers.sources, servers.target, tmp_path_factory.mktemp("dw")) as made:
        made.ready()
        made.phase("shadow")
        yield made


@pytest.fixture(scope="module")
def ledger(stage: Scene) -> Iterator[DoubleWrite]:
    made = stage.open()
    yield made
    made.close()


@pytest.fixture
def written(stage: Scene, ledger: DoubleWrite) -> Iterator[Any]:
    """Nothing pending before; after the test both sides hold the same."""
    yield models(stage.db)
    delivered(ledger)
    stage.drain()
    assert stage.pending() == 0
    assert stage.same()


def account(ledger: DoubleWrite, db: str, id: int) -> None:
    with ledger.session(id) as session:
        session.execute(text(f"INSERT INTO {db}.account (id, owner, balance) VALUES (:id, 'o', 1000)"), {"id": id})


def test_the_orm_writes_both_sides(stage: Scene, ledger: DoubleWrite, written: Any) -> None:
    Account, Entry = written
    with ledger.session(101) as session:
        session.add(Account(id=101, owner="张伟", balance=Decimal("10.5")))
    with ledger.session(101) as session:
        one = session.get(Account, 101, with_for_update=True)
        one.balance -= Decimal("0.5001")
        one.seq += 1
        session.add_all(
            Entry(id=i, account_id=101, voucher_id=1, direction="D", amount="0.5", once=f"o{i}") for i in range(10, 14)
        )
    with ledger.session(101) as session:
        session.delete(session.get(Entry, 10))
    delivered(ledger)
    assert (101, "张伟", Decimal("9.9999"), 1) in stage.on_target("account", "id, owner, balance, seq")
    assert [id for id, account in stage.on_target("entry", "id, account_id") if account == 101] == [11, 12, 13]


def test_core_and_bulk_changes_by_any_condition(stage: Scene, ledger: DoubleWrite, written: Any) -> None:
    Account, Entry = written
    account(ledger, stage.db, 202)
    rows = [
        {"id": 2000 + i, "account_id": 202, "voucher_id": i, "direction": "DC"[i % 2], "amount": i, "once": f"c{i}"}
        for i in range(30)
    ]
    with ledger.session(202) as session:
        session.execute(insert(Entry), rows)
    with ledger.session(202) as session:
        changed = session.execute(update(Entry).where(Entry.account_id == 202, Entry.amount > 20).values(direction="X"))
        assert changed.rowcount == 9
        session.execute(delete(Entry).where(Entry.voucher_id.in_([1, 2, 3])))
        session.execute(update(Account).values(balance=Account.balance * 2).where(Account.owner.like("o%")))
        session.execute(text(f"DELETE FROM {stage.db}.entry WHERE account_id = 202 ORDER BY amount DESC LIMIT 2"))
        session.execute(update(Entry).where(Entry.amount > 1_000_000).values(direction="N"))
    delivered(ledger)
    stage.drain()
    kept = stage.on_target("entry", "id, direction")
    assert (2000, "D") in kept
    assert (2027, "X") in kept
    assert not {2001, 2002, 2003, 2028, 2029} & {id for id, _ in kept}


def test_text_with_literals_upserts_replace_and_ignore(stage: Scene, ledger: DoubleWrite, written: Any) -> None:
    db = stage.db
    with ledger.session(303) as session:
        session.execute(text("INSERT INTO account (id, owner, balance) VALUES (303, 'a%b', 5), (307, 'it''s', 6)"))
        session.execute(text(f"INSERT INTO `{db}`.entry (id, account_id, voucher_id, direction, amount, once) VALUES "
                             "(3001, 303, 1, 'D', 1, 'x1'), (3002, 303, 1, 'D', 2, 'x2')"))  # fmt: skip
    with ledger.session(303) as session:
        session.execute(text("INSERT INTO account (id, owner, balance) VALUES (303, 'z', 1), (311, 'n', 1) "
                             "ON DUPLICATE KEY UPDATE balance = balance + 100"))  # fmt: skip
        session.execute(text("INSERT IGNORE INTO account (id, owner, balance) VALUES (307, 'no', 9), (315, 'yes', 9)"))
        # meets one row by its primary key and another by its unique key: both are gone
        session.execute(text("REPLACE INTO entry (id, account_id, voucher_id, direction, amount, once) "
                             "VALUES (3001, 303, 9, 'C', 9, 'x2')"))  # fmt: skip
    delivered(ledger)
    stage.drain()
    assert (303, "a%b", Decimal(105)) in stage.on_target("account", "id, owner, balance")
    assert (307, "it's") in stage.on_target("account", "id, owner")
    assert (315, "yes") in stage.on_target("account", "id, owner")
    assert [r for r in stage.on_target("entry", "id, once") if 3000 < r[0] < 3100] == [(3001, "x2")]


def test_the_outbox_holds_exact_images(stage: Scene, ledger: DoubleWrite, written: Any, monkeypatch: Any) -> None:
    account(ledger, stage.db, 404)
    delivered(ledger)
    monkeypatch.setattr(type(ledger.phase), "delivers", property(lambda _: False))
    brief = stage.open(deadline_s=1)  # so long does a drain leave changes to who made them
    with brief.session(404) as session:
        session.execute(text("SET time_zone = '+08:00'"))
        session.execute(
            text("UPDATE account SET balance = balance - 0.0001, touched = '2026-03-04 05:06:07' WHERE id = 404")
        )
    brief.close()
    shard = stage.outbox(stage.home(0), "target, row_key, op, before_image, after_image, money, currency, epoch")
    target, key, op, before, after, money, currency, epoch = shard[-1]
    assert (target, json.loads(key), op, money, currency, epoch) == (
        f"{stage.db}.account", ["404"], "u", Decimal("0.0001"), "CNY", 1,
    )  # fmt: skip
    assert json.loads(before)["balance"] == "1000.0000"
    assert json.loads(after)["balance"] == "999.9999"
    assert json.loads(after)["touched"] == "2026-03-03 21:06:07"  # UTC


def test_savepoints_and_rollbacks_leave_nothing(stage: Scene, ledger: DoubleWrite, written: Any) -> None:
    Account, _ = written
    with ledger.session(505) as session:
        session.add(Account(id=505, owner="kept", balance=1))
        session.flush()
        nested = session.begin_nested()
        session.add(Account(id=509, owner="not kept", balance=1))
        session.flush()
        session.execute(update(Account).where(Account.id == 505).values(owner="not this"))
        nested.rollback()
        with pytest.raises(Exception, match="Duplicate"), session.begin_nested():
            session.execute(text("INSERT INTO account (id, owner, balance) VALUES (505, 'twice', 1)"))
    with pytest.raises(ZeroDivisionError), ledger.session(505) as session:
        session.execute(update(Account).where(Account.id == 505).values(owner="lost"))
        raise ZeroDivisionError
    delivered(ledger)
    assert (505, "kept") in stage.on_target("account", "id, owner")
    assert 509 not in [r[0] for r in stage.on_target("account", "id")]


def test_plain_dbapi_and_autocommit(stage: Scene, ledger: DoubleWrite, written: Any) -> None:
    db = stage.db
    connection = ledger.connect(606)
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {db}.account (id, owner, balance) VALUES (%s, %s, %s)", (606, "100%", 1))
        sql = f"INSERT INTO {db}.entry (id, account_id, voucher_id, direction, amount, once) VALUES "
        cursor.executemany(sql + "(%(id)s, 606, 1, 'D', 1, %(o)s)", [{"id": 6000 + i, "o": f"d{i}"} for i in range(5)])
        cursor.execute(f"UPDATE {db}.account SET owner = CONCAT(owner, '%') WHERE id = 606")
        cursor.execute("SELECT owner FROM account WHERE id = %s", (606,))
        assert cursor.fetchone() == ("100%%",)
    connection.commit()
    connection.close()
    # autocommit: each statement is a transaction with its outbox rows
    server = stage.home(606 % 4)
    raw = server.connect(database=db)
    assert raw.get_autocommit()
    with ledger.wrap(raw, ledger.server(606), 606) as own, own.cursor() as cursor:
        assert cursor.execute("UPDATE account SET balance = balance + 1 WHERE owner = '100%%'") == 1
        with pytest.raises(pymysql.IntegrityError):
            cursor.execute("INSERT INTO entry VALUES (6000, 606, 1, 'D', 1, 'CNY', 'd', '2026-01-01')")
        cursor.execute("BEGIN")
        cursor.execute("DELETE FROM entry WHERE id = 6001")
        cursor.execute("ROLLBACK")
        cursor.execute("START TRANSACTION")
        cursor.execute("DELETE FROM entry WHERE id = 6002")
        cursor.execute("COMMIT")
    delivered(ledger)
    assert (606, "100%%", Decimal(2)) in stage.on_target("account", "id, owner, balance")
    assert [r[0] for r in stage.on_target("entry", "id") if 6000 <= r[0] < 6100] == [6000, 6001, 6003, 6004]


def test_asyncio(stage: Scene, ledger: DoubleWrite, written: Any) -> None:
    Account, Entry = written

    async def post(id: int) -> None:
        async with ledger.async_session(id) as session:
            session.add(Account(id=id, owner="async", balance=3))
        async with ledger.async_session(id) as session:
            one = (await session.execute(select(Account).where(Account.id == id).with_for_update())).scalar_one()
            one.balance += 1
            session.add(Entry(id=id, account_id=id, voucher_id=1, direction="C", amount=1, once=f"a{id}"))
            await session.flush()
            await session.execute(
                update(Entry).where(Entry.voucher_id == 1, Entry.account_id == id).values(voucher_id=2)
            )

    async def all_of_them() -> None:
        await asyncio.gather(*(post(7000 + i) for i in range(4)))  # a shard each: a bulk change locks it
        for name in stage.config.sources:
            await ledger.async_engine(name.name).dispose()

    asyncio.run(all_of_them())
    delivered(ledger)
    assert len([r for r in stage.on_target("account", "id, balance") if r[0] >= 7000 and r[1] == 4]) == 4
    assert len([r for r in stage.on_target("entry", "id, voucher_id") if r[0] >= 7000 and r[1] == 2]) == 4


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("CALL p()", "stored procedure"),
        ("ALTER TABLE account ADD x INT", "DDL"),
        ("TRUNCATE TABLE account", "no transaction's part"),
        ("UPDATE account SET id = 1 WHERE id = 808", "key id of rows is changed"),
        ("INSERT INTO account (id, owner, balance) VALUES (800 + 8, 'x', 1)", "plain value"),
        ("INSERT INTO account (owner, balance) VALUES ('x', 1)", "needs a value for its key"),
        ("INSERT INTO account SELECT * FROM account", "aren't in its text"),
        ("INSERT IGNORE INTO entry (id, account_id, direction, amount, once) VALUES (1, 808, 'D', 1, UUID())",
         "once is unique"),
        ("INSERT INTO account (id, owner, balance) VALUES (809, 'x', 1)", "belongs to"),
        ("UPDATE account a JOIN entry e ON a.id = e.account_id SET a.balance = 0", "isn't understood"),
        ("SET autocommit = 1", "driver doesn't know"),
        ("DELETE FROM elsewhere", "neither routed nor ignored"),
        ("SELECT {db}.moves(1)", "stored function"),
        ("/*!50000 DELETE FROM account */", "hides"),
    ],
)  # fmt: skip
def test_what_cant_be_captured_is_refused(stage: Scene, ledger: DoubleWrite, written: Any, sql: str, why: str) -> None:
    ledger.servers["m1"].functions = frozenset({"moves"})
    before = stage.on_shards("account"), stage.on_shards("entry")
    with pytest.raises(Refused, match=why), ledger.session(808) as session:
        session.execute(text(sql.format(db=stage.db)))
    assert (stage.on_shards("account"), stage.on_shards("entry")) == before


def test_a_key_of_another_instance_needs_a_session_of_its_own(stage: Scene, ledger: DoubleWrite, written: Any) -> None:
    connection = ledger.servers["m1"]
    with pytest.raises(Refused, match="needs a session of its own"):
        connection.rename(("", "account"), 809)
    with pytest.raises(Refused, match="open the session for a sharding key"):
        connection.rename(("", "account"), None)


def test_callproc_is_refused(stage: Scene, ledger: DoubleWrite, written: Any) -> None:
    connection = ledger.connect(606)
    with connection.cursor() as cursor, pytest.raises(Refused, match="stored procedure"):
        cursor.callproc("p")
    connection.close()


def test_a_trigger_or_a_cascade_on_a_shard_is_refused_at_the_start(servers: Sandbox, tmp_path: Path) -> None:
    with scene(servers.sources, servers.target, tmp_path) as made:
        made.ready()
        home = made.home(0)
        run(home, f"CREATE TRIGGER {made.db}.t AFTER INSERT ON {made.db}.account_00 FOR EACH ROW SET @x = 1")
        with pytest.raises(Refused, match=r"account_00 has the trigger t"):
            made.open()
        with pytest.raises(Refused, match=r"account_00 has the trigger t"):
            made.phase("shadow")
        run(home, f"DROP TRIGGER {made.db}.t", f"ALTER TABLE {made.db}.entry_00 ADD CONSTRAINT fk FOREIGN KEY "
            f"(account_id) REFERENCES {made.db}.account_00 (id) ON DELETE CASCADE")  # fmt: skip
        with pytest.raises(Refused, match=r"entry_00 has the foreign key fk, which cascades"):
            made.open()
