"""A DB-API connection that double-writes: it passes everything on to the driver's own, and sees every statement.

SQLAlchemy (its ORM, Core, text, sync or async) and plain DB-API code all come through here, so nothing passes unseen.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

from migrate.doublewrite.capture import Capture
from migrate.doublewrite.epoch import Epoch, Side, gate
from migrate.doublewrite.errors import Fenced, Refused, WrongPrimary
from migrate.doublewrite.outbox import SLOTS, insert
from migrate.doublewrite.plan import Plan
from migrate.doublewrite.server import Server
from migrate.doublewrite.sharding import Key
from migrate.errors import ConnectionLost, TryAgain, classify

_ROWS_AT_ONCE = 200
_UNREADABLE = ("ANSI_QUOTES", "NO_BACKSLASH_ESCAPES")  # modes in which a statement's text means something else
_LOCK_WAIT = 1205  # undoes the statement, not the transaction


class Connection:
    """Wraps a driver's connection to one server. `key`: the sharding key that target names stand for here."""

    def __init__(self, raw: Any, server: Server):
        self._raw, self._server = raw, server
        self.key: Key | None = None
        self.reading: Callable[[str, Any], None] | None = None  # told of each query; nothing but queries is let through
        self._slot = random.randrange(SLOTS) if server.is_target else 0
        self._forget()

    @property
    def side(self) -> Side:
        """The side that it is on: tables whose columns are mapped are named as they are there."""
        return self._server.side

    def _forget(self) -> None:
        """A transaction is over."""
        self._epoch: Epoch | None = None
        self._capture: Capture | None = None
        self._begun = False
        self._doomed = ""

    def cursor(self, *args: Any, **options: Any) -> Cursor:
        return Cursor(self, self._raw.cursor(*args, **options))

    def begin(self) -> Any:
        return self.control(Plan("begin", "BEGIN"), self._raw.cursor(), None)

    def commit(self) -> None:
        """Puts what was changed into the outbox, commits, and sends it to the secondary."""
        if self._doomed:
            raise Refused(f"nothing is committed, roll back: {self._doomed}")
        changes, epoch = [], self._epoch
        if self._capture is not None and epoch is not None:
            try:
                changes = self._capture.changes(epoch.number)
                cursor = self._raw.cursor()
                for i in range(0, len(changes), _ROWS_AT_ONCE):
                    cursor.execute(*insert(self._server.migration, changes[i : i + _ROWS_AT_ONCE]))
                cursor.close()
            except BaseException as error:
                self._doomed = str(error) or type(error).__name__
                raise
        try:
            self._raw.commit()
        finally:
            self._forget()
        if changes and epoch is not None:
            self._server.committed(self._server, epoch, changes)

    def rollback(self) -> None:
        self._forget()
        self._raw.rollback()

    def close(self) -> None:
        self._forget()
        self._raw.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def run(self, cursor: Any, sql: Any, args: Any) -> Any:
        """Runs a statement on one of the driver's cursors."""
        plan = self._read(sql, args)
        if plan.kind in ("begin", "commit", "rollback", "savepoint", "rollback_to"):
            return self.control(plan, cursor, args)
        text = plan.render(self._rename)
        if self.reading is not None:
            if plan.table or plan.locks:
                raise Refused(f"a session for reading writes and locks nothing: {' '.join(plan.text.split())[:200]}")
            if plan.kind == "read" and plan.tables:
                self.reading(plan.text, args)
        elif plan.locks and self._is_ours(plan) and (self._begun or not self._commits_by_itself()):
            # who held a row and then stood at the gate would wait for a change of the phase, which waits for those
            # who passed before it and may want that row
            self._pass_gate()
        written = self._server.written(self._rename(plan.table)) if plan.table else None
        if written is None:
            return self._guarded(lambda: cursor.execute(text) if args is None else cursor.execute(text, args))
        return self._change(lambda c: c.run(cursor, plan, written, args), lambda: cursor.execute(text, args))

    def run_many(self, cursor: Any, sql: Any, rows: Sequence[Any]) -> Any:
        """Runs a statement once for each row of parameters."""
        if not rows:
            return cursor.executemany(sql, rows)
        plan = self._read(sql, rows[0])
        text = plan.render(self._rename)
        written = self._server.written(self._rename(plan.table)) if plan.table else None
        if written is None:
            return self._guarded(lambda: cursor.executemany(text, rows))
        return self._change(lambda c: c.run_many(cursor, plan, written, rows), lambda: cursor.executemany(text, rows))

    def control(self, plan: Plan, cursor: Any, args: Any) -> Any:
        """BEGIN, COMMIT, ROLLBACK and savepoints, as text or as the driver's methods."""
        if plan.kind == "commit":
            return self.commit()
        if plan.kind == "rollback":
            return self.rollback()
        if plan.kind == "begin":
            if self._epoch is not None:
                raise Refused("BEGIN would end the open transaction unseen: commit or roll back first")
            self._forget()
            self._begun = True
        if self._capture is not None:
            if plan.kind == "savepoint":
                self._capture.savepoint(plan.savepoint)
            elif plan.kind == "rollback_to":
                self._capture.back_to(plan.savepoint)
        return self._guarded(lambda: cursor.execute(plan.text) if args is None else cursor.execute(plan.text, args))

    def _read(self, sql: Any, args: Any) -> Plan:
        if self._doomed:
            raise Refused(f"the transaction is lost, roll back: {self._doomed}")
        return self._server.plan(sql.decode() if isinstance(sql, bytes) else str(sql), args is not None)

    def _is_ours(self, plan: Plan) -> bool:
        """Whether a query names a table that is double-written."""
        return any(self._rename(name) in self._server.tables for name in plan.tables)

    def _rename(self, name: tuple[str, str]) -> tuple[str, str]:
        return self._server.rename(name, self.key)

    def _change(self, captured: Any, plain: Any) -> Any:
        """Runs a change in a transaction that has passed the gate; one of its own where the connection commits by
        itself."""
        alone = not self._begun and self._commits_by_itself()
        if alone:
            self._guarded(lambda: self._raw.cursor().execute("BEGIN"))
        try:
            self._pass_gate()
            capture = self._capture
            result = self._guarded(plain if capture is None else lambda: captured(capture))
        except BaseException:
            if alone:
                self.rollback()
            raise
        if alone:
            self.commit()
        return result

    def _pass_gate(self) -> None:
        """Reads and locks the epoch, once a transaction. Fenced or WrongPrimary if this server may not be written."""
        if self._epoch is not None:
            return
        cursor = self._raw.cursor()
        self._guarded(lambda: cursor.execute(gate(self._server.is_target), (self._server.migration, self._slot)))
        row = cursor.fetchone()
        cursor.close()
        row = tuple(row.values()) if isinstance(row, dict) else row
        if row is None:
            raise Refused(
                f"{self._server.name}: double-write isn't installed here: `migrate double-write install --execute`"
            )
        epoch = Epoch.of(row)
        self._server.seen(epoch)
        if modes := [m for m in _UNREADABLE if m in str(row[5])]:
            raise Refused(
                f"{self._server.name}: sql_mode {', '.join(modes)} of the session: statements can't be read so"
            )
        if not epoch.writable:
            self._raw.rollback()  # the lock of the gate would hold up the very change that lifts the fence
            self._doomed = f"{self._server.name} may not be written: {epoch}"
            here = "target" if self._server.is_target else "source"
            if epoch.primary != here:
                raise WrongPrimary(f"{self._server.name} isn't primary: {epoch}; open a new session")
            raise Fenced(f"writes to {self._server.name} are fenced: {epoch}; roll back and try again")
        self._epoch = epoch
        if epoch.captures:
            self._capture = Capture(self._server, self._raw.cursor(), self.key)

    def _commits_by_itself(self) -> bool:
        for connection in (self._raw, getattr(self._raw, "driver_connection", None)):
            ask = getattr(connection, "get_autocommit", None)
            if ask is not None:
                return bool(ask())
        return bool(getattr(self._raw, "autocommit", False))

    def _guarded(self, work: Any) -> Any:
        """Does the work; after an error that took the transaction with it, nothing but a rollback is let through."""
        try:
            return work()
        except Refused:
            self._doomed = "a statement was refused" if self._epoch is not None else ""
            raise
        except Exception as error:
            number = error.args[0] if error.args else None
            kind = classify(number, str(error)) if isinstance(number, int) else error
            if isinstance(kind, TryAgain | ConnectionLost) and number != _LOCK_WAIT:
                self._doomed = f"the server rolled it back: {error}"
            raise


class Cursor:
    """Wraps a driver's cursor."""

    def __init__(self, connection: Connection, raw: Any):
        self.connection, self._raw = connection, raw

    def execute(self, sql: Any, args: Any = None) -> Any:
        return self.connection.run(self._raw, sql, args)

    def executemany(self, sql: Any, rows: Sequence[Any]) -> Any:
        return self.connection.run_many(self._raw, sql, rows)

    def callproc(self, name: str, *_: Any) -> None:
        raise Refused(f"double-write refuses the stored procedure {name}: it may write where nobody sees it")

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *exc: object) -> None:
        self._raw.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._raw)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)
