"""Control totals: counts and exact sums by shard, currency, direction and day, on both sides.

Sums are DECIMAL on the servers and Decimal here. Groups are formed by the exact bytes of their columns, or so that it
comes to the same: no collation merges two of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from typing import Any

from migrate.db import Row, Session
from migrate.errors import ConfigError
from migrate.ledger import Control, Entry
from migrate.model import INTEGERS, ShardTable, quote
from verify.encoding import Kind, piece_of, show, told_apart
from verify.mapped import over
from verify.model import Values
from verify.readers import Readers
from verify.tables import Pair

DIGITS = 200  # of exact sums; the default of 28 would round

Group = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a group of rows adds up to. `+` is associative and commutative, and Figures() is neutral."""

    rows: int = 0
    sums: tuple[Decimal, ...] = ()
    low: Decimal | None = None
    high: Decimal | None = None

    def __add__(self, other: Figures) -> Figures:
        with localcontext(prec=DIGITS):
            sums = tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)) if self.sums and other.sums else ()
        lows = [x for x in (self.low, other.low) if x is not None]
        highs = [x for x in (self.high, other.high) if x is not None]
        return Figures(
            self.rows + other.rows, sums or self.sums or other.sums, min(lows, default=None), max(highs, default=None)
        )


@dataclass(frozen=True, slots=True)
class ControlTotal:
    """One group of a control on both sides; None where a side has no such row. Per shard there is no target."""

    table: str
    by: Values
    names: tuple[str, ...]  # of the sums
    source: Figures | None
    target: Figures | None
    shard: str | None = None

    @property
    def ok(self) -> bool:
        return self.shard is not None or self.source == self.target

    def document(self) -> dict[str, Any]:
        sides = {"source": self._side(self.source)}
        if self.shard is None:
            return {"table": self.table, "by": self.by, **sides, "target": self._side(self.target), "ok": self.ok}
        return {"table": self.table, "shard": self.shard, "by": self.by, **sides}

    def _side(self, figures: Figures | None) -> dict[str, Any] | None:
        if figures is None:
            return None
        keys = {"min_key": figures.low, "max_key": figures.high}
        return {
            "rows": figures.rows,
            **{name: format(value, "f") for name, value in zip(self.names, figures.sums, strict=True)},
            **{name: None if value is None else str(value) for name, value in keys.items()},
        }


@dataclass(frozen=True, slots=True)
class Measure:
    """What is added up (`sums`: name and SQL, the same on both sides), by which columns and the day of which."""

    pair: Pair
    by: tuple[str, ...]
    sums: tuple[tuple[str, str], ...]
    day: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.sums)

    @property
    def width(self) -> int:
        """How many values name a group."""
        return len(self.by) + bool(self.day)

    def sql(self, shard: ShardTable | None, condition: str = "", more: str = "") -> str:
        """One side's statement: the group's pieces, rows, smallest and largest key, sums, and `more` aggregates.
        A shard of None is the target."""
        # as they are where that is exact: as text they would cost more than all the sums
        groups = [quote(name) if self._plain(name, shard) else self.pair.piece(name, shard) for name in self.by]
        if self.day:
            groups.append(f"DATE({over(shard, quote(self.day))})")
        bounds, key = ["NULL", "NULL"], self.pair.key
        if len(key) == 1 and self.pair.merged.definition.column(key[0]).type in INTEGERS:
            bounds = [f"{f}({self.pair.piece(key[0], shard)})" for f in ("MIN", "MAX")]
        columns = [
            *groups,
            "COUNT(*)",
            *bounds,
            *(f"SUM({over(shard, sql)})" for _, sql in self.sums),
            *([more] if more else []),
        ]
        table = shard.shard.sql if shard else self.pair.merged.target.sql
        listed = [c for c in (self.pair.condition(shard), condition) if c]
        where = f" WHERE {' AND '.join(listed)}" if listed else ""
        grouped = f" GROUP BY {','.join(str(i + 1) for i in range(len(groups)))}" if groups else ""
        return f"SELECT {', '.join(columns)} FROM {table}{where}{grouped}"

    def read(
        self, session: Session, shard: ShardTable | None, condition: str = "", more: str = ""
    ) -> tuple[dict[Group, Figures], list[Row]]:
        """One side's figures by group, and what the `more` aggregates gave. An empty table has no group."""
        found: dict[Group, Figures] = {}
        others: list[Row] = []
        end = self.width + 3 + len(self.sums)
        plain = [self._plain(name, shard) for name in self.by] + [False] * bool(self.day)
        for row in session.query(self.sql(shard, condition, more)):
            rows, low, high, *sums = row[self.width : end]
            if rows:
                group = tuple(map(_piece, row, plain))
                bounds = (None if b is None else Decimal(b) for b in (low, high))
                found[group] = Figures(int(rows), tuple(Decimal(s or 0) for s in sums), *bounds)
            others.append(row[end:])
        return found, others

    def _plain(self, name: str, shard: ShardTable | None) -> bool:
        """Whether that side is grouped by the column itself, not by its piece."""
        definition = shard.definition if shard else self.pair.definition
        return told_apart(definition.column(name), "source" if shard else "target")

    def start(self, readers: Readers, shard: ShardTable | None, condition: str = "") -> Future[dict[Group, Figures]]:
        """Starts one side's statement; it gives the figures by group."""
        endpoint = readers.config.source(shard.shard.instance) if shard else readers.config.target
        return readers.submit(endpoint, lambda session: self.read(session, shard, condition)[0])

    def labels(self, group: Group) -> Values:
        """The group's values by name; a group without its day gives none."""
        columns = [(name, self.pair.kind(name)) for name in self.by] + [("day", Kind.CLOCK)]
        return {name: show(kind, text) for (name, kind), text in zip(columns, group, strict=False)}


