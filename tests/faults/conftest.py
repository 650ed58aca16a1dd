"""Ledgers for the fault tests: one on the shared servers, one on servers that a test may kill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from migrate.sandbox import Sandbox
from tests.conftest import guarded_sandbox
from tests.faults.ledger import Ledger, Migration


@pytest.fixture(scope="session")
def ledger(servers: Sandbox) -> Iterator[Ledger]:
    """8,000 rows in four shards. Nobody changes them."""
    made = Ledger(servers, "faults", 2000)
    made.fill()
    yield made
    made.drop()


@pytest.fixture(scope="session")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """40,000 rows in four shards, on servers of its own that a test may kill and start again."""
    with guarded_sandbox(tmp_path_factory.mktemp("fragile")) as sandbox:
        sandbox.up(instances=2, mysql="5.6")
        made = Ledger(sandbox, "fragile", 10_000)
        made.fill()
        yield made


@pytest.fixture
def migration(ledger: Ledger, tmp_path: Path) -> Migration:
    """A migration of the ledger whose target is there and empty."""
    return Migration(ledger, tmp_path).create()


@pytest.fixture
def migrations(tmp_path: Path) -> Callable[..., Migration]:
    """Makes migrations with empty targets: `migrations(ledger, chunk_rows=1000, target=url)`."""

    def make(ledger: Ledger, **options: Any) -> Migration:
        return Migration(ledger, tmp_path, **options).create()

    return make
