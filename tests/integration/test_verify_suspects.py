"""Where rows are known to differ, broken rules and wrong accounts are looked for there, if these rows explain them all;
what is found is what looking everywhere finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from migrate.config import Config
from migrate.sandbox import Sandbox
from tests.integration.books import Books
from tests.verify_lab import Lab
from verify.result import Result
from verify.rows import Buckets
from verify.run import verify_all, verify_balances
from verify.sweep import Sweep

FAULTS = {
    "entry": (
        "UPDATE $.entry SET amount = amount + 0.0001 WHERE id = 5001",
        "DELETE FROM $.entry WHERE id = 5007",
        "INSERT INTO $.entry SELECT -id, account_id, -seq, voucher_id, direction, amount, currency, before_, after_, "
        "'K-', at FROM $.entry WHERE id = 5012",
        "UPDATE $.entry SET account_id = 11 WHERE id = 5030",
    ),
    "account": (
        "UPDATE $.account SET balance = balance + IF(id = 12, 1, -1) WHERE id IN (12, 13)",
        "UPDATE $.account SET seq = seq + 1 WHERE id = 20",
    ),
    "instalment": ("UPDATE $.instalment SET order_id = 7000, number = 9 WHERE id = 70011",),
    "detail": ("UPDATE $.detail SET amount = amount + 1 WHERE id = 8000",),
}


@pytest.fixture(scope="module")
def books(servers: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    lab = Lab(servers.sources, servers.target, tmp_path_factory.mktemp("suspects"), "vsus")
    yield Books(lab)
    lab.drop()


@pytest.fixture
def config(books: Books) -> Iterator[Config]:
    """The target is wrong in all those ways."""
    books.lab.on_target(*(sql for faults in FAULTS.values() for sql in faults))
    yield books.config(books.lab.folder)
    books.restore(*FAULTS)


def told(result: Result) -> tuple[list[str], list[str]]:
    """The accounts that differ and the offenders of every rule."""
    accounts = [repr((m.key, m.kind, m.columns, m.source, m.target_values)) for m in result.mismatches
                if not (m.source_row or m.target_row)]  # fmt: skip
    offenders = [
        repr((i.name, name, side.count, sorted(map(repr, side.rows)), side.prices))
        for i in result.invariants or ()
        for name, side in (("source", i.source), ("target", i.target))
        if side
    ]
    return sorted(accounts), sorted(offenders)


def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the rules and tables that are looked for everywhere from now on."""
    seen: list[str] = []
    bad, passes = Sweep._bad, Buckets.passes

    def _bad(self: Sweep, part: Any, source: bool, number: int) -> Iterator[list[int]]:
        seen.append(" ".join(part.labels))
        return bad(self, part, source, number)

    def _passes(self: Buckets, most: int = 10**6, buckets: int = 1024) -> Iterator[Sequence[int]]:
        seen.append(f"passes of {most}")
        return passes(self, most, buckets)

    monkeypatch.setattr(Sweep, "_bad", _bad)
    monkeypatch.setattr(Buckets, "passes", _passes)
    return seen


def test_rows_that_explain_everything_are_all_that_is_looked_at(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    everywhere = verify_balances(config)
    seen = watched(monkeypatch)
    result = verify_all(config)
    assert set(seen) == {"passes of 1000000"}  # of the rows themselves
    assert told(result) == told(everywhere)
    accounts, offenders = told(result)
    assert len(accounts) >= 6
    assert sum("target', 0" not in each for each in offenders if "'target'" in each) >= 6


def test_rows_that_explain_not_all_of_it_do_not_hide_the_rest(
    books: Books, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides hold two legs under each other's voucher, too: no row differs there."""
    books.change("entry", "voucher_id = IF(id = 5100, 1051, 1050)", "id IN (5100, 5102)")
    everywhere = verify_balances(config)
    seen = watched(monkeypatch)
    result = verify_all(config)
    assert "voucher currency" in seen
    assert told(result) == told(everywhere)
    broken = next(i for i in result.invariants or () if i.name == "debit_equals_credit")
    assert {"1050", "1051"} <= {row["voucher"] for row in broken.rows}


def test_books_in_order_are_not_looked_at_any_closer(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over all keys are exactly nothing, to the twentieth digit of a chain's links."""
    seen = watched(monkeypatch)
    assert verify_all(books.config(books.lab.folder)).ok
    assert seen == []
