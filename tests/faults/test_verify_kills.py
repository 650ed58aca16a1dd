"""kill -9 of verification and of repair, at every statement: the same command again comes to the same end.

What a repair wrote is journalled, all of a transaction or nothing; the same command finishes it under the number that
it had; it can be undone as a whole; and the verification afterwards is clean.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from migrate.config import Config, Verify, load_config
from migrate.cutover.verifier import EdgeVerifier
from migrate.db import connect
from migrate.sandbox import Sandbox
from tests.integration.books import Books
from tests.killing import KILLED, WRITES, At, Ended, Killing
from tests.soak import times
from tests.verify_lab import Lab
from verify.chain import check
from verify.evidence import keep
from verify.journal import Journal, unverified
from verify.run import verify_rows

COLUMNS = "id BIGINT NOT NULL PRIMARY KEY, amount DECIMAL(20,4) NOT NULL, memo VARCHAR(20) NULL, note TEXT NULL"
ROWS = [(n, f"{n}.0001", f"memo {n}", f"note {n}") for n in range(40)]
PLANTED = (
    "DELETE FROM $.{} WHERE id IN (1, 2)",
    "UPDATE $.{} SET amount = amount + 0.0001, note = NULL WHERE id IN (3, 4)",
    "INSERT INTO $.{} VALUES (100, 1, 'x', 'y')",
)
WHY = ("--execute", "--reason", "a test", "--ticket", "T-1", "--json")
SMALL = "import verify.narrow, verify.prove; verify.prove._SHARD_ROWS = 1; verify.narrow._LATE_S = 0"


class Scene:
    """Two tables with five bad rows each, a stored run that names them, and commands on it."""

    def __init__(self, lab: Lab, killing: Killing):
        self.lab, self.killing = lab, killing
        for table in ("a", "b"):
            lab.table(table, COLUMNS, ROWS)
            lab.on_target(*(sql.format(table) for sql in PLANTED))
        self.config = lab.config()
        with connect(self.config.target) as session:
            Journal.make(session)
        result = verify_rows(self.config)
        self.planted = sorted(map(str, result.mismatches))
        assert len(self.planted) == 10
        self.run_number = keep(self.config, result).run

    def command(self, *options: str, at: At | None = None) -> Ended:
        return self.killing.run(["-c", str(self.config.path), *options], at)

    def repair(self, direction: str, at: At | None = None) -> Ended:
        return self.command("repair", "--run", str(self.run_number), "--direction", direction, *WHY, at=at)

    def undo(self, number: int, at: At | None = None) -> Ended:
        return self.command("repair", "--undo", str(number), *WHY, at=at)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with connect(self.config.target) as session:
            return session.query(sql, [self.config.name])

    def last(self) -> int:
        """The number of the last repair."""
        return int(self.ask("SELECT COALESCE(MAX(id), 0) FROM migrate_meta.repair WHERE migration = %s")[0][0])

    def left(self) -> list[str]:
        """The mismatches that there are now."""
        return sorted(map(str, verify_rows(self.config).mismatches))

    def journalled(self) -> set[tuple[str, str]]:
        """Table and key of the rows that the last repair journalled as written."""
        return {
            (target, key)
            for target, key in self.ask(
                "SELECT target, row_key FROM migrate_meta.repair_row WHERE state = 'done' AND repair = "
                "(SELECT MAX(id) FROM migrate_meta.repair WHERE migration = %s)"
            )
        }

    def killed_and_finished(self, direction: str, at: At) -> None:
        """A repair that is killed there, what it leaves behind, the same command again, and all of it undone."""
        of_kinds = 10 if direction == "source" else 8  # to which shard a row of the target alone belongs isn't known
        last = self.last()
        assert self.repair(direction, at).code == KILLED, at
        # Asked at once, the server may have the COMMIT in hand still: the lock of the same command waits for that.
        done = self.repair(direction)
        assert done.code == (0 if direction == "source" else 1), (at, done.said, done.output)
        found = done.document
        wanted = {"done", "agreed"} if direction == "source" else {"done", "agreed", "left"}
        assert {c["state"] for c in found["changes"]} <= wanted
        assert sum(c["state"] != "left" for c in found["changes"]) == of_kinds
        entries = self.ask(f"SELECT id, repaired FROM migrate_meta.repair WHERE migration = %s AND id > {last}")
        assert entries == [(found["repair"], of_kinds)], at  # each row journalled as written, and once
        assert len(self.journalled()) == of_kinds
        assert not self.ask("SELECT 1 FROM migrate_meta.repair WHERE migration = %s AND finished_at IS NULL")
        assert len(self.left()) == 10 - of_kinds
        back = self.undo(found["repair"])
        assert back.code == 0, (at, back.output)
        assert self.left() == self.planted, at


@pytest.fixture(autouse=True)
def late_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verify.narrow._LATE_S", 0.01)


@pytest.fixture(scope="module")
def killing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killing]:
    with Killing(tmp_path_factory.mktemp("killing"), SMALL) as killing:
        yield killing


@pytest.fixture(scope="module")
def scene(servers: Sandbox, tmp_path_factory: pytest.TempPathFactory, killing: Killing) -> Iterator[Scene]:
    """Every test leaves it as it was."""
    lab = Lab(servers.sources, servers.target, tmp_path_factory.mktemp("scene"), "vkill")
    yield Scene(lab, killing)
    forget(lab)


def forget(lab: Lab) -> None:
    for table in ("evidence", "repair", "verify_range"):
        lab.on_target(f"DELETE FROM migrate_meta.{table} WHERE migration = '{lab.schema}'")
    lab.drop()


# Of COMMITs, the first is of the journal's entry, and one of each table follows.
ON_TARGET = [
    pytest.param(At("INSERT INTO migrate_meta.repair ", sent=True), id="entry written, not committed"),
    pytest.param(At("COMMIT", 1, sent=True), id="entry committed"),
    pytest.param(At("SELECT .* FOR UPDATE", 2), id="before compare-and-set"),
    pytest.param(At(r"(INSERT|UPDATE|DELETE)[^.]*`\.`a`", 4, sent=True), id="among the writes"),
    pytest.param(At("COMMIT", 2), id="before COMMIT"),
    pytest.param(At("COMMIT", 2, sent=True), id="COMMIT without answer"),
    pytest.param(At("COMMIT", 3, sent=True), id="rows committed, no evidence"),
    pytest.param(At("UPDATE migrate_meta.repair SET finished"), id="evidence stored, journal open"),
]
ON_SHARDS = [
    pytest.param(At("INSERT INTO migrate_meta.repair_row", sent=True), id="planned"),
    pytest.param(At(r"(INSERT|UPDATE|DELETE)[^.]*`\.`a_", 1, sent=True), id="among the writes"),
    pytest.param(At("COMMIT", 2), id="before COMMIT"),
    pytest.param(At("COMMIT", 2, sent=True), id="COMMIT without answer"),
    pytest.param(At("UPDATE migrate_meta.repair_row SET state", 2), id="some rows settled"),
]


@pytest.mark.parametrize("at", ON_TARGET)
def test_a_killed_repair_of_the_target_is_finished_by_the_same_command(scene: Scene, at: At) -> None:
    scene.killed_and_finished("source", at)


@pytest.mark.parametrize("at", ON_SHARDS)
def test_a_killed_repair_of_the_shards_is_finished_by_the_same_command(scene: Scene, at: At) -> None:
    scene.killed_and_finished("target", at)


def test_a_killed_repair_is_not_verified_until_it_is_finished(scene: Scene) -> None:
    """Until then neither a report nor a cutover takes a clean verification for the last word."""
    number = scene.last() + 1
    assert scene.repair("source", At("COMMIT", 2, sent=True)).code == KILLED
    assert scene.repair("source").code == 0
    assert number in unverified(scene.config)
    assert scene.command("all").code == 0
    assert unverified(scene.config) == []
    verifier = EdgeVerifier(scene.config)
    clean = verifier.last_clean()
    assert clean is not None
    assert clean.since == ""
    assert scene.undo(number, At("COMMIT", 2, sent=True)).code == KILLED
    clean = verifier.last_clean()
    assert clean is not None
    assert clean.since == f"repair {number + 1} never ended: run the same `verify repair` again"
    assert unverified(scene.config) == [number + 1]
    assert check(scene.config).ok
    assert scene.undo(number).code == 0
    assert scene.left() == scene.planted


def test_a_killed_undo_is_finished_by_the_same_command(scene: Scene) -> None:
    assert scene.repair("source").code == 0
    number = scene.last()
    for at in (At(r"(INSERT|UPDATE|DELETE)[^.]*`\.`a`", 2, sent=True), At("COMMIT", 2, sent=True)):
        assert scene.undo(number, at).code == KILLED
    back = scene.undo(number)
    assert back.code == 0, back.output
    assert back.document["repair"] == number + 1
    assert scene.left() == scene.planted


def test_another_command_closes_what_a_killed_one_left_open(scene: Scene) -> None:
    number = scene.last() + 1
    assert scene.repair("source", At("COMMIT", 2, sent=True)).code == KILLED
    back = scene.undo(number)  # of what the killed one had written
    assert back.code == 0, back.output
    assert scene.left() == scene.planted
    assert not scene.ask("SELECT 1 FROM migrate_meta.repair WHERE migration = %s AND finished_at IS NULL")


def test_one_repair_at_a_time(scene: Scene, tmp_path: Path) -> None:
    with connect(scene.config.target) as session:
        session.value("SELECT GET_LOCK(%s, 1)", [f"verify repair {scene.config.name}"])
        with Killing(tmp_path, "import verify.journal; verify.journal._OTHERS_S = 0") as killing:
            refused = killing.run(["-c", str(scene.config.path), "repair", *WHY])
    assert refused.code == 1
    assert "another repair of migration" in refused.said


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("direction", ["source", "target"])
def test_a_repair_is_killed_at_every_statement(scene: Scene, direction: str) -> None:
    undisturbed = scene.repair(direction)
    assert scene.undo(undisturbed.document["repair"]).code == 0
    end = next(n for n, sql in enumerate(undisturbed.statements) if "SET finished_at" in sql and "repaired" in sql)
    points = Ended(0, "", "", undisturbed.statements[:end]).points(WRITES)
    assert len(points) > 30
    for at in points[:: times(1, 3)]:
        scene.killed_and_finished(direction, at)


def outcome(ended: Ended) -> dict[str, Any]:
    """What two runs over the same data must have in common."""
    assert ended.output, ended.said
    return {k: v for k, v in ended.document.items() if k not in ("seconds", "cuts", "notes", "evidence")}


@pytest.fixture
def wrong_books(servers: Sandbox, tmp_path: Path) -> Iterator[Config]:
    """A ledger with a lost entry, a row too many and a balance that is off, whose tables are proven in ranges."""
    lab = Lab(servers.sources, servers.target, tmp_path, "vkall")
    books = Books(lab)
    path = books.config(tmp_path).path
    for number, source in enumerate(lab.sources):
        lab.run(source, *(f"ANALYZE TABLE $.{table}_{number}" for table in lab.tables))
    lab.on_target(
        "DELETE FROM $.entry WHERE id = 5003",
        "UPDATE $.account SET balance = balance + 0.0001 WHERE id = 10",
        "INSERT INTO $.posting VALUES (1, 1, 77, 'CNY', 'DONE', '2026-03-01')",
    )
    path.write_text(path.read_text("utf-8") + "[verify]\nrange_rows = 40\n", "utf-8")
    config = load_config(path)
    assert config.verify == Verify(range_rows=40)
    yield config
    forget(lab)


ALL = "INSERT|UPDATE|DELETE|COMMIT|SELECT"


def verification_killed(config: Config, killing: Killing, points: list[At]) -> None:
    command = ["-c", str(config.path), "all", "--strong", "--json"]
    undisturbed = killing.run([*command, "--anew"])
    assert undisturbed.code == 1
    assert {m["kind"] for m in undisturbed.document["mismatches"]} == {"missing", "extra", "different"}
    for at in points or undisturbed.points(ALL)[:: times(5, 23)]:
        killed = killing.run(command, at)
        assert killed.code in (KILLED, 1), killed.said  # the readers' order differs from run to run
        again = killing.run(command)
        assert again.code == 1
        assert outcome(again) == outcome(undisturbed), at
    assert check(config).ok


def test_a_killed_verification_ends_as_an_undisturbed_one(wrong_books: Config, killing: Killing) -> None:
    """Killed among its ranges, among the rows that differ, and before its evidence is told."""
    points = [
        At("UPDATE migrate_meta.verify_range", 9, sent=True),
        At(r"SELECT .*CRC32.* ORDER BY 1", 2, sent=True),
        At("INSERT INTO migrate_meta.evidence ", sent=True),
    ]
    verification_killed(wrong_books, killing, points)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_verification_is_killed_at_any_statement(wrong_books: Config, killing: Killing) -> None:
    verification_killed(wrong_books, killing, [])


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_verification_is_killed_at_random_instants(wrong_books: Config, killing: Killing) -> None:
    """However often, and without an end in between."""
    command = ["-c", str(wrong_books.path), "all", "--json"]
    undisturbed = killing.run([*command, "--anew"])
    dice = random.Random(5)
    for _ in range(times(10, 3)):
        for _ in range(4):
            killing.run(command, after_s=dice.uniform(0.05, undisturbed.document["seconds"] + 0.5))
        assert outcome(killing.run(command)) == outcome(undisturbed)
    assert check(wrong_books).ok
