"""The seed of a pack with flows: they run in memory, in the order of time, until there are as many entries as asked."""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from migrate.errors import ConfigError
from migrate.sandbox.chart import Chart, Holder
from migrate.sandbox.flowing import Flowing, Texts, Turn, Unit
from migrate.sandbox.flows import Kind, Step
from migrate.sandbox.postings import Ints, Snowflake
from migrate.sandbox.rows import Fields, clock, money
from migrate.sandbox.topology import Spots
from migrate.sandbox.workload import Workload

_DAY_MS = 86_400_000
_FIRST_OWNER = 100_001
Made = list[tuple[str, Fields, Ints]]  # target table, its rows, what names the shard set of each


def flow_tables(workload: Workload, spots: Spots, weights: Sequence[float], rows: int, seed: int, now_ms: int) -> Made:
    """Every row of every table: about `rows` entries, a few more, of the accounts that the ledger's shard sets have by
    their weights. What may be left under way is; what must be settled is settled. Without a time to begin at, the last
    rows are a minute older than now."""
    if workload.postings.begins is not None:
        return _play(workload, spots, weights, rows, seed)[0].made()
    # the same dice make the same flows at any time: how long they take is seen first
    first = workload.postings.beginning(now_ms)
    ended = _play(replace(workload, postings=first), spots, weights, rows, seed)[1]
    again = workload.postings.beginning(2 * now_ms - ended - 60_000)
    return _play(replace(workload, postings=again), spots, weights, rows, seed)[0].made()


def _play(workload: Workload, spots: Spots, weights: Sequence[float], rows: int, seed: int) -> tuple[_Books, int]:
    """The books, and the time of the last step."""
    dice = random.Random(seed)
    books = _Books(workload, _holders(workload, weights, rows, dice), spots)
    flowing = Flowing(workload, books.chart, dice, Snowflake(0))
    begins, spec = workload.postings.begins_ms, workload.postings
    legs = sum(f.share * sum(len(s.legs) * s.share for s in f.step) / max(1, sum(s.share for s in f.step)) * 2
               for f in workload.flows) / sum(f.share for f in workload.flows)  # fmt: skip
    spacing = spec.days * _DAY_MS / max(1.0, rows / max(legs, 1.0))
    last = begins
    due: list[tuple[int, int, Unit, Step]] = []
    waiting: dict[tuple[int | str, ...], list[Unit]] = defaultdict(list)
    count, next_ms = 0, float(begins)

    def await_next(unit: Unit, now: int) -> None:
        nonlocal count
        step = flowing.step(unit)
        if step is None:
            return
        count += 1
        if step.merge:
            waiting[unit.agrees_in(step.by)].append(unit)
        heapq.heappush(due, (now + dice.randint(step.after[0] * 1000, step.after[1] * 1000), count, unit, step))

    while due or books.entries < rows:
        opens = books.entries < rows
        if opens and (not due or due[0][0] > next_ms):
            now = int(next_ms)
            next_ms += dice.uniform(0.2, 1.8) * spacing
            unit, step = flowing.begin(now)
            units = [unit]
        else:
            now, _, unit, step = heapq.heappop(due)
            if not opens and unit.status not in workload.flows[unit.flow].settle:
                continue
            units = [unit]
            if step.merge:
                group = waiting[unit.agrees_in(step.by)]
                if unit not in group:
                    continue
                units = group[: step.merge]
                del group[: step.merge]
        turn = flowing.turn(units, step, now)
        books.apply(turn, now)
        last = max(last, now)
        for unit in turn.onward:
            await_next(unit, now)
    return books, last


