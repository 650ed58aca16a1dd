"""When it is sure that no row on the target is one which another shard is still to give up."""

from __future__ import annotations

from migrate.config import Config
from migrate.db import connect
from migrate.position import Position, reached, standing
from migrate.state import State
from migrate.sync.marks import Marks


class Calm:
    """The copy may have read a row on one shard whose leaving of another is replayed later, and the replay may write
    one over the other. What was written over had left its shard by then: before where its instance stood when all
    instances were out of the copy's time."""

    def __init__(self, config: Config, instance: str):
        self._config, self._instance = config, instance
        self._from: Position | None = None

    def reached(self, position: Position) -> bool:
        """Whether that time is over at a position of the instance."""
        if self._from is None:
            with connect(self._config.target, patience_s=self._config.run.patience_s) as session:
                for name, consistent in State(self._config.name, session).consistent().items():
                    marks = Marks(self._config.name, name).read(session)
                    if not all(reached(m.position, consistent) for m in marks):
                        return False
            with connect(self._config.source(self._instance)) as source:
                self._from = standing(source, self._instance)
        return reached(position, self._from)
