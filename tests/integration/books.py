"""A small ledger in which every role is played, on two shards and a target, right to the last cent."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from migrate.config import Config
from tests.verify_lab import Lab

BANK, FEE, HOT, LOAN, HOLD = 1, 2, 3, 4, 5
CUSTOMERS, MERCHANTS, PARTS = range(10, 16), range(20, 23), range(30, 33)
DDL = {
    "account": "id BIGINT NOT NULL PRIMARY KEY, kind VARCHAR(10) NOT NULL, nature CHAR(1) NOT NULL, currency CHAR(3) "
    "NOT NULL, opening DECIMAL(20,4) NOT NULL, balance DECIMAL(20,4) NOT NULL, seq BIGINT NOT NULL, master BIGINT NULL",
    "entry": "id BIGINT NOT NULL PRIMARY KEY, account_id BIGINT NOT NULL, seq BIGINT NOT NULL, voucher_id BIGINT NOT "
    "NULL, direction CHAR(1) NOT NULL, amount DECIMAL(20,4) NOT NULL, currency CHAR(3) NOT NULL, before_ DECIMAL(20,4) "
    "NOT NULL, after_ DECIMAL(20,4) NOT NULL, idem VARCHAR(40) NOT NULL, at DATETIME(3) NOT NULL",
    "voucher": "id BIGINT NOT NULL PRIMARY KEY, amount DECIMAL(20,4) NOT NULL, currency CHAR(3) NOT NULL, "
    "original BIGINT NULL, at DATETIME(3) NOT NULL",
    "posting": "id BIGINT NOT NULL PRIMARY KEY, account_id BIGINT NOT NULL, amount BIGINT UNSIGNED NOT NULL, currency "
    "CHAR(3) NOT NULL, status VARCHAR(8) NOT NULL, at DATETIME(3) NOT NULL",
    "orders": "id BIGINT NOT NULL PRIMARY KEY, account_id BIGINT NOT NULL, amount DECIMAL(20,4) NOT NULL, released "
    "DECIMAL(20,4) NULL, currency CHAR(3) NOT NULL, status VARCHAR(8) NOT NULL, voucher_id BIGINT NULL, at DATETIME(3)",
    "instalment": "id BIGINT NOT NULL PRIMARY KEY, order_id BIGINT NOT NULL, number INT NOT NULL, amount DECIMAL(20,4) "
    "NOT NULL, currency CHAR(3) NOT NULL, status VARCHAR(8) NOT NULL",
    "settlement": "id BIGINT NOT NULL PRIMARY KEY, merchant BIGINT NOT NULL, amount DECIMAL(20,4) NOT NULL, currency "
    "CHAR(3) NOT NULL, details INT NOT NULL, voucher_id BIGINT NOT NULL, at DATETIME(3) NOT NULL",
    "detail": "id BIGINT NOT NULL PRIMARY KEY, batch BIGINT NOT NULL, amount DECIMAL(20,4) NOT NULL, currency CHAR(3) "
    "NOT NULL",
    "clearing": "id BIGINT NOT NULL PRIMARY KEY, channel VARCHAR(10) NOT NULL, ref VARCHAR(20) NOT NULL, amount "
    "DECIMAL(20,4) NOT NULL, currency CHAR(3) NOT NULL, voucher_id BIGINT NULL, status VARCHAR(8) NOT NULL, "
    "at DATETIME(3) NOT NULL",
    "snapshot": "id BIGINT NOT NULL PRIMARY KEY, account_id BIGINT NOT NULL, day DATE NOT NULL, "
    "balance DECIMAL(20,4) NOT NULL",
}
LEDGER = """
[role.account]
table = "$.account"
id = "id"
balance = "balance"
opening = "opening"
currency = "currency"
sequence = "seq"
nature = "nature"
summary = { kind = "HOT" }
never_negative = { kind = ["CUSTOMER", "MERCHANT"] }
[role.entry]
table = "$.entry"
id = "id"
account = "account_id"
voucher = "voucher_id"
direction = "direction"
amount = "amount"
currency = "currency"
balance_before = "before_"
balance_after = "after_"
sequence = "seq"
time = "at"
idempotency = "idem"
[role.voucher]
table = "$.voucher"
id = "id"
amount = "amount"
currency = "currency"
time = "at"
in_transit_s = 60
[[role.sub_account]]
table = "$.account"
id = "id"
master = "master"
balance = "balance"
currency = "currency"
[[role.buffer]]
table = "$.posting"
id = "id"
account = "account_id"
amount = "amount"
currency = "currency"
time = "at"
pending = { status = "QUEUED" }
max_age_s = 300
[[role.escrow]]
table = "$.orders"
id = "id"
account = "account_id"
amount = "amount"
less = ["released"]
currency = "currency"
open = { status = ["OPEN", "PART"] }
holders = { kind = "HOLD" }
[[role.settlement]]
table = "$.settlement"
id = "id"
amount = "amount"
currency = "currency"
count = "details"
account = "merchant"
voucher = "voucher_id"
time = "at"
detail = { table = "$.detail", batch = "batch", amount = "amount", currency = "currency" }
[[role.reversal]]
table = "$.voucher"
id = "id"
original = "original"
amount = "amount"
currency = "currency"
[[role.instalment]]
table = "$.instalment"
id = "id"
hold = "order_id"
number = "number"
amount = "amount"
currency = "currency"
released = { status = "RELEASED" }
of = "$.orders"
of_id = "id"
of_amount = "amount"
[[role.clearing]]
table = "$.clearing"
id = "id"
key = ["channel", "ref"]
amount = "amount"
currency = "currency"
voucher = "voucher_id"
booked = { status = "BOOKED" }
time = "at"
[[role.snapshot]]
table = "$.snapshot"
account = "account_id"
day = "day"
balance = "balance"
[[role.reference]]
table = "$.orders"
column = "voucher_id"
of = "$.voucher"
of_column = "id"
[[equation]]
name = "released_equals_instalments"
per = ["order", "currency"]
left = [{ table = "$.orders", by = ["id", "currency"], sum = "released" }]
right = [{ table = "$.instalment", by = ["order_id", "currency"], sum = "amount", where = { status = "RELEASED" } }]
[[invariant]]
name = "no_large_posting"
severity = "warning"
sql = "SELECT id AS posting, amount, currency FROM $.posting WHERE amount > 1000000"
"""


class Books:
    """The rows of the ledger while it is posted to, and then the ledger on real servers."""

    def __init__(self, lab: Lab):
        self.lab = lab
        self.rows: dict[str, list[list[Any]]] = {name: [] for name in DDL}
        self._accounts: dict[int, list[Any]] = {}
        self._minute = 0
        self._make()
        for name, columns in DDL.items():
            lab.table(name, columns, [tuple(row) for row in self.rows[name]])

    def config(self, folder: Path) -> Config:
        pack = folder / "books"
        pack.mkdir(exist_ok=True)
        (pack / "ledger.toml").write_text(LEDGER.replace("$", self.lab.schema), "utf-8")
        return self.lab.config(str(pack))

    def change(self, table: str, set_: str, where: str) -> None:
        """The same change on both sides: the migration is right, and the ledger isn't."""
        for shard in range(2):
            self.lab.on_shard(shard, f"UPDATE $.{table}_{shard} SET {set_} WHERE {where}")
        self.lab.on_target(f"UPDATE $.{table} SET {set_} WHERE {where}")

    def delete(self, table: str, where: str) -> None:
        for shard in range(2):
            self.lab.on_shard(shard, f"DELETE FROM $.{table}_{shard} WHERE {where}")
        self.lab.on_target(f"DELETE FROM $.{table} WHERE {where}")

    def restore(self, *tables: str) -> None:
        """Those tables as they were."""
        for name in tables:
            rows = [tuple(row) for row in self.rows[name]]
            for shard in range(2):
                self.lab.on_shard(shard, f"DELETE FROM $.{name}_{shard}")
                self.lab.insert(self.lab.sources[shard], f"{name}_{shard}", rows[shard::2])
            self.lab.on_target(f"DELETE FROM $.{name}")
            self.lab.insert(self.lab.target, name, rows)

    def _account(self, id_: int, kind: str, nature: str = "C", opening: str = "0", master: int | None = None) -> None:
        row = [id_, kind, nature, "CNY", Decimal(opening), Decimal(opening), 0, master]
        self._accounts[id_] = row
        self.rows["account"].append(row)

    def post(self, debit: int, credit: int, amount: str, original: int | None = None) -> int:
        """A voucher of two legs, a minute after the last; its id."""
        self._minute += 37
        at = f"2026-03-{1 + self._minute // 1440:02d} {self._minute // 60 % 24:02d}:{self._minute % 60:02d}:00.000"
        voucher = 1000 + len(self.rows["voucher"])
        self.rows["voucher"].append([voucher, Decimal(amount), "CNY", original, at])
        for id_, direction in ((debit, "D"), (credit, "C")):
            account = self._accounts[id_]
            before = account[5]
            account[5] += Decimal(amount) * (1 if account[2] == direction else -1)
            account[6] += 1
            entry = 5000 + len(self.rows["entry"])
            self.rows["entry"].append([entry, id_, account[6], voucher, direction, Decimal(amount), "CNY", before,
                                       account[5], f"K{entry}", at])  # fmt: skip
        return voucher

    def _make(self) -> None:
        self._account(BANK, "BANK", "D", "9000")
        self._account(FEE, "FEE")
        self._account(LOAN, "LOAN")
        self._account(HOLD, "HOLD")
        for id_ in CUSTOMERS:
            self._account(id_, "CUSTOMER", opening="1500")
        for id_ in (*MERCHANTS, *PARTS):
            self._account(id_, "MERCHANT" if id_ in MERCHANTS else "PART", master=HOT if id_ in PARTS[:2] else None)
        self.rows["account"][-1][7] = 6  # the third part belongs to another master
        for number in range(40):
            self.post(10 + number % 6, 20 + number % 3, f"{number + 1}.25")
            self.post(BANK, 10 + number % 6, f"{number + 2}.10")
            self.post(10 + (number + 1) % 6, 30 + number % 3, "0.50")
        self.post(LOAN, 10, "70")  # an account that may be overdrawn
        self._documents()
        self._snapshots()
        for master in (HOT, 6):
            total = sum((row[5] for row in self._accounts.values() if row[7] == master), Decimal(0))
            self.rows["account"].append([master, "HOT", "C", "CNY", Decimal(0), total, 0, None])

    def _documents(self) -> None:
        first = self.post(11, 20, "33.30")
        self.post(20, 11, "33.30", original=first)
        self.post(12, 21, "44.40")
        at = "2026-03-02 10:00:00.000"
        for number in range(4):
            held, status = Decimal(120), "PART"
            order = 7000 + number
            voucher = self.post(10 + number, HOLD, "120")
            released = Decimal(0)
            for part in range(1, 4):
                done = part <= number
                if done:
                    self.post(HOLD, 20, "40")
                    released += 40
                self.rows["instalment"].append([order * 10 + part, order, part, Decimal(40), "CNY",
                                                "RELEASED" if done else "DUE"])  # fmt: skip
            status = "DONE" if released == held else status
            self.rows["orders"].append([order, HOLD, held, released, "CNY", status, voucher, at])
        for number in range(3):
            batch, merchant = 800 + number, 20 + number
            parts = [Decimal(f"{n + 1}.0{number}") for n in range(3)]
            voucher = self.post(merchant, BANK, str(sum(parts)))
            self.rows["settlement"].append([batch, merchant, sum(parts), "CNY", 3, voucher, at])
            self.rows["detail"] += [[batch * 10 + n, batch, amount, "CNY"] for n, amount in enumerate(parts)]
        for number in range(6):
            voucher = self.post(BANK, 10 + number, f"{number + 5}.55")
            self.rows["clearing"].append([900 + number, "WX", f"R{number}", Decimal(f"{number + 5}.55"), "CNY", voucher,
                                          "BOOKED", at])  # fmt: skip
            self.rows["posting"].append([600 + number, 10 + number, 5, "CNY", "DONE", f"2026-03-0{number % 3 + 1}"])

    def _snapshots(self) -> None:
        by_day: dict[tuple[int, str], Decimal] = defaultdict(Decimal)
        for day in ("2026-03-01", "2026-03-02"):
            for id_, account in self._accounts.items():
                balance = account[4]
                for entry in self.rows["entry"]:
                    if entry[1] == id_ and entry[10][:10] <= day:
                        balance = entry[8]
                by_day[id_, day] = balance
        self.rows["snapshot"] = [
            [number, id_, day, balance] for number, ((id_, day), balance) in enumerate(by_day.items(), 1)
        ]
