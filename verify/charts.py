"""Charts as inline SVG, in the colours of the page that they stand in: light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

# Colours that no chart uses otherwise; the page's own take their place.
_INK, _LINE, _SOURCE, _TARGET, _BAD = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
_PAGE = {_INK: "var(--ink)", _LINE: "var(--line)", _SOURCE: "var(--source)", _TARGET: "var(--target)",
         _BAD: "var(--bad)"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Day:
    """What both sides add up to on a day; None where a side has nothing."""

    day: str
    source: Decimal | None
    target: Decimal | None

    @property
    def same(self) -> bool:
        return self.source == self.target


def by_day(title: str, days: Sequence[Day]) -> str:
    """Bars of the source with a mark of the target on each; days that differ in the colour of what is wrong. The
    figures are rounded to pixels here and nowhere else."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif", "font.size": 10,
             "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _LINE, "xtick.color": _INK,
             "ytick.color": _INK, "axes.spines.top": False, "axes.spines.right": False}  # fmt: skip
    with mpl.rc_context(style):
        figure = Figure(figsize=(10, 2.5), layout="constrained")
        axes = figure.subplots()
        places = range(len(days))
        sources, targets = [float(d.source or 0) for d in days], [float(d.target or 0) for d in days]
        colours = [_SOURCE if d.same else _BAD for d in days]
        axes.bar(places, sources, color=colours, width=0.7, zorder=2)
        axes.scatter(places, targets, color=[_TARGET if d.same else _INK for d in days], s=16, zorder=3)
        axes.grid(axis="y", color=_LINE, linewidth=0.6, zorder=0)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        step = max(1, -(-len(days) // 8))
        axes.set_xticks(list(places)[::step], [d.day[5:] if len(days) > 1 else d.day for d in days][::step])
        axes.set_ylim(bottom=min(0, *sources, *targets))
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(out.getvalue(), title)


def _short(value: float) -> str:
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"


def _inline(svg: str, title: str) -> str:
    """The drawing without what a page has no use for, as wide as its place, with ids of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="img" class="chart">', svg, count=1)
    prefix = re.sub(r"\W+", "-", title)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", svg)
    svg = re.sub(r"font: [^;\"]*?(\d+)px [^;\"]*", r"font-size: \1px", svg)
    for colour, own in _PAGE.items():
        svg = svg.replace(colour, own)
    return svg
