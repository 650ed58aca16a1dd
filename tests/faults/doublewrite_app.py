"""An application process on the library: transfers between accounts of any shard, one transaction a leg, and a journal
of every leg that it knows to be committed.

python -m tests.faults.doublewrite_app CONFIG JOURNAL SCHEMA ACCOUNTS [lags] [rests]"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

import migrate.doublewrite.session as library
from migrate.doublewrite import DoubleWrite, Fenced, NotOnBothSides, Refused
from migrate.doublewrite.reading import bucket

stopped = threading.Event()


class App:
    """Posts until it is told to stop; then brings the transfer under way to an end."""

    def __init__(self, config: Path, journal: Path, schema: str, accounts: int, rest_s: float = 0.0):
        self.ledger = DoubleWrite.open(config, deadline_s=1.0, pool_size=2)
        self.schema, self.accounts, self.rest_s = schema, accounts, rest_s
        self.journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.number = os.getpid() << 32
        self.first = next(i for i in count(1) if bucket(i) == 0)  # the first key to be read from the target

    def run(self) -> None:
        print("ready", flush=True)
        while not stopped.is_set():
            one, other = random.sample(range(1, self.accounts + 1), 2)
            amount = random.randint(1, 500) / 100
            self.number += 2
            if self.leg(self.number, one, "D", f"{amount:.2f}", self.number):
                while not self.leg(self.number + 1, other, "C", f"{amount:.2f}", self.number):
                    pass
            self.look(one)
            self.look(self.first)
            stopped.wait(self.rest_s)  # others want the machine too
        self.ledger.close()

    def leg(self, id: int, account: int, direction: str, amount: str, voucher: int) -> bool:
        """Posts one leg; True once it is certain that it is in, False if it is certain that it isn't."""
        sign = "-" if direction == "D" else "+"
        unknown = False
        while True:
            try:
                with self.ledger.session(account) as session:
                    session.execute(
                        text(f"SELECT balance FROM {self.schema}.account WHERE id = :id FOR UPDATE"), {"id": account}
                    ).one()
                    session.execute(
                        text(f"UPDATE account SET balance = balance {sign} :a, seq = seq + 1 WHERE id = :id"),
                        {"a": amount, "id": account},
                    )
                    session.execute(
                        text("INSERT INTO entry (id, account_id, voucher_id, direction, amount, once) "
                             "VALUES (:id, :account, :voucher, :direction, :amount, :once)"),
                        {"id": id, "account": account, "voucher": voucher, "direction": direction, "amount": amount,
                         "once": f"e{id}"},
                    )  # fmt: skip
            except NotOnBothSides:
                pass  # committed all the same
            except Fenced:
                time.sleep(0.02)
                continue
            except IntegrityError:
                if not unknown:
                    raise
            except (DBAPIError, Refused):
                unknown = True
                time.sleep(0.05)
                continue
            self.acknowledge(id, account, sign + amount)
            return True

    def look(self, account: int) -> None:
        try:
            with self.ledger.reading(account) as session:
                session.execute(text("SELECT id, balance, seq FROM account WHERE id = :id"), {"id": account}).all()
        except DBAPIError:
            time.sleep(0.05)

    def acknowledge(self, id: int, account: int, change: str) -> None:
        os.write(self.journal, json.dumps({"id": id, "account": account, "change": change}).encode() + b"\n")


def main() -> None:
    config, journal, schema, accounts, *rest = sys.argv[1:]
    if "lags" in rest:
        library.POLL_S = 1e6  # hears of phases from the servers that it writes to only
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    app: Any = App(Path(config), Path(journal), schema, int(accounts), 0.1 if "rests" in rest else 0.0)
    app.run()


if __name__ == "__main__":
    main()
