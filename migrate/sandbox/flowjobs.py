"""Flows as jobs of the traffic: it begins new ones, takes those that are under way a step further, and settles at the
end what mustn't be left waiting."""

from __future__ import annotations

import random
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np

from migrate.config import Endpoint
from migrate.db import Session, connect
from migrate.errors import ConfigError
from migrate.model import quote
from migrate.sandbox.chart import Chart, Holder
from migrate.sandbox.flowing import Document, Flowing, Share, Texts, Touched, Turn, Unit
from migrate.sandbox.flows import Flow, Step
from migrate.sandbox.jobs import Change, Job, Leg, Part, Row
from migrate.sandbox.layout import Layout, Place
from migrate.sandbox.postings import Ints, Snowflake
from migrate.sandbox.rows import render
from migrate.sandbox.topology import Spots
from migrate.sandbox.workload import Columns, Workload

_PATIENCE = 12  # units that wait before they come first
_APPLIED = frozenset({"before", "after", "sequence"})


class FlowJobs:
    """The jobs of one thread, which alone goes on with what it began and with what it was given."""

    def __init__(self, workload: Workload, layout: Layout, chart: Chart, units: list[Unit]):
        self._workload, self._layout = workload, layout
        self._dice, self._rng = random.Random(), np.random.default_rng()
        ids = Snowflake(1 + secrets.randbelow(1023), secrets.randbelow(4096))
        self._flowing = Flowing(workload, chart, self._dice, ids)
        self._restless: deque[Unit] = deque()  # mustn't be left
        self._calm: deque[Unit] = deque()
        for unit in units:
            self._keep(unit)

    def make(self, times_ms: Ints) -> Iterator[Job]:
        """A job for each time; the next is made when the last one's outcome is known."""
        for now in times_ms.tolist():
            unit = self._next()
            if unit is None:
                unit, step = self._flowing.begin(now)
                yield self._job([unit], step, now)
            else:
                yield self._advance(unit, now)

    def settle(self) -> Iterator[Job]:
        """What must still be done before nothing moves. What fails comes again."""
        while self._restless:
            yield self._advance(self._restless.popleft(), int(time.time() * 1000))

    def _next(self) -> Unit | None:
        """What goes on now; None if something new may begin, as it may now and then however much waits."""
        for waiting, chance in ((self._restless, 1.0), (self._calm, 0.9)):
            if waiting and self._dice.random() < (chance if len(waiting) > _PATIENCE else 0.3):
                return waiting.popleft()
        return None

    def _keep(self, unit: Unit) -> None:
        if self._flowing.step(unit) is not None:
            settle = self._workload.flows[unit.flow].settle
            (self._restless if unit.status in settle else self._calm).append(unit)

    def _advance(self, unit: Unit, now: int) -> Job:
        step = self._flowing.step(unit)
        assert step is not None
        units = [unit]
        if step.merge:
            settle = self._workload.flows[unit.flow].settle
            waiting = self._restless if unit.status in settle else self._calm
            alike = (u for u in waiting if (u.flow, u.status) == (unit.flow, unit.status))
            fellows = [u for u in alike if u.agrees_in(step.by) == unit.agrees_in(step.by)][: step.merge - 1]
            for fellow in fellows:
                waiting.remove(fellow)
            units += fellows
        return self._job(units, step, now)

    def _job(self, units: list[Unit], step: Step, now: int) -> Job:
        turn = self._flowing.turn(units, step, now)

        def done(posted: bool) -> None:
            for unit in turn.onward if posted else units:
                if unit.status:
                    self._keep(unit)

        parts = tuple(self._part(self._layout[shard], share) for shard, share in turn.shares.items())
        return Job(0, -1, tuple(p for p in parts if p.legs or p.rows or p.changes), self._record(turn, parts), done)

    def _record(self, turn: Turn, parts: tuple[Part, ...]) -> dict[str, Any]:
        entries = [{"id": g.id, "account": g.account, "change": str(g.change)} for p in parts for g in p.legs]
        action = self._workload.flows[turn.unit.flow].name
        return {"voucher": turn.id, "action": action, "status": turn.unit.status,
                "document": turn.unit.members[0].id, "entries": entries}  # fmt: skip

    def _part(self, place: Place, share: Share) -> Part:
        scale = self._workload.postings.scale
        legs = tuple(
            Leg(int(leg.fields["id"] or 0), leg.account, Decimal(leg.change).scaleb(-scale),
                self._row(self._workload.entry_table, leg.fields))
            for leg in share.legs
        )  # fmt: skip
        rows = tuple((table, self._row(table, fields)) for table, fields in share.rows)
        return Part(place, legs, rows, tuple(self._change(touched) for touched in share.touched))

    def _row(self, table: str, fields: Texts) -> Row:
        columns = {c: g for c, g in self._workload.columns[table].items() if g.field not in _APPLIED}
        return self._rendered(columns, fields)

    def _rendered(self, columns: Columns, fields: Texts) -> Row:
        if not columns:
            return {}
        texts = render(columns, {name: np.array([text], dtype=object) for name, text in fields.items()}, 0, self._rng)
        return {column: text[0] for column, text in texts.items()}

    def _change(self, touched: Touched) -> Change:
        columns = self._workload.columns[touched.table]
        by_field = _columns(self._workload, touched.table)
        sets = {c: g for c, g in columns.items() if g.field in touched.fields}
        scale = self._workload.postings.scale
        adds = {by_field[field]: Decimal(units).scaleb(-scale) for field, units in touched.adds.items()}
        guard = (by_field["status"], touched.status) if touched.status is not None else None
        return Change(
            touched.table, by_field[touched.key], touched.ids, self._rendered(sets, touched.fields), adds, guard
        )


