"""An install without the development extras, from a wheel, used from another folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_wheel_brings_all_that_a_run_needs(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    bin_ = tmp_path / "venv" / "bin"
    subprocess.run([bin_ / "pip", "install", "--quiet", ROOT], check=True, cwd=tmp_path)

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [bin_ / command[0], *command[1:]], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    for command in (("migrate", "--help"), ("verify", "--help"), ("migrate", "--version")):
        assert run(*command).returncode == 0
    made = run("migrate", "init", "--pack", "payment", "--out", "mine.toml")
    assert made.returncode == 0, made.stderr
    assert "account_entry" in (tmp_path / "mine.toml").read_text()
    checked = run("migrate", "-c", "mine.toml", "check")
    assert checked.returncode == 2
    assert "MYSQL_PASSWORD is not set" in checked.stderr
    strange = run("migrate", "init", "--pack", "nowhere", "--out", "other.toml")
    assert strange.returncode == 2
    assert "payment" in strange.stderr
