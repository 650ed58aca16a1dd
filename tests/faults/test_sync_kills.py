"""Sync killed while money moves: at every point and at random instants, with its servers too. Nothing is lost, nothing
is there twice, and nobody has to decide anything."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence

import pytest

from migrate.sandbox import Sandbox
from tests.conftest import guarded_sandbox
from tests.faults.books import Books
from tests.faults.ledger import query
from tests.faults.test_kills import quick_or_endurance, soak_or_endurance
from tests.proxy import Proxy, proxy

pytestmark = pytest.mark.timeout(600)  # a loaded machine takes its time

POINTS = ("inside_transaction", "after_batch_prepared", "before_position_save", "after_part_commit")
KILLED = -9
WORKER_GONE = 3


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    """On servers of their own, which may be killed."""
    folder = tmp_path_factory.mktemp("books")
    with guarded_sandbox(folder / "sandbox") as sandbox:
        sandbox.up(instances=2, mysql="5.6")
        yield Books(sandbox, "books", folder)


@pytest.fixture(scope="module")
def books97(sandbox97: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    made = Books(sandbox97, "books97", tmp_path_factory.mktemp("books97"))
    yield made
    made.drop()


@pytest.fixture
def dice() -> random.Random:
    """Random instants that a failed test's output lets repeat."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


def test_killed_at_every_point(books: Books) -> None:
    """At once, when rows are still written over what the copy read later, and when each is compared."""
    _at_every_point(books, (1, 9))


@pytest.mark.soak
def test_killed_at_every_point_on_mysql97(books97: Books, dice: random.Random) -> None:
    _at_every_point(books97, (dice.randint(1, 9),))


def _at_every_point(books: Books, passages: Sequence[int]) -> None:
    with books.writing():
        books.copied()
        for passage in passages:
            for point in POINTS:
                client = books.run("sync", MIGRATE_FAULT=f"{point}:killall:{passage}")
                assert client.code == KILLED, client.err
    books.judge()


def test_a_follower_killed_alone(books: Books) -> None:
    _follower_killed(books)


@pytest.mark.soak
def test_a_follower_killed_alone_on_mysql97(books97: Books) -> None:
    _follower_killed(books97)


def _follower_killed(books: Books) -> None:
    """The others end with it, and one line says so."""
    with books.writing():
        books.copied()
        for point in POINTS:
            client = books.client("sync", MIGRATE_FAULT=f"{point}:kill:5")
            client.fails(WORKER_GONE, "was killed", "the same command goes on")
    books.judge()


def test_killed_between_the_commits_of_two_parts(books: Books) -> None:
    """One part is in and the other isn't: nobody may take it for in, and it mustn't be written with what came later."""
    with proxy(books.target.port) as gate:
        _killed_apart(books, gate)
        books.judge()


@pytest.mark.soak
def test_killed_between_the_commits_of_two_parts_on_mysql97(books97: Books) -> None:
    with proxy(books97.target.port) as gate:
        _killed_apart(books97, gate)
        books97.judge()


def _apart(books: Books) -> bool:
    """Whether a part of an instance has a batch in that another part lacks."""
    seqs = f"SELECT MAX(seq) - MIN(seq) FROM migrate_meta.applied WHERE migration = '{books.migration}'"
    return (1,) in query(books.target, f"{seqs} GROUP BY instance")


def _killed_apart(books: Books, gate: Proxy) -> None:
    with books.writing():
        books.copied(target=books.target.url.replace(f":{books.target.port}", f":{gate.port}"))
        for passage in (1, 7, 3):
            while not _apart(books):  # the part that isn't cut may have been the last
                gate.cut_commit("before")  # of one part; the other's goes through, and is the end of us
                client = books.run("sync", MIGRATE_FAULT="after_part_commit:killall")
                assert client.code == KILLED, client.err
            client = books.run("sync", MIGRATE_FAULT=f"after_part_commit:killall:{passage}")
            assert client.code == KILLED, client.err


@pytest.mark.parametrize("kills", soak_or_endurance(10, 100))
def test_killed_at_random_instants(books: Books, dice: random.Random, kills: int) -> None:
    _at_random_instants(books, dice, kills)


@pytest.mark.parametrize("kills", soak_or_endurance(10, 100))
def test_killed_at_random_instants_on_mysql97(books97: Books, dice: random.Random, kills: int) -> None:
    _at_random_instants(books97, dice, kills)


def _at_random_instants(books: Books, dice: random.Random, kills: int) -> None:
    with books.writing() as chaos:
        books.copied()
        with books.client("sync") as client:
            books.until_near(client)
        chaos.far = True
        for number in range(kills):
            with books.client("sync") as client:
                if number % 3:  # else anywhere at its start
                    books.follows(client, 1)
                time.sleep(dice.uniform(0, 1.5))
                assert client.runs(), client.ended().err
                client.kill()
    books.judge()


@pytest.mark.parametrize("kills", quick_or_endurance(3, 20))
def test_tidb_killed(books: Books, dice: random.Random, kills: int) -> None:
    _server_killed(books, dice, ["tidb"] * kills)


@pytest.mark.soak
def test_tidb_killed_over_mysql97(books97: Books, dice: random.Random) -> None:
    _server_killed(books97, dice, ["tidb"] * 3)


@pytest.mark.parametrize("kills", quick_or_endurance(2, 10))
def test_mysql_killed(books: Books, dice: random.Random, kills: int) -> None:
    _server_killed(books, dice, [("m1", "m2")[n % 2] for n in range(kills)])


@pytest.mark.parametrize("kills", soak_or_endurance(1, 10))
def test_mysql97_killed(books97: Books, dice: random.Random, kills: int) -> None:
    _server_killed(books97, dice, ["m1"] * kills)


def _server_killed(books: Books, dice: random.Random, names: list[str]) -> None:
    """One sync lives through all of it."""
    with books.writing():
        books.copied()
        with books.client("sync") as client:
            books.follows(client, 2)
            for name in names:
                time.sleep(dice.uniform(0, 1))
                books.sandbox.kill(name)
                time.sleep(dice.uniform(0, 1))
                books.sandbox.up()
                books.follows(client, 2)
            client.kill()
    books.judge()
