"""The night on real servers: there and back, with an application that posts all the time."""

from __future__ import annotations

import time
from pathlib import Path

from migrate.sandbox import Sandbox
from tests.cutover_lab import Watcher, cutover_lab


def test_there_and_back_under_load(servers: Sandbox, tmp_path: Path) -> None:
    with cutover_lab(servers, tmp_path) as lab, Watcher(lab):
        app = lab.app()
        time.sleep(1)
        there = lab.cut_over()
        assert there.go, there.text()
        assert lab.open_sides() == {"target"}
        lab.sync_ended()
        before = lab.entries()
        time.sleep(1)
        assert lab.entries() > before, "nobody posts on the target"
        back = lab.roll_back()
        assert back.go, back.text()
        assert lab.open_sides() == {"source"}
        lab.start_sync()
        before = lab.entries()
        time.sleep(1)
        assert lab.entries() > before, "nobody posts on the shards"
        app.stop()
        assert lab.judge() > 50
        print(there.text(), back.text())
