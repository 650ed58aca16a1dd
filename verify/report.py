"""The evidence of a run for people and for machines: one HTML file, JSON, JUnit XML, and a CSV of mismatches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, localcontext
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from migrate.config import Config
from migrate.errors import naming
from migrate.ledger import load_ledger
from verify.chain import Chain, check
from verify.charts import Day, by_day
from verify.evidence import Record, loaded, mismatches_of
from verify.journal import unverified
from verify.masks import mask, masked, offender
from verify.price import DIGITS

SHOWN = 200  # mismatches in the HTML; the CSV has all
_CHARTS = 6  # currencies with a chart
_CSV_ROWS = 10_000  # of a frame
_EMPTY: dict[str, Any] = {"tables": [], "totals": [], "invariants": None, "at_risk": [], "cuts": [], "notes": []}
_OF_ACCOUNTS = ("rows", "debit", "credit", "net")  # what the entries of an account add up to

# What no verification of this kind can see, whatever it says.
BLIND = (
    "what columns mean, beyond the roles and rules of ledger.toml",
    "a value that the application itself wrote wrongly to both sides",
    "indexes, defaults and comments: they hold no rows; `migrate schema` compares shapes",
    "what is written after the cut; `verify watch` goes on looking",
    "characters that a source's own character set conversion replaces, which `migrate check` refuses",
)


@dataclass(frozen=True, slots=True)
class Report:
    """A stored run, ready to be told. `masks`: whether what names accounts is hidden."""

    config: Config
    record: Record
    chain: Chain
    repairs: tuple[int, ...]
    masks: bool = True

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = self.record.document.get("result", {})
        return found

    def mismatches(self, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """The mismatches of the run, masked: of the values, only money and its currency are shown."""
        money = load_ledger(self.config.pack).money if self.config.pack else {}
        for found in mismatches_of(self.config, self.record, limit):
            told = {name: value for name, value in found.items() if name not in ("source_row", "target_row")}
            if self.masks:
                here = money.get(str(told["target"]).lower())
                shown = (*here.amounts, here.currency or "", *_OF_ACCOUNTS) if here else ()
                sides = {name: masked(told[name], shown) for name in ("source", "target_values")}
                told |= sides | {"key": masked(told["key"], shown)}
            yield told

    def document(self) -> dict[str, Any]:
        """Everything, as one JSON document."""
        return {
            "command": "verify report",
            "run": self.record.run,
            "ok": self.record.ok,
            "digest": self.record.digest,
            "previous": self.record.previous,
            "chain": self.chain.document(),
            "unverified_repairs": list(self.repairs),
            "record": self._masked_record(),
            "mismatches": list(self.mismatches()),
            "cannot_see": list(BLIND),
        }

    def _masked_record(self) -> dict[str, Any]:
        if not self.masks:
            return self.record.document
        result = dict(self.result)
        for name in ("totals", "shard_totals"):
            if name in result:
                result[name] = [total | {side: _without_keys(total.get(side)) for side in ("source", "target")}
                                for total in result[name]]  # fmt: skip
        if "invariants" in result:
            named = ("rows", "in_transit_rows")
            result["invariants"] = [
                i | {name: [offender(r) for r in i.get(name, ())] for name in named} for i in result["invariants"]
            ]
        return self.record.document | ({"result": result} if result else {})

    def text(self) -> str:
        """In a few lines."""
        record, verdict = self.record.document, "OK" if self.record.ok else "NOT OK"
        lines = [
            f"run {self.record.run}: {record['command']}, {verdict}, {record['finished_at']}, {record['operator']}"
        ]
        lines += [f"  {headline}" for headline in self.headlines()]
        lines += [f"digest {self.record.digest}", self.chain.text()]
        return "\n".join(lines)

    def headlines(self) -> list[str]:
        """What a manager must know, a sentence each."""
        result = self.result
        tables = result.get("tables", [])
        rows = sum(t["source_rows"] for t in tables)
        bad = [t["target"] for t in tables if not t["ok"]]
        differ = f"{len(bad)} of them differ: {', '.join(bad)}" if bad else "both sides hold the same in each"
        lines = [f"{rows:,} rows of {len(tables)} tables were compared; {differ}"]
        named = self.record.document["mismatches"]["count"]
        if named:
            risk = self.at_risk()
            worth = ", ".join(f"{_money(amount)} {currency}" for currency, amount in risk.items()) or "no money"
            lines.append(f"{named:,}{'+' if result.get('more') else ''} mismatches; money at risk: {worth}")
        if (invariants := result.get("invariants")) is not None:
            broken = [i["name"].replace("_", " ") for i in invariants if not i["ok"]]
            lines.append(
                f"{len(invariants)} rules of the ledger were checked; "
                + (f"broken: {', '.join(broken)}" if broken else "all hold")
            )
        if self.repairs:
            lines.append(f"repairs that no clean `verify all` has followed: {', '.join(map(str, self.repairs))}")
        return lines

    def at_risk(self) -> dict[str, Decimal]:
        """The money of all mismatches by currency."""
        sums: dict[str, Decimal] = defaultdict(Decimal)
        with localcontext(prec=DIGITS):
            for line in self.result.get("at_risk", []):
                sums[line["currency"]] += Decimal(line["amount"])
        return dict(sorted(sums.items(), key=lambda item: -item[1]))

    def write_html(self, path: Path) -> None:
        """One file that needs nothing else: no script, no network."""
        from jinja2 import Environment, PackageLoader, StrictUndefined

        environment = Environment(
            loader=PackageLoader("verify"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
            undefined=StrictUndefined,
        )  # fmt: skip
        environment.filters["money"] = _money
        shown = list(islice(self.mismatches(SHOWN), SHOWN))
        page = environment.get_template("report.html").render(
            report=self, record=self.record.document, shown=shown,
            result=_EMPTY | self._masked_record().get("result", {}),
            totals=self.totals(), charts=self.charts(), blind=BLIND,
        )  # fmt: skip
        with naming(path):
            path.write_text(page, encoding="utf-8")

    def totals(self) -> list[dict[str, Any]]:
        """The control totals with their days added up, by table and group."""
        sums: dict[tuple[str, str, str], dict[str, Any]] = {}
        nothing: dict[str, Any] = {"ok": True, "source": Decimal(0), "target": Decimal(0)}
        for total in self.result.get("totals", []):
            by = ", ".join(str(v) for n, v in total["by"].items() if n != "day" and v is not None)
            for name in _sums(total):
                line = sums.setdefault((total["table"], by, name), dict(nothing))
                sides = {(total[side] or {}).get(name) for side in ("source", "target")}
                line["ok"] = line["ok"] and len(sides) == 1
                with localcontext(prec=DIGITS):
                    for side in ("source", "target"):
                        line[side] += Decimal((total[side] or {}).get(name) or 0)
        return [{"table": t, "by": b, "name": n, **line} for (t, b, n), line in sums.items()]

    def charts(self) -> list[tuple[str, str, list[Day]]]:
        """For the currencies with most money: title, drawing, and its figures."""
        daily: dict[str, dict[str, Day]] = defaultdict(dict)
        size: dict[str, Decimal] = defaultdict(Decimal)
        for total in self.result.get("totals", []):
            names = _sums(total)
            if "day" in total["by"] and "debit" in names:  # both directions of entries in one line
                currency = " ".join(str(v) for n, v in total["by"].items() if n != "day") or "?"
                source, target = (Decimal(s["debit"]) if (s := total[side]) else None for side in ("source", "target"))
                day = str(total["by"]["day"])
                daily[currency][day] = Day(day, source, target)
                size[currency] += abs(source or target or Decimal(0))
        largest = sorted(daily, key=lambda c: -size[c])[:_CHARTS]
        return [
            (c, by_day(f"debits-{c}-{n}", days), days)
            for n, c in enumerate(largest)
            if (days := [daily[c][d] for d in sorted(daily[c])])
        ]

    def write_junit(self, path: Path) -> None:
        """One suite for tables, totals and rules each; what isn't all right is a failure, with its figures."""
        root = ElementTree.Element("testsuites", name=f"verify {self.config.name} run {self.record.run}")
        result = self._masked_record().get("result", {})
        _suite(root, "tables", [(t["target"], t["ok"], _differences(t)) for t in result.get("tables", [])])
        groups: dict[str, list[str]] = defaultdict(list)
        for total in result.get("totals", []):
            here = groups[total["table"]]
            here += [] if total["ok"] else [f"{total['by']}: {total['source']} -> {total['target']}"]
        _suite(root, "control totals", [(name, not wrong, "\n".join(wrong[:20])) for name, wrong in groups.items()])
        rules = [
            (i["name"], i["ok"], f"{i['offenders']} offend it\n" + "\n".join(map(str, i["rows"][:20])))
            for i in result.get("invariants") or []
        ]
        _suite(root, "invariants", rules)
        _suite(root, "evidence", [("chain", self.chain.ok, self.chain.broken or "")])
        ElementTree.indent(root)
        with naming(path):
            ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)

    def write_csv(self, path: Path) -> int:
        """All mismatches, one a line; gives their number."""
        import pandas as pd

        columns = ["target", "kind", "key", "shard", "columns", "source", "target_values", "at_risk"]
        rows = 0
        found = self.mismatches()
        with naming(path), path.open("w", encoding="utf-8", newline="") as file:
            while batch := list(islice(found, _CSV_ROWS)) or (not rows and [{}]):
                lines = [{name: _cell(m.get(name)) for name in columns} for m in batch if m]
                frame = pd.DataFrame(lines, columns=columns, dtype="string")
                frame.to_csv(file, index=False, header=not rows)
                rows += len(frame)
                if not lines:
                    break
        return rows


