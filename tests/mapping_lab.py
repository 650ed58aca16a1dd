"""An old schema of orders and top-ups in cents, codes and composite columns, and the rebuilt table that both become;
what a row must become is computed here by means of our own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

from migrate.config import Config, load_config
from migrate.sandbox import Server
from tests.fidelity import run

ORDER = (
    "order_no BIGINT UNSIGNED NOT NULL PRIMARY KEY, user_id BIGINT NOT NULL, amount_cents BIGINT NOT NULL, "
    "fee_cents BIGINT NULL, state TINYINT NOT NULL DEFAULT 0, channel_no VARCHAR(40) NULL, currency CHAR(3) NOT NULL, "
    "note VARCHAR(200) CHARACTER SET latin1 NULL, paid_at DATETIME(3) NULL, legacy_flag INT NOT NULL DEFAULT 7, "
    "KEY by_user (user_id), KEY by_channel (channel_no)"
)
TOPUP = (
    "topup_no BIGINT UNSIGNED NOT NULL PRIMARY KEY, uid BIGINT NOT NULL, cents BIGINT NOT NULL, "
    "fee DECIMAL(20,4) NULL, done CHAR(1) NOT NULL, bank_code VARCHAR(20) NULL, bank_ref VARCHAR(20) NULL, "
    "currency CHAR(3) NOT NULL, note VARCHAR(200) NULL, paid_at DATETIME(3) NULL"
)
ROUTES = r"""
[[route]]
schema = '$'
table = 'pay_order_\d+'
target = "$.payment"
drop = ["legacy_flag"]
key = ["kind", "payment_no"]
[route.columns]
payment_no = "order_no"
account_id = "user_id"
amount = { from = "amount_cents", scale = 2 }
fee = { from = "fee_cents", scale = 2, type = "decimal(18,2)" }
status = { from = "state", codes = { "0" = "INIT", "1" = "PAID", "-1" = "VOID" }, type = "varchar(8)" }
bank = { from = "channel_no", separator = "-", part = 1, type = "varchar(20)" }
bank_no = { from = "channel_no", separator = "-", part = 2, type = "varchar(20)" }
remark = { from = "note", type = "varchar(100)" }
kind = { value = "ORDER", type = "varchar(6)" }
[[route]]
schema = '$'
table = 'topup_\d+'
target = "$.payment"
key = ["kind", "payment_no"]
[route.columns]
payment_no = "topup_no"
account_id = "uid"
amount = { from = "cents", scale = 2 }
fee = { from = "fee", type = "decimal(18,2)" }
status = { from = "done", codes = { N = "INIT", Y = "PAID" }, type = "varchar(8)" }
bank = { from = "bank_code", type = "varchar(20)" }
bank_no = "bank_ref"
remark = { from = "note", type = "varchar(100)" }
kind = { value = "TOPUP", type = "varchar(6)" }
"""
ORDERS: list[tuple[Any, ...]] = [
    (1, 7, 1234, 1, 1, "ICBC-001", "CNY", "plain", "2024-01-02 03:04:05.678", 1),
    (2, 7, -5, None, -1, None, "CNY", None, None, 2),
    (2**63 + 9, -(2**62), 2**53 + 1, -(2**53) - 1, 0, "-", "USD", 'é \\ " , \n', "2024-02-29 23:59:59", 3),
    (2**64 - 1, 0, 2**63 - 1, 0, 1, "A B-中", "USD", "", "2024-01-02 03:04:05", 4),
    (3, 1, -(2**63), 999_999_999_999_999_999, 0, "'quoted'-\\", "CNY", "x" * 100, None, 5),
]
TOPUPS: list[tuple[Any, ...]] = [
    (1, 7, 1, "0.0100", "Y", "ICBC", "9", "CNY", "plain", None),
    (2, 8, 0, None, "N", None, None, "EUR", None, "2024-01-01 00:00:00"),
    (11, 8, 10**18, "-9999999999999999.9900", "N", "", "", "EUR", "中文", "2024-01-01 00:00:00"),
]
COLUMNS = (
    "kind", "payment_no", "account_id", "amount", "fee", "status", "bank", "bank_no", "currency", "remark", "paid_at",
)  # fmt: skip


def cents(value: int | None) -> Decimal | None:
    """An amount of cents, exactly."""
    return None if value is None else Decimal(value).scaleb(-2)


def of_order(row: Sequence[Any]) -> tuple[Any, ...]:
    """What an order becomes."""
    no, user, amount, fee, state, channel, currency, note, at, _ = row
    bank, bank_no = (None, None) if channel is None else channel.split("-")
    status = {0: "INIT", 1: "PAID", -1: "VOID"}[state]
    return ("ORDER", no, user, cents(amount), cents(fee), status, bank, bank_no, currency, note, at)


def of_topup(row: Sequence[Any]) -> tuple[Any, ...]:
    """What a top-up becomes."""
    no, user, amount, fee, done, bank, bank_no, currency, note, at = row
    status = {"Y": "PAID", "N": "INIT"}[done]
    exact = None if fee is None else Decimal(fee).quantize(Decimal("0.01"))
    return ("TOPUP", no, user, cents(amount), exact, status, bank, bank_no, currency, note, at)


class Old:
    """The old schema on some sources, an order and a top-up table each, without rows."""

    def __init__(self, sources: Sequence[Server], target: Server, folder: Path, schema: str):
        self.sources, self.target, self.folder, self.schema = list(sources), target, folder, schema
        for server in (*self.sources, target):
            run(server, f"DROP DATABASE IF EXISTS {schema}")
        for n, server in enumerate(self.sources):
            run(server, f"CREATE DATABASE {schema}",
                f"CREATE TABLE {schema}.pay_order_{n} ({ORDER}) DEFAULT CHARSET utf8mb4",
                f"CREATE TABLE {schema}.topup_{n} ({TOPUP}) DEFAULT CHARSET utf8")  # fmt: skip

    def drop(self) -> None:
        for server in (*self.sources, self.target):
            run(server, f"DROP DATABASE IF EXISTS {self.schema}")

    def put(self, shard: int, table: str, *rows: Sequence[Any]) -> None:
        """Inserts rows into the shard's table of that name."""
        with closing(self.sources[shard].connect(charset="utf8mb4")) as connection, connection.cursor() as cursor:
            for row in rows:
                marks = ", ".join(["%s"] * len(row))
                cursor.execute(f"INSERT INTO {self.schema}.{table}_{shard} VALUES ({marks})", tuple(row))

    def fill(self) -> None:
        """Deals all rows of the limits to the shards."""
        for n, row in enumerate(ORDERS):
            self.put(n % len(self.sources), "pay_order", row)
        for n, row in enumerate(TOPUPS):
            self.put(n % len(self.sources), "topup", row)

    def on_shard(self, shard: int, *statements: str) -> None:
        """Runs statements there; $ stands for the schema, # for the shard's number."""
        run(self.sources[shard], *(s.replace("$", self.schema).replace("#", str(shard)) for s in statements))

    def on_target(self, *statements: str) -> None:
        run(self.target, *(s.replace("$", self.schema) for s in statements))

    def config(self, routes: str = ROUTES, more: str = "", pack: str = "") -> Config:
        """The config of the lab, as a user would write it."""
        text = f'[migration]\nname = "{self.schema}"\n' + (f"pack = {pack!r}\n" if pack else "")
        text += "".join(f'[[source]]\nname = "{s.name}"\nurl = "{s.url}"\n' for s in self.sources)
        text += f'[target]\nurl = "{self.target.url}"\n' + routes.replace("$", self.schema)
        text += f"[[ignore]]\nschema = '(?!{self.schema}$).*'\n{more}"
        path = self.folder / f"{self.schema}.toml"
        path.write_text(text, encoding="utf-8")
        return load_config(path)

    def merged(self) -> list[tuple[Any, ...]]:
        """The rows of the target, amounts as they are, times as texts."""
        with closing(self.target.connect(charset="utf8mb4")) as connection, connection.cursor() as cursor:
            shown = ", ".join("CAST(paid_at AS CHAR)" if c == "paid_at" else c for c in COLUMNS)
            cursor.execute(f"SELECT {shown} FROM {self.schema}.payment ORDER BY kind, payment_no")
            return list(cursor.fetchall())


def expected(orders: Sequence[Sequence[Any]] = ORDERS, topups: Sequence[Sequence[Any]] = TOPUPS) -> list[Any]:
    """What must be on the target, in the order of its key."""
    found = [*map(of_order, orders), *map(of_topup, topups)]
    return sorted([(*row[:-1], _time(row[-1])) for row in found], key=lambda row: row[:2])


def _time(text: str | None) -> str | None:
    return None if text is None else text if "." in text else f"{text}.000"
