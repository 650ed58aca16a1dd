"""What all tests of the parts on real servers share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def late_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What differs without a cut is read again at once: hardly a test has anything that catches up."""
    monkeypatch.setattr("verify.narrow._LATE_S", 0.01)
