"""The sandbox against real servers."""

from __future__ import annotations

from migrate.sandbox import Sandbox


def test_up_again_returns_the_same(servers: Sandbox) -> None:
    before = [(s.name, s.pid) for s in servers.status()]
    first, config = servers.up(), servers.config.read_text()
    assert servers.up() == first
    assert servers.config.read_text() == config
    assert [(s.name, s.pid) for s in servers.status()] == before
