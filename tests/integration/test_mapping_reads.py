"""Reads of mapped tables move to the target account by account, compared in the application's own terms."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from migrate.doublewrite import DoubleWrite, Refused
from migrate.doublewrite.phases import Wish, change, read
from migrate.doublewrite.reading import bucket
from migrate.doublewrite.status import read_status
from migrate.sandbox import Sandbox
from tests.integration.doublewrite_scene import PATIENCE_S, delivered
from tests.integration.mapping_reverse_lab import Lab, Rows, reverse_lab, write


@pytest.fixture
def lab(servers: Sandbox, tmp_path: Path) -> Iterator[Lab]:
    with reverse_lab(servers.sources, servers.target, tmp_path) as made:
        yield made


class Reader:
    """The application's reads: what an account's orders are, in the words of either side."""

    def __init__(self, lab: Lab, ledger: DoubleWrite):
        self.lab, self.ledger, self.sides = lab, ledger, list[str]()

    def orders(self, account: int) -> list[Any]:
        """Number, amount and status of an account's orders, from the side that the phase says."""

        def old(session: Session) -> Rows:
            self.sides.append("source")
            rows = session.execute(
                text(f"SELECT order_no, amount_cents, state FROM {self.lab.schema}.pay_order_{self.lab.home(account)} "
                     "WHERE user_id = :account"), {"account": account},
            )  # fmt: skip
            return [(no, Decimal(cents).scaleb(-2), {0: "INIT", 1: "PAID"}[state]) for no, cents, state in rows]

        def new(session: Session) -> Any:
            self.sides.append("target")
            return session.execute(
                text(f"SELECT payment_no, amount, status FROM {self.lab.schema}.payment WHERE kind = 'ORDER' "
                     "AND account_id = :account"), {"account": account},
            )  # fmt: skip

        return self.ledger.ask(account, old=old, new=new)

    def everyone(self) -> set[int]:
        """Reads all accounts once; those that the target answered for. What is compared is."""
        found = set()
        for account in ACCOUNTS:
            self.sides.clear()
            rows = self.orders(account)
            assert rows == [(account, Decimal(account) + Decimal("0.07"), "PAID")]
            if self.sides[0] == "target":
                found.add(account)
            self.ledger._comparer.rest(PATIENCE_S)
        return found


ACCOUNTS = [*range(100, 150), next(n for n in count(1000) if bucket(n) < 1)]  # of the first per cent too


@pytest.mark.timeout(300)
def test_reads_move_account_by_account(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrate.doublewrite.reading._SAMPLE", 100)
    monkeypatch.setattr("migrate.doublewrite.reading._SLOW_S", 1e6)  # a busy machine is no reason to back off
    config = lab.ready()
    ledger = lab.shadow()
    reader = Reader(lab, ledger)
    for account in ACCOUNTS:
        into = f"{lab.schema}.pay_order_{lab.home(account)} (order_no, user_id, amount_cents, state, currency)"
        row = f"({account}, {account}, {account * 100 + 7}, 1, 'CNY')"
        write(ledger, account, f"INSERT INTO {into} VALUES {row}", side="source")
    delivered(ledger)

    def to(name: str, share: int = 0) -> set[int]:
        change(config, Wish(name, share))
        ledger._refresh()
        return reader.everyone()

    assert to("strict") == set()
    assert to("read-compare", 100) == set()
    moved = [to("read-switch", share) for share in (1, 10, 50, 100)]
    assert all(before <= after for before, after in pairwise(moved)), "an account went back"
    assert 0 < len(moved[0]) < len(moved[1]) < len(moved[2]) < len(ACCOUNTS)
    assert moved[3] == set(ACCOUNTS)
    compared, differed, money = read_status(config).reads
    assert (compared, differed, money) == (len(ACCOUNTS), 0, Decimal(0))

    lab.on_target("UPDATE $.payment SET amount = amount + 0.01 WHERE payment_no = 123")
    assert reader.orders(123) == [(123, Decimal("123.08"), "PAID")]  # what TiDB says; the comparison hears of it
    ledger._comparer.rest(PATIENCE_S)
    assert (read(config).epoch.phase, read(config).epoch.share) == ("read-switch", 50)
    ledger._refresh()
    stays = min(set(ACCOUNTS) - moved[2])
    with ledger.reading(stays) as session, pytest.raises(Refused, match="has other columns than its shards"):
        session.execute(text(f"SELECT * FROM {lab.schema}.payment"))
    ledger.close()
