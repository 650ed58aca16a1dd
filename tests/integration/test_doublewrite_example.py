"""The worked example: a payment service before and after it adopts the library."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from migrate.doublewrite import fence
from migrate.sandbox import Sandbox
from tests.integration.doublewrite_scene import Scene, delivered, scene

FOLDER = Path(__file__).parents[1] / "examples"


@pytest.fixture
def stage(servers: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with scene(servers.sources, servers.target, tmp_path) as made:
        made.ready()
        config = tmp_path / "migration.toml"
        config.write_text(made.toml())
        monkeypatch.setenv("MIGRATE_CONFIG", str(config))
        monkeypatch.setenv("LEDGER", made.db)
        monkeypatch.setenv("SHARDS", str(made.shards))
        monkeypatch.setenv("SHARD_URLS", " ".join(s.url.replace("mysql:", "mysql+pymysql:") for s in made.sources))
        yield made


def use(app: Any, first: int) -> None:
    client = app.test_client()
    assert client.get("/health").text == "ok"
    for id in range(first, first + 4):
        assert client.post(f"/accounts/{id}", json={"owner": f"o{id}"}).status_code == 201
        assert client.post(f"/accounts/{id}/entries", json={"id": id * 10, "amount": "12.34"}).status_code == 201
        assert client.post(f"/accounts/{id}/entries", json={"id": id * 10 + 1, "amount": "-2.34"}).status_code == 201
        assert client.get(f"/accounts/{id}").json["balance"] == "10.0000"


def test_the_service_before_and_after(stage: Scene) -> None:
    tables = importlib.import_module("tests.examples.payments_tables")
    tables._tables.cache_clear()
    before = importlib.import_module("tests.examples.payments_before")
    use(before.app, 100)
    after = importlib.import_module("tests.examples.payments_after")
    use(after.app, 200)  # phase off
    assert stage.pending() == 0
    for kind in stage.kinds:  # what a copy does
        stage.copy(kind)
    stage.phase("shadow")
    use(after.app, 300)
    delivered(after.ledger)
    stage.drain()
    assert stage.same()
    fence.fence(stage.config)
    refused = after.app.test_client().post("/accounts/300/entries", json={"id": 9, "amount": "1"})
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    fence.switch(stage.config, "reversed")
    after.ledger._refresh()
    use(after.app, 400)
    assert not stage.same()
    stage.reverse()
    assert stage.same()


def test_the_difference_is_a_few_lines() -> None:
    texts = [(FOLDER / f"payments_{name}.py").read_text().splitlines() for name in ("before", "after")]
    changed = [line for line in difflib.unified_diff(*texts, n=0, lineterm="") if line[:1] in "+-"]
    assert len(changed) < 40
