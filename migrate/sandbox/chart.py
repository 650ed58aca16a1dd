"""The accounts of a ledger with flows: of which kind they are, on which shard set, part of which other, and who takes
part in a flow."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from migrate.errors import ConfigError
from migrate.sandbox.flows import Flow, Pick
from migrate.sandbox.topology import Spots


@dataclass(frozen=True, slots=True)
class Holder:
    """An account. It lies on the shard set that its id names, modulo their number. `owner`: the number of whom it
    belongs to."""

    id: int
    currency: str
    kind: str
    nature: str
    master: int | None
    owner: int = 0


class Chart:
    """All accounts, by what flows pick them by."""

    def __init__(self, holders: Iterable[Holder], spots: Spots, currencies: dict[str, int], cross_shard: float):
        self._spots, self.cross_shard = spots, cross_shard
        self.currencies, self.weights = list(currencies), list(currencies.values())
        self.by_id: dict[int, Holder] = {}
        self._all: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._near: dict[tuple[str, str, int], list[int]] = defaultdict(list)
        self._parts: dict[int, list[int]] = defaultdict(list)
        for holder in holders:
            self.by_id[holder.id] = holder
            self._all[holder.kind, holder.currency].append(holder.id)
            self._near[holder.kind, holder.currency, self.shard(holder.id)].append(holder.id)
            if holder.master is not None:
                self._parts[holder.master].append(holder.id)

    def shard(self, account: int) -> int:
        """The number of its shard set, and of those of its entries."""
        return account % self._spots.ledger

    def spot(self, table: str | None, account: int) -> int:
        """The number of the shard set of that table's row which lies with the account."""
        return self._spots.spot(table, account, self.by_id[account].owner)

    def cast(
        self, flow: Flow, currency: str, dice: random.Random, given: Mapping[str, int] = MappingProxyType({})
    ) -> dict[str, int]:
        """The accounts of a document, by their names in the flow, besides those that are given; none takes two parts.
        ConfigError if there are too few."""
        found = dict(given)
        for name, pick in flow.picks.items():
            if name in given:
                continue
            of = found[pick.of] if pick.of else None
            choice = [id for id in self._choice(pick, of, currency, found, dice) if id not in found.values()]
            if not choice:
                raise ConfigError(f"flow {flow.name}: no account for {name} ({flow.accounts[name]}, {currency})")
            found[name] = dice.choice(choice)
        return found

    def _choice(
        self, pick: Pick, of: int | None, currency: str, found: dict[str, int], dice: random.Random
    ) -> Iterable[int]:
        if pick.way == "master" and of is not None:
            master = self.by_id[of].master
            return [] if master is None else [master]
        kind = pick.kind or ""
        if pick.way == "beside" and of is not None:
            return self._parts[self.by_id[of].master or 0]
        here = of if of is not None else next(iter(found.values()), None)
        if here is not None and (pick.way == "near" or dice.random() >= self.cross_shard):
            near = self._near[kind, currency, self.shard(here)]
            if pick.way == "near" or set(near) - set(found.values()):
                return _few(near, dice)
        return _few(self._all[kind, currency], dice)


def _few(ids: list[int], dice: random.Random) -> list[int]:
    """Some of them, where there are many: more than take part in any flow."""
    return ids if len(ids) < 16 else [dice.choice(ids) for _ in range(12)]
