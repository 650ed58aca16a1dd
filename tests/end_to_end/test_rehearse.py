"""The README's first command, as a script would run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import guarded_sandbox


def _rehearse(root: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "migrate.cli", "rehearse", "--sandbox", "--root", str(root), "--json", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("version", ["5.6", "9.7"])
@pytest.mark.usefixtures("servers", "mysql97")  # so that what is installed once isn't installed on this test's clock
def test_the_main_job_is_go(tmp_path: Path, version: str) -> None:
    root = tmp_path / "rehearsal"
    with guarded_sandbox(root):
        code, report, stderr = _rehearse(root, "--rows", "5000", "--mysql", version)
        assert code == 0, stderr
        assert report["go"] is True
        names = [s["name"] for s in report["steps"]]
        assert names == [
            "sandbox", "seed", "check", "plan", "schema", "copy", "verify-counts", "verify-checksum", "verify-balances",
        ]  # fmt: skip
        assert all(s["ok"] and s["seconds"] >= 0 for s in report["steps"])
        assert set(report["client"]) == {"requests", "failed", "longest_stall_s"}
        assert json.loads(Path(report["report"]).read_text())["go"] is True
        checksum = json.loads((Path(report["report"]).parent / "08-verify-checksum.json").read_text())
        entries = next(t for t in checksum["tables"] if t["target"] == "payment.account_entry")
        assert entries["source_rows"] == entries["target_rows"] == 5000


@pytest.mark.usefixtures("servers")
def test_a_step_that_fails_is_a_no_go(tmp_path: Path) -> None:
    """A pack of the user's own whose ledger breaks its own rule: found by the last step, with exit code 1."""
    source = Path(__file__).parents[2] / "schemas" / "payment"
    pack = tmp_path / "broken"
    pack.mkdir()
    for file in source.iterdir():
        if file.is_file():
            pack.joinpath(file.name).write_bytes(file.read_bytes())
    with open(pack / "ledger.toml", "a", encoding="utf-8") as ledger:
        ledger.write(
            '\n[[invariant]]\nname = "nobody_has_money"\nseverity = "error"\n'
            'sql = "SELECT account_id, balance FROM payment.account WHERE balance > 0"\n'
        )
    root = tmp_path / "rehearsal"
    with guarded_sandbox(root):
        code, report, stderr = _rehearse(root, "--rows", "500", "--pack", str(pack))
        assert code == 1, stderr
        assert report["go"] is False
        assert [s["name"] for s in report["steps"] if not s["ok"]] == ["verify-balances"]
