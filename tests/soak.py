"""How long the soak tests are: as long as they were meant, or, in CI, as its time allows."""

from __future__ import annotations

import os


def times(full: int, in_ci: int) -> int:
    """The number of repetitions, seconds or rows of a soak test; fewer where CI is set, as CI services do."""
    return in_ci if os.environ.get("CI") else full
