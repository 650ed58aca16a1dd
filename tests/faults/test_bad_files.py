"""Files that aren't what was exported: named, nothing of them loaded, and fine again once they are restored."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.ledger import Ledger, Migration

Make = Callable[..., Migration]


@pytest.fixture(scope="module")
def pristine(ledger: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Migration:
    """A migration whose export is finished, in its `folder / "files"`."""
    migration = Migration(ledger, tmp_path_factory.mktemp("pristine"))
    migration.run("export", "--out", str(migration.folder / "files")).ok()
    return migration


@pytest.fixture
def files(pristine: Migration, tmp_path: Path) -> Path:
    """A copy of the export, to be spoilt."""
    return shutil.copytree(pristine.folder / "files", tmp_path / "files")


@pytest.fixture
def migration(pristine: Migration, migrations: Make) -> Migration:
    """A migration that can load that export."""
    return migrations(pristine.ledger, into=pristine.table)


def change_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def put_one_for_another(path: Path) -> None:
    """A file of the same size with other contents: a row doubled, another one left out."""
    lines = path.read_bytes().splitlines(keepends=True)
    size = next(i for i in range(2, len(lines)) if len(lines[i]) == len(lines[1]))
    path.write_bytes(b"".join([*lines[:size], lines[1], *lines[size + 1 :]]))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (change_a_byte, "SHA-256"),
        (put_one_for_another, "SHA-256"),
        (truncate, "bytes, expected"),
        (Path.unlink, "missing"),
    ],
)
def test_a_spoilt_file_is_named_and_not_loaded(
    migration: Migration, files: Path, spoil: Callable[[Path], None], words: str
) -> None:
    victim = sorted(files.glob("*.csv"))[1]
    whole = victim.read_bytes()
    spoil(victim)
    migration.run("load", "--from", str(files)).fails(1, victim.name, words)
    assert migration.rows() % 500 == migration.rows_of(1) == 0  # other files, or chunks of them
    victim.write_bytes(whole)
    migration.run("load", "--from", str(files)).ok()
    migration.assert_moved()


def test_a_directory_that_is_no_export(migration: Migration, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    migration.run("load", "--from", str(tmp_path)).fails(2, str(tmp_path), "it is no export directory")
    migration.run("load", "--from", str(tmp_path / "nowhere")).fails(2, "nowhere")
    migration.run("export", "--out", str(tmp_path)).fails(2, str(tmp_path), "not empty")
    migration.run("export", "--out", str(tmp_path / "notes.txt")).fails(2, "notes.txt")


def test_an_export_is_not_overwritten(migration: Migration, files: Path) -> None:
    migration.run("export", "--out", str(files)).fails(2, "holds a finished export")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 2}', '{"format": 1, "migration": "x"}', "\x00\xff"])
def test_a_spoilt_manifest(migration: Migration, files: Path, text: str) -> None:
    (files / "manifest.json").write_text(text, encoding="latin-1")
    migration.run("load", "--from", str(files)).fails(2, str(files / "manifest.json"))


@pytest.mark.parametrize("torn", [b'{"planned": [{"sha', '{"name": "Zahlungen f\u00fc'.encode()[:-1], b"\xff\xfe"])
def test_a_torn_last_line_of_an_unfinished_manifest(migration: Migration, tmp_path: Path, torn: bytes) -> None:
    folder = tmp_path / "growing"
    assert migration.run("export", "--out", str(folder), MIGRATE_FAULT="after_file_written:killall:2").code == -9
    with (folder / "manifest.unfinished.jsonl").open("ab") as file:
        file.write(torn)
    migration.run("load", "--from", str(folder)).fails(2, "not finished", "the same `migrate export` again")
    migration.run("export", "--out", str(folder)).ok()
    migration.run("load", "--from", str(folder)).ok()
    migration.assert_moved()


def test_an_unfinished_manifest_that_is_damaged(migration: Migration, tmp_path: Path) -> None:
    folder = tmp_path / "growing"
    migration.run("export", "--out", str(folder), MIGRATE_FAULT="before_manifest_saved:killall")
    growing = folder / "manifest.unfinished.jsonl"
    lines = growing.read_bytes().splitlines(keepends=True)
    growing.write_bytes(b"".join([lines[0], b"{]\n", *lines[2:]]))
    migration.run("export", "--out", str(folder)).fails(1, str(growing), "line 2 is damaged")
    growing.write_bytes(b"".join(lines))
    migration.run("export", "--zstd", "--out", str(folder)).fails(2, str(folder), "begun without --zstd")
    migration.run("export", "--out", str(folder)).ok()


def test_files_that_vanish_while_an_export_is_unfinished(migration: Migration, tmp_path: Path) -> None:
    folder = tmp_path / "growing"
    migration.run("export", "--out", str(folder), MIGRATE_FAULT="before_manifest_saved:killall")
    for path in folder.glob("*00001*.csv"):
        path.unlink()
    migration.run("export", "--out", str(folder)).ok()
    migration.run("load", "--from", str(folder)).ok()
    migration.assert_moved()
