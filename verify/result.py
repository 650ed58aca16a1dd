"""What a run of verification found: plain data that can be stored, shown and acted on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from verify.controls import ControlTotal, Figures
from verify.cut import CutRecord
from verify.invariants import InvariantResult
from verify.model import Mismatch, TableResult, Values
from verify.price import AtRisk, at_risk

_SHOWN = 50  # mismatches and offenders in the text; the JSON has all up to the limit
_IN_TRANSIT = 5  # of what is in transit, the oldest


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one command. `digest`: what the rows were hashed with; `notes`: what a reader must know; `cuts`:
    the moments at which both sides were read."""

    command: str
    tables: tuple[TableResult, ...]
    mismatches: tuple[Mismatch, ...] = ()
    totals: tuple[ControlTotal, ...] | None = None
    invariants: tuple[InvariantResult, ...] | None = None
    digest: str | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    cuts: tuple[CutRecord, ...] = ()

    @property
    def ok(self) -> bool:
        return bool(
            self.tables
            and all(t.ok for t in self.tables)
            and all(m.kind == "late" for m in self.mismatches)
            and all(t.ok for t in self.totals or ())
            and all(i.ok for i in self.invariants or ())
        )

    @property
    def at_risk(self) -> tuple[AtRisk, ...]:
        """The money of the rows that differ, by table, class and currency."""
        return at_risk(self.mismatches)

    @property
    def more(self) -> bool:
        """There are more mismatches than the limit let in."""
        return any(t.more for t in self.tables)

    def document(self) -> dict[str, Any]:
        """The JSON document; amounts are strings."""
        document: dict[str, Any] = {
            "command": f"verify {self.command}",
            "ok": self.ok,
            "tables": [t.document() for t in self.tables],
            "mismatches": [m.document() for m in self.mismatches],
            "more": self.more,
            "at_risk": [r.document() for r in self.at_risk],
            "digest": self.digest,
            "notes": list(self.notes),
            "seconds": round(self.seconds, 3),
            "cuts": [cut.document() for cut in self.cuts],
        }
        if self.totals is not None:
            document["totals"] = [t.document() for t in self.totals if t.shard is None]
            document["shard_totals"] = [t.document() for t in self.totals if t.shard is not None]
        if self.invariants is not None:
            document["invariants"] = [i.document() for i in self.invariants]
        return document

    def text(self) -> str:
        """For people: a line per table, what differs, and what to do next."""
        lines = [_table([("table", "source rows", "target rows", "verdict"), *map(_row, self.tables)])]
        if self.totals is not None:
            lines += _totals_text(self.totals)
        if self.invariants is not None:
            lines += _invariants_text(self.invariants)
        if self.mismatches:
            lines += ["", f"mismatches{' (more than these: raise --limit to see them)' if self.more else ''}:"]
            lines += [f"  {_mismatch_line(m)}" for m in self.mismatches[:_SHOWN]]
            if len(self.mismatches) > _SHOWN:
                lines.append(f"  .. and {len(self.mismatches) - _SHOWN:,} more; --json has them")
            lines += _risk_text(self.at_risk)
        lines += ["", *(f"note: {note}" for note in self.notes)]
        verdict = "OK: both sides agree" if self.ok else "MISMATCH: the two sides do not agree"
        lines += [f"{verdict} ({self.command}, {self.seconds:.1f} s)", *self._next_step()]
        return "\n".join(lines)

    def _next_step(self) -> list[str]:
        wrong = [t.target for t in self.tables if not t.ok]
        if self.ok:
            return []
        if wrong and self.command in ("counts", "checksum", "balances"):
            only = " ".join(f"--table {t}" for t in wrong)
            return [f"next: `verify rows {only}` names the rows"]
        if any(m.kind != "late" for m in self.mismatches):
            return [
                "next: don't cut over; find out who wrote these rows on the target; `verify repair` shows what would "
                "mend them, and writes it with --execute"
            ]
        if broken := [i.name for i in self.invariants or () if not i.ok]:
            compared = "`verify rows`; if it names none, " if self.command == "balances" else ""
            return [
                f"next: {compared}both sides hold the same rows, and the ledger itself breaks {', '.join(broken)}: its "
                "owner has to mend what is named above"
            ]
        return ["next: verify again; if it stays, don't cut over"]


def _risk_text(found: tuple[AtRisk, ...]) -> list[str]:
    if not found:
        return []
    lines = ["", "money at risk:"]
    return lines + [f"  {r.target}  {r.kind}: {r.amount:,f} {r.currency} in {r.rows:,} rows" for r in found]