class _Books:
    """The ledger in memory: by table and field the texts of all rows."""

    def __init__(self, workload: Workload, holders: list[tuple[Holder, int]], spots: Spots):
        self._workload = workload
        self.chart = Chart([h for h, _ in holders], spots, workload.accounts.currencies, workload.postings.cross_shard)
        self._opening = {holder.id: opening for holder, opening in holders}
        self._balance = dict(self._opening)
        self._sequence = dict.fromkeys(self._opening, 0)
        self._more: dict[str, dict[int, int]] = {
            field: dict.fromkeys(self._opening, 0)
            for flow in workload.flows for step in flow.step for _, field, _, _ in step.moved if field != "balance"
        }  # fmt: skip
        self._used = {
            table: sorted({"id", *(g.field for g in columns.values() if g.field)})
            for table, columns in workload.columns.items()
        }
        self._rows: dict[str, dict[str, list[str | None]]] = {
            table: {field: [] for field in fields} for table, fields in self._used.items()
        }
        self._shards: dict[str, list[int]] = {table: [] for table in self._used}
        self._place: dict[tuple[str, int], int] = {}
        self._changing = {t: "id" for f in workload.flows for t in (f.table, f.batch_table) if t}
        self._changing |= {row.table: "document" for f in workload.flows for s in f.step for row in s.updated}
        self._day: int | None = None
        self.entries = 0

    def apply(self, turn: Turn, now: int) -> None:
        """Does what a turn does."""
        self._end_days(now // _DAY_MS)
        for shard, share in turn.shares.items():
            for leg in share.legs:
                before = self._balance[leg.account]
                self._balance[leg.account] = before + leg.change
                self._sequence[leg.account] += 1
                applied: Texts = {"before": self._money(before), "after": self._money(before + leg.change),
                           "sequence": str(self._sequence[leg.account])}  # fmt: skip
                self._add(self._workload.entry_table, leg.fields | applied, shard)
                self.entries += 1
            for table, row in share.rows:
                self._add(table, row, shard)
            for touched in share.touched:
                for id in touched.ids:
                    for field, value in touched.fields.items():
                        if field in self._rows[touched.table]:
                            self._rows[touched.table][field][self._place[touched.table, id]] = value
                    for field, more in touched.adds.items():
                        (self._balance if field == "balance" else self._more[field])[id] += more

    def _add(self, table: str, row: Texts, shard: int) -> None:
        if table in self._changing:
            self._place[table, int(row[self._changing[table]] or 0)] = len(self._shards[table])
        for field in self._used[table]:
            if field not in row:
                raise ConfigError(f"workload.toml: columns.{table}: rows of it have no field {field!r}")
            self._rows[table][field].append(row[field])
        self._shards[table].append(shard)

    def _end_days(self, day: int) -> None:
        """Snapshots of all days that have ended before this one."""
        for ended in range(self._day if self._day is not None else day, day):
            for role in self._workload.ledger.role.snapshot:
                end = str(datetime.fromtimestamp(ended * 86_400, UTC).date())
                time = clock(np.array([(ended + 1) * _DAY_MS]))[0]
                for holder in self.chart.by_id.values():
                    if holder.kind not in self._masters():
                        row = self._account(holder) | {"account": str(holder.id), "day": end, "time": time}
                        self._add(role.table, row, self.chart.spot(role.table, holder.id))
        self._day = day

    def _masters(self) -> set[str]:
        return {kind.parts_of for kind in self._workload.kinds.values() if kind.parts_of}

    def _account(self, holder: Holder) -> Texts:
        more: Texts = {field: self._money(values[holder.id]) for field, values in self._more.items()}
        kind = self._workload.kinds[holder.kind]
        return more | kind.fields | {
            "id": str(holder.id), "currency": holder.currency, "kind": holder.kind, "nature": holder.nature,
            "master": None if holder.master is None else str(holder.master), "owner": str(holder.owner),
            "opening": self._money(self._opening[holder.id]), "balance": self._money(self._balance[holder.id]),
            "sequence": str(self._sequence[holder.id]),
        }  # fmt: skip

    def _money(self, units: int) -> str:
        return money(units, self._workload.postings.scale)

    def made(self) -> Made:
        """All tables, as the seed loads them."""
        opened = clock(np.array([self._workload.postings.begins_ms]))[0]
        for holder in self.chart.by_id.values():
            row = self._account(holder) | {"time": opened}
            self._add(self._workload.account_table, row, self.chart.shard(holder.id))
        return [
            (
                table,
                {field: np.array(values, dtype=object) for field, values in fields.items()},
                np.array(self._shards[table], dtype=np.int64),
            )
            for table, fields in self._rows.items()
        ]


def _holders(workload: Workload, weights: Sequence[float], rows: int, dice: random.Random) -> list[tuple[Holder, int]]:
    """The accounts and what they open with, so that debit and credit balances are equal in every currency."""
    shards, role = len(weights), workload.ledger.role.entry
    first = int(Snowflake(0).take(np.array([workload.postings.begins_ms - _DAY_MS]))[0]) // shards * shards
    numbers = [0] * shards
    found: list[tuple[Holder, int]] = []

    def open_(name: str, kind: Kind, currency: str, shard: int, master: int | None = None) -> tuple[Holder, int]:
        id = first + numbers[shard] * shards + shard
        numbers[shard] += 1
        low, high = (workload.postings.units(a) for a in kind.opening)
        nature = role.debit if kind.nature == "D" else role.credit
        made = (Holder(id, currency, name, nature, master, _FIRST_OWNER + len(found)), dice.randint(low, high))
        found.append(made)
        return made

    total = sum(kind.share or 0 for kind in workload.kinds.values()) or 1
    many = sum(workload.accounts.currencies.values())
    for number, (currency, weight) in enumerate(workload.accounts.currencies.items()):
        for name, kind in workload.kinds.items():
            for shard in _places(kind, number, shards):
                open_(name, kind, currency, shard)
            if kind.share:
                wanted = rows / workload.accounts.entries_each * kind.share / total * weight / many
                for shard in range(shards):
                    for _ in range(max(2, round(wanted * weights[shard]))):
                        open_(name, kind, currency, shard)
    openings = {holder.id: opening for holder, opening in found}
    for name, kind in workload.kinds.items():
        for master in [h for h, _ in found if h.kind == kind.parts_of]:
            parts = [open_(name, kind, master.currency, shard, master.id) for shard in range(shards)]
            openings |= {part.id: opening for part, opening in parts}
            openings[master.id] = sum(opening for _, opening in parts)
    masters = {kind.parts_of for kind in workload.kinds.values() if kind.parts_of}
    holders = [h for h, _ in found]
    for name, kind in workload.kinds.items():
        for currency in workload.accounts.currencies if kind.balances else ():
            mine = [h for h in holders if (h.kind, h.currency) == (name, currency)]
            others = (h for h in holders if h.currency == currency and h.kind not in (name, *masters))
            lacks = sum(-openings[h.id] if h.nature == mine[0].nature else openings[h.id] for h in others)
            for i, holder in enumerate(mine):
                openings[holder.id] = lacks // len(mine) + (i < lacks % len(mine))
    return [(h, openings[h.id]) for h in holders]


def _places(kind: Kind, number: int, shards: int) -> Iterator[int]:
    """The shard sets of what isn't many: `each` on each, or `total` dealt to them, from the currency's number on."""
    yield from (shard for shard in range(shards) for _ in range(kind.each or 0))
    yield from ((number + i) % shards for i in range(kind.total or 0))
