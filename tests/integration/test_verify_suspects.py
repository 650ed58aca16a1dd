"""Where rows are known to differ, broken rules and wrong accounts are looked for there, if these rows explain them all;
what is found is what looking everywhere finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from migrate.config import Config
from migrate.sandbox import Sandbox
from tests.integration.books import Books
from tests.verify_lab import Lab
from verify.result import Result
from verify.rows import Buckets
from verify.run import verify_all, verify_balances, verify_rows
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


KEYS: dict[str, Sequence[object]] = {
    "BIGINT UNSIGNED": (0, 2**64 - 1, 7),
    "INT(9) ZEROFILL": (0, 12, 7),
    "DECIMAL(20,4)": ("-0.5000", "0", "99.0001"),
    "VARCHAR(20) COLLATE utf8mb4_unicode_ci": ("", "it's ", "柜😀"),
    "VARCHAR(20) CHARACTER SET latin1": ("", "é", "b'"),
    "CHAR(9)": ("a", "B", "\\"),
    "VARBINARY(4)": (b"", b"\0", b"a "),
    "BINARY(3)": (b"a", b"\0b", b"abc"),
    "DATETIME(3)": ("0000-00-00", "2026-01-01 00:00:00.001", "2026-01-01"),
    "YEAR": (0, 2000, 1999),
    "ENUM('x','y','z')": ("x", "y", "z"),
    "BIT(9)": (0, 1, 256),
}


def test_what_differs_still_when_it_is_read_again_is_not_late_whatever_its_key(
    servers: Sandbox, tmp_path: Path
) -> None:
    """One row each is lost on the target, and one is changed. Every other key has a column before it."""
    lab = Lab(servers.sources, servers.target, tmp_path, "vkey")
    try:
        for number, (column, values) in enumerate(KEYS.items()):
            rows = [(value, 1, n) for n, value in enumerate(values)]
            key = ("k", "s, k")[number % 2]
            definition = f"k {column} NOT NULL, s INT NOT NULL, v INT, PRIMARY KEY ({key})"
            lab.table(f"t{number}", definition, rows, shards=1)
        wrong = [f"DELETE FROM $.{t} WHERE v = 0" for t in lab.tables]
        lab.on_target(*wrong, *(f"UPDATE $.{t} SET v = 9 WHERE v = 1" for t in lab.tables))
        result = verify_rows(lab.config())
        found = {(m.target, m.kind, str((m.source or {})["v"])) for m in result.mismatches}
        assert found == {
            (f"{lab.schema}.{table}", kind, v)
            for table in lab.tables
            for kind, v in (("missing", "0"), ("different", "1"))
        }
    finally:
        lab.drop()
