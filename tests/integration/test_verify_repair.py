"""Repairs on real servers: only what is as it was seen, journalled, undone to the last byte, and verified anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pymysql
import pytest
from click.testing import CliRunner

from migrate.config import Config
from migrate.errors import ConfigError
from migrate.sandbox import Sandbox
from tests.verify_lab import Lab
from verify.changes import Order, Repair
from verify.cli import main
from verify.evidence import keep
from verify.journal import unverified
from verify.repair import repair, undo
from verify.run import verify_all, verify_rows

COLUMNS = """id BIGINT NOT NULL, code VARCHAR(20) CHARACTER SET {} NOT NULL, amount DECIMAL(20,4) NULL,
 note TEXT CHARACTER SET {} NULL, raw VARBINARY(20) NULL, data BLOB NULL, kind ENUM('a','b,c','ü') NULL,
 flags SET('x','y') NULL, b BIT(9) NULL, ratio DOUBLE NULL, f FLOAT NULL, d DATE NULL, t TIME(3) NULL,
 at DATETIME(6) NULL, ts TIMESTAMP NULL, y YEAR NULL, big BIGINT UNSIGNED NULL, PRIMARY KEY (id, code)"""


def row(n: int) -> tuple[Any, ...]:
    odd: tuple[Any, ...] = (n, f"Ké'y\\{n}", f"{n}.0001", f"note {n} “ü”, \\ 'x'\n", bytes([0, 255, n]),
                            bytes([n, 0]) * 9, "b,c", "x,y", n, 0.1 * n, 1.5, "2026-02-03", "-12:00:01.5",
                            "2026-01-02 03:04:05.678901", "2026-01-02 03:04:05", 2026, 2**64 - 1 - n)  # fmt: skip
    return odd if n % 3 else (n, "", *[None] * 15) if n % 2 else (n, "x", 0, "", b"", b"", "ü", "", 0, 1e300, 0,
                              "0000-00-00", "00:00:00", "0000-00-00 00:00:00", None, 0, 0)  # fmt: skip


ROWS = [row(n) for n in range(1, 41)]


@pytest.fixture
def lab(servers: Sandbox, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(servers.sources, servers.target, tmp_path, "vrep")
    source, target = COLUMNS.format("latin1", "utf8mb4"), COLUMNS.format("utf8mb4", "utf8mb4")
    lab.table("t", source, ROWS, target_columns=target)
    yield lab
    for table in ("evidence", "repair"):
        with suppress(pymysql.ProgrammingError):
            lab.on_target(f"DELETE FROM migrate_meta.{table} WHERE migration = '{lab.schema}'")
    lab.drop()


def planted(lab: Lab) -> None:
    lab.on_target(
        "DELETE FROM $.t WHERE id IN (1, 3, 6)",
        "UPDATE $.t SET amount = 7.5, note = 'other', code = code WHERE id = 2",
        "UPDATE $.t SET note = NULL, kind = NULL, data = 'zz', ratio = 0.25, flags = 'x', y = 1999 WHERE id = 4",
        "INSERT INTO $.t (id, code, note) VALUES (999, 'Ω', 'a row that nobody sent')",
        "UPDATE $.t SET code = 'KÉ' WHERE id = 5",
    )


def found(config: Config) -> int:
    result = verify_rows(config)
    return keep(config, result).run


def states(made: Repair) -> dict[str, list[str]]:
    return {s: [c.kind for c in made.changes if c.state == s] for s in ("planned", "done", "left")}


def test_every_type_is_repaired_to_the_byte_and_undone(lab: Lab) -> None:
    config = lab.config()
    planted(lab)
    before = verify_rows(config)
    run = keep(config, before).run
    kinds = sorted(m.kind for m in before.mismatches)
    assert kinds == ["different"] * 2 + ["extra"] * 2 + ["missing"] * 4
    dry = repair(config, Order(), run=run)
    assert states(dry)["planned"].__len__() == 8 and dry.number is None
    assert verify_rows(config).mismatches == before.mismatches  # nothing was written
    done = repair(config, Order(True, "a test", "T-1"), run=run)
    assert states(done)["done"].__len__() == 8 and done.ok, done.text()
    assert verify_all(config, strong=True).ok
    assert done.number is not None
    shown = undo(config, done.number, Order())
    assert [c.state for c in shown.changes] == ["planned"] * 8 and verify_all(config).ok
    back = undo(config, done.number, Order(True, "wrong after all", "T-2"))
    assert back.ok and back.undone == done.number, back.text()
    assert sorted(map(str, verify_rows(config).mismatches)) == sorted(map(str, before.mismatches))
    again = repair(config, Order(True, "a test", "T-3"), run=run)
    assert again.ok and verify_all(config, strong=True).ok


def test_what_changed_since_is_left_and_told(lab: Lab) -> None:
    config = lab.config()
    lab.on_target("UPDATE $.t SET amount = 1 WHERE id IN (2, 4, 5)")
    run = found(config)
    lab.on_target("UPDATE $.t SET note = 'written meanwhile' WHERE id = 2")
    lab.on_shard(1, "UPDATE $.t_1 SET big = 5 WHERE id = 4")
    made = repair(config, Order(True, "r", "t"), run=run)
    why = {str((c.key or {})["id"]): (c.state, c.why) for c in made.changes}
    assert why["5"] == ("done", "")
    assert why["2"] == ("left", "the target has changed since the run saw it: note")
    assert why["4"] == ("left", "the source has changed since the run saw it: big")
    assert not made.ok and "left" in made.text()
    left = verify_rows(config)
    assert sorted(str((m.key or {})["id"]) for m in left.mismatches) == ["2", "4"]


def test_the_target_may_be_right(lab: Lab) -> None:
    config = lab.config()
    planted(lab)
    run = found(config)
    made = repair(config, Order(True, "r", "t"), run=run, direction="target")
    assert sorted(states(made)["done"]) == ["different"] * 2 + ["missing"] * 4
    assert [c.why for c in made.changes if c.state == "left"] == [
        "which shard such a row belongs to isn't known: insert it there by hand"
    ] * 2
    assert sorted(m.kind for m in verify_rows(config).mismatches) == ["extra", "extra"]
    assert made.number is not None
    back = undo(config, made.number, Order(True, "r", "t"))
    assert len(states(back)["done"]) == 6
    assert len(verify_rows(config).mismatches) == 8


def test_interleaved_keys_are_repaired_in_both_directions(servers: Sandbox, tmp_path: Path) -> None:
    lab = Lab(servers.sources, servers.target, tmp_path, "vrep")
    key = "id BIGINT{} NOT NULL PRIMARY KEY, v INT"
    lab.table("e", key.format(""), target_columns=key.format(" UNSIGNED"))
    for shard in range(2):
        lab.insert(lab.sources[shard], f"e_{shard}", [(n, n) for n in range(1, 6)])
        lab.insert(lab.target, "e", [(n * 2 + shard, n) for n in range(1, 6)])
    config = lab.config(extra='key_collision = "interleave"')
    try:
        assert verify_all(config).ok
        lab.on_target("DELETE FROM $.e WHERE id = 3", "UPDATE $.e SET v = 77 WHERE id = 4")
        run = found(config)
        assert repair(config, Order(True, "r", "t"), run=run, tables=[f"{lab.schema}.e"]).ok
        assert verify_all(config).ok
        lab.on_target("DELETE FROM $.e WHERE id = 3", "UPDATE $.e SET v = 77 WHERE id = 4")
        made = repair(config, Order(True, "r", "t"), run=found(config), direction="target")
        assert made.ok and verify_all(config).ok
        assert made.number is not None
        assert undo(config, made.number, Order(True, "r", "t")).ok
        assert len(verify_rows(config).mismatches) == 2
    finally:
        lab.drop()


def test_two_shards_with_one_key_are_nobodys_to_mend(lab: Lab) -> None:
    config = lab.config()
    lab.on_shard(0, "INSERT INTO $.t_0 (id, code) SELECT 2, '' FROM $.t_0 LIMIT 1")
    lab.on_shard(1, "INSERT INTO $.t_1 (id, code) SELECT 2, '' FROM $.t_1 LIMIT 1")
    made = repair(config, Order(True, "r", "t"), run=found(config))
    assert [(c.kind, c.state) for c in made.changes] == [("duplicate", "left")]


def test_many_rows_in_few_transactions(servers: Sandbox, tmp_path: Path) -> None:
    lab = Lab(servers.sources, servers.target, tmp_path, "vrep")
    lab.table("m", "id INT NOT NULL PRIMARY KEY, v VARCHAR(20) NOT NULL", [(n, f"v{n}") for n in range(2000)])
    config = lab.config()
    try:
        lab.on_target("UPDATE $.m SET v = CONCAT(v, '!') WHERE id % 3 = 0", "DELETE FROM $.m WHERE id % 3 = 1",
                      "INSERT INTO $.m SELECT id + 10000, v FROM $.m WHERE id % 3 = 2")  # fmt: skip
        run = found(config)
        made = repair(config, Order(True, "r", "t"), run=run)
        assert made.ok and len(made.changes) == 2000
        assert verify_all(config).ok
    finally:
        lab.drop()


def test_the_command_needs_a_reason_and_verifies_afterwards(lab: Lab) -> None:
    config = lab.config()
    path = str(config.path)

    def run(*args: str) -> tuple[int, Any]:
        done = CliRunner().invoke(main, ["-c", path, *args, "--json"])
        return done.exit_code, json.loads(done.stdout) if done.stdout else done.output

    assert run("all")[0] == 0
    lab.on_target("UPDATE $.t SET amount = 1.5 WHERE id = 7")
    code, document = run("rows")
    assert code == 1 and document["evidence"]["run"] > 0
    code, dry = run("repair")
    assert code == 0 and dry["executed"] is False
    (change,) = dry["changes"]
    assert (change["action"], change["before"]["amount"], change["after"]["amount"]) == ("update", "1.5000", "7.0001")
    assert run("repair", "--execute")[0] == 2
    with pytest.raises(ConfigError, match="--reason and --ticket"):
        Order(True, "only a reason")
    assert unverified(config) == []
    code, done = run("repair", "--execute", "--reason", "failover", "--ticket", "OPS-7")
    assert code == 0 and done["verified"]["ok"] is True and done["repair"] is not None
    assert unverified(config) == [done["repair"]]  # the repair's own verification was of one table only
    assert run("all")[0] == 0
    assert unverified(config) == []
    assert run("repair", "--undo", "999999")[0] == 2
