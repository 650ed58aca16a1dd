"""What a step of a flow does: postings, rows and changes on every shard set that it touches, as fields, not as SQL.

The seed does it in memory, the traffic on servers. Money is whole numbers of the smallest unit; what rows are filled
with is text.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from migrate.sandbox.chart import Chart
from migrate.sandbox.flows import Flow, Step
from migrate.sandbox.postings import Snowflake
from migrate.sandbox.rows import money
from migrate.sandbox.workload import Workload

Texts = dict[str, str | None]  # by field


@dataclass(frozen=True, slots=True)
class Document:
    """One run of a flow. `counters`: what of the amount is gone, by where to; `number` of `of` instalments are;
    `voucher` is the first that was posted for it, `last` the last."""

    id: int
    time: int
    amount: int
    currency: str
    accounts: dict[str, int]
    counters: dict[str, int]
    number: int = 0
    of: int = 1
    voucher: int | None = None
    last: int | None = None

    @property
    def rest(self) -> int:
        return self.amount - sum(self.counters.values())


@dataclass(frozen=True, slots=True)
class Unit:
    """What goes on together: a document, or those of a batch."""

    flow: int
    status: str
    members: tuple[Document, ...]
    batch: int | None = None

    def agrees_in(self, names: Sequence[str]) -> tuple[int | str, ...]:
        """What units that merge have in common."""
        one = self.members[0]
        return (self.flow, self.status, one.currency, *(one.accounts[name] for name in names))


@dataclass(frozen=True, slots=True)
class Posted:
    """A leg: by how much it raises the account, and the fields of its entry."""

    account: int
    change: int
    fields: Texts


@dataclass(frozen=True, slots=True)
class Touched:
    """Rows that change, by their ids: the fields, and the status that they must have. `status` is None where nothing
    is guarded: an account whose `adds` are more."""

    table: str
    ids: tuple[int, ...]
    fields: Texts
    status: str | None = None
    adds: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Share:
    """What a step does on one shard set."""

    legs: list[Posted] = field(default_factory=list)
    rows: list[tuple[str, Texts]] = field(default_factory=list)
    touched: list[Touched] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Turn:
    """A step: what it does, by shard set, that of the document first, and what it leads to."""

    shares: dict[int, Share]
    unit: Unit
    id: int  # of the voucher, or of the document where nothing is posted
    posts: bool


class Flowing:
    """Makes the turns of documents."""

    def __init__(self, workload: Workload, chart: Chart, dice: random.Random, ids: Snowflake):
        self.workload, self.chart, self.dice, self._ids = workload, chart, dice, ids
        self._shares = [flow.share for flow in workload.flows]
        # reading a declaration again for every posting would take most of the time
        self._steps = [
            {status: flow.after(status) for status in ("", *(step.from_ for step in flow.step))}
            for flow in workload.flows
        ]

    def step(self, unit: Unit) -> Step | None:
        """What may come next, by lot; None if nothing does."""
        steps = self._steps[unit.flow].get(unit.status, [])
        return self.dice.choices(steps, [s.share for s in steps])[0] if steps else None

    def begin(self, now: int) -> tuple[Unit, Step]:
        """A new document, not anywhere yet, and its first step."""
        (number,) = self.dice.choices(range(len(self._shares)), self._shares)
        flow, spec, chart = self.workload.flows[number], self.workload.postings, self.chart
        (currency,) = self.dice.choices(chart.currencies, chart.weights)
        low, high = (spec.units(a) for a in flow.amount or spec.amount)
        grain = spec.units(spec.step)
        amount = self.dice.randint(low // grain, high // grain) * grain
        accounts = chart.cast(flow, currency, self.dice)
        document = Document(
            self._id(now), now, amount, currency, accounts, dict.fromkeys(self.workload.counters(flow), 0),
            of=self.dice.randint(*flow.instalments),
        )  # fmt: skip
        unit = Unit(number, "", (document,))
        step = self.step(unit)
        assert step is not None
        return unit, step

    def turn(self, units: Sequence[Unit], step: Step, now: int) -> Turn:
        """The step of a unit, or of several that merge."""
        flow, was = self.workload.flows[units[0].flow], units[0].status
        members = tuple(m for unit in units for m in unit.members)
        batch = self._id(now) if step.merge else units[0].batch
        part = self._part(step, members)
        amounts = {name: int(part * ratio) for name, ratio in step.splits.items()}
        amounts |= {"net": part - sum(amounts.values()), "part": part, "amount": sum(m.amount for m in members)}
        left = sum(m.rest for m in members) - part
        status = step.at_last if step.at_last and not left else step.to
        accounts, legs = members[0].accounts, [(d, a, amounts[m]) for d, a, m in step.posted if amounts[m]]
        voucher = self._id(now) if legs else None
        after = tuple(self._moved(m, step, part if len(members) == 1 else m.rest, voucher) for m in members)
        unit = Unit(units[0].flow, status, after, batch)
        shares = {self.chart.shard(accounts[flow.near]): Share()}

        def share(account: int) -> Share:
            return shares.setdefault(self.chart.shard(account), Share())

        home = share(accounts[flow.near])
        told = self._told(unit, now) | {name: self._money(units) for name, units in amounts.items()}
        if voucher is not None:
            self._post(share, legs, accounts, voucher, told, members[0].voucher if step.reverses else None)
        self._document(home, flow, unit, was, step.merge > 0, voucher, told)
        table = self.workload.account_table
        for name, column, sign, amount in step.moved:
            moved = Touched(table, (accounts[name],), {}, None, {column: sign * amounts[amount]})
            share(accounts[name]).touched.append(moved)
        for table, near in step.inserted:
            row = told | {"id": str(self._id(now)), "time": self._clock(now), "document": str(after[0].id)}
            row |= {"voucher": _text(voucher), "batch": _text(batch)}
            (share(accounts[near]) if near else home).rows.append((table, row))
        return Turn(shares, unit, voucher or members[0].id, voucher is not None)

    def _part(self, step: Step, members: Sequence[Document]) -> int:
        """How much the step takes of what is left."""
        rest = sum(m.rest for m in members)
        if step.takes == "rest":
            return rest
        grain = self.workload.postings.units(self.workload.postings.step)
        (one,) = members
        share = self.dice.uniform(*step.takes) if isinstance(step.takes, tuple) else 1 / max(1, one.of - one.number)
        part = max(grain, int(rest * share) // grain * grain)
        last = step.takes == "instalment" and one.number + 1 >= one.of
        return rest if last or part >= rest else part

    def _moved(self, member: Document, step: Step, part: int, voucher: int | None) -> Document:
        counters = member.counters | ({step.into: member.counters[step.into] + part} if step.into else {})
        return replace(
            member, counters=counters, number=member.number + (step.takes == "instalment"),
            voucher=member.voucher or voucher, last=voucher or member.last,
        )  # fmt: skip

    def _post(
        self, share: Callable[[int], Share], legs: list[tuple[str, str, int]], accounts: dict[str, int], voucher: int,
        told: Texts, original: int | None,
    ) -> None:  # fmt: skip
        role = self.workload.ledger.role.entry
        now = int(told["now"] or 0)
        debits = sum(amount for direction, _, amount in legs if direction == "D")
        credit = next(accounts[name] for direction, name, _ in legs if direction == "C")
        row = told | {
            "id": str(voucher), "voucher": str(voucher), "amount": self._money(debits), "legs": str(len(legs)),
            "debit": str(accounts[legs[0][1]]), "credit": str(credit), "original": _text(original),
            "document": told["id"], "time": self._clock(now),
        }  # fmt: skip
        for number, (direction, name, amount) in enumerate(legs):
            account = accounts[name]
            raises = direction == ("D" if self.chart.by_id[account].nature == role.debit else "C")
            entry = row | {
                "id": str(self._id(now)), "account": str(account), "amount": self._money(amount), "leg": str(number),
                "direction": role.debit if direction == "D" else role.credit,
            }  # fmt: skip
            share(account).legs.append(Posted(account, amount if raises else -amount, entry))
        if table := self.workload.voucher_table:
            share(accounts[legs[0][1]]).rows.append((table, row))

    def _document(
        self, home: Share, flow: Flow, unit: Unit, was: str, merges: bool, voucher: int | None, told: Texts
    ) -> None:
        """The rows of the documents and of their batch, made or changed."""
        if flow.table and not was:
            home.rows.append((flow.table, told))
        elif flow.table:
            changed = self._changing(unit.members[0], unit)
            if unit.batch is not None:  # what each has of its own, a batch doesn't touch
                changed = {name: changed[name] for name in ("status", "batch", "last")}
            home.touched.append(Touched(flow.table, tuple(m.id for m in unit.members), changed, was))
        if flow.batch and merges:
            home.rows.append((flow.batch, told | {"id": _text(unit.batch), "voucher": _text(voucher)}))
        elif flow.batch and unit.batch is not None:
            own: Texts = {"status": unit.status}
            if voucher is not None:
                own["voucher"] = str(voucher)
            home.touched.append(Touched(flow.batch, (unit.batch,), own, was))

    def _told(self, unit: Unit, time: int) -> Texts:
        """What all rows of a unit may be filled with."""
        one, flow = unit.members[0], self.workload.flows[unit.flow]
        return self._changing(one, unit) | {
            "id": str(one.id), "time": self._clock(time), "now": str(time), "amount": self._money(one.amount),
            "currency": one.currency, "action": flow.name, "of": str(one.of), "count": str(len(unit.members)),
            **{name: str(account) for name, account in one.accounts.items()},
        }  # fmt: skip

    def _changing(self, one: Document, unit: Unit) -> Texts:
        """The fields of a document that its steps change."""
        return {
            "status": unit.status, "number": str(one.number), "voucher": _text(one.voucher), "last": _text(one.last),
            "batch": _text(unit.batch), **{name: self._money(gone) for name, gone in one.counters.items()},
        }  # fmt: skip

    def _money(self, units: int) -> str:
        return money(units, self.workload.postings.scale)

    def _id(self, now: int) -> int:
        return self._ids.one(now)

    def _clock(self, now: int) -> str:
        return datetime.fromtimestamp(now // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") + f".{now % 1000:03d}"


def _text(value: int | None) -> str | None:
    return None if value is None else str(value)
