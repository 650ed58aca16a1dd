"""Makes the secondary's rows what the primary's are, one by one: only a row that is still as it was found, while the
primary's is locked; with a journal of who, why, and what was there before and after, by which it can be undone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

from migrate.config import Config
from migrate.doublewrite import phase as phases
from migrate.doublewrite.audit import RowKey, Sides, compare_rows
from migrate.doublewrite.epoch import Side
from migrate.doublewrite.errors import Refused
from migrate.doublewrite.outbox import SCHEMA
from migrate.doublewrite.router import Image, Router
from migrate.errors import ConnectionLost, NoGo, ServerError
from migrate.state import State


class Row(dict[str, str | None]):
    """An image as the journal takes it."""

    def document(self) -> dict[str, str | None]:
        return dict(self)


@dataclass(eq=False)
class Mending:
    """A row of the secondary that is to be written. `key` is that on the primary; `why` it was left, or differs."""

    target: str
    shard: str
    key: dict[str, str]
    before: Row | None
    after: Row | None
    why: str = ""

    @property
    def action(self) -> Literal["insert", "update", "delete"]:
        return "insert" if self.before is None else "delete" if self.after is None else "update"

    def document(self) -> dict[str, Any]:
        return {
            "target": self.target, "shard": self.shard, "key": self.key, "action": self.action, "why": self.why,
            "before": self.before, "after": self.after,
        }  # fmt: skip

    def __str__(self) -> str:
        key = ", ".join(f"{name}={value}" for name, value in self.key.items())
        return f"{self.action} {self.target} {key} of {self.shard}" + (f": {self.why}" if self.why else "")


class Journal(Protocol):
    """The journal of repairs, which a cutover looks at: it waits for a clean verification after the last one."""

    number: int

    def plan(self, changes: Sequence[Any]) -> int:
        """Adds rows that are about to be written; the number of the first."""

    def settle(self, first: int, changes: Sequence[Any], written: Sequence[Any]) -> None:
        """Says which of them were."""

    def end(self, remained: int) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


Begin = Callable[[Side, int | None], Journal]  # the side that is right, and the repair that is undone


@dataclass
class Repaired:
    """What a repair did, or would do. `number` is its own; None for a dry run. `left`: rows that changed meanwhile."""

    number: int | None = None
    done: list[Mending] = field(default_factory=list)
    left: list[Mending] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.left and (self.number is not None or not self.done)

    def document(self) -> dict[str, Any]:
        executed = self.number is not None
        return {
            "ok": self.ok, "executed": executed, "repair": self.number,
            "repaired" if executed else "would_repair": [m.document() for m in self.done],
            "left": [m.document() for m in self.left],
        }  # fmt: skip

    def text(self) -> str:
        lines = []
        for m in self.done:
            lines += [str(m), f"  before: {_shown(m.before)}", f"  after:  {_shown(m.after)}"]
        lines += [f"left: {m}" for m in self.left]
        if not lines:
            return "nothing to repair"
        if self.number is None:
            lines.append(f"{len(self.done)} rows would be written; --execute does it")
        else:
            lines.append(f"repair {self.number}: {len(self.done)} rows were written; to take it back: "
                         f"migrate double-write repair --undo {self.number} --execute --reason ..")  # fmt: skip
        return "\n".join(lines)


def repair(config: Config, begin: Begin | None = None) -> Repaired:
    """Finds the rows that differ and aren't under way, and writes the primary's to the secondary; without `begin`, only
    shows them."""
    with State.open(config) as state, ExitStack() as stack:
        phase = phases.read(state.session, config.name)
        sides = Sides(config, Router.of(config), phase, stack)
        findings = [f for f in compare_rows(config, sides.router, phase) if f.kind != "late"]
        todo = [Mending(f.target, f.shard, _named(sides, f.target, f.shard, f.key), _row(f.found), _row(f.wanted),
                        f"{f.kind}{', ' if f.reason else ''}{f.reason}") for f in findings]  # fmt: skip
        stuck = [mending for mending, f in zip(todo, findings, strict=True) if f.stuck]
        report = _carried_out(sides, state, [m for m in todo if m not in stuck], begin, None)
        report.left += stuck
        return report


def undo(
    config: Config, number: int, right: Side, rows: Sequence[Mapping[str, Any]], begin: Begin | None = None
) -> Repaired:
    """Takes back a repair that had `right` for the side that is right: every row that is still as it left it, and of
    which no change waits, gets what it was before. `rows`: the journal's, last first. What was held for such a row
    isn't put back: it differs again, as `status` shows, and `repair` is there for it.

    NoGo if the side that was written has become primary meanwhile.
    """
    with State.open(config) as state, ExitStack() as stack:
        phase = phases.read(state.session, config.name)
        if phase.epoch.primary != right:
            raise NoGo(f"repair {number} wrote the side that is primary now ({phase.epoch}): it can't be undone")
        sides = Sides(config, Router.of(config), phase, stack)
        todo = [Mending(r["target"], r["shard"], r["key"], _row(r["after"]), _row(r["before"])) for r in rows]
        return _carried_out(sides, state, todo, begin, number)


def _carried_out(
    sides: Sides, state: State, todo: Sequence[Mending], begin: Begin | None, undone: int | None
) -> Repaired:
    if begin is None or not todo:
        return Repaired(done=list(todo))
    with begin(sides.phase.epoch.primary, undone) as journal:
        report = Repaired(journal.number)
        for mending in todo:
            (report.done if _mend(sides, mending, journal, undone is not None) else report.left).append(mending)
        journal.end(len(report.left))
    state.journal("double_write_repair", repair=journal.number, undone=undone, repaired=len(report.done),
                  left=len(report.left))  # fmt: skip
    return report


def _mend(sides: Sides, mending: Mending, journal: Journal, undoes: bool) -> bool:
    """Writes one row, if it still is as planned."""
    planned: list[int] = []
    try:
        mending.why = _written(sides, mending, undoes, lambda: planned.append(journal.plan([mending])))
    except ConnectionLost:
        raise
    except (ServerError, Refused) as error:
        mending.why = str(error)
    if not planned:  # nothing of it was tried
        planned.append(journal.plan([mending]))
    journal.settle(planned[0], [mending], [] if mending.why else [mending])
    return not mending.why


def _written(sides: Sides, mending: Mending, undoes: bool, plan: Callable[[], Any]) -> str:
    """Writes one row in a transaction of the secondary, while the primary's row is locked; why not, if it doesn't."""
    target, shard = mending.target, mending.shard
    primary, secondary = sides.primary(shard), sides.secondary(shard)
    mine, other = sides.sessions[primary.name], sides.sessions[secondary.name]
    written = sides.table(secondary, target, shard)
    key = tuple(mending.key[name] for name in sides.table(primary, target, shard).images.key_names)
    text = json.dumps(key, ensure_ascii=False)
    waiting = f"FROM {SCHEMA}.outbox WHERE migration = %s AND target = %s AND shard = %s AND row_key = %s"
    place = (sides.config.name, target, shard, text)
    with mine.transaction():
        now = sides.rows(primary, target, shard, [key], lock=True).get(key)
        if undoes and mine.value(f"SELECT COUNT(*) {waiting}", place):
            return "a change of it waits: run `migrate double-write drain`"
        with other.transaction():
            there = sides.key(target, shard, key)
            have = sides.rows(secondary, target, shard, [there], lock=True).get(there)
            if written.images.unlike(have, mending.before):
                return f"it has changed since it was {'repaired' if undoes else 'compared'}"
            if not undoes:
                mending.after = _row(written.images.keeping(have, sides.translate(shard, now)))
            plan()
            # first, so that the binlog's readers know the transaction for ours
            other.execute(
                f"INSERT INTO {SCHEMA}.applied (migration, source, seq, item, idempotency, target, shard, row_key) "
                "VALUES (%s, 'repair', %s, 0, 'repair', %s, %s, %s)",
                (sides.config.name, time.time_ns(), target, shard, text),
            )
            condition, values = written.images.where([there])
            if have is not None:
                other.execute(f"DELETE FROM {written.sql} WHERE {condition}", values)
            if mending.after is not None:
                other.execute(*written.images.insert(written.sql, [mending.after]))
        if not undoes:  # what waits for this row is older than the row that was just copied, which is locked
            mine.execute(f"DELETE {waiting}", place)
    return ""


def _named(sides: Sides, target: str, shard: str, key: RowKey) -> dict[str, str]:
    names = sides.table(sides.primary(shard), target, shard).images.key_names
    return dict(zip(names, key, strict=True))


def _row(image: Image | None) -> Row | None:
    return None if image is None else Row(image)


def _shown(image: Image | None) -> str:
    return "no row" if image is None else json.dumps(dict(image), ensure_ascii=False)
