"""Servers that die in the night: the application is never left frozen because the target did, there are never two
primaries, and the same command goes on when the server is back."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from migrate.sandbox import Sandbox
from tests.conftest import guarded_sandbox
from tests.cutover_lab import Lab, Watcher, cutover_lab
from tests.faults.client import Client


def soak(point: str) -> Any:
    """Takes long."""
    return pytest.param(point, marks=pytest.mark.soak)


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Servers that may be killed."""
    with guarded_sandbox(tmp_path_factory.mktemp("outages")) as sandbox:
        sandbox.up(instances=2, mysql="5.6")
        yield sandbox


@pytest.fixture(scope="module")
def lab(mortal: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """With an application that posts all the time; each test leaves the shards primary."""
    with cutover_lab(mortal, tmp_path_factory.mktemp("lab"), freeze_s=6) as made, Watcher(made):
        made.app()
        yield made


@pytest.fixture(autouse=True)
def _all_well_again(lab: Lab, mortal: Sandbox) -> Iterator[None]:
    lab.ensure_sync()
    yield
    for server in mortal.servers:
        if server.status().state != "running":
            mortal.restart(server.name)
    lab.client("rollback", "--execute").ended()
    assert lab.open_sides() == {"source"}


def dies(lab: Lab, mortal: Sandbox, server: str, point: str, verb: str = "cutover") -> Client:
    """The server dies when the command is at that point; the command goes on."""
    client = lab.stopped(verb, point)
    mortal.kill(server)
    client.send(signal.SIGCONT)
    return client


def posts(lab: Lab) -> bool:
    """Whether the application gets on."""
    before, deadline = lab.entries(), time.monotonic() + 10
    while lab.entries() == before:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("point", [soak("before_proof"), soak("before_verify"), soak("before_decision")])
def test_the_target_dies_in_the_freeze(lab: Lab, mortal: Sandbox, point: str) -> None:
    client = dies(lab, mortal, "tidb", point)
    client.until(lambda: lab.open_sources() == [True, True], timeout_s=30)  # 6 s of freeze, and some slow servers
    assert posts(lab)
    client.ended()
    assert client.code == 1, client.err
    assert "opened without the target" in client.out
    mortal.restart("tidb")
    lab.ensure_sync()
    lab.client("cutover", "--execute").ok()
    assert posts(lab)


@pytest.mark.parametrize("point", [soak("after_fence"), soak("switch_decided")])
def test_both_die_and_the_application_goes_on(lab: Lab, mortal: Sandbox, point: str) -> None:
    """A decision that no server has heard of is given up: the shards are what tells."""
    assert lab.client("cutover", "--execute", MIGRATE_FAULT=f"{point}:kill").ended().code == -9
    assert lab.open_sources() == [False, False]
    mortal.kill("tidb")
    lab.client("cutover", "--execute").fails(3, "the fence of m1, m2 was lifted without it")
    assert posts(lab)
    mortal.restart("tidb")
    lab.ensure_sync()
    if point == "switch_decided":
        client = lab.client("cutover", "--execute").ended()
        assert client.code == 1, client.out + client.err
        assert "its fence was lifted while the target was away" in client.out
    lab.client("cutover", "--execute").ok()
    assert posts(lab)


@pytest.mark.parametrize("point", [soak("switch_recorded"), "before_open", soak("after_open")])
def test_the_target_dies_in_the_switch(lab: Lab, mortal: Sandbox, point: str) -> None:
    """It is waited for: from there on there is only forward."""
    client = dies(lab, mortal, "tidb", point)
    time.sleep(1)
    mortal.restart("tidb")
    client.ok()
    assert lab.open_sides() == {"target"}
    assert posts(lab)


def test_an_instance_dies_in_the_freeze(lab: Lab, mortal: Sandbox) -> None:
    client = dies(lab, mortal, "m2", "before_verify")
    time.sleep(1)
    mortal.restart("m2")
    client.ended()
    assert client.code in (0, 1), client.err
    assert posts(lab)


@pytest.mark.parametrize("point", [soak("before_drain"), soak("switch_decided")])
def test_the_target_dies_on_the_way_back(lab: Lab, mortal: Sandbox, point: str) -> None:
    lab.client("cutover", "--execute").ok()
    client = dies(lab, mortal, "tidb", point, "rollback")
    time.sleep(1)
    mortal.restart("tidb")
    client.ended()
    if point == "switch_decided":
        assert client.code == 0, client.err
    assert posts(lab)


def judged(lab: Lab) -> int:
    """What was acknowledged is there once, on both sides."""
    lab.app_stopped()
    lab.ensure_sync()
    return lab.judge()


def test_nothing_is_lost_or_doubled(lab: Lab) -> None:
    """By all of the above together."""
    assert judged(lab) > 20


def _chaos(lab: Lab, mortal: Sandbox, servers: Callable[[], str], times: int) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for n in range(times):
        verb = "rollback" if lab.open_sides() == {"target"} else "cutover"
        if verb == "cutover":
            lab.ensure_sync()
        with lab.client(verb, "--execute") as client:
            time.sleep(chance.uniform(0.3, 5))
            name = servers()
            mortal.kill(name)
            time.sleep(chance.uniform(0, 4))
            mortal.restart(name)
            client.ended()
            assert client.code in (0, 1, 3), f"{n}: {client.code}\n{client.out}{client.err}"
        if verb == "cutover" and client.code:
            lab.ensure_sync()
        if client.code:
            again = lab.client(verb, "--execute").ended()
            assert again.code in (0, 1), f"{n}: {again.code}\n{again.out}{again.err}"
        assert len(lab.open_sides()) == 1
        assert posts(lab)
    if lab.open_sides() == {"target"}:
        lab.client("rollback", "--execute").ok()
    assert judged(lab) > 50
    lab.app()


@pytest.mark.endurance
@pytest.mark.timeout(3600)
def test_the_target_dies_ten_times(lab: Lab, mortal: Sandbox) -> None:
    _chaos(lab, mortal, lambda: "tidb", 10)


@pytest.mark.endurance
@pytest.mark.timeout(3600)
def test_an_instance_dies_ten_times(lab: Lab, mortal: Sandbox) -> None:
    _chaos(lab, mortal, lambda: random.choice(["m1", "m2"]), 10)
