"""Postings as the transactions that a system without distributed ones commits: shard by shard, the debit first."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np

from migrate.sandbox.frames import document_fields, entry_fields, voucher_fields
from migrate.sandbox.layout import Layout, Place
from migrate.sandbox.postings import Accounts, Draw, Ints, Legs, Postings, Snowflake
from migrate.sandbox.rows import Fields, render
from migrate.sandbox.workload import Columns, Workload

Row = dict[str, str | None]
_APPLIED = frozenset({"before", "after", "sequence"})  # known only when the leg is applied


@dataclass(frozen=True)
class Leg:
    """A change of one account, and its entry without the balances and the sequence."""

    id: int
    account: int
    change: Decimal
    entry: Row


@dataclass(frozen=True)
class Change:
    """An UPDATE of as many rows as it has `ids`; all of them, or the part isn't committed. `adds` to columns of
    money; `guard`: a column and the value that it must still have."""

    table: str
    key: str
    ids: tuple[int, ...]
    sets: Row
    adds: dict[str, Decimal]
    guard: tuple[str, str] | None = None


@dataclass(frozen=True)
class Part:
    """What commits together on one shard set: legs, rows of any tables beside them, and changes of others. `rebuilt`:
    what the rows are where the target is primary and has other columns; none: the same."""

    place: Place
    legs: tuple[Leg, ...] = ()
    rows: tuple[tuple[str, Row], ...] = ()
    changes: tuple[Change, ...] = ()
    rebuilt: tuple[tuple[str, Row], ...] = ()


@dataclass(frozen=True)
class Job:
    """One posting. `parts` commit in order, each for itself; `original` is the number of the job it reverses, or -1."""

    number: int
    original: int
    parts: tuple[Part, ...]
    record: dict[str, Any]  # what the journal is to say of it; nothing of what posts nothing
    done: Callable[[bool], None] = lambda posted: None  # to be told whether it was posted


class Jobs:
    """Makes jobs between the accounts of a layout. Each thread has its own."""

    def __init__(self, workload: Workload, layout: Layout, accounts: Accounts):
        self._workload, self._layout, self._accounts = workload, layout, accounts
        self._rng = np.random.default_rng()
        # no two writers at work in the same millisecond may have the same number
        self._draw = Draw(
            workload, accounts, self._rng, Snowflake(1 + secrets.randbelow(1023), secrets.randbelow(4096))
        )

    def make(self, times_ms: Ints) -> Iterator[Job]:
        """A job for each time, all drawn and rendered before the first is given."""
        workload, accounts = self._workload, self._accounts
        postings = self._draw.postings(times_ms, int(self._rng.binomial(len(times_ms), workload.postings.split)))
        legs = self._draw.legs(postings)
        entries = self._rows(workload.entry_table, entry_fields(workload, accounts, postings, legs))
        vouchers: list[Row] = []
        if workload.voucher_table:
            vouchers = self._rows(workload.voucher_table, voucher_fields(workload, accounts, postings))
        documents = self._documents(postings)
        changes = _changes(workload, accounts, legs)
        for number, of_posting in enumerate(np.split(np.arange(len(legs)), np.flatnonzero(legs.number == 0)[1:])):
            by_shard: dict[int, list[Leg]] = {}
            for i in of_posting.tolist():
                account = int(legs.account[i])
                leg = Leg(int(legs.id[i]), int(accounts.id[account]), changes[i], entries[i])
                by_shard.setdefault(int(accounts.shard[account]), []).append(leg)
            parts = [Part(self._layout[shard], tuple(some)) for shard, some in by_shard.items()]
            if vouchers:
                parts[0] = Part(parts[0].place, parts[0].legs, ((workload.voucher_table or "", vouchers[number]),))
            if number in documents:
                parts.append(documents[number])
            record = {
                "voucher": int(postings.id[number]),
                "action": workload.actions[int(postings.action[number])].name,
                "document": int(postings.document[number]) if number in documents else None,
                "entries": [
                    {"id": leg.id, "account": leg.account, "change": str(leg.change)} for p in parts for leg in p.legs
                ],
            }
            yield Job(number, int(postings.original[number]), tuple(parts), record)

    def settle(self) -> Iterator[Job]:
        """What must still be done before nothing moves."""
        return iter(())

    def _documents(self, postings: Postings) -> dict[int, Part]:
        """By the number of the posting."""
        found = {}
        for number, action in enumerate(self._workload.actions):
            rows = np.flatnonzero(postings.action == number)
            if action.document and len(rows):
                fields = document_fields(self._workload, self._accounts, postings, number)
                places = [self._layout[i] for i in (fields[action.shard_by] % len(self._layout)).tolist()]
                texts = self._rows(action.document, fields)
                for posting, place, row in zip(rows.tolist(), places, texts, strict=True):
                    found[posting] = Part(place, (), ((action.document, row),))
                if action.rebuilt:
                    for posting, row in zip(rows.tolist(), self._rendered(action.rebuilt.columns, fields), strict=True):
                        found[posting] = replace(found[posting], rebuilt=((action.rebuilt.table, row),))
        return found

    def _rows(self, table: str, fields: Fields) -> list[Row]:
        return self._rendered(
            {c: g for c, g in self._workload.columns[table].items() if g.field not in _APPLIED}, fields
        )

    def _rendered(self, columns: Columns, fields: Fields) -> list[Row]:
        texts = render(columns, fields, self._workload.postings.scale, self._rng)
        return [dict(zip(texts, row, strict=True)) for row in zip(*texts.values(), strict=True)]


def _changes(workload: Workload, accounts: Accounts, legs: Legs) -> list[Decimal]:
    """By how much each leg raises its account's balance."""
    entry, scale = workload.ledger.role.entry, workload.postings.scale
    direction = np.where(legs.number == 0, entry.debit, entry.credit)
    units = np.where(direction == accounts.nature[legs.account], legs.amount, -legs.amount)
    return [Decimal(u).scaleb(-scale) for u in units.tolist()]
