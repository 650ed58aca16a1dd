"""No room for files: one clear line that names the place, and the same command goes on once there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from migrate.config import load_config
from migrate.copy.exporter import export
from migrate.errors import NoGo
from tests.faults.client import Client
from tests.faults.ledger import Ledger, Migration

_SMALL_FILES = ("bash", "-c", 'ulimit -f 20; exec "$@"', "limited")  # KiB
Make = Callable[..., Migration]


class Disk:
    """A folder that is nearly full until `grow`: a small file system, or where none may be mounted, a file size limit
    of the client's."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        self.mounted = self._mount("size=200k")
        self.before: tuple[str, ...] = () if self.mounted else _SMALL_FILES

    def _mount(self, options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def grow(self) -> None:
        self.before = ()
        if self.mounted:
            assert self._mount("remount,size=64m")

    def free(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk")
    yield made
    made.free()


def test_export_runs_full_and_goes_on(migration: Migration, disk: Disk) -> None:
    command = ("-c", str(migration.config), "export", "--zstd", "--out", str(disk.folder))
    why = "No space left on device" if disk.mounted else "File too large"
    Client(*command, before=disk.before).fails(3, str(disk.folder), why, "the same command goes on from here")
    disk.grow()
    Client(*command).ok()
    migration.run("load", "--from", str(disk.folder)).ok()
    migration.assert_moved()


def test_export_that_will_not_fit_is_not_begun(
    migration: Migration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = SimpleNamespace(free=1000)
    monkeypatch.setattr("migrate.copy.exporter.shutil.disk_usage", lambda _: full)
    with pytest.raises(NoGo, match=r"1,000 bytes free.*--zstd"):
        export(load_config(migration.config), tmp_path / "files", 1)
    assert not list((tmp_path / "files").glob("*.csv*"))
    full.free = 1 << 40
    export(load_config(migration.config), tmp_path / "files", 1)


def test_manifest_that_does_not_fit(migration: Migration, tmp_path: Path) -> None:
    """The manifest is what runs full: the files are there, their lines aren't."""
    folder = tmp_path / "files"
    migration.run("export", "--out", str(folder), MIGRATE_FAULT="before_manifest_saved:killall")
    growing = folder / "manifest.unfinished.jsonl"
    lines = growing.read_bytes().splitlines(keepends=True)
    growing.write_bytes(b"".join(lines[:-1]) + b" " * 15_000)  # a torn line that is larger than what is left of 20 KiB
    command = ("-c", str(migration.config), "export", "--out", str(folder))
    Client(*command, before=_SMALL_FILES).fails(3, str(folder), "File too large")
    Client(*command).ok()
    migration.run("load", "--from", str(folder)).ok()
    migration.assert_moved()


def test_copy_without_room_for_temporary_files(ledger: Ledger, migrations: Make, tmp_path: Path) -> None:
    migration = migrations(ledger)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    Client(
        "-c", str(migration.config), "copy", before=_SMALL_FILES, environment={"TMPDIR": str(temporary)}
    ).fails(3, f"the folder for temporary files, {temporary}", "File too large")  # fmt: skip
    assert migration.rows() == 0
    migration.run("copy").ok()
    migration.assert_moved()


def test_load_without_room_for_a_part(migration: Migration, tmp_path: Path) -> None:
    migration.run("export", "--zstd", "--out", str(tmp_path / "files")).ok()
    command = ("-c", str(migration.config), "load", "--from", str(tmp_path / "files"))
    Client(*command, before=_SMALL_FILES).fails(3, ".csv.zst", "File too large")
    Client(*command).ok()
    migration.assert_moved()
