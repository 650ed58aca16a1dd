"""What copy and load must not do: write beside strange rows, into another shape, by other routes, or change a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.ledger import Ledger, Migration, query

Make = Callable[..., Migration]


@pytest.fixture
def small(ledger: Ledger) -> Iterator[Ledger]:
    """A ledger that the test may change."""
    made = Ledger(ledger.sandbox, "changing", 300)
    made.fill()
    yield made
    made.drop()


def begun(migration: Migration) -> Migration:
    """A copy that has passed its checks and loaded nothing yet."""
    assert migration.run("copy", MIGRATE_FAULT="after_position_captured:killall").code == -9
    return migration


def test_target_not_empty(migration: Migration) -> None:
    query(migration.target, f"INSERT INTO {migration.table} VALUES (7, 1, 1, NULL, 'strange', '2020-01-01')")
    migration.run("copy").fails(1, "not empty", migration.table)
    assert migration.rows() == 1


def test_target_missing(migration: Migration) -> None:
    query(migration.target, f"DROP TABLE {migration.table}")
    migration.run("copy").fails(1, "missing on the target", migration.table, "migrate schema --execute")
    migration.run("schema", "--execute").ok()
    migration.run("copy").ok()
    migration.assert_moved()


@pytest.mark.parametrize(
    ("change", "word"),
    [("DROP COLUMN memo", "memo"), ("ADD COLUMN extra INT", "extra"), ("MODIFY memo VARCHAR(20)", "memo"),
     ("DROP INDEX ref", "ref")],
)  # fmt: skip
def test_target_of_another_shape(migration: Migration, change: str, word: str) -> None:
    query(migration.target, f"ALTER TABLE {migration.table} {change}")
    migration.run("copy").fails(1, migration.table, word)
    assert migration.rows() == 0


def test_shards_change_between_two_runs(small: Ledger, migrations: Make) -> None:
    migration = begun(migrations(small))
    server, table = small.shards[0]
    query(server, f"CREATE TABLE {table}9 LIKE {table}")
    migration.run("copy").fails(1, "begun with other shards, table shapes or routes")
    query(server, f"DROP TABLE {table}9")
    query(server, f"ALTER TABLE {table} ADD COLUMN late INT")
    migration.run("copy").fails(1, "begun with other shards, table shapes or routes")
    query(server, f"ALTER TABLE {table} DROP COLUMN late")
    migration.run("copy").ok()
    migration.assert_moved()


def test_routes_change_between_two_runs(small: Ledger, migrations: Make) -> None:
    migration = begun(migrations(small))
    narrow = migration.config.read_text().replace(r"'entry_\d+'", "'entry_00'")
    migration.config.write_text(narrow)
    migration.run("copy").fails(1, "changing_0.entry_01 is neither routed nor ignored")
    migration.config.write_text(narrow + "[[ignore]]\nschema = 'changing_.*'\ntable = 'entry_01'\n")
    migration.run("copy").fails(1, "begun with other shards, table shapes or routes")
    assert migration.rows() == 0


def test_copy_after_load_was_begun_and_the_other_way_round(migration: Migration, tmp_path: Path) -> None:
    folders = [str(tmp_path / name) for name in ("first", "second")]
    migration.run("export", "--out", folders[0]).ok()
    migration.run("export", "--out", folders[1], "--zstd").ok()
    load = ("load", "--from", folders[0])
    assert migration.run(*load, MIGRATE_FAULT="after_chunk_commit:killall").code == -9
    migration.run("copy").fails(1, "was begun as 'load of export")
    migration.run("load", "--from", folders[1]).fails(1, "was begun as 'load of export")
    migration.run(*load).ok()
    migration.run("copy").fails(1, "was begun as 'load of export")
    migration.assert_moved()


def test_load_after_copy_was_begun(migration: Migration, tmp_path: Path) -> None:
    migration.run("export", "--out", str(tmp_path / "files")).ok()
    begun(migration)
    migration.run("load", "--from", str(tmp_path / "files")).fails(1, "was begun as 'copy'")
    migration.run("copy").ok()
    migration.assert_moved()


def test_a_finished_copy_is_not_done_again(migration: Migration) -> None:
    migration.run("copy").ok()
    assert "0 rows loaded" in migration.run("copy").ok().out
    migration.assert_moved()


@pytest.mark.parametrize(
    ("change", "column"),
    [("MODIFY memo VARCHAR(3)", "memo"), ("MODIFY amount DECIMAL(10,2) NOT NULL", "amount"),
     ("MODIFY memo VARCHAR(120) NOT NULL", "memo"), ("MODIFY amount DECIMAL(5,4) NOT NULL", "amount"),
     ("DROP COLUMN memo", "memo")],
    ids=["text cut", "decimal rounded", "null", "number too large", "column dropped"],
)  # fmt: skip
def test_a_value_the_target_would_change(migration: Migration, change: str, column: str) -> None:
    """The shape was right when the copy began."""
    begun(migration)
    query(migration.target, f"ALTER TABLE {migration.table} {change}")
    client = migration.run("copy").fails(3, migration.table, column)
    if not change.startswith("DROP"):
        assert re.search(r"row \d+", client.err), client.err
    assert in_one_look(migration) == [(0, 0)]


def in_one_look(migration: Migration) -> list[tuple[int, int]]:
    """Rows on the target, and rows that the checkpoints speak of, at one instant: a COMMIT may still be under way."""
    return [
        (int(rows), int(checkpointed))
        for rows, checkpointed in query(
            migration.target,
            f"SELECT (SELECT COUNT(*) FROM {migration.table}), (SELECT COALESCE(SUM(loaded_rows), 0) "
            f"FROM migrate_meta.chunk WHERE migration = '{migration.name}')",
        )
    ]


def test_a_key_planted_on_the_target(migration: Migration) -> None:
    begun(migration)
    planted = 1_000_000_003
    query(migration.target, f"INSERT INTO {migration.table} VALUES ({planted}, 1, 1, NULL, 'planted', '2020-01-01')")
    migration.run("copy").fails(3, migration.table, "Duplicate entry", str(planted))
    ((rows, checkpointed),) = in_one_look(migration)
    assert rows == checkpointed + 1
    assert query(migration.target, f"SELECT ref FROM {migration.table} WHERE id = {planted}") == [("planted",)]
    query(migration.target, f"DELETE FROM {migration.table} WHERE id = {planted}")
    migration.run("copy").ok()
    migration.assert_moved()
