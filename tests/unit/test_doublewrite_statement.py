"""What is read from a statement, and what is refused."""

from __future__ import annotations

import pytest

from migrate.doublewrite.errors import Refused
from migrate.doublewrite.plan import Plan
from migrate.doublewrite.statement import read


def rendered(sql: str) -> str:
    return read(sql, True).render(lambda name: ("payment_00", "account_03"))


@pytest.mark.parametrize(
    ("sql", "physical"),
    [
        ("SELECT payment.account.id FROM payment.account WHERE payment.account.id = %s",
         "SELECT `payment_00`.`account_03`.id FROM `payment_00`.`account_03` WHERE `payment_00`.`account_03`.id = %s"),
        ("SELECT a.*, account.* FROM `payment`.account a JOIN account ON a.x=account.x WHERE 'account' %% 2",
         "SELECT a.*, `account_03`.* FROM `payment_00`.`account_03` a JOIN `payment_00`.`account_03` "
         "ON a.x=`account_03`.x WHERE 'account' %% 2"),
        ("REPLACE INTO account VALUES (1,'a%%b')", "REPLACE INTO `payment_00`.`account_03` VALUES (1,'a%%b')"),
        ("WITH c AS (SELECT 1 AS x) SELECT c.x FROM c", "WITH c AS (SELECT 1 AS x) SELECT c.x FROM c"),
    ],
)  # fmt: skip
def test_names_are_replaced_where_they_are_tables(sql: str, physical: str) -> None:
    assert rendered(sql) == physical


def parts(plan: Plan) -> tuple[str | None, bool, dict[str, int]]:
    return plan.text[slice(*plan.where)].strip() if plan.where else None, plan.limited, plan.equal


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("UPDATE t SET a = a - %s, b = (SELECT 1 WHERE 1) WHERE t.id = %s AND b = %s",
         ("t.id = %s AND b = %s", False, {"id": 1, "b": 2})),
        ("UPDATE t SET a = %(x)s WHERE id = %(key)s", ("id = %(key)s", False, {"id": 1})),
        ("UPDATE t SET a = 1 WHERE id = %s OR b = %s", ("id = %s OR b = %s", False, {})),
        ("DELETE FROM t WHERE id > %s ORDER BY id LIMIT 3", ("id > %s", True, {})),
        ("DELETE FROM t LIMIT 3", (None, True, {})),
        ("DELETE FROM t;", (None, False, {})),
        ("UPDATE t SET a = 1 WHERE id = %s LIMIT 1", ("id = %s", True, {})),
    ],
)  # fmt: skip
def test_the_condition_of_a_change(sql: str, expected: tuple[str | None, bool, dict[str, int]]) -> None:
    assert parts(read(sql, True)) == expected


def test_values_of_an_insert() -> None:
    plan = read("INSERT INTO t (id, b, c) VALUES (%s, -1, NOW()), (NULL, 'x,)', (1+2))", True)
    assert [[(plan.text[v.start : v.end], v.simple, v.default) for v in row] for row in plan.rows] == [
        [("%s", True, False), ("-1", True, False), ("NOW()", False, False)],
        [("NULL", True, True), ("'x,)'", True, False), ("(1+2)", False, False)],
    ]
    assert plan.columns == ("id", "b", "c")
    assert plan.parameters((7,), 0, len(plan.text)) == [7]


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("INSERT INTO t (id) VALUES (1)", "insert"),
        ("INSERT IGNORE t (id) VALUES (1)", "ignore"),
        ("INSERT INTO t (id) VALUES (1) ON DUPLICATE KEY UPDATE a = VALUES(a)", "upsert"),
        ("replace into t (id) values (1)", "replace"),
        ("SELECT 1 FROM t FOR UPDATE", "read"),
        ("BEGIN", "begin"),
        ("START TRANSACTION", "begin"),
        ("COMMIT", "commit"),
        ("ROLLBACK", "rollback"),
        ("ROLLBACK TO SAVEPOINT a", "rollback_to"),
        ("SAVEPOINT a", "savepoint"),
        ("SHOW WARNINGS", "pass"),
        ("SET NAMES utf8mb4", "pass"),
        ("", "pass"),
    ],
)
def test_kinds(sql: str, kind: str) -> None:
    assert read(sql, True).kind == kind


@pytest.mark.parametrize(
    "sql",
    [
        "CALL p(1)",
        "UPDATE a JOIN b SET a.x = 1",
        "UPDATE a, b SET a.x = 1",
        "UPDATE LOW_PRIORITY a SET x = 1",
        "UPDATE a PARTITION (p0) SET x = 1",
        "DELETE a FROM a JOIN b",
        "DELETE FROM a USING a JOIN b",
        "INSERT INTO a SELECT 1",
        "INSERT INTO a SET b = 1",
        "SELECT 1; DELETE FROM a",
        "SELECT 1 /*! ; DELETE FROM a */",
        "/*!50000 DELETE FROM a */",
        "ALTER TABLE a ADD b INT",
        "TRUNCATE TABLE a",
        "CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW SET NEW.b = 1",
        "LOCK TABLES a WRITE",
        "WITH c AS (SELECT 1) DELETE FROM a",
        "LOAD DATA INFILE 'x' INTO TABLE a",
        "PREPARE s FROM 'DELETE FROM a'",
        "EXECUTE s",
        "XA START 'x'",
        "HANDLER a OPEN",
        "SET autocommit = 1",
        "SET @@session.sql_log_bin = 0",
        "SET sql_mode = 'ANSI_QUOTES'",
        "SELECT '%s'",
        "ROLLBACK AND CHAIN",
        "COMMIT AND CHAIN",
        "SELECT moves_money(1)",
        "EXPLAIN ANALYZE DELETE FROM a",
        "this is no sql",
    ],
)
def test_refused(sql: str) -> None:
    with pytest.raises(Refused, match="double-write refuses a statement"):
        read(sql, True, {"moves_money"})


@pytest.mark.parametrize("tail", ["FOR UPDATE", "LOCK IN SHARE MODE", "FOR SHARE SKIP LOCKED", "for update nowait"])
def test_a_query_that_locks_is_known(tail: str) -> None:
    assert read(f"SELECT a FROM t WHERE id = %s {tail}", True).locks
    assert read(f"SELECT a FROM (SELECT * FROM t {tail}) AS x", True).locks
    assert not read("SELECT a, 'FOR UPDATE' FROM t", True).locks
