"""kill -9 at every named point: the same command again ends well, and every row is there once."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import migrate
from migrate.faults import POINTS
from tests.faults.ledger import Ledger, Migration

COPY = ("after_definitions_saved", "after_position_captured", "after_shard_planned", "after_chunk_claimed",
        "after_chunk_read", "after_chunk_loaded", "after_chunk_commit", "before_consistent_saved",
        "before_finish")  # fmt: skip
EXPORT = ("after_position_captured", "after_file_written", "before_manifest_saved", "after_manifest_saved")
LOAD = ("after_definitions_saved", "after_position_captured", "after_shard_planned", "after_chunk_claimed",
        "after_chunk_loaded", "after_chunk_commit", "before_consistent_saved", "before_finish")  # fmt: skip
PARENTS = {"after_definitions_saved", "after_position_captured", "before_consistent_saved", "before_finish"}
KILLED = -9
WORKER_GONE = 3


@pytest.fixture(scope="session")
def exported(ledger: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Migration:
    """A migration whose export is finished, in its `folder / "files"`."""
    migration = Migration(ledger, tmp_path_factory.mktemp("exported"))
    migration.run("export", "--out", str(migration.folder / "files")).ok()
    return migration


def test_every_point_is_in_the_code_and_every_one_in_the_code_is_named() -> None:
    code = [p.read_text() for p in Path(migrate.__file__).parent.rglob("*.py")]
    passed = {name for text in code for name in re.findall(r'fault_point\("(\w+)"\)', text)}
    assert passed == set(POINTS)
    around = {p for text in code for p in re.findall(r'fault_point\((f".*?")\)', text)}
    assert around == {'f"before_{step.name}"', 'f"after_{step.name}"'}, (
        "only a cutover's steps make points of their names"
    )
    calls = sum(len(re.findall(r"(?<!def )fault_point\(", text)) for text in code)
    assert calls == sum(len(re.findall(r'fault_point\(f?"[\w{}.]+"\)', text)) for text in code), "a name can't be read"
    assert passed >= {*COPY, *EXPORT, *LOAD}


@pytest.mark.parametrize("point", COPY)
def test_copy_killed(migration: Migration, point: str) -> None:
    assert migration.run("copy", MIGRATE_FAULT=f"{point}:killall").code == KILLED
    migration.run("copy").ok()
    migration.assert_moved()


@pytest.mark.parametrize(("point", "options"), [*((p, ()) for p in EXPORT), ("after_file_written", ("--zstd",))])
def test_export_killed(
    ledger: Ledger, migrations: Callable[..., Migration], tmp_path: Path, point: str, options: tuple[str, ...]
) -> None:
    migration, folder = migrations(ledger), tmp_path / "files"
    command = ("export", "--out", str(folder), *options)
    assert migration.run(*command, MIGRATE_FAULT=f"{point}:killall").code == KILLED
    migration.run(*command).ok()
    assert not list(folder.glob("*.unfinished*"))
    migration.run("load", "--from", str(folder)).ok()
    migration.assert_moved()


@pytest.mark.parametrize("point", LOAD)
def test_load_killed(exported: Migration, migrations: Callable[..., Migration], point: str) -> None:
    migration = migrations(exported.ledger, into=exported.table)
    command = ("load", "--from", str(exported.folder / "files"))
    assert migration.run(*command, MIGRATE_FAULT=f"{point}:killall").code == KILLED
    migration.run(*command).ok()
    migration.assert_moved()


@pytest.mark.parametrize("verb", ["copy", "load"])
def test_workers_killed_one_after_the_other(migration: Migration, ledger: Ledger, tmp_path: Path, verb: str) -> None:
    """Each run gets a little further before one of its workers is killed; the parent says so."""
    command = [verb]
    if verb == "load":
        migration.run("export", "--out", str(tmp_path / "files")).ok()
        command += ["--from", str(tmp_path / "files")]
    for point in COPY if verb == "copy" else LOAD:
        if point in PARENTS or (verb, point) == ("load", "after_shard_planned"):
            assert migration.run(*command, MIGRATE_FAULT=f"{point}:kill").code == KILLED  # the parent's own
        else:
            migration.run(*command, MIGRATE_FAULT=f"{point}:kill").fails(WORKER_GONE, "a worker process was killed")
    migration.run(*command).ok()
    migration.assert_moved()
