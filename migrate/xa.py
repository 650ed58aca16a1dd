"""XA transactions that are prepared on an instance: neither committed nor rolled back yet.

Servers from MySQL 5.7.7 and MariaDB 10.5 on write what such a transaction changed to the binlog when it is prepared,
and whether it is committed further on. Older ones write all of it at its COMMIT, as of any other transaction.
"""

from __future__ import annotations

import re

from migrate.db import Session
from migrate.errors import ServerError

_MAY_NOT = 1401  # MySQL's answer to who lacks XA_RECOVER_ADMIN
_MARIADB, _MYSQL = (10, 5, 0), (5, 7, 7)


def prepared(session: Session) -> set[str] | None:
    """The ids of those that are prepared now and stand in the binlog already, as positions have them: hexadecimal id,
    branch and format, with dots between. None if the account may not know."""
    version = str(session.value("SELECT VERSION()"))
    mariadb = "MariaDB" in version
    digits = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if not digits or tuple(map(int, digits.groups())) < (_MARIADB if mariadb else _MYSQL):
        return set()
    try:
        rows = session.query("XA RECOVER" if mariadb else "XA RECOVER CONVERT XID")
    except ServerError as error:
        if error.number != _MAY_NOT:
            raise
        return None
    found = set()
    for form, size, branch_size, data in rows:
        text = str(data)
        raw = text.encode("utf-8", "surrogateescape") if mariadb else bytes.fromhex(text.removeprefix("0x"))
        found.add(f"{raw[:size].hex()}.{raw[size : size + branch_size].hex()}.{form}")
    return found


def in_sql(xid: str) -> str:
    """The id as XA COMMIT and XA ROLLBACK take it."""
    name, branch, form = xid.split(".")
    return f"X'{name}',X'{branch}',{form}"
