"""Postings made by the thousand: who pays whom how much and when, as columns of whole numbers.

The seed and the traffic draw them here, so both make the same kinds of postings. Money is int64 in the smallest unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from migrate.errors import ConfigError
from migrate.sandbox.rows import normal
from migrate.sandbox.workload import Action, Workload

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
_EPOCH_MS = 1_577_836_800_000  # 2020-01-01, the zero of the ids


class Snowflake:
    """Ids of 41 bits of milliseconds, 10 bits of worker and 12 of a counter, for up to 4096 rows a millisecond."""

    def __init__(self, worker: int, counter: int = 0):
        self._worker, self._counter = worker, counter

    def take(self, times_ms: Ints) -> Ints:
        """An id for each time."""
        numbers = (self._counter + np.arange(len(times_ms), dtype=np.int64)) % 4096
        self._counter += len(times_ms)
        return ((times_ms - _EPOCH_MS) << 22) | (self._worker << 12) | numbers

    def one(self, time_ms: int) -> int:
        """An id."""
        self._counter += 1
        return (time_ms - _EPOCH_MS) << 22 | self._worker << 12 | (self._counter - 1) % 4096


class Accounts:
    """All accounts in order of shard set and currency, so that each such pool is a range."""

    def __init__(
        self, ids: Ints, shards: Ints, currencies: Sequence[str], natures: Sequence[str], weights: Sequence[float]
    ):
        """One id, shard set, currency and raising direction per account; `weights` per shard set sum to 1."""
        names = np.array(currencies)
        order = np.lexsort((ids, names, shards))
        self.id, self.shard, self.currency = ids[order], shards[order], names[order]
        self.nature = np.array(natures)[order]
        self.weights = np.array(weights)
        self.names = np.unique(names)
        key = self.shard * len(self.names) + np.searchsorted(self.names, self.currency)
        pools = np.arange(len(weights) * len(self.names), dtype=np.int64)
        self.start = np.searchsorted(key, pools).reshape(len(weights), -1)
        self.count = np.searchsorted(key, pools, side="right").reshape(len(weights), -1) - self.start
        if self.count.min() < 2:
            raise ConfigError("every shard set needs two accounts of each currency to pay between them")

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True)
class Postings:
    """One posting a row; accounts are numbers into Accounts, -1 where there is none."""

    time: Ints
    id: Ints
    action: Ints  # a number into the workload's actions
    debit: Ints
    credit: Ints
    third: Ints  # who gets the commission
    amount: Ints
    commission: Ints
    document: Ints  # the id of the row that tells of it
    original: Ints  # the number of the posting that it reverses

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True)
class Legs:
    """One leg a row, in the order of the postings, the debit of each first."""

    id: Ints
    posting: Ints  # a number into the postings
    number: Ints  # 0 is the debit
    account: Ints
    amount: Ints

    def __len__(self) -> int:
        return len(self.id)


class Draw:
    """Makes postings between the accounts as the workload says; the same for the same random numbers and ids."""

    def __init__(self, workload: Workload, accounts: Accounts, rng: np.random.Generator, ids: Snowflake):
        self._workload, self._accounts, self._rng, self._ids = workload, accounts, rng, ids
        self._currency = _currency_weights(workload, accounts)

    def postings(self, times: Ints, splits: int) -> Postings:
        """A posting for each time, of which `splits` have three legs, which a reversing one never has, the rest two."""
        spec, rng, n = self._workload.postings, self._rng, len(times)
        actions = self._workload.actions
        action = rng.choice(len(actions), n, p=_shares(actions)).astype(np.int64)
        original = _originals(actions, action)
        too_many = np.flatnonzero(original >= 0)[: max(0, splits - np.count_nonzero(original < 0))]
        original[too_many], action[too_many] = -1, 0
        currency = rng.choice(len(self._currency), n, p=self._currency)
        here = rng.choice(len(self._accounts.weights), n, p=self._accounts.weights)
        debit = self._pick(here, currency)
        credit = self._other(here, currency, debit)
        lowest, highest, step = spec.units(spec.amount[0]), spec.units(spec.amount[1]), spec.units(spec.step)
        amount = rng.integers(lowest // step, highest // step + 1, n) * step
        split = np.zeros(n, dtype=bool)
        split[rng.permutation(np.flatnonzero(original < 0))[:splits]] = True
        part = spec.commission.as_integer_ratio()
        commission = np.where(split, np.minimum(np.maximum(amount * part[0] // part[1], 1), amount - 1), 0)
        third = np.where(split, self._other(here, currency, debit), -1)
        back = np.flatnonzero(original >= 0)
        first = original[back]
        debit[back], credit[back] = credit[first], debit[first]
        amount[back] = np.maximum((amount - commission)[first] * rng.integers(50, 101, len(back)) // 100, 1)
        id, document = self._ids.take(times), self._ids.take(times)
        return Postings(times, id, action, debit, credit, third, amount, commission, document, original)

    def legs(self, postings: Postings) -> Legs:
        """The legs of those postings."""
        counts = np.where(postings.third >= 0, 3, 2)
        posting = np.repeat(np.arange(len(postings), dtype=np.int64), counts)
        number = np.arange(len(posting), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
        who = np.stack((postings.debit, postings.credit, postings.third))
        how_much = np.stack((postings.amount, postings.amount - postings.commission, postings.commission))
        id = self._ids.take(postings.time[posting])
        return Legs(id, posting, number, who[number, posting], how_much[number, posting])

    def _pick(self, shard: Ints, currency: Ints) -> Ints:
        accounts = self._accounts
        chosen = np.floor(self._rng.random(len(shard)) * accounts.count[shard, currency]).astype(np.int64)
        return accounts.start[shard, currency] + chosen

    def _other(self, here: Ints, currency: Ints, account: Ints) -> Ints:
        """Another account of the same currency, on the same shard set or, as often as the workload says, on any."""
        accounts, rng = self._accounts, self._rng
        there = np.where(
            rng.random(len(here)) < self._workload.postings.cross_shard,
            rng.choice(len(accounts.weights), len(here), p=accounts.weights),
            here,
        )
        start, count = accounts.start[there, currency], accounts.count[there, currency]
        onward = 1 + np.floor(rng.random(len(here)) * (count - 1)).astype(np.int64)
        return np.where(there == here, start + (account - start + onward) % count, self._pick(there, currency))


def _originals(actions: Sequence[Action], action: Ints) -> Ints:
    """For each posting the number of the earlier one that it reverses, none twice; -1 for all others.

    A reversing posting that finds none becomes one of the first action, in place.
    """
    original = np.full(len(action), -1, dtype=np.int64)
    for number, what in enumerate(actions):
        if not what.reverses:
            continue
        reversing = np.flatnonzero(action == number)
        reversed_ = np.flatnonzero(action == next(i for i, a in enumerate(actions) if a.name == what.reverses))
        spread = np.maximum(len(reversed_) / max(len(reversing), 1) * 0.9, 1)
        at = (np.arange(len(reversing)) * spread).astype(np.int64)
        found = at < len(reversed_)
        found[found] = reversed_[at[found]] < reversing[found]
        original[reversing[found]] = reversed_[at[found]]
        action[reversing[~found]] = 0
    return original


def _shares(actions: Sequence[Action]) -> NDArray[np.float64]:
    return normal([a.share for a in actions])


def _currency_weights(workload: Workload, accounts: Accounts) -> NDArray[np.float64]:
    return normal([workload.accounts.currencies.get(str(name), 1) for name in accounts.names])
