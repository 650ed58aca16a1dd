"""When it is sure that no row on the target is one which another shard is still to give up."""

from __future__ import annotations

from migrate.config import Config
from migrate.db import connect
from migrate.position import Position, reached, standing
from migrate.state import State
from migrate.sync.asking import Asking
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
            self._from = self._over()
        return self._from is not None and reached(position, self._from)

    def _over(self) -> Position | None:
        """Where it is over, if that is known by now. Kept for the next start: asked anew, the source would always stand
        a little further on."""
        with connect(self._config.target, patience_s=self._config.run.patience_s) as session:
            state = State(self._config.name, session)
            if (known := state.calm(self._instance)) is not None:
                return known
            for name, consistent in state.consistent().items():
                marks = Marks(self._config.name, name).read(session)
                if not all(reached(m.position, consistent) for m in marks):
                    return None
            with Asking(self._config, self._instance) as source:
                state.save_calm(self._instance, standing(source, self._instance))
            return state.calm(self._instance)
