"""The report of a rehearsal as one page that needs nothing else: no script, no network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from migrate.errors import naming
from migrate.rehearse.charts import Line, Mark, over_time
from migrate.rehearse.outcome import Rehearsal
from migrate.rehearse.project import ASSUMPTIONS, FORMULA


def write_page(rehearsal: Rehearsal, path: Path) -> None:
    """Writes the page. MigrateError names a place that can't be written."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("migrate.rehearse"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined,
    )  # fmt: skip
    environment.filters |= {"duration": duration, "count": lambda n: f"{n:,.0f}"}
    steps = rehearsal.watch.steps
    began, ended = steps[0].began, steps[-1].began + steps[-1].seconds
    text = environment.get_template("report.html").render(
        r=rehearsal,
        document=rehearsal.document(),
        headlines=list(_headlines(rehearsal)),
        day=datetime.fromtimestamp(began, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        bars=[_bar(s.began - began, s.seconds, ended - began) for s in steps],
        charts=list(_charts(rehearsal, began, ended)),
        switches=[(n, d, _pieces(d)) for n in ("cutover", "rollback") if (d := rehearsal.watch.documents.get(n))],
        formula=FORMULA,
        assumptions=ASSUMPTIONS,
        measured=rehearsal.measured,
        evidence=list(_evidence(rehearsal.watch.folder)),
        verified=[(s.name, runs) for s in steps if (runs := _runs(rehearsal.watch.documents[s.name]))],
        servers=rehearsal.watch.documents.get("sandbox", {}).get("servers", []),
    )
    with naming(path):
        path.write_text(text, encoding="utf-8")


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return "not measured"
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def _headlines(r: Rehearsal) -> Iterator[str]:
    """What somebody who wasn't there has to know, a sentence each."""
    failed = [s for s in r.watch.steps if not s.ok]
    if failed:
        yield f"It ended at “{failed[0].name}”: {failed[0].said.splitlines()[0] if failed[0].said else ''}"
    if r.freeze_s is not None:
        verb = "refused writes" if r.root is not None else "would refuse writes (projected from what was measured)"
        yield f"The cutover {verb} for {r.freeze_s:.2f} s."
    if r.client:
        c = r.client
        yield (f"Clients made {c.requests:,} postings: {c.failed or 'none'} failed, {c.held_up} waited for a fence and "
               f"went through afterwards.")  # fmt: skip
    judged = r.watch.documents.get("judge")
    if judged:
        yield ("Every posting that was acknowledged is on both sides, exactly once." if judged["ok"]
               else "Acknowledged postings are missing, doubled or unknown: see the judge.")  # fmt: skip
    if missed := [rule.name for rule in r.rules if not rule.ok]:
        yield f"Not met: {', '.join(missed)}."


def _bar(begin: float, seconds: float, whole: float) -> tuple[float, float]:
    """Where a step stands in the whole time, and how long it is, in per cent."""
    left = 100 * begin / whole
    return round(min(left, 99.4), 2), round(max(0.6, 100 * seconds / whole), 2)


def _pieces(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of a cutover, each with whether writes were refused in it."""
    frozen, pieces = False, []
    for step in document.get("steps", ()):
        frozen = frozen or step["name"] == "fence"
        pieces.append({**step, "frozen": frozen})
        frozen = frozen and step["name"] not in ("switch", "lift-fence")
    return pieces


def _charts(r: Rehearsal, began: float, ended: float) -> Iterator[tuple[str, str, str]]:
    """Title, legend and drawing of each chart."""
    until = ended - began
    marks = [Mark(way, begin - began, end - began) for way, begin, end in r.freezes]
    if r.seconds:
        posted = [(second - began + 0.5, float(n)) for second, n, _, _ in r.seconds]
        held = [(second - began + 0.5, float(n)) for second, _, n, _ in r.seconds]
        yield "Postings acknowledged a second", "requests", over_time(
            "requests", "a second", [Line("acknowledged", "one", posted, True), Line("held up", "bad", held, True)],
            marks, until,
        )  # fmt: skip
        longest = [(second - began + 0.5, t) for second, _, _, t in r.seconds]
        yield (
            "Longest that a posting took",
            "stall",
            over_time("stall", "seconds", [Line("longest", "two", longest)], marks, until),
        )
    sync = [(s.at - began, max(v for k, v in s.lag_s.items() if k != "reverse"))
            for s in r.samples if set(s.lag_s) - {"reverse"}]  # fmt: skip
    back = [(s.at - began, s.lag_s["reverse"]) for s in r.samples if "reverse" in s.lag_s]
    if sync or back:
        yield (
            "Lag: how far the other side is behind",
            "ways",
            over_time("lag", "seconds", [Line("sync", "two", sync), Line("reverse", "one", back)], marks, until),
        )
    rates = [(s.at - began, sum(v for k, v in s.rate.items() if k != "reverse"))
             for s in r.samples if set(s.rate) - {"reverse"}]  # fmt: skip
    back = [(s.at - began, s.rate["reverse"]) for s in r.samples if "reverse" in s.rate]
    if rates or back:
        yield (
            "Row changes applied a second",
            "ways",
            over_time("rate", "a second", [Line("sync", "two", rates), Line("reverse", "one", back)], marks, until),
        )


def _runs(document: dict[str, Any]) -> str:
    """The numbers of the records that a step left in the migration's chain of evidence."""
    told = document.get("evidence") or ()
    return ", ".join(map(str, [told["run"]] if isinstance(told, dict) else told))


def _evidence(folder: Path) -> Iterator[tuple[str, int, str]]:
    """The files beside the report: name, bytes, SHA-256."""
    for path in sorted(folder.glob("[0-9]*.json")):
        data = path.read_bytes()
        yield path.name, len(data), hashlib.sha256(data).hexdigest()