def report_of(config: Config, run: int | None, *, masks: bool = True, folder: Path | None = None) -> Report:
    """The report of a run, or of the last verification. ConfigError if there is none."""
    record = loaded(config, run, "kind = 'verification'")
    return Report(config, record, check(config, folder), tuple(unverified(config)), masks)


def _sums(total: dict[str, Any]) -> list[str]:
    side = total["source"] or total["target"] or {}
    return [name for name in side if name not in ("rows", "min_key", "max_key")]


def _money(value: Decimal | str) -> str:
    """With its thousands apart, and without the zeros that follow the second digit after the point."""
    whole, _, part = f"{Decimal(value):,f}".partition(".")
    return f"{whole}.{part.rstrip('0').ljust(2, '0')}" if part else whole


def _without_keys(figures: dict[str, Any] | None) -> dict[str, Any] | None:
    """The figures of a group without its smallest and largest key, which are account numbers."""
    return figures and {name: mask(v) if name in ("min_key", "max_key") else v for name, v in figures.items()}


def _differences(table: dict[str, Any]) -> str:
    kinds = ("missing", "extra", "different", "duplicate", "late")
    told = ", ".join(f"{table[kind]} {kind}" for kind in kinds if table.get(kind))
    return f"{table['source_rows']} rows on the source, {table['target_rows']} on the target; {told}"


def _suite(root: ElementTree.Element, name: str, cases: list[tuple[str, bool, str]]) -> None:
    failed = sum(not ok for _, ok, _ in cases)
    suite = ElementTree.SubElement(root, "testsuite", name=name, tests=str(len(cases)), failures=str(failed))
    for case, ok, message in cases:
        element = ElementTree.SubElement(suite, "testcase", classname=name, name=case)
        if not ok:
            ElementTree.SubElement(element, "failure", message=message.split("\n")[0]).text = message


def _cell(value: Any) -> str | None:
    if isinstance(value, dict):
        return ", ".join(f"{name}={'NULL' if v is None else v}" for name, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else value
