"""Mapped columns while the shards are written: sync brings what a copy would have brought, or the table waits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrate.config import Config
from migrate.copy.copier import copy
from migrate.cutover.changed import Changed, Keys, how_many
from migrate.db import connect
from migrate.sandbox import Sandbox
from migrate.source import capture_positions
from migrate.sync.resolution import read_holds
from tests.fidelity import create_target, rows
from tests.mapping_lab import ORDERS, ROUTES, TOPUPS, Old, expected
from verify.freeze import Freeze
from verify.result import Result
from verify.run import verify_rows

NUMBERS = iter(range(10_000))


@pytest.fixture(params=["5.6"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Old]:
    sandbox: Sandbox = request.getfixturevalue("servers" if request.param == "5.6" else "sandbox97")
    made = Old(sandbox.sources, sandbox.target, tmp_path, f"mapsync_{next(NUMBERS)}")
    yield made
    made.drop()


def sync(config: Config, *options: str) -> None:
    """Follows the binlogs to where they end now."""
    done = subprocess.run(
        [sys.executable, "-m", "migrate.cli", "-c", str(config.path), "sync", *(options or ("--until-caught-up",))],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 or "held" in done.stdout + done.stderr, done.stderr


def held(config: Config) -> dict[str, str]:
    """Why tables wait."""
    with connect(config.target) as session:
        return {str(hold.target).partition(".")[2]: hold.reason for hold in read_holds(session, config.name)}


def copied(old: Old, routes: str = ROUTES) -> Config:
    config = old.config(routes)
    create_target(config)
    copy(config, 2)
    return config


@pytest.mark.parametrize("old", ["5.6", "9.7"], indirect=True)
def test_rows_of_the_limits_their_changes_moves_and_deletes(old: Old) -> None:
    config = copied(old)
    old.fill()
    sync(config)
    assert held(config) == {}
    assert old.merged() == expected()
    assert verify_rows(config, strong=True).ok
    for shard in range(len(old.sources)):
        old.on_shard(
            shard,
            "UPDATE $.pay_order_# SET state = 1, amount_cents = 1233, channel_no = 'X-Y' WHERE order_no = 1",
            "UPDATE $.pay_order_# SET order_no = 77, fee_cents = NULL WHERE order_no = 2",
            "UPDATE $.pay_order_# SET legacy_flag = legacy_flag + 1",
            "DELETE FROM $.pay_order_# WHERE order_no = 3",
            "UPDATE $.topup_# SET done = 'Y', fee = 0.0100 WHERE topup_no = 2",
        )  # fmt: skip
    sync(config)
    assert held(config) == {}
    orders = [
        (1, 7, 1233, 1, 1, "X-Y", *ORDERS[0][6:]), (77, 7, -5, None, *ORDERS[1][4:]), *ORDERS[2:4],
    ]  # fmt: skip
    topups = [TOPUPS[0], (2, 8, 0, "0.01", "Y", *TOPUPS[1][5:]), TOPUPS[2]]
    assert old.merged() == expected(orders, topups)
    assert verify_rows(config).ok


def test_what_does_not_fit_holds_the_table(old: Old) -> None:
    old.fill()
    config = copied(old)
    old.on_shard(0, "UPDATE $.topup_# SET fee = 0.0149 WHERE topup_no = 1")
    sync(config)
    reason = held(config)["payment"]
    for words in (f"m1.{old.schema}.topup_0", "topup_no = 1", "column fee", "0.0149 has more than 2 digits"):
        assert words in reason
    assert old.merged() == expected()


def test_the_rows_that_were_written_are_compared_by_their_merged_keys(old: Old) -> None:
    """As a cutover does it in the freeze: found in the binlogs by the old names, looked up by the new ones."""
    old.fill()
    config = copied(old)
    changed = Changed(config, capture_positions(config))
    for shard in range(len(old.sources)):
        old.on_shard(shard, "UPDATE $.pay_order_# SET amount_cents = 17 WHERE order_no IN (1, 2)",
                     "UPDATE $.topup_# SET cents = 18 WHERE topup_no = 1")  # fmt: skip
    sync(config)
    keys = changed.read_to(capture_positions(config))
    assert how_many(keys) == 3
    assert frozen(config, keys).ok
    old.on_target("UPDATE $.payment SET amount = amount + 0.01 WHERE kind = 'TOPUP' AND payment_no = 1")
    (mismatch,) = frozen(config, keys).mismatches
    assert mismatch.key == {"kind": "TOPUP", "payment_no": "1"}
    assert (mismatch.source, mismatch.target_values) == ({"amount": "0.18"}, {"amount": "0.19"})


def frozen(config: Config, keys: Keys) -> Result:
    freeze = Freeze(config)
    try:
        return freeze.frozen(keys)
    finally:
        freeze.close()


def test_a_mended_value_lets_sync_go_on(old: Old) -> None:
    old.fill()
    config = copied(old)
    old.on_shard(0, "UPDATE $.pay_order_# SET state = 5 WHERE order_no = 1")
    sync(config)
    assert held(config)
    mended = old.config(ROUTES.replace('"-1" = "VOID"', '"-1" = "VOID", "5" = "FIVE"'))
    sync(mended, "go-on", f"{old.schema}.payment")
    sync(mended)
    assert held(mended) == {}
    assert "FIVE" in [row[5] for row in old.merged()]
    assert verify_rows(mended).ok


def test_statements_that_touch_no_carried_column_pass_and_others_hold(old: Old) -> None:
    old.fill()
    config = copied(old)
    old.on_shard(0, "ALTER TABLE $.pay_order_# ADD KEY by_time (paid_at)",
                 "ALTER TABLE $.pay_order_# MODIFY legacy_flag BIGINT NOT NULL DEFAULT 8",
                 "UPDATE $.pay_order_# SET legacy_flag = 99, state = 0 WHERE order_no = 1")  # fmt: skip
    sync(config)
    assert held(config) == {}
    assert verify_rows(config).ok
    old.on_shard(0, "ALTER TABLE $.pay_order_# ADD extra INT NULL")
    sync(config)
    assert "it touches" in held(config)["payment"]
    assert "mapped" in held(config)["payment"]


ODD = r"""
[[route]]
schema = '$'
table = 'odd'
target = "$.odd"
[route.columns]
ratio = { from = "f", null = false }
note = { from = "t", null = false }
kind = { from = "e", null = false }
at = { from = "d", null = false }
"""


def test_columns_that_only_lose_their_null(old: Old) -> None:
    """Of every type: they are carried as they are, to the last digit of a FLOAT, by copy and by sync."""
    old.on_shard(0, "CREATE TABLE $.odd (id INT PRIMARY KEY, f FLOAT, t TEXT CHARACTER SET latin1, e ENUM('a','é'), "
                 "d DATETIME(2)) DEFAULT CHARSET utf8mb4", "INSERT INTO $.odd VALUES (1, 1.2345678, 'é', 'é', "
                 "'2024-01-02 03:04:05.67')")  # fmt: skip
    config = copied(old, ROUTES + ODD)
    old.on_shard(0, "INSERT INTO $.odd VALUES (2, 7.6543212, '', 'a', '2024-01-02 03:04:05.67')",
                 "UPDATE $.odd SET e = 'a' WHERE id = 1")  # fmt: skip
    sync(config)
    assert held(config) == {}
    assert verify_rows(config).ok
    assert rows(old.target, f"SELECT ratio * 1e0, note, kind FROM {old.schema}.odd ORDER BY id") == rows(
        old.sources[0], f"SELECT f * 1e0, t, e FROM {old.schema}.odd ORDER BY id"
    )
    old.on_shard(0, "UPDATE $.odd SET f = NULL WHERE id = 2")
    sync(config)
    assert "column f: it can't be mapped exactly: it is NULL" in held(config)["odd"]


def test_a_key_on_a_second_shard_holds_the_table(old: Old) -> None:
    """Where the constant isn't part of the key, an order and a top-up of one number are one key too many."""
    config = copied(old, ROUTES.replace('key = ["kind", "payment_no"]', ""))
    old.put(0, "pay_order", ORDERS[0])
    old.put(0, "topup", TOPUPS[0])
    sync(config)
    reason = held(config)["payment"]
    assert f"m1.{old.schema}.pay_order_0" in reason
    assert f"m1.{old.schema}.topup_0" in reason
