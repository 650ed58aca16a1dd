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
    """Rows that change, by the ids in the field `key`: the fields, and the status that they must have. `status` is None
    where nothing is guarded: an account whose `adds` are more."""

    table: str
    ids: tuple[int, ...]
    fields: Texts
    status: str | None = None
    adds: dict[str, int] = field(default_factory=dict)
    key: str = "id"


@dataclass(slots=True)
class Share:
    """What a step does on one shard set."""

    legs: list[Posted] = field(default_factory=list)
    rows: list[tuple[str, Texts]] = field(default_factory=list)
    touched: list[Touched] = field(default_factory=list)


Sharing = Callable[[str | None, int], Share]  # the share where rows of a table lie that go with an account


@dataclass(frozen=True, slots=True)
class Turn:
    """A step: what it does, by shard set, that of the document first, and what it leads to: one unit, or `onward` those
    that go on one by one."""

    shares: dict[int, Share]
    unit: Unit
    onward: tuple[Unit, ...]
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
        amounts = self._amounts(step, part) | {"amount": sum(m.amount for m in members)}
        left = sum(m.rest for m in members) - part
        status = step.at_last if step.at_last and not left else step.to
        accounts, legs = members[0].accounts, [(d, a, amounts[m]) for d, a, m in step.posted if amounts[m]]
        voucher = self._id(now) if legs else None
        after = tuple(self._moved(m, step, part if len(members) == 1 else m.rest, voucher) for m in members)
        unit = Unit(units[0].flow, status, after, batch)
        onward = tuple(replace(unit, members=(m,)) for m in after) if step.apart else (unit,)
        shares = {self.chart.spot(flow.table, accounts[flow.near]): Share()}

        def share(table: str | None, account: int) -> Share:
            return shares.setdefault(self.chart.spot(table, account), Share())

        told = self._told(unit, now) | self._texts(amounts)
        if voucher is not None:
            self._post(share, legs, accounts, voucher, told, members[0].voucher if step.reverses else None)
        self._document(share, flow, unit, was, step.merge > 0, voucher, told)
        table = self.workload.account_table
        for name, column, sign, amount in step.moved:
            moved = Touched(table, (accounts[name],), {}, None, {column: sign * amounts[amount]})
            share(table, accounts[name]).touched.append(moved)
        self._further(share, step, members, unit, was, voucher, told)
        return Turn(shares, unit, onward, voucher or members[0].id, voucher is not None)

    def _amounts(self, step: Step, part: int) -> dict[str, int]:
        """What a step makes of the part that it takes."""
        amounts = {name: int(part * ratio) for name, ratio in step.splits.items()}
        return amounts | {"net": part - sum(amounts.values()), "part": part}

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
        self, share: Sharing, legs: list[tuple[str, str, int]], accounts: dict[str, int], voucher: int,
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
            share(None, account).legs.append(Posted(account, amount if raises else -amount, entry))
        if table := self.workload.voucher_table:
            share(None, accounts[legs[0][1]]).rows.append((table, row))

    def _document(
        self, share: Sharing, flow: Flow, unit: Unit, was: str, merges: bool,
        voucher: int | None, told: Texts,
    ) -> None:  # fmt: skip
        """The rows of the documents and of their batch, made or changed."""
        one, together = unit.members[0], unit.batch is not None and (merges or not flow.apart)
        if flow.table and not was:
            share(flow.table, one.accounts[flow.near]).rows.append((flow.table, told))
        elif flow.table:
            changed = self._changing(one, unit)
            if together:  # what each has of its own, a batch doesn't touch
                names = ("status", "batch", *(("last",) if voucher is not None else ()))
                changed = {name: changed[name] for name in names}
            homes: dict[int, list[Document]] = {}
            for member in unit.members:
                homes.setdefault(self.chart.spot(flow.table, member.accounts[flow.near]), []).append(member)
            for here in homes.values():
                ids = tuple(member.id for member in here)
                share(flow.table, here[0].accounts[flow.near]).touched.append(Touched(flow.table, ids, changed, was))
        if flow.batched is None or not together:
            return
        batch = share(flow.batched.table, one.accounts[flow.batched.near or flow.near])
        if merges:
            own = told | {"id": _text(unit.batch), "voucher": _text(voucher), "last": _text(voucher)}
            batch.rows.append((flow.batched.table, own))
            return
        own = {"status": unit.status}
        if voucher is not None:
            own["last"] = str(voucher)
            if not any(step.merge and step.legs for step in flow.step):  # its first
                own["voucher"] = str(voucher)
        batch.touched.append(Touched(flow.batched.table, (unit.batch or 0,), own, was))

    def _further(
        self, share: Sharing, step: Step, before: Sequence[Document], unit: Unit, was: str, voucher: int | None,
        told: Texts,
    ) -> None:  # fmt: skip
        """The rows of further tables that a step inserts, and those whose status follows."""
        flow, now = self.workload.flows[unit.flow], int(told["now"] or 0)
        for row in step.inserted:
            for past, member in list(zip(before, unit.members, strict=True))[: None if row.each else 1]:
                own = dict(told)
                if row.each:
                    own |= self._told(replace(unit, members=(member,)), now)
                    own |= self._texts(self._amounts(step, past.rest))
                own["id"], own["document"], own["voucher"] = str(self._id(now)), str(member.id), _text(voucher)
                share(row.table, member.accounts[row.near or flow.near]).rows.append((row.table, own))
        follows: Texts = {"status": unit.status}
        if voucher is not None:
            follows["voucher"] = str(voucher)
        for row in step.updated:
            for member in unit.members:
                touched = Touched(row.table, (member.id,), follows, was, key="document")
                share(row.table, member.accounts[row.near or flow.near]).touched.append(touched)

    def _told(self, unit: Unit, time: int) -> Texts:
        """What all rows of a unit may be filled with."""
        one, flow = unit.members[0], self.workload.flows[unit.flow]
        return self._changing(one, unit) | {
            "id": str(one.id), "time": self._clock(time), "now": str(time), "amount": self._money(one.amount),
            "currency": one.currency, "action": flow.name, "of": str(one.of), "count": str(len(unit.members)),
            **{name: str(account) for name, account in one.accounts.items()},
            **{f"owner of {name}": str(self.chart.by_id[a].owner) for name, a in one.accounts.items()},
        }  # fmt: skip

    def _changing(self, one: Document, unit: Unit) -> Texts:
        """The fields of a document that its steps change."""
        return {
            "status": unit.status, "number": str(one.number), "voucher": _text(one.voucher), "last": _text(one.last),
            "batch": _text(unit.batch), **{name: self._money(gone) for name, gone in one.counters.items()},
        }  # fmt: skip

    def _texts(self, amounts: dict[str, int]) -> Texts:
        return {name: self._money(units) for name, units in amounts.items()}

    def _money(self, units: int) -> str:
        return money(units, self.workload.postings.scale)

    def _id(self, now: int) -> int:
        return self._ids.one(now)

    def _clock(self, now: int) -> str:
        return datetime.fromtimestamp(now // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") + f".{now % 1000:03d}"


def _text(value: int | None) -> str | None:
    return None if value is None else str(value)