def _piece(value: Any, plain: bool) -> str:
    """The piece of a value that names a group, from the column itself (`plain`) or what is a piece but for NULL."""
    if value is None:
        return "N"
    text = value.decode() if isinstance(value, bytes) else str(value)
    return piece_of(Kind.TEXT, text) if plain else text


def pair_of(pairs: Sequence[Pair], table: str) -> Pair:
    """The pair of a table that ledger.toml names. ConfigError if no route leads to it."""
    for pair in pairs:
        if pair.name.lower() == table.lower():
            return pair
    raise ConfigError(f"ledger.toml names {table}, but no route leads to it")


def money(pair: Pair, column: str) -> str:
    """The SQL of an amount. ConfigError if it is a float: such a sum would not be exact."""
    if pair.kind(column) is not Kind.NUMBER:
        raise ConfigError(f"{pair.name}: {column} is not an exact number; money is never a float")
    return quote(column)


def measures(pairs: Sequence[Pair], controls: Sequence[Control]) -> list[Measure]:
    """What those controls add up. ConfigError if one names what no route leads to, or no exact number."""
    found = []
    for control in controls:
        pair = pair_of(pairs, control.table)
        if control.day:
            pair.kind(control.day)
        found.append(Measure(pair, control.by, tuple((n, money(pair, n)) for n in control.sums), control.day))
    return found


def control_totals(readers: Readers, measured: Sequence[Measure]) -> list[ControlTotal]:
    """Every group of every measure, all shards together against the target; and every shard's own, without days."""
    running = [
        (m, m.start(readers, None), [(t.shard, m.start(readers, t)) for t in m.pair.merged.shards]) for m in measured
    ]
    found: list[ControlTotal] = []
    for measure, target, futures in running:
        shards = [(str(shard), future.result()) for shard, future in futures]
        source = add_up(groups.items() for _, groups in shards)
        own = {shard: without_days(measure, groups) for shard, groups in shards}
        found += totals_of(measure, own, source, target.result())
    return found


def add_up(many: Iterable[Iterable[tuple[Group, Figures]]]) -> dict[Group, Figures]:
    """The figures of all, group by group."""
    found: dict[Group, Figures] = defaultdict(Figures)
    for groups in many:
        for group, figures in groups:
            found[group] += figures
    return dict(found)


def without_days(measure: Measure, groups: Mapping[Group, Figures]) -> dict[Group, Figures]:
    """The same figures with each group's days added up."""
    return add_up([((group[: len(measure.by)], figures) for group, figures in groups.items())])


def totals_of(
    measure: Measure,
    shards: Mapping[str, dict[Group, Figures]],
    source: dict[Group, Figures],
    target: dict[Group, Figures],
) -> list[ControlTotal]:
    """The control totals of those figures: each shard's own (without days), then both sides'."""
    name = measure.pair.name
    found = [
        ControlTotal(name, measure.labels(group), measure.names, own[group], None, shard)
        for shard, own in shards.items()
        for group in sorted(own)
    ]
    return found + [
        ControlTotal(name, measure.labels(g), measure.names, source.get(g), target.get(g))
        for g in sorted(source.keys() | target.keys())
    ]


def net_totals(totals: Sequence[ControlTotal], entry: Entry) -> list[ControlTotal]:
    """The totals of entries with both directions in one group: debit, credit, and net = credit - debit."""
    groups: dict[tuple[str | None, tuple[tuple[str, str | None], ...]], list[ControlTotal]] = defaultdict(list)
    for total in totals:
        if total.table.lower() == entry.table.lower() and entry.direction in total.by and entry.amount in total.names:
            by = tuple((name, value) for name, value in total.by.items() if name != entry.direction)
            groups[total.shard, by].append(total)

    def figures(members: Sequence[ControlTotal], side: str) -> Figures | None:
        found, debit, credit = Figures(), Decimal(0), Decimal(0)
        for total in members:
            own: Figures | None = getattr(total, side)
            if own is None:
                continue
            found += replace(own, sums=())
            amount = own.sums[total.names.index(entry.amount)]
            with localcontext(prec=DIGITS):
                debit += amount if total.by[entry.direction] == entry.debit else 0
                credit += amount if total.by[entry.direction] == entry.credit else 0
        with localcontext(prec=DIGITS):
            return replace(found, sums=(debit, credit, credit - debit)) if found.rows else None

    names = ("debit", "credit", "net")
    return [
        ControlTotal(members[0].table, dict(by), names, figures(members, "source"), figures(members, "target"), shard)
        for (shard, by), members in groups.items()
    ]
