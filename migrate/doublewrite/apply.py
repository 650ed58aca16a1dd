"""Applies changes of one side to the other: each exactly once, by a row of `applied` in the same transaction, and only
to a row that is as the change found it. Forward and reverse are the same but for the translation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from migrate.db import Session
from migrate.doublewrite.errors import Refused
from migrate.doublewrite.outbox import SCHEMA, Change
from migrate.doublewrite.plan import Name
from migrate.doublewrite.router import Image, Router
from migrate.doublewrite.server import Written
from migrate.errors import ServerError

_DUPLICATE = 1062
_AT_ONCE = 200


class Conflict(Exception):
    """The other side isn't as the changes found it; nothing was applied. Reasons by change."""

    def __init__(self, reasons: Mapping[Change, str]):
        super().__init__("; ".join(f"{c}: {r}" for c, r in reasons.items()))
        self.reasons = dict(reasons)


class _Raced(Exception):
    """Somebody else has applied one of the changes."""


@dataclass(eq=False)
class _Step:
    """What happens to one row of the other side: the first change found it as `before`, the last left it as `after`."""

    written: Written
    key: tuple[str, ...]
    before: Image | None
    after: Image | None
    changes: list[Change]
    renewed: bool = False  # deleted and inserted again


class Applier:
    """Applies to one server. `tables` are that server's."""

    def __init__(self, migration: str, router: Router, tables: Mapping[Name, Written]):
        self._migration, self._router, self._tables = migration, router, tables
        self._shards = {str(s): s for s in router.shards}

    def table(self, name: Name) -> Written:
        """A table of this server."""
        return self._tables[name]

    def deliver(self, session: Session, changes: Sequence[Change]) -> dict[Change, str]:
        """Applies what can be applied, in order; the rest with reasons. ServerError's subclasses as they come.

        After a lost answer to COMMIT, calling it again settles what became of it.
        """
        refused: dict[Change, str] = {}
        todo = list(changes)
        while todo:
            try:
                self.apply(session, todo)
                return refused
            except Conflict as conflict:
                bad = {c.row_hash for c in conflict.reasons}
                for change in todo:
                    if change in conflict.reasons:
                        refused[change] = conflict.reasons[change]
                    elif change.row_hash in bad:
                        refused[change] = "an earlier change of the same row can't be applied"
                todo = [c for c in todo if c.row_hash not in bad]
        return refused

    def apply(self, session: Session, changes: Sequence[Change]) -> None:
        """Applies all of them in one transaction, or raises Conflict."""
        careful = False
        while True:
            try:
                return self._attempt(session, changes, careful=careful)
            except _Raced:  # others have applied some of them meanwhile: fewer are left
                careful = True
            except ServerError as error:
                if error.number != _DUPLICATE:
                    raise
                if careful:
                    raise Conflict(self._blame(session, changes, str(error))) from None
                careful = True

    def _blame(self, session: Session, changes: Sequence[Change], text: str) -> dict[Change, str]:
        """Which of them meets a unique key that another row has: those that fail alone."""
        reason = f"another row has its unique key: {text}"
        if len(changes) == 1:
            return {changes[0]: reason}
        blamed: dict[Change, str] = {}
        rows: dict[int, list[Change]] = {}
        for change in changes:
            rows.setdefault(change.row_hash, []).append(change)
        if len(rows) == 1:
            return dict.fromkeys(changes, reason)
        for some in rows.values():
            try:
                self.apply(session, some)
            except Conflict as conflict:
                blamed |= conflict.reasons
        return blamed or {changes[0]: reason}

    def _attempt(self, session: Session, changes: Sequence[Change], *, careful: bool) -> None:
        with session.transaction():
            known = self.applied(session, changes) if careful else ()
            todo = [c for c in changes if c not in known]
            if not todo:
                return
            self._mark(session, todo)
            steps = self._steps(todo)
            by_table: dict[str, list[_Step]] = {}
            for step in steps:
                by_table.setdefault(step.written.sql, []).append(step)
            inserts: list[tuple[Written, list[Image]]] = []
            for some in by_table.values():
                written = some[0].written
                self._make_way(session, written, some, careful)
                inserts.append((written, [s.after for s in some if s.after is not None]))
            for written, images in inserts:
                for i in range(0, len(images), _AT_ONCE):
                    session.execute(*written.images.insert(written.sql, images[i : i + _AT_ONCE]))

    def _make_way(self, session: Session, written: Written, steps: list[_Step], careful: bool) -> None:
        """Checks that the rows are as the changes found them, and deletes them; what has happened already is left out
        of `steps`. New rows are only looked for when careful: their INSERT fails if they are there."""
        looked = [s for s in steps if careful or s.before is not None]
        current = self.current(session, written, [s.key for s in looked], lock=True)
        wrong: dict[Change, str] = {}
        for step in looked:
            now = current.get(step.key)
            if not written.images.unlike(now, step.after):
                steps.remove(step)
            elif columns := written.images.unlike(now, step.before):
                wrong |= dict.fromkeys(step.changes, _reason(now, step.before, columns))
            elif not step.renewed:
                step.after = written.images.keeping(now, step.after)
        if wrong:
            raise Conflict(wrong)
        gone = [s.key for s in steps if s.before is not None]
        for i in range(0, len(gone), _AT_ONCE):
            condition, values = written.images.where(gone[i : i + _AT_ONCE])
            session.execute(f"DELETE FROM {written.sql} WHERE {condition}", values)

    def current(
        self, session: Session, written: Written, keys: Sequence[tuple[str, ...]], *, lock: bool = False
    ) -> dict[tuple[str, ...], Image]:
        """The rows of this server with those keys."""
        found: dict[tuple[str, ...], Image] = {}
        for i in range(0, len(keys), _AT_ONCE):
            condition, values = written.images.where(keys[i : i + _AT_ONCE])
            sql = f"SELECT {written.images.select} FROM {written.sql} WHERE {condition}"
            for row in session.query(sql + (" FOR UPDATE" if lock else ""), values):
                image = written.images.read(row)
                found[written.images.key_of(image)] = image
        return found

    def _steps(self, changes: Iterable[Change]) -> list[_Step]:
        steps: dict[tuple[str, tuple[str, ...]], _Step] = {}
        for change in changes:
            try:
                written, before, after = self.translated(change)
            except Refused as error:
                raise Conflict({change: str(error)}) from None
            image = before or after
            assert image is not None
            key = written.images.key_of(image)
            step = steps.get((written.sql, key))
            if step is None:
                steps[written.sql, key] = _Step(written, key, before, after, [change])
            elif columns := written.images.unlike(step.after, before):
                raise Conflict({change: f"it doesn't follow the change before it: {', '.join(columns)}"})
            else:
                step.renewed |= step.after is None
                step.after = after
                step.changes.append(change)
        return list(steps.values())

    def translated(self, change: Change) -> tuple[Written, Image | None, Image | None]:
        """The table and the images as this server has them. Refused if there is no such shard any more."""
        shard = self._shards.get(change.shard)
        if shard is None:
            raise Refused(f"{change}: {change.shard} is no shard of this migration any more")
        schema, table = change.target.split(".")
        written = self._tables.get((schema, table)) or self._tables.get((shard.schema, shard.table))
        if written is None:
            raise Refused(f"{change}: neither {change.target} nor {shard} is on this server")
        turn = self._router.forward if written.shard is None else self._router.back
        return written, *(None if i is None else turn(shard, i) for i in (change.before, change.after))  # type: ignore[return-value]

    def applied(self, session: Session, changes: Sequence[Change]) -> set[Change]:
        """Which of them have been applied to this server."""
        found: set[tuple[str, int, int]] = set()
        by_source: dict[str, list[Change]] = {}
        for change in changes:
            by_source.setdefault(change.source, []).append(change)
        for source, some in by_source.items():
            for i in range(0, len(some), 500):
                seqs = [c.seq for c in some[i : i + 500]]
                found |= {
                    (source, int(seq), int(item))
                    for seq, item in session.query(
                        f"SELECT seq, item FROM {SCHEMA}.applied WHERE migration = %s AND source = %s "
                        f"AND seq IN ({', '.join(['%s'] * len(seqs))})",
                        [self._migration, source, *seqs],
                    )
                }
        return {c for c in changes if (c.source, c.seq, c.item) in found}

    def _mark(self, session: Session, changes: Sequence[Change]) -> None:
        """The first rows that the transaction writes: what it is about to apply."""
        one = f"({', '.join(['%s'] * 8)})"
        for i in range(0, len(changes), _AT_ONCE):
            some = changes[i : i + _AT_ONCE]
            values = [
                value
                for c in some
                for value in (self._migration, c.source, c.seq, c.item, c.idempotency, c.target, c.shard,
                              json.dumps(c.key, ensure_ascii=False))
            ]  # fmt: skip
            try:
                session.execute(
                    f"INSERT INTO {SCHEMA}.applied (migration, source, seq, item, idempotency, target, shard, row_key) "
                    f"VALUES {', '.join([one] * len(some))}",
                    values,
                )
            except ServerError as error:
                if error.number != _DUPLICATE:
                    raise
                raise _Raced from None


def _reason(now: Image | None, before: Image | None, columns: Sequence[str]) -> str:
    if now is None:
        return "missing: the row that was changed isn't there"
    if before is None:
        return "different: the row that was inserted is there already, and is another"
    return f"different: {', '.join(columns)} not as the change found it"
