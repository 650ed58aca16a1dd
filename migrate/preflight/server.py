"""What a check needs to know of a server, read once."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from migrate.db import Session

Flavor = Literal["MySQL", "MariaDB", "TiDB"]


@dataclass(frozen=True)
class Server:
    """A server that was reached. `ahead_s`: how far its clock is ahead of ours."""

    name: str
    session: Session
    flavor: Flavor
    version: tuple[int, ...]
    version_text: str
    variables: dict[str, str]
    ahead_s: float

    def variable(self, name: str, missing: str = "") -> str:
        return self.variables.get(name, missing)

    def number(self, name: str, missing: int = 0) -> int:
        return int(Decimal(self.variables.get(name) or missing))  # MariaDB has expire_logs_days = 0.000000


def look(name: str, session: Session) -> Server:
    """Reads version, global variables and clock. ServerError if the server refuses."""
    text = str(session.value("SELECT VERSION()"))
    flavor: Flavor = "TiDB" if "TiDB" in text else "MariaDB" if "MariaDB" in text else "MySQL"
    digits = re.search(r"TiDB-v(\d+(?:\.\d+)*)", text) if flavor == "TiDB" else re.match(r"(\d+(?:\.\d+)*)", text)
    version = tuple(int(n) for n in digits[1].split(".")) if digits else (0,)
    variables = {str(n).lower(): str(v) for n, v in session.query("SHOW GLOBAL VARIABLES")}
    before = time.time()
    there = float(session.value("SELECT UNIX_TIMESTAMP(NOW(6))"))
    ahead = there - (before + time.time()) / 2
    return Server(name, session, flavor, version, text, variables, ahead)
