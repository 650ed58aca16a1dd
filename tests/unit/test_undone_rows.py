"""Which row events of a transaction count for nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from migrate.model import Shard, Target
from migrate.sync.batch import Doubt
from migrate.sync.undone import ReadAgain, Undone

BEFORE = {"file": "bin.000002", "offset": "100"}
LATER = {"file": "bin.000002", "offset": "300"}


def layout(engine: str) -> Any:
    return SimpleNamespace(engine=engine, target=Target("bank", "book"), shard=Shard("m1", "bank_0", "book_0"))


def undone() -> Undone:
    """Of the transaction behind BEFORE: row events 2 and 3, then 2 to 5."""
    found = Undone()
    for first, last in ((1, 3), (1, 5)):
        found.begin(BEFORE)
        with pytest.raises(ReadAgain):
            found.take(BEFORE, first, last)
    found.begin(BEFORE)
    found.take(BEFORE, 1, 3)
    found.take(BEFORE, 1, 5)
    return found


def test_rows_are_told_by_their_transaction_and_number() -> None:
    found = undone()
    assert found.here
    inno = layout("InnoDB")
    assert [n for n in range(1, 8) if found.has(n, inno, overwriting=False)] == [2, 3, 4, 5]
    found.begin(LATER)
    assert not found.here
    assert not found.has(2, inno, overwriting=False)


def test_a_table_without_transactions_is_in_doubt() -> None:
    found = undone()
    isam = layout("MyISAM")
    assert not found.has(1, isam, overwriting=False)
    with pytest.raises(Doubt, match=r"bank.book: .* changed m1\.bank_0\.book_0, whose engine MyISAM can't roll back"):
        found.has(2, isam, overwriting=False)
    assert not found.has(2, isam, overwriting=True)  # it stayed, so it counts