def _row(table: TableResult) -> tuple[str, str, str, str]:
    known = [
        f"{count:,}{'+' if table.more else ''} {word}"
        for word, count in (
            ("missing", table.missing),
            ("extra", table.extra),
            ("different", table.different),
            ("duplicate", table.duplicate),
        )
        if count
    ]
    verdict = "ok" if table.ok else "MISMATCH" + (f": {', '.join(known)}" if known else "")
    return table.target, f"{table.source_rows:,}", f"{table.target_rows:,}", verdict


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row: tuple[str, ...]) -> str:
        name, *numbers, verdict = (
            cell.rjust(w) if 0 < i < len(row) - 1 else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join((name, *numbers, verdict)).rstrip()

    return "\n".join(map(line, rows))


def _mismatch_line(m: Mismatch) -> str:
    key = ", ".join(f"{name}={_value(value)}" for name, value in m.key.items()) if m.key else "(table without a key)"
    where = f" on {m.shard}" if m.shard else ""
    if m.kind == "different":
        changes = (
            f"{name}: {_value((m.source or {}).get(name))} -> {_value((m.target_values or {}).get(name))}"
            for name in m.columns
        )
        return f"different  {m.target}  {key}{where}: {'; '.join(changes)}  (source -> target)"
    return f"{m.kind:<9}  {m.target}  {key}{where}: {_values(m.source or m.target_values or {})}"


def _values(values: Values) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in values.items())


def _value(value: str | None) -> str:
    if value is None:
        return "NULL"
    text = value if value and value.isprintable() and value == value.strip() else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _totals_text(totals: tuple[ControlTotal, ...]) -> list[str]:
    compared = [t for t in totals if t.shard is None]
    wrong = [t for t in compared if not t.ok]
    lines = ["", f"control totals: {len(compared) - len(wrong):,} of {len(compared):,} groups agree"]
    lines += [
        f"  {table}  {_values(by)}: {_figures(one, other, names)}"
        for table, by, names, one, other in _all_days(compared)
    ]
    lines += [
        f"  DIFFERENT  {t.table}  {_values(t.by)}: {_figures(t.source, t.target, t.names)}" for t in wrong[:_SHOWN]
    ]
    return lines + ([f"  .. and {len(wrong) - _SHOWN:,} more; --json has them"] if len(wrong) > _SHOWN else [])


def _all_days(totals: list[ControlTotal]) -> Iterator[tuple[str, Values, tuple[str, ...], Figures, Figures]]:
    """The totals with their days added up: table, group, names of the sums, source, target."""
    groups: dict[tuple[Any, ...], tuple[Figures, Figures]] = defaultdict(lambda: (Figures(), Figures()))
    for total in totals:
        group = (total.table, total.names, tuple((n, v) for n, v in total.by.items() if n != "day"))
        source, target = groups[group]
        groups[group] = (source + (total.source or Figures()), target + (total.target or Figures()))
    for (table, names, by), (source, target) in groups.items():
        yield table, dict(by), names, source, target


def _figures(source: Figures | None, target: Figures | None, names: tuple[str, ...]) -> str:
    """Both sides' figures, once if they are equal."""
    one, other = (
        f"{side.rows:,} rows" + "".join(f", {n} {v:,f}" for n, v in zip(names, side.sums, strict=False))
        if side
        else "nothing"
        for side in (source, target)
    )
    return one if one == other else f"{one} -> {other}"


def _invariants_text(invariants: tuple[InvariantResult, ...]) -> list[str]:
    lines = ["", "invariants:"]
    for found in invariants:
        verdict = "ok" if not found.offenders else f"{found.severity.upper()}: {found.offenders:,} offend it"
        verdict += f", on the {found.where}" if found.offenders else ""
        if found.target.in_transit:
            verdict += f"; {found.target.in_transit:,} in transit, the oldest since {found.target.oldest_s} s"
            verdict += "".join(f", {a:,f} {c}" for c, a in sorted(found.target.in_transit_prices.items()))
        lines.append(f"  {found.name}: {verdict}")
        lines += [f"    {_values(row)}" for row in found.rows[:_SHOWN]]
        lines += [f"    in transit: {_values(row)}" for row in found.target.waiting[:_IN_TRANSIT]]
        if found.offenders > min(_SHOWN, len(found.rows)):
            lines.append(f"    .. and {found.offenders - min(_SHOWN, len(found.rows)):,} more")
    return lines
