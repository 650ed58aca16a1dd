"""The double write on MySQL 9.7: what MySQL 5.6 was shown to do, capture, phases and the way back, shown there too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from migrate.doublewrite import DoubleWrite
from migrate.sandbox import Sandbox
from tests.integration.doublewrite_scene import Scene, scene
from tests.integration.test_doublewrite_capture import (  # noqa: F401
    test_asyncio,
    test_core_and_bulk_changes_by_any_condition,
    test_plain_dbapi_and_autocommit,
    test_savepoints_and_rollbacks_leave_nothing,
    test_text_with_literals_upserts_replace_and_ignore,
    test_the_orm_writes_both_sides,
    test_the_outbox_holds_exact_images,
    written,
)
from tests.integration.test_doublewrite_interleaved import returned_to_their_shards
from tests.integration.test_doublewrite_reverse import all_phases_and_back

pytestmark = pytest.mark.soak  # much like the same on MySQL 5.6


@pytest.fixture(scope="module")
def stage(sandbox97: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(sandbox97.sources, sandbox97.target, tmp_path_factory.mktemp("dw")) as made:
        made.ready()
        made.phase("shadow")
        yield made


@pytest.fixture(scope="module")
def ledger(stage: Scene) -> Iterator[DoubleWrite]:
    made = stage.open()
    yield made
    made.close()


@pytest.mark.timeout(300)
def test_through_all_phases_and_back(sandbox97: Sandbox, tmp_path: Path) -> None:
    with scene(sandbox97.sources, sandbox97.target, tmp_path) as made:
        all_phases_and_back(made.ready())


@pytest.mark.timeout(300)
def test_each_row_returns_to_its_shard(sandbox97: Sandbox) -> None:
    """Byte for byte, with interleaved keys."""
    returned_to_their_shards(sandbox97, instances=1)