def read_flows(workload: Workload, layout: Layout) -> Callable[[int, int], FlowJobs]:
    """Reads the accounts and what is under way; gives what makes the jobs of thread n of m."""
    sessions: dict[Endpoint, Session] = {source: connect(source) for source in {p.source for p in layout}}

    def places(table: str) -> Iterator[tuple[Session, Place]]:
        name = workload.database_of(table)
        return ((sessions[place.source], place) for place in layout if place.database == name)

    try:
        holders = (h for session, place in places(workload.account_table) for h in _holders(workload, session, place))
        spots = Spots(workload.databases, Counter(place.database for place in layout))
        chart = Chart(holders, spots, workload.accounts.currencies, workload.postings.cross_shard)
        units = [
            unit
            for number, flow in enumerate(workload.flows) if flow.table
            for unit in _units(number, flow, (
                found for session, place in places(flow.table)
                for found in _under_way(workload, chart, flow, session, place)
            ))
        ]  # fmt: skip
    finally:
        for session in sessions.values():
            session.close()

    def make(number: int, threads: int) -> FlowJobs:
        mine = [
            u for u in units if ((not workload.flows[u.flow].apart and u.batch) or u.members[0].id) % threads == number
        ]
        return FlowJobs(workload, layout, chart, mine)

    return make


def _units(number: int, flow: Flow, found: Iterable[tuple[str, int | None, Document]]) -> Iterator[Unit]:
    """Documents by their status and batch, those of a batch together unless that only lists them."""
    batches: dict[tuple[int, str], list[Document]] = {}
    for status, batch, document in found:
        if batch is None or flow.apart:
            yield Unit(number, status, (document,), batch)
        else:
            batches.setdefault((batch, status), []).append(document)
    for (batch, status), members in batches.items():
        yield Unit(number, status, tuple(members), batch)


def _columns(workload: Workload, table: str) -> dict[str, str]:
    """By field, the column that holds it as it is."""
    return {
        g.field: c
        for c, g in workload.columns[table].items()
        if g.field and not g.format and not g.null and g.minor is None
    }


def _holders(workload: Workload, session: Session, place: Place) -> Iterator[Holder]:
    columns, table = _columns(workload, workload.account_table), workload.account_table
    fields = [f for f in ("id", "currency", "kind", "nature", "master", "owner") if f in columns]
    owned = {"owner"} if any(database.by == "owner" for database in workload.databases.values()) else set()
    missing = {"id", "currency", "kind", "nature", *owned} - set(fields)
    if missing:
        raise ConfigError(f"workload.toml: columns.{table}: no column has the field {', '.join(sorted(missing))}")
    chosen = ", ".join(quote(columns[f]) for f in fields)
    for row in session.query(f"SELECT {chosen} FROM {place.table(table)}"):
        found = dict(zip(fields, row, strict=True))
        yield Holder(
            found["id"], found["currency"], found["kind"], found["nature"], found.get("master"), found.get("owner", 0)
        )  # fmt: skip


def _under_way(
    workload: Workload, chart: Chart, flow: Flow, session: Session, place: Place
) -> Iterator[tuple[str, int | None, Document]]:
    """The documents of that shard set that steps lead on from, each with its status and batch."""
    assert flow.table is not None
    counters = workload.counters(flow)
    columns, scale = _columns(workload, flow.table), workload.postings.scale
    needed = {"id", "amount", "currency", "status", *flow.accounts, *counters}
    if missing := sorted(needed - set(columns) - workload.derived(flow)):
        raise ConfigError(f"workload.toml: columns.{flow.table}: no column has the field {missing[0]}")
    fields = [f for f in ("number", "of", "voucher", "last", "batch", *sorted(needed)) if f in columns]
    starts = sorted({step.from_ for step in flow.step if step.from_})
    if not starts:
        return
    named = {columns["action"]: flow.name} if "action" in columns else {}
    where = f"{quote(columns['status'])} IN ({', '.join(['%s'] * len(starts))})"
    where += "".join(f" AND {quote(c)} = %s" for c in named)
    rows = session.query(
        f"SELECT {', '.join(quote(columns[f]) for f in fields)} FROM {place.table(flow.table)} WHERE {where}",
        [*starts, *named.values()],
    )
    for row in rows:
        found = dict(zip(fields, row, strict=True))

        def units(name: str, found: dict[str, Any] = found) -> int:
            return int(Decimal(found[name]).scaleb(scale))

        given = {name: found[name] for name in flow.accounts if name in found}
        document = Document(
            found["id"], 0, units("amount"), found["currency"],
            chart.cast(flow, found["currency"], random.Random(), given), {name: units(name) for name in counters},
            found.get("number") or 0, found.get("of") or 1, found.get("voucher"), found.get("last"),
        )  # fmt: skip
        yield found["status"], found.get("batch"), document
