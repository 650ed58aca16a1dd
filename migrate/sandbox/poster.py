"""Commits jobs on the shards as an application would: with row locks, retries, and no leg left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol

from migrate.config import Endpoint
from migrate.db import Session, connect
from migrate.errors import MigrateError, OutcomeUnknown, ServerError, TryAgain
from migrate.model import quote
from migrate.sandbox.jobs import Change, Job, Part, Row
from migrate.sandbox.workload import Workload

Outcome = Literal["posted", "failed", "in_transit"]
_DUPLICATE = 1062
_TRIES = 5


class Moved(MigrateError):
    """A row isn't in the state that a change of it begins with."""


class Writer(Protocol):
    """A transaction on one server, as a session has it."""

    def query(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...
    def execute(self, sql: str, args: Sequence[Any] = ()) -> int: ...


class Poster:
    """Posts for one thread. `give_up` ends even the retries of a posting that is half in."""

    fenced = 0  # how often a write was refused by a fence, and tried again

    def __init__(self, workload: Workload, give_up: threading.Event, on_error: Callable[[str], None]):
        self._account, self._entry = workload.ledger.role.account, workload.ledger.role.entry
        self._account_table, self._entry_table = workload.account_table, workload.entry_table
        self._give_up, self._on_error = give_up, on_error
        self._sessions: dict[Endpoint, Session] = {}

    def post(self, job: Job) -> Outcome:
        """Commits part by part. If the first fails, nothing is posted; the others are tried until they are in."""
        first, *rest = job.parts
        if not self._begin(first):
            return "failed"
        return "posted" if all([self._insist(part) for part in rest]) else "in_transit"

    def close(self) -> None:
        """Closes the connections."""
        while self._sessions:
            self._sessions.popitem()[1].close()

    def _begin(self, part: Part) -> bool:
        """True once the part is in, False if it is certain that it isn't."""
        for _ in range(_TRIES):
            try:
                self._commit(part)
                return True
            except OutcomeUnknown as error:
                self._note(part, error)
                return self._insist(part, perhaps=True)
            except TryAgain as error:
                self._note(part, error)
            except MigrateError as error:
                self._note(part, error)
                return False
        return False

    def _insist(self, part: Part, perhaps: bool = False) -> bool:
        """Tries until the part is in, or until giving up. `perhaps`: an earlier try may have put it in."""
        while True:
            try:
                self._commit(part)
                return True
            except MigrateError as error:
                if perhaps and (isinstance(error, Moved) or getattr(error, "number", None) == _DUPLICATE):
                    return True
                perhaps = perhaps or isinstance(error, OutcomeUnknown)
                self._note(part, error)
            if self._give_up.wait(0.05):
                return False

    def _commit(self, part: Part) -> None:
        """One transaction: lock the accounts in the order of their ids, change them, insert the rows."""
        with self.transaction(part) as session:
            if part.legs:
                self._apply(session, part)
            for table, row in self.rows(part, session):
                _insert(session, table, [row])
            for change in part.changes:
                _change(session, self.table(part, change.table), change)

    @contextmanager
    def transaction(self, part: Part) -> Iterator[Writer]:
        """A transaction on the part's server, committed at the end of the block."""
        session = self._session(part.place.source)
        with session.transaction():
            yield session

    def table(self, part: Part, target: str) -> str:
        """The quoted name of the part's table that statements use."""
        return part.place.table(target)

    def rows(self, part: Part, session: Writer) -> Iterator[tuple[str, Row]]:
        """The part's rows as they are written in that transaction, each with the quoted name of its table."""
        del session
        return ((self.table(part, table), row) for table, row in part.rows)

    def _apply(self, session: Writer, part: Part) -> None:
        role, table = self._account, self.table(part, self._account_table)
        counts = quote(role.sequence) if role.sequence else "0"
        ids = sorted({leg.account for leg in part.legs})
        held = {}
        # One by one: on the sandbox's TiDB those who wait for several rows in one statement wake each other up, again
        # and again, until one of them has tried too often. One row is waited for in a queue.
        for id in ids:
            found = session.query(
                f"SELECT {quote(role.balance)}, {counts} FROM {table} WHERE {quote(role.id)} = %s FOR UPDATE", [id]
            )
            if not found:
                raise MigrateError(f"{table}: account {id} is gone")
            held[id] = found[0]
        entries = []
        for leg in part.legs:
            before, sequence = held[leg.account]
            after = before + leg.change
            held[leg.account] = after, sequence + 1
            entries.append(leg.entry | self._applied(str(before), str(after), str(sequence + 1)))
        for id, (balance, sequence) in held.items():
            number = f", {quote(role.sequence)} = %s" if role.sequence else ""
            session.execute(
                f"UPDATE {table} SET {quote(role.balance)} = %s{number} WHERE {quote(role.id)} = %s",
                (balance, *([sequence] if role.sequence else []), id),
            )
        _insert(session, self.table(part, self._entry_table), entries)

    def _applied(self, before: str, after: str, sequence: str) -> Row:
        role = self._entry
        values = {role.balance_before: before, role.balance_after: after, role.sequence: sequence}
        return {column: value for column, value in values.items() if column}

    def _session(self, source: Endpoint) -> Session:
        if source not in self._sessions:
            self._sessions[source] = connect(source)
        return self._sessions[source]

    def _note(self, part: Part, error: MigrateError) -> None:
        """Counts the error. The next try has a new connection, so that nothing of this one's transaction lives on."""
        self._on_error(f"{part.place.source.name}: {error.message if isinstance(error, ServerError) else error}")
        if not isinstance(error, TryAgain) and part.place.source in self._sessions:
            self._sessions.pop(part.place.source).close()


def _insert(session: Writer, table: str, rows: list[Row]) -> None:
    one = f"({', '.join(['%s'] * len(rows[0]))})"
    session.execute(
        f"INSERT INTO {table} ({', '.join(map(quote, rows[0]))}) VALUES {', '.join([one] * len(rows))}",
        [value for row in rows for value in row.values()],
    )


def _change(session: Writer, table: str, change: Change) -> None:
    sets = [f"{quote(column)} = %s" for column in change.sets]
    sets += [f"{quote(column)} = {quote(column)} + %s" for column in change.adds]
    where = f"{quote(change.key)} IN ({', '.join(['%s'] * len(change.ids))})"
    values = [*change.sets.values(), *change.adds.values(), *change.ids]
    if change.guard:
        where += f" AND {quote(change.guard[0])} = %s"
        values.append(change.guard[1])
    if session.execute(f"UPDATE {table} SET {', '.join(sets)} WHERE {where}", values) != len(change.ids):
        raise Moved(f"{table}: not all of {change.ids[:5]} are as they were left")
