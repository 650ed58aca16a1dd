"""Two processes that want the same migration: one has it, and a dead one's place is taken."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from migrate.config import load_config
from migrate.state import State
from tests.faults.ledger import Migration, query


def test_the_second_is_refused_and_told_who_the_first_is(migration: Migration) -> None:
    with migration.client("copy", MIGRATE_FAULT="after_chunk_commit:stop") as first:
        first.until_stopped()
        before = migration.chunks()
        migration.run("copy").fails(1, "is being run by", f"process {first.pid}")
        assert migration.chunks() == before
    migration.run("copy").ok()
    migration.assert_moved()


def test_a_holder_of_another_host_is_waited_out(migration: Migration) -> None:
    with State.open(load_config(migration.config)):
        query(migration.target, "UPDATE migrate_meta.migration SET lease_owner = 'elsewhere:1.1:7:1.00', lease_until = "
                                f"NOW(6) + INTERVAL 4 SECOND WHERE name = '{migration.name}'")  # fmt: skip
    migration.run("copy").fails(1, "is being run by", "process 7 on elsewhere")
    time.sleep(4)
    migration.run("copy").ok()
    migration.assert_moved()


def test_a_holder_that_slept_through_its_lease_stops(migration: Migration) -> None:
    with migration.client("copy", MIGRATE_FAULT="after_chunk_commit:stop") as first:
        first.until_stopped()
        first.send(signal.SIGSTOP)
        query(migration.target, "UPDATE migrate_meta.migration SET lease_until = NOW(6) - INTERVAL 1 SECOND "
                                f"WHERE name = '{migration.name}'")  # fmt: skip
        migration.run("copy").ok()
        migration.assert_moved()
        first.send(signal.SIGCONT)
        first.fails(3, "the lease of migration", "was lost")
    migration.assert_moved()


def test_two_exports_into_one_folder(migration: Migration, tmp_path: Path) -> None:
    command = ("export", "--out", str(tmp_path / "files"))
    with migration.client(*command, MIGRATE_FAULT="after_file_written:stop") as first:
        first.until_stopped()
        migration.run(*command).fails(1, "another process is exporting into", str(tmp_path / "files"))
    migration.run(*command).ok()
