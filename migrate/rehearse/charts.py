"""Charts of a rehearsal over its seconds, as inline SVG in the colours of the page that they stand in."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Colours that no chart uses otherwise; the page's own take their place.
_COLOURS = {"ink": "#010203", "line": "#040506", "one": "#070809", "two": "#0a0b0c", "bad": "#0d0e0f",
            "freeze": "#101112"}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """Values over seconds. `colour`: one, two or bad. `filled`: an area down to zero."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    filled: bool = False


@dataclass(frozen=True)
class Mark:
    """A stretch of time that a chart shows: when writes were refused."""

    name: str
    begin: float
    end: float


def over_time(title: str, unit: str, lines: Sequence[Line], marks: Sequence[Mark], until: float) -> str:
    """One chart; seconds of the rehearsal from 0 to `until`. Gaps of more than three seconds break a line."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    ink, line = _COLOURS["ink"], _COLOURS["line"]
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif", "font.size": 10,
             "text.color": ink, "axes.labelcolor": ink, "axes.edgecolor": line, "xtick.color": ink, "ytick.color": ink,
             "axes.spines.top": False, "axes.spines.right": False}  # fmt: skip
    with mpl.rc_context(style):
        figure = Figure(figsize=(10, 2.2))
        axes = figure.subplots()
        figure.subplots_adjust(
            left=0.07, right=0.99, top=0.96, bottom=0.22
        )  # all charts have their seconds in one place
        for mark in marks:
            axes.axvspan(mark.begin, max(mark.end, mark.begin + until / 400), color=_COLOURS["freeze"], linewidth=0,
                         zorder=0)  # fmt: skip
        for drawn in lines:
            colour = _COLOURS[drawn.colour]
            for x, y in _unbroken(drawn.points):
                if drawn.filled:
                    axes.fill_between(x, y, step="mid", color=colour, linewidth=0, zorder=2)
                else:
                    axes.plot(x, y, color=colour, linewidth=1.6, zorder=3, solid_joinstyle="round")
        axes.set_xlim(0, until)
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", color=line, linewidth=0.6, zorder=1)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.set_ylabel(unit)
        axes.set_xlabel("seconds since the rehearsal began")
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(out.getvalue(), title)


def _unbroken(points: Sequence[tuple[float, float]], gap: float = 3.0) -> list[tuple[list[float], list[float]]]:
    pieces: list[tuple[list[float], list[float]]] = []
    last: float | None = None
    for x, y in points:
        if last is None or x - last > gap:
            pieces.append(([], []))
        pieces[-1][0].append(x)
        pieces[-1][1].append(y)
        last = x
    return pieces


def _inline(svg: str, title: str) -> str:
    """The drawing without what a page has no use for, as wide as its place, with ids of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    tag = rf'<svg class="chart" viewBox="\1" role="img" aria-label="{title}">'
    svg = re.sub(r'<svg [^>]*viewBox="([^"]+)"[^>]*>', tag, svg, count=1)
    svg = re.sub(r"font: [^;\"]*?(\d+)px [^;\"]*", r"font-size: \1px", svg)  # the page's own font
    for name, colour in _COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    own = re.sub(r"\W+", "-", title)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{own}-\1"', svg)
    return re.sub(r'(href="#|url\(#)([^")]+)', rf"\1{own}-\2", svg)
