"""What lifting a fence needs, in a file of this machine: for when the target is away, and the journal with it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from platformdirs import user_state_path

from migrate.config import Config
from migrate.errors import naming


class Note:
    """The facts of the run under way. They are on disk before anything is done that needs them to be undone."""

    def __init__(self, config: Config):
        self.path = user_state_path("migrate", ensure_exists=True) / f"cutover-{config.name}.json"

    def write(self, facts: dict[str, Any]) -> None:
        """Replaces what is there."""
        fresh = Path(f"{self.path}.part")
        with naming(fresh):
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(facts, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)

    def read(self) -> dict[str, Any]:
        """The facts; {} if there are none."""
        try:
            found: dict[str, Any] = json.loads(self.path.read_text())
        except FileNotFoundError:
            return {}
        return found

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
