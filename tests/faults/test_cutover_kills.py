"""kill -9 of `migrate cutover` and `migrate rollback`: never two primaries, never a posting lost or doubled, and the
same command run again ends well. The application posts all the time; its journal is the judge."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrate.lease import LEASE_S
from migrate.sandbox import Sandbox
from tests.conftest import guarded_sandbox
from tests.cutover_lab import Lab, Watcher, cutover_lab

KILLED = -9
THERE = ("readiness", "ahead", "reverse", "fence", "proof", "drain", "verify", "sequences", "smoke", "still", "switch",
         "sync")  # fmt: skip
BACK = (
    "readiness",
    "reverse",
    "ahead",
    "fence",
    "proof",
    "drain",
    "verify",
    "still",
    "position",
    "switch",
    "reverse-end",
)
BETWEEN = ("before_fence:kill:2", "before_decision", "switch_decided", "switch_recorded", "before_open", "after_open")


def points(steps: tuple[str, ...]) -> list[str]:
    """Every boundary of those steps, and what lies inside some."""
    return [f"{when}_{step}" for step in steps for when in ("before", "after")] + list(BETWEEN)


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Servers that may be killed."""
    with guarded_sandbox(tmp_path_factory.mktemp("night")) as sandbox:
        sandbox.up(instances=2, mysql="5.6")
        yield sandbox


def killed(lab: Lab, verb: str, point: str) -> None:
    """The command dies at that point; whoever was primary is, or nobody is for the moment."""
    armed = point if ":" in point else f"{point}:kill"
    dead = lab.client(verb, "--execute", MIGRATE_FAULT=armed).ended()
    assert dead.code == KILLED, f"{verb} at {point} ended with {dead.code}\n{dead.out}{dead.err}"
    assert len(lab.open_sides()) <= 1


def there_and_back(lab: Lab, there: str | None, back: str | None) -> None:
    """A cutover that is killed, and then made; a rollback likewise."""
    lab.ensure_sync()
    if there:
        killed(lab, "cutover", there)
    lab.client("cutover", "--execute").ok()
    assert lab.open_sides() == {"target"}
    lab.sync_ended()
    before = lab.entries()
    time.sleep(0.5)
    if back:
        killed(lab, "rollback", back)
    lab.client("rollback", "--execute").ok()
    assert lab.open_sides() == {"source"}
    assert lab.entries() > before


@pytest.mark.soak
def test_killed_at_a_boundary(servers: Sandbox, tmp_path: Path) -> None:
    with cutover_lab(servers, tmp_path) as lab, Watcher(lab):
        app = lab.app()
        there_and_back(lab, "after_verify", "after_fence")
        there_and_back(lab, "before_open", "switch_decided")
        lab.start_sync()
        app.stop()
        assert lab.judge() > 20


@pytest.mark.endurance
@pytest.mark.timeout(3600)
def test_killed_at_every_boundary(servers: Sandbox, tmp_path: Path) -> None:
    with cutover_lab(servers, tmp_path) as lab, Watcher(lab):
        app = lab.app()
        ways = [*points(THERE)], [*points(BACK)]
        for n in range(max(map(len, ways))):
            there_and_back(lab, *(way[n] if n < len(way) else None for way in ways))
        lab.start_sync()
        app.stop()
        assert lab.judge() > 100


def killed_after(lab: Lab, verb: str, seconds: float) -> None:
    """The command dies after so many seconds, if it isn't done by then."""
    with lab.client(verb, "--execute") as client:
        time.sleep(seconds)
        client.kill()
        client.ended()
    assert len(lab.open_sides()) <= 1


@pytest.mark.endurance
@pytest.mark.timeout(3600)
def test_killed_at_any_instant(servers: Sandbox, tmp_path: Path) -> None:
    """Twenty-five times each way; the runs that end before that count too, since their end is what is hit last."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with cutover_lab(servers, tmp_path) as lab, Watcher(lab):
        app = lab.app()
        for _ in range(25):
            lab.ensure_sync()
            began = time.monotonic()
            killed_after(lab, "cutover", chance.uniform(0.3, 6))
            if lab.open_sides() != {"target"} or time.monotonic() - began < 6:
                lab.client("cutover", "--execute").ended()
            assert lab.open_sides() == {"target"}
            lab.sync_ended()
            killed_after(lab, "rollback", chance.uniform(0.3, 4))
            lab.client("rollback", "--execute").ended()
            assert lab.open_sides() == {"source"}
        lab.start_sync()
        app.stop()
        assert lab.judge() > 100


@pytest.mark.endurance
@pytest.mark.timeout(900)
@pytest.mark.parametrize("point", ["after_readiness", "after_fence", "after_verify", "switch_decided", "before_open"])
def test_stands_still_until_another_one_took_over(servers: Sandbox, tmp_path: Path, point: str) -> None:
    """A process that wakes after its lease ran out, when another one has finished the night, changes nothing."""
    with cutover_lab(servers, tmp_path) as lab, Watcher(lab):
        app = lab.app()
        lab.ensure_sync()
        asleep = lab.stopped("cutover", point)
        time.sleep(LEASE_S + 1)
        lab.client("cutover", "--execute").ok()
        assert lab.open_sides() == {"target"}
        asleep.send(signal.SIGCONT)
        asleep.ended()
        assert asleep.code != 0, asleep.out
        assert lab.open_sides() == {"target"}
        lab.client("rollback", "--execute").ok()
        assert lab.open_sides() == {"source"}
        lab.start_sync()
        app.stop()
        assert lab.judge() > 20
