"""The old schema with its rows where their sharding key says, double-written to the rebuilt one and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text

from migrate.config import Config
from migrate.copy.copier import copy
from migrate.doublewrite import DoubleWrite, fence
from migrate.doublewrite.phases import Wish, change, install_everywhere
from migrate.doublewrite.pump import Report, drain, reverse
from migrate.doublewrite.router import Router
from migrate.sandbox import Server
from tests.fidelity import create_target
from tests.integration.doublewrite_scene import PATIENCE_S
from tests.mapping_lab import ORDERS, ROUTES, TOPUPS, Old

NUMBERS = iter(range(10_000))
LEDGER = """
[role.account]
table = "$.payment"
id = "payment_no"
balance = "amount"
currency = "currency"
increases = "TOPUP"
[role.entry]
table = "$.payment"
id = "payment_no"
account = "account_id"
voucher = "payment_no"
direction = "kind"
debit = "ORDER"
credit = "TOPUP"
amount = "amount"
currency = "currency"
time = "paid_at"
"""
SHARDING = '[[sharding]]\nnumber = "key % shards"\n[sharding.keys]\n"$.payment" = "account_id"\n'
Rows = list[tuple[Any, ...]]


class Lab(Old):
    """The old schema with its rows where their sharding key says, copied, with the double write installed."""

    def ready(self, routes: str = ROUTES) -> Config:
        """Writes the pack, copies and installs."""
        pack = self.folder / "pack"
        pack.mkdir()
        (pack / "ledger.toml").write_text(LEDGER.replace("$", self.schema))
        (pack / "sharding.toml").write_text(SHARDING.replace("$", self.schema))
        made = self.config(routes, "[run]\npatience_s = 60\n", pack=str(pack))
        create_target(made)
        for table, rows in (("pay_order", ORDERS), ("topup", TOPUPS)):
            for row in rows:
                self.put(self.home(row[1]), table, row)
        copy(made, 2)
        install_everywhere(made)
        self.made = made
        return made

    def home(self, account: int) -> int:
        """The number of the shard that an account's rows live on."""
        return account % len(self.sources)

    def shards(self, table: str) -> list[Rows]:
        """All rows of each shard of that table."""
        return [
            self._rows(server, f"SELECT * FROM {self.schema}.{table}_{n} ORDER BY 1")
            for n, server in enumerate(self.sources)
        ]

    def _rows(self, server: Any, sql: str) -> Rows:
        with closing(server.connect(charset="utf8mb4")) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def waiting(self) -> int:
        """Changes in the target's outbox."""
        sql = f"SELECT COUNT(*) FROM migrate_outbox.outbox WHERE migration = '{self.schema}'"
        return int(self._rows(self.target, sql)[0][0])

    def shadow(self) -> DoubleWrite:
        change(self.made, Wish("shadow"), in_step=True)
        return DoubleWrite(self.made, deadline_s=PATIENCE_S)

    def reversed(self) -> None:
        """Makes the target primary."""
        fence.fence(self.made, within_s=PATIENCE_S)
        drain(self.made, Router.of(self.made)).run(until_empty=True, seconds=PATIENCE_S)
        fence.switch(self.made, "reversed", share=100)

    def reverse(self) -> Report:
        return reverse(self.made, Router.of(self.made)).run(until_empty=True, seconds=PATIENCE_S)


@contextmanager
def reverse_lab(sources: Sequence[Server], target: Server, folder: Path) -> Iterator[Lab]:
    """A lab in databases of its own, which are gone afterwards."""
    made = Lab(sources, target, folder, f"maprev_{next(NUMBERS)}")
    yield made
    made.drop()


def write(ledger: DoubleWrite, key: int, *statements: str, side: str) -> None:
    """A transaction of the application, in the tables of the side that it expects."""
    ledger._refresh()
    with ledger.session(key) as session:
        assert session.info["side"] == side
        for statement in statements:
            session.execute(text(statement.replace(":", r"\:")))


ORDER_SQL = (
    "INSERT INTO {0}.payment (kind, payment_no, account_id, amount, fee, status, bank, bank_no, currency, remark, "
    "paid_at) VALUES ({1})"
)
