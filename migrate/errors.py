"""What can go wrong, told apart by type and by server error number, in one place.

Exit codes are the command contract: 0 all well, 1 a mismatch or a no-go, 2 usage or config,
3 could not finish, 4 outcome unknown, 130 interrupted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MISMATCH, USAGE, UNFINISHED, UNKNOWN, INTERRUPTED = 1, 2, 3, 4, 130


class MigrateError(Exception):
    """It could not finish; the text says what, where, and what to do next."""

    exit_code = UNFINISHED


class ConfigError(MigrateError):
    """Usage or config is wrong; nothing was touched."""

    exit_code = USAGE


class NoGo(MigrateError):
    """A check failed: the data or the servers are not fit for the step."""

    exit_code = MISMATCH


class OutcomeUnknown(MigrateError):
    """A COMMIT was sent, its answer was lost, and it could not be settled."""

    exit_code = UNKNOWN


class Interrupted(MigrateError):
    """The operator or the scheduler asked to stop; what was committed stays committed."""

    exit_code = INTERRUPTED


class ServerError(MigrateError):
    """A database answered with an error or went away. `number` is the server's or client's own."""

    def __init__(self, number: int, message: str, where: str = ""):
        self.number = number
        self.message = message
        self.where = where
        super().__init__(f"{where + ': ' if where else ''}{message} (error {number})")

    def __reduce__(self) -> tuple[type, tuple[int, str, str]]:
        return type(self), (self.number, self.message, self.where)  # crosses process borders


class ConnectionLost(ServerError):
    """The connection is gone; what it was doing may or may not have happened."""


class TryAgain(ServerError):
    """The server rolled the transaction back for a passing reason; the same transaction may be sent again."""


class AccessDenied(ServerError):
    """Wrong user, password or privilege; waiting doesn't help."""

    exit_code = USAGE


# Client errors (2000-2999) and the server's own words for "this connection ends"; 8501: TiDB doesn't know what became
# of a COMMIT. Not 1153: a packet that is too large once is too large again.
_LOST = frozenset({0, 1053, 1077, 1078, 1079, 1080, 1152, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161,
                   1184, 1317, 2000, 2002, 2003, 2006, 2013, 2014, 2026, 2055, 3169, 4031, 8501})  # fmt: skip
# Deadlock, lock wait, write conflict, schema changed, region and placement-driver trouble of TiDB.
_AGAIN = frozenset({1205, 1213, 1020, 8002, 8005, 8022, 8027, 8028, 9001, 9002, 9003, 9004, 9005, 9006, 9007})
# TiDB gives many errors this number; of them only this one, of a row that too many wait for, may be tried again.
_UNNUMBERED, _HOT_ROW = 1105, "pessimistic lock retry limit reached"
_DENIED = frozenset({1044, 1045, 1130, 1142, 1143, 1227, 1251, 1370, 1698, 2054, 2059, 2061})


def classify(number: int, message: str, where: str = "") -> ServerError:
    """The error of that number as the type that says what may be done about it."""
    message = redact(message)
    if number in _LOST:
        return ConnectionLost(number, message, where)
    if number in _AGAIN or (number == _UNNUMBERED and _HOT_ROW in message):
        return TryAgain(number, message, where)
    if number in _DENIED:
        return AccessDenied(number, message, where)
    return ServerError(number, message, where)


_URL_SECRET = re.compile(r"(\b[\w+.-]+://[^\s:/@]*:)\S*(@)")


def redact(text: str) -> str:
    """The text with the password of every URL in it replaced; greedy, since a raw password may hold an @."""
    return _URL_SECRET.sub(r"\1***\2", text)


@contextmanager
def naming(place: Path | str) -> Iterator[None]:
    """Turns trouble with files (a full disk, a lost mount, no permission) into a MigrateError that names the place."""
    try:
        yield
    except OSError as error:
        raise MigrateError(
            f"{error.filename or place}: {error.strerror or error}; mend that, and the same command goes on from here"
        ) from None
