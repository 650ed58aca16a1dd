"""How long a server is waited for while the application waits for us."""

from __future__ import annotations

from dataclasses import replace

from migrate.config import Config
from migrate.errors import ConnectionLost, OutcomeUnknown, TryAgain

AWAY = (ConnectionLost, OutcomeUnknown, TryAgain)  # it may come back


def brisk(config: Config) -> Config:
    """The config for a freeze: no server is waited for longer than the freeze may last."""
    seconds = config.cutover.freeze_s
    return replace(
        config,
        sources=tuple(replace(s, answer_s=seconds) for s in config.sources),
        target=replace(config.target, answer_s=seconds),
        run=config.run.model_copy(update={"patience_s": int(min(config.run.patience_s, seconds / 4))}),
    )
