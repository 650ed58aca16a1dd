"""A step of the night, as it is shown before, and as it is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

SHARE_OF_FREEZE = 0.5  # what one wait may take of the time that is left


@dataclass(frozen=True)
class Step:
    """A step: its name, what it does in words, and the work, which says what it did. `patient`: it does nothing that
    would have to be undone, so that it can be left when the freeze is over; it keeps nothing."""

    name: str
    does: str
    work: Callable[[], str]
    patient: bool = False
