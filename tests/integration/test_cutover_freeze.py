"""A freeze that doesn't grow with the ledger: where reading counts and control totals takes too long for it, the
rows that were written are compared, which is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

import verify.freeze
from migrate.cutover.changed import Keys
from migrate.cutover.outcome import Outcome
from migrate.cutover.readiness import Verification
from migrate.cutover.run import cut_over
from migrate.cutover.verifier import EdgeVerifier
from migrate.sandbox import Sandbox
from tests.cutover_lab import Lab, Watcher, cutover_lab
from tests.integration.doublewrite_scene import until
from tests.integration.shards import run
from verify.run import verify_rows
from verify.totals import read_totals


@pytest.fixture(scope="module")
def lab(servers: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One for all: each test leaves the shards primary, and both sides equal."""
    with cutover_lab(servers, tmp_path_factory.mktemp("freeze")) as made:
        yield made


@pytest.fixture(autouse=True)
def _as_before(lab: Lab) -> Iterator[None]:
    lab.ensure_sync()
    yield
    assert lab.open_sides() == {"source"}
    lab.delivered()


@pytest.fixture
def in_freeze(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No totals fit into a freeze; the tables of which they were read in one all the same."""
    found: list[str] = []

    def read(readers: Any, pairs: Sequence[Any], measured: Any) -> Any:
        found.extend(pair.name for pair in pairs)
        return read_totals(readers, pairs, measured)

    monkeypatch.setattr(verify.freeze, "_SHARE", 0)
    monkeypatch.setattr(verify.freeze, "read_totals", read)
    return found


class Planting(EdgeVerifier):
    """Does something when `ahead` is over, while both sides are written, and something when the drain is."""

    def __init__(self, lab: Lab, ahead: Callable[[], object], frozen: Callable[[], object]):
        super().__init__(lab.config)
        self._then, self._at_last = ahead, frozen

    def ahead(self) -> Verification:
        found = super().ahead()
        self._then()
        return found

    def frozen(self, changed: Keys) -> Verification:
        self._at_last()
        return super().frozen(changed)


def night(lab: Lab, ahead: Callable[[], object], frozen: Callable[[], object]) -> Outcome:
    with closing(Planting(lab, ahead, frozen)) as verifier:
        return cut_over(lab.config, verifier)


def said(outcome: Outcome, name: str) -> str:
    return next(s.said for s in outcome.steps if s.name == name)


@pytest.mark.parametrize("kind", ["missing", "extra", "different"])
def test_a_row_that_was_written_since_and_differs_is_found(lab: Lab, in_freeze: list[str], kind: str) -> None:
    db, target, home = lab.scene.db, lab.scene.target, lab.scene.home(3)
    here, there = f"{db}.account_03", f"{db}.account"
    [row] = run(target, f"SELECT id, owner, balance, seq, touched FROM {there} WHERE id = 3")
    put = f"INSERT INTO {there} (id, owner, balance, seq, touched) VALUES"
    wrote = [f"UPDATE {here} SET owner = '{o}', touched = touched WHERE id = 3" for o in ("p", "o")]
    spare = "(id, owner, balance) VALUES (999, 'o', 1)"
    gone = f"DELETE FROM {{}} WHERE id = {999 if kind == 'extra' else 3}"
    if kind == "missing":
        plant, mend = gone.format(there), f"{put} (3, '{row[1]}', {row[2]}, {row[3]}, '{row[4]}')"
    elif kind == "extra":
        wrote = [f"INSERT INTO {here} {spare}", gone.format(here)]
        plant, mend = f"INSERT INTO {there} {spare}", gone.format(there)
    else:
        plant = f"UPDATE {there} SET balance = balance + 1, touched = touched WHERE id = 3"
        mend = plant.replace("+ 1", "- 1")
    outcome = night(lab, lambda: run(home, *wrote), lambda: run(target, plant))
    run(target, mend)
    assert not outcome.go
    assert outcome.freeze_s is not None
    assert f"{kind:<9}  {there}  id={999 if kind == 'extra' else 3}" in outcome.reason, outcome.reason
    assert not in_freeze


def test_totals_that_fit_are_read_in_the_freeze(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the one table of which there is time: money there that nobody else touched is seen."""
    there = f"{lab.scene.db}.account"
    monkeypatch.setattr(verify.freeze, "fitting", lambda seconds, within_s: frozenset({there}))
    plant = f"UPDATE {there} SET balance = balance + 0.01, touched = touched WHERE id = 5"
    outcome = night(lab, lambda: None, lambda: run(lab.scene.target, plant))
    run(lab.scene.target, plant.replace("+ 0.01", "- 0.01"))
    assert not outcome.go
    assert "DIFFERENT" in outcome.reason and there in outcome.reason, outcome.reason
    told = said(outcome, "ahead")
    assert f"In it they are read of {there} (" in told and f"Of {lab.scene.db}.entry (" in told, told


def test_what_nobody_can_see_in_the_freeze_is_told_and_found_after_it(lab: Lab, in_freeze: list[str]) -> None:
    there = f"{lab.scene.db}.account"
    plant = f"UPDATE {there} SET balance = balance + 0.01, touched = touched WHERE id = 5"
    outcome = night(lab, lambda: None, lambda: run(lab.scene.target, plant))
    assert outcome.go, outcome.text()
    for step in ("ahead", "verify"):
        assert "not seen in the freeze: a row of " in said(outcome, step), outcome.text()
    lab.sync_ended()
    found = verify_rows(lab.config)
    assert [(m.kind, m.target, (m.key or {})["id"]) for m in found.mismatches] == [("different", there, "5")]
    run(lab.scene.target, plant.replace("+ 0.01", "- 0.01"))
    assert lab.roll_back().go
    lab.ensure_sync()
    assert lab.verify().ok


@pytest.mark.soak
def test_there_and_back_under_load(lab: Lab, in_freeze: list[str]) -> None:
    with Watcher(lab):
        lab.app()
        until(lambda: lab.entries() > 20, "the application writes")
        there = lab.cut_over()
        assert there.go, there.text()
        assert "TSO" in said(there, "ahead")
        assert "In it they are read of no table" in said(there, "ahead")
        assert "the rows that were written are counted here" in said(there, "verify")
        written = lab.entries()
        until(lambda: lab.entries() > written + 20, "the application writes on the target")
        back = lab.roll_back()
        assert back.go, back.text()
        assert "their totals were equal in run " in said(back, "ahead")
        lab.ensure_sync()
        written = lab.entries()
        until(lambda: lab.entries() > written, "the application writes on the shards")
        lab.app_stopped()
        assert lab.judge() > 40
    assert not in_freeze
    found = lab.verify()
    assert found.ok, found.text()
