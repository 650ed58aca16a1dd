"""XA transactions that are prepared when a copy begins: their changes are in neither half unless they have ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from migrate.copy import anchor
from migrate.errors import NoGo
from migrate.preflight import run_preflight
from migrate.sandbox import Sandbox
from migrate.sync.stream import Stream
from tests.integration.shards import run
from tests.integration.syncing import Lab, Table, lab

XID = "X'7061796d656e74',X'62',3"  # 'payment','b',3


@pytest.fixture
def scene(sandbox97: Sandbox) -> Iterator[Lab]:
    """One XA transaction is prepared; it has ended at the end."""
    columns = "id BIGINT PRIMARY KEY, v INT"
    with lab(sandbox97.sources, sandbox97.target, {"book": Table(columns, (0,), ("(1, 1), (2, 2)",))}) as found:
        run(found.sources[0], f"XA START {XID}", "UPDATE book_0 SET v = 100 WHERE id = 1", f"XA END {XID}",
            f"XA PREPARE {XID}", database=found.schema)  # fmt: skip
        yield found
        if run(found.sources[0], "XA RECOVER"):
            run(found.sources[0], f"XA ROLLBACK {XID}")


def test_preflight_names_it_and_the_way_out(scene: Lab) -> None:
    def look() -> Any:
        report = run_preflight(scene.config, scan=False)
        return next(c for c in report.checks if c.name == "xa_transactions")

    check = look()
    assert (check.status, check.where) == ("failed", "m1")
    assert XID in check.message
    assert f"XA COMMIT {XID}" in check.remedy
    run(scene.sources[0], f"XA COMMIT {XID}")
    assert look().status == "ok"


def test_a_copy_waits_for_its_end_and_sync_passes_it(scene: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as hurried:
        hurried.setattr(anchor, "_LONGEST_S", 0.3)
        with pytest.raises(NoGo, match=r"m1: 1 XA transactions were prepared before the copy .*XA COMMIT X'7061"):
            scene.copied()

    real = anchor._await_end

    def await_end(*arguments: Any) -> None:
        run(scene.sources[0], f"XA COMMIT {XID}")
        real(*arguments)

    monkeypatch.setattr(anchor, "_await_end", await_end)
    scene.copied().start()
    scene.on("book_0", "UPDATE {t} SET v = v + 1")
    scene.same("book")
    assert (1, 101) in scene.target_rows("book")


def test_one_that_was_prepared_before_a_position_is_named(scene: Lab) -> None:
    start = scene.positions()["m1"]
    run(scene.sources[0], f"XA COMMIT {XID}")
    stream = Stream(scene.config.sources[0], start, lambda s, t: True, server_id=4712)
    with stream, pytest.raises(NoGo) as refused:
        for _ in stream:
            pass
    for words in (XID, "prepared before the position of the copy", "copy again under another name", "migrate check"):
        assert words in str(refused.value)
