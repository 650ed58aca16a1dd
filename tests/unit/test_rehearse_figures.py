"""What a rehearsal makes of its figures: projections, rules, the client's view, charts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from migrate.rehearse.charts import Line, Mark, over_time
from migrate.rehearse.client import Journal
from migrate.rehearse.project import Measured, Size, sizes_for
from migrate.rehearse.report import duration
from migrate.rehearse.steps import Done, Stopwatch

MEASURED = Measured(
    Size(1_000_000, 40, 100.0), fixed_s=0.5, drain_s=0.25, verify_s=1.0, back_s=2.0, verified_rows_s=100_000,
    copied_rows_s=50_000,
)  # fmt: skip


def test_the_formula_gives_back_what_was_measured() -> None:
    assert MEASURED.freeze_s(MEASURED.size) == pytest.approx(1.75)
    assert MEASURED.rollback_s(MEASURED.size) == pytest.approx(2.0)


def test_each_part_grows_with_what_it_depends_on() -> None:
    assert MEASURED.freeze_s(Size(1_000_000, 40, 400.0)) == pytest.approx(0.5 + 1.0 + 1.0)
    assert MEASURED.freeze_s(Size(1_000_000, 80, 100.0)) == pytest.approx(0.5 + 0.25 + 2.0)
    assert MEASURED.freeze_s(Size(2_000_000, 40, 100.0)) == pytest.approx(0.5 + 0.25 + 1.0 + 10.0)
    assert MEASURED.copy_s(Size(2_000_000, 40, 100.0)) == pytest.approx(40)


def test_the_freeze_grows_with_rows_and_shards_only_as_far_as_a_cutover_lets_it() -> None:
    limited = replace(MEASURED, limit_s=24.0)
    assert limited.freeze_s(limited.size) == MEASURED.freeze_s(MEASURED.size)
    assert limited.freeze_s(Size(1_500_000, 40, 100.0)) == pytest.approx(0.5 + 0.25 + 1.0 + 5.0)
    huge = Size(300_000_000_000, 4_000, 100.0)
    assert limited.freeze_s(huge) == pytest.approx(0.5 + 0.25 + 8.0 + 1.0)
    assert limited.rollback_s(huge) == pytest.approx(1.0 + 8.0 + 1.0)
    assert limited.freeze_s(replace(huge, writes=10_000.0)) == pytest.approx(0.5 + 25.0 + 8.0 + 6.0)


def test_what_was_not_measured_is_not_projected() -> None:
    nothing = Measured(Size(0, 0, 0.0), None, None, None, None, None, None)
    assert nothing.freeze_s(Size(10, 1, 1.0)) is None
    assert nothing.rollback_s(Size(10, 1, 1.0)) is None


def test_sizes_that_were_asked_for_are_told_after_this_one() -> None:
    asked = (Size(5, 6, 7.0),)
    assert sizes_for(MEASURED.size, asked) == (MEASURED.size, *asked)


def _line(at_ms: int, took: float, fenced: int = 0) -> bytes:
    told = {"at_ms": at_ms, "took_ms": took, "fenced": fenced, "voucher": at_ms,
            "entries": [{"id": 1, "account": 2, "change": "-0.01"}]}  # fmt: skip
    return json.dumps(told).encode() + b"\n"


def test_the_clients_view_by_second_has_no_gaps_and_no_half_line(tmp_path: Path) -> None:
    path = tmp_path / "traffic.jsonl"
    path.write_bytes(_line(1000, 5) + _line(1500, 7, 2) + _line(4000, 2500.0) + _line(5000, 1)[:20])
    assert Journal(path).seconds() == [(1, 2, 1, 0.007), (2, 0, 0, 0.0), (3, 0, 0, 0.0), (4, 1, 0, 2.5)]
    view = Journal(path).view({"posted": 3, "failed": 1, "in_transit": [9], "fenced": 1, "longest_ms": 2500.0})
    assert (view.requests, view.failed, view.held_up, view.longest_stall_s) == (5, 2, 1, 2.5)


def test_the_first_step_that_fails_is_the_last(tmp_path: Path) -> None:
    watch = Stopwatch(tmp_path / "evidence")
    watch.take("one", lambda: Done(True, "well", {"a": 1}))
    watch.take("two", lambda: Done(False, "not well", {}))
    watch.take("three", lambda: pytest.fail("taken after a failure"))
    assert [(s.name, s.ok) for s in watch.steps] == [("one", True), ("two", False)]
    assert json.loads((tmp_path / "evidence" / "01-one.json").read_text()) == {"a": 1}


def test_a_chart_takes_its_colours_from_the_page_and_needs_no_network() -> None:
    svg = over_time("lag", "seconds", [Line("sync", "two", [(0, 1), (1, 2), (9, 3)])], [Mark("cutover", 4, 5)], 10)
    assert "var(--two)" in svg
    assert "var(--freeze)" in svg
    assert "#0a0b0c" not in svg
    assert 'xlink:href="http' not in svg


@pytest.mark.parametrize(
    ("seconds", "said"), [(None, "not measured"), (0.256, "0.26 s"), (42.4, "42 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_durations_are_told_as_people_say_them(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said
