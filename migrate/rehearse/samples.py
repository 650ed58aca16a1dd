"""Looks at the migration from aside while it goes on: lag, rate and backlog, for the report's charts."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from migrate.config import Config
from migrate.db import Session
from migrate.errors import ConnectionLost, ServerError

EVERY_S = 0.5
_FRESH_S = 3.0


@dataclass(frozen=True)
class Sample:
    """A moment (`at`: epoch seconds). Lag (s) and rate (changes/s) by way: each instance's sync, and 'reverse'."""

    at: float
    lag_s: dict[str, float]
    rate: dict[str, float]

    def document(self) -> dict[str, Any]:
        return dict(vars(self))


class Sampler(threading.Thread):
    """Takes a sample twice a second, from migrate_meta alone. A context manager. A target that is away is a gap."""

    def __init__(self, config: Config):
        super().__init__(daemon=True, name="sampler")
        self._config = config
        self._ended = threading.Event()
        self.samples: list[Sample] = []

    def run(self) -> None:
        session: Session | None = None
        while not self._ended.wait(EVERY_S):
            try:
                session = session or Session(self._config.target)
                self.samples.append(self._look(session))
            except ServerError as error:
                if session is not None and isinstance(error, ConnectionLost):
                    session.close()
                    session = None
        if session is not None:
            session.close()

    def _look(self, session: Session) -> Sample:
        lag: dict[str, float] = {}
        rate: dict[str, float] = {}
        for instance, state in session.query(
            "SELECT instance, state FROM migrate_meta.sync_status WHERE migration = %s "
            "AND heartbeat > NOW(6) - INTERVAL %s SECOND",
            (self._config.name, _FRESH_S),
        ):
            told = json.loads(state)
            if told["state"] != "stopped" and told["lag_s"] is not None:
                lag[instance], rate[instance] = float(told["lag_s"]), float(told["rate"])
        with suppress(ServerError):  # until the double write is installed
            for age, per_s in session.query(
                "SELECT lag_s, rows_per_s FROM migrate_meta.delivery WHERE migration = %s AND source = %s "
                "AND at > NOW(6) - INTERVAL %s SECOND",
                (self._config.name, self._config.target.name, _FRESH_S),
            ):
                lag["reverse"], rate["reverse"] = float(age), float(per_s)
        return Sample(time.time(), lag, rate)

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self.join(timeout=10)
