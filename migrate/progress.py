"""Progress on stderr: a bar on a terminal, a plain line now and then where there is none."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

_EVERY_S = 5.0


class Progress:
    """Progress of one step, in `unit`s. Totals may be estimates and grow."""

    def __init__(self, step: str, total: int, unit: str = "rows"):
        self.step, self.total, self.unit, self.done = step, max(total, 0), unit, 0
        self._started = self._told = time.monotonic()
        self._bar = _bar(step, self.total, unit) if sys.stderr.isatty() else None

    def add(self, count: int) -> None:
        """That many more are done."""
        self.done += count
        self.total = max(self.total, self.done)
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.update(count)
        elif time.monotonic() - self._told >= _EVERY_S:
            self._told = time.monotonic()
            self._tell()

    def _tell(self) -> None:
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = self.done / seconds
        left = f", {(self.total - self.done) / rate:.0f} s left" if rate and self.done < self.total else ""
        print(
            f"{self.step}: {self.done:,}/{self.total:,} {self.unit}, {rate:,.0f}/s{left}", file=sys.stderr, flush=True
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None:
            self._tell()


def _bar(step: str, total: int, unit: str) -> Any:
    from tqdm import tqdm  # takes longer to import than many a step to run, and needn't be where there is no terminal

    return tqdm(total=total, desc=step, unit=f" {unit}", unit_scale=True, file=sys.stderr, dynamic_ncols=True)
