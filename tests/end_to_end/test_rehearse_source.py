"""A rehearsal on real sources: everything but fence and switch, and not a write on them, by their own general logs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from migrate.config import load_config
from migrate.sandbox import Sandbox
from migrate.sandbox.seed import seed
from migrate.sandbox.traffic import Traffic
from tests.conftest import guarded_sandbox

_WRITES = re.compile(
    r"\s*(/\*.*?\*/\s*)*(INSERT|UPDATE|DELETE|REPLACE|CREATE|ALTER|DROP|TRUNCATE|RENAME|GRANT|REVOKE|LOAD|CALL|XA|"
    r"SET\s+(GLOBAL|@@GLOBAL|PASSWORD)|PURGE|RESET|KILL|OPTIMIZE|ANALYZE|REPAIR)\b",
    re.IGNORECASE | re.DOTALL,
)


def _rehearse(config: Path, root: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "migrate.cli", "-c", str(config), "rehearse", "--root", str(root), "--json", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def _log_everything(sandbox: Sandbox) -> None:
    for source in sandbox.sources:
        with source.connect() as connection, connection.cursor() as cursor:
            cursor.execute("GRANT ALL ON *.* TO 'app'@'127.0.0.1' IDENTIFIED BY 'app'")
            cursor.execute("GRANT ALL ON *.* TO 'app'@'localhost' IDENTIFIED BY 'app'")
            cursor.execute("SET GLOBAL log_output = 'TABLE'")
            cursor.execute("SET GLOBAL general_log = ON")


def _ours(sandbox: Sandbox) -> list[str]:
    """What the toolkit sent to the sources since then; the application has an account of its own."""
    found: list[str] = []
    for source in sandbox.sources:
        with source.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SET GLOBAL general_log = OFF")
            cursor.execute(
                "SELECT argument FROM mysql.general_log WHERE user_host LIKE 'migrator%' "
                "AND command_type IN ('Query', 'Execute', 'Prepare', 'Create DB', 'Drop DB', 'Delayed insert')"
            )
            found += [row[0].decode() if isinstance(row[0], bytes) else str(row[0]) for row in cursor.fetchall()]
    return [text for text in found if "general_log" not in text]


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("servers")
def test_nothing_is_written_on_the_sources_and_the_freeze_is_projected(tmp_path: Path) -> None:
    with guarded_sandbox(tmp_path / "box") as sandbox:
        made = sandbox.up(instances=2, mysql="5.6")
        path = tmp_path / "throw-away.toml"
        path.write_text(made.config.read_text() + "\n[cutover]\nfreeze_s = 120\nlag_s = 60\n")  # this machine is busy
        config = load_config(path)
        seed(config.sources, "payment", 3000)
        _log_everything(sandbox)
        for_app = tmp_path / "app.toml"
        for_app.write_text(re.sub(r"migrator:[^@]+@", "app:app@", made.config.read_text()))
        with Traffic(load_config(for_app).sources, "payment", 20):
            code, report, stderr = _rehearse(path, tmp_path / "out", "--project", "1000000000,512,5000")
            ours = _ours(sandbox)
        assert code == 0, (report.get("rules"), stderr)
        assert report["go"] is True
        assert [s["name"] for s in report["steps"]] == [
            "throw-away target", "check", "plan", "schema", "copy", "sync", "verify", "verify in the freeze", "drain",
        ]  # fmt: skip
        assert len(ours) > 100, "the log saw us"
        assert [text for text in ours if _WRITES.match(text)] == []
        assert report["freeze_is"] == "projected"
        here, there = report["projections"]
        assert 1 < here["freeze_s"] < 120
        assert there["rows"] == 1_000_000_000
        assert there["freeze_s"] > here["freeze_s"]
        assert report["client"] == {"requests": 0, "failed": 0, "longest_stall_s": None}
        assert "<h1>Go</h1>" in Path(report["page"]).read_text()

        code, report, stderr = _rehearse(path, tmp_path / "out")
        assert code == 1, "that target isn't a throw-away one any more"
        assert "throw-away target" in report["steps"][0]["said"]
        assert [s["ok"] for s in report["steps"]] == [False]


def test_the_pattern_knows_a_write() -> None:
    assert _WRITES.match("/* x */ INSERT INTO t VALUES (1)")
    assert _WRITES.match(" set global read_only = 1")
    assert not _WRITES.match("SET SESSION sql_mode = ''")
    assert not _WRITES.match("SELECT 1")
