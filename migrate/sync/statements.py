"""What the statements of an instance's binlog do to its tables, and to the target: carried, decided about, or held."""

from __future__ import annotations

import logging
import re
from typing import Any

from migrate.config import Config
from migrate.errors import ConnectionLost, ServerError, TryAgain
from migrate.model import Shard, Target
from migrate.state import State
from migrate.sync.batch import Batch
from migrate.sync.change import Change
from migrate.sync.evolve import Apply, Hold
from migrate.sync.resolution import Held
from migrate.sync.router import Router

log = logging.getLogger("migrate")

_IS_DML = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE)\b", re.IGNORECASE)


class Statements:
    """Takes statements into batches that have nothing before them. `held`: what the operator decided about the one that
    a table was held at; it is good for that one, once."""

    def __init__(self, config: Config, router: Router, held: Held | None):
        self._config, self._router, self._held = config, router, held

    def take(self, changes: list[tuple[Change, Shard, Target | None]], batch: Batch) -> None:
        """Takes the changes of a statement in: the target is brought to them, or the table is held in the batch."""
        for change, shard, target in changes:
            if not self._router.passes(target) or target in batch.doubts:
                continue
            if target is None or self._agreed(change, shard, target, batch):
                self._router.take(change, shard, target, batch)

    def _agreed(self, change: Change, shard: Shard, target: Target, batch: Batch) -> bool:
        """Brings the target where the change wants it. False if the table is held for it."""
        last = ""
        while True:
            decision = self._router.decide(change, shard, target)
            if isinstance(decision, Apply) and decision.statements[0] != last:
                last = decision.statements[0]
                self._router.run_on_target(last)
                self._journal("ddl applied", target, change, shard, applied=last, why=decision.why)
                continue
            if isinstance(decision, Apply):
                decision = Hold(f"the target is not changed by {last}", "Look at it, then go on, skip or replace.")
            if not isinstance(decision, Hold):
                return True
            held, self._held = self._held, None
            if held is None or held.statement != change.statement or held.resolution not in ("skip", "replace"):
                _hold(batch, target, f"{decision.reason} {decision.remedy}".strip(), change)
                return False
            if held.replacement and (failed := self._replaced(held.replacement, change, batch)):
                _hold(batch, target, f"{shard}: the replacement failed: {failed}", change)
                return False
            self._journal(f"ddl: {held.resolution}", target, change, shard, applied=held.replacement)
            return True

    def _replaced(self, statement: str, change: Change, batch: Batch) -> str:
        """Runs what the operator wants instead: changes of rows in the transaction of the position, DDL, which commits
        by itself, before it. Gives what the target has against it."""
        if _IS_DML.match(statement):
            batch.replacements.append((statement, change.statement))
            return ""
        try:
            self._router.run_on_target(statement)
        except (ConnectionLost, TryAgain):
            raise
        except ServerError as error:
            return str(error)
        return ""

    def _journal(self, event: str, target: Target, change: Change, shard: Shard, **detail: Any) -> None:
        State.settled(
            self._config,
            lambda state: state.journal(
                event, target=str(target), shard=str(shard), statement=change.statement, **detail
            ),
        )


def _hold(batch: Batch, target: Target, reason: str, change: Change) -> None:
    log.warning("%s is held: %s", target, reason)
    batch.hold(target, reason, change.statement)
