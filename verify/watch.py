"""Watching: a share of all ranges in each round, the longest unproven first, so that everything is proven again within
a stated period; and what was found, so that each round tells what is new."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from migrate.config import Config
from migrate.db import Session, connect, wait
from migrate.errors import ConfigError, Interrupted, MigrateError
from verify.checksum import Checksum, checksums
from verify.cuts import Cuts
from verify.meta import NAME, TARGET, make
from verify.model import Mismatch
from verify.narrow import counted, differing, digest_name, unseen, verdict
from verify.prove import Part, Proven, plan, prove_parts
from verify.ranges import Range, overlap, tiling_column
from verify.readers import Readers
from verify.result import Result
from verify.run import LIMIT, verify_balances
from verify.tables import Pair, load

log = logging.getLogger("migrate")

_ROWS = 100_000  # of a range
_TABLES = (
    f"""verify_watch (migration {NAME}, {TARGET}, number INT NOT NULL, bounds JSON NOT NULL, made_at TIMESTAMP(6) NOT
        NULL DEFAULT CURRENT_TIMESTAMP(6), checked_at TIMESTAMP(6) NULL, PRIMARY KEY (migration, target, number)
        CLUSTERED)""",
    f"""verify_open (migration {NAME}, digest CHAR(64) NOT NULL, {TARGET}, number INT NOT NULL, found JSON NOT NULL,
        first_seen TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), PRIMARY KEY (migration, digest) CLUSTERED)""",
)
_MONEY = ""  # stands for control totals, accounts and invariants where ranges have a target
_OF = "migration = %s AND target = %s"

Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Round:
    """One round. `new`: what no earlier round has found; `known`: what one had, and is there still, as far as this
    round has looked; `mended`: how much of it is gone. `oldest_s`: the age of the oldest proof of a range."""

    result: Result
    new: tuple[dict[str, Any], ...]
    known: tuple[dict[str, Any], ...]
    mended: int
    ranges: int
    of: int
    never: int
    oldest_s: float

    @property
    def ok(self) -> bool:
        return self.result.ok and not self.new and not self.known

    def document(self) -> dict[str, Any]:
        watch = {
            "new": list(self.new),
            "known": list(self.known),
            "mended": self.mended,
            "ranges": self.ranges,
            "of": self.of,
            "never_proven": self.never,
            "oldest_proof_s": round(self.oldest_s, 1),
        }
        return self.result.document() | {"ok": self.ok, "watch": watch}

    def text(self) -> str:
        """One line if all is well; else what is new, and how much else is open."""
        covered = f"{self.never} of {self.of} ranges not yet proven" if self.never else f"all {self.of} ranges proven"
        lines = [
            f"{'OK' if self.ok else 'MISMATCH'}: {self.ranges} ranges now, {covered}, the oldest {self.oldest_s:.0f} s "
            f"ago; {len(self.new)} new, {len(self.known)} known, {self.mended} mended ({self.result.seconds:.1f} s)"
        ]
        lines += [f"  NEW {_line(found)}" for found in self.new[:50]]
        return "\n".join([*lines, *(f"note: {note}" for note in self.result.notes)])


def watch_once(
    config: Config, *, every_s: float, within_s: float, strong: bool = False, workers: int | None = None
) -> Round:
    """One round: as many ranges as it takes to prove all of them every `within_s` seconds, if there is a round every
    `every_s`. A pack's control totals and invariants are checked once in that period."""
    began = time.monotonic()
    with Readers(config, workers) as readers, connect(config.target, patience_s=config.run.patience_s) as session:
        make(session, _TABLES)
        pairs = load(readers)
        parts = _due(session, config, readers, pairs, every_s, within_s)
        with Cuts(readers, pairs) as cuts:
            result, seen = _looked(cuts, pairs, prove_parts(cuts, parts, strong), strong)
            result = replace(result, notes=result.notes + tuple(cuts.notes()), cuts=cuts.records)
        checked = [(part.pair.name, part.number) for part in parts]
        if config.pack is not None and _money_due(session, config, within_s - every_s):
            money = verify_balances(config, workers=workers)
            checked.append((_MONEY, 0))
            seen += [(m.document(), _MONEY, 0) for m in money.mismatches]
            seen += [
                ({"kind": "invariant", "target": i.name, "key": row}, _MONEY, 0)
                for i in money.invariants or ()
                if not i.ok
                for row in i.rows
            ]
            result = replace(
                result, mismatches=result.mismatches + money.mismatches, totals=money.totals,
                invariants=money.invariants, notes=result.notes + money.notes, cuts=(*result.cuts, *money.cuts),
                tables=result.tables or money.tables,
            )  # fmt: skip
        result = replace(result, seconds=time.monotonic() - began)
        return _settle(session, config, result, checked, seen)


def watch(
    config: Config,
    tell: Callable[[Round], None],
    *,
    every_s: float,
    within_s: float,
    strong: bool = False,
    workers: int | None = None,
) -> None:
    """Round after round, one every `every_s`, until it is stopped. A round that fails is told in the log, and its
    ranges are the first of the next."""
    while True:
        began = time.monotonic()
        try:
            tell(watch_once(config, every_s=every_s, within_s=within_s, strong=strong, workers=workers))
        except (ConfigError, Interrupted):
            raise
        except MigrateError as error:
            log.error("this round proved nothing: %s", error)
        wait(max(0.0, began + every_s - time.monotonic()))


def _due(
    session: Session, config: Config, readers: Readers, pairs: Sequence[Pair], every_s: float, within_s: float
) -> list[Part]:
    """The ranges of this round: those that would be too old at the next one, those with something open, and the oldest
    others up to the round's share."""
    by_name = {pair.name: pair for pair in pairs}
    for pair in pairs:
        _replan(session, config, readers, pair)
    rows = session.query(
        "SELECT w.target, w.number, w.bounds, IFNULL(w.checked_at < NOW(6) - INTERVAL %s SECOND, 0) OR EXISTS ("
        "SELECT 1 FROM migrate_meta.verify_open o WHERE o.migration = w.migration AND o.target = w.target AND "
        "o.number = w.number) FROM migrate_meta.verify_watch w WHERE w.migration = %s AND w.target <> %s "
        "ORDER BY w.checked_at, w.number, w.target",
        (max(0.0, within_s - every_s), config.name, _MONEY),
    )
    rows = [row for row in rows if row[0] in by_name]
    share = math.ceil(len(rows) * min(1.0, every_s / within_s))
    due = rows[:share] + [row for row in rows[share:] if row[3]]
    return [Part(number, by_name[target].within(Range(*json.loads(bounds)))) for target, number, bounds, _ in due]


def _replan(session: Session, config: Config, readers: Readers, pair: Pair) -> None:
    """Makes the ranges of a table anew when each was proven since they were made, for it may have grown, and nothing is
    open in them. A new range is as old as the oldest one that it shares keys with."""
    of = (config.name, pair.name)
    rows = session.query(
        f"SELECT bounds, checked_at, checked_at > made_at FROM migrate_meta.verify_watch WHERE {_OF} ORDER BY number",
        of,
    )
    open_ = session.value(f"SELECT COUNT(*) FROM migrate_meta.verify_open WHERE {_OF}", of)
    if rows and (open_ or not all(proven for *_, proven in rows)):
        return
    ranges = [part.pair.range for part in plan(readers, [pair], rows=_ROWS)]
    old = [(Range(*json.loads(bounds)), checked) for bounds, checked, _ in rows]
    column = tiling_column(pair.merged.definition.key_columns)
    with session.transaction():
        session.execute(f"DELETE FROM migrate_meta.verify_watch WHERE {_OF}", of)
        session.executemany(
            "INSERT INTO migrate_meta.verify_watch (migration, target, number, bounds, checked_at) "
            "VALUES (%s, %s, %s, %s, %s)",
            [
                (*of, n, json.dumps([r.column, r.lower, r.upper]),
                 min((checked for o, checked in old if column is None or overlap(column, o, r)), default=None))
                for n, r in enumerate(ranges)
            ],
        )  # fmt: skip


def _money_due(session: Session, config: Config, age_s: float) -> bool:
    """Whether the ledger's money wasn't looked at for so long."""
    session.execute(
        "INSERT IGNORE INTO migrate_meta.verify_watch (migration, target, number, bounds) VALUES (%s, %s, 0, '[]')",
        (config.name, _MONEY),
    )
    return bool(
        session.value(
            f"SELECT IFNULL(checked_at <= NOW(6) - INTERVAL %s SECOND, 1) FROM migrate_meta.verify_watch WHERE {_OF}",
            (max(0.0, age_s), config.name, _MONEY),
        )
    )


def _looked(
    cuts: Cuts, pairs: Sequence[Pair], proven: Sequence[Proven], strong: bool
) -> tuple[Result, list[tuple[Found, str, int]]]:
    """The tables as far as they were proven, and the rows that differ, each with its target and range."""
    found = [checksum for checksum in checksums(pairs, proven) if checksum.parts]
    bad = [Checksum(checksum.pair, part.proof, (part,)) for checksum in found for part in checksum.bad]
    named: dict[str, list[Mismatch]] = {checksum.pair.name: [] for checksum in found}
    seen: list[tuple[Found, str, int]] = []
    notes: list[str] = []
    for of, rows in zip(bad, differing(cuts, bad, False, strong, LIMIT), strict=True):
        name = of.pair.name
        named[name] += rows[:LIMIT]
        seen += [(m.document(), name, of.parts[0].part.number) for m in rows[:LIMIT] if m.kind != "late"]
        notes += [] if rows else [unseen(name)]
    tables = []
    for checksum in found:
        table, rows = verdict(checksum), named[checksum.pair.name]
        tables.append(counted(table, rows, more=len(rows) >= LIMIT) if rows else table)
    mismatches = tuple(m for rows in named.values() for m in rows)
    return Result("watch", tuple(tables), mismatches, digest=digest_name(pairs, strong), notes=tuple(notes)), seen


def _settle(
    session: Session,
    config: Config,
    result: Result,
    checked: Sequence[tuple[str, int]],
    seen: Sequence[tuple[Found, str, int]],
) -> Round:
    """Records what was checked and what was found there; tells what of it is new, known or mended."""
    found = {_digest(document): (document, target, number) for document, target, number in seen}
    with session.transaction():
        before = {
            digest: (target, number)
            for digest, target, number in session.query(
                "SELECT digest, target, number FROM migrate_meta.verify_open WHERE migration = %s", [config.name]
            )
        }
        gone = [d for d, place in before.items() if place in checked and d not in found]
        for digest in gone:
            session.execute(
                "DELETE FROM migrate_meta.verify_open WHERE migration = %s AND digest = %s", (config.name, digest)
            )
        session.executemany(
            "INSERT INTO migrate_meta.verify_open (migration, digest, target, number, found) VALUES "
            "(%s, %s, %s, %s, %s)",
            [
                (config.name, digest, target, number, json.dumps(document))
                for digest, (document, target, number) in found.items()
                if digest not in before
            ],
        )
        for target, number in checked:
            session.execute(
                f"UPDATE migrate_meta.verify_watch SET checked_at = NOW(6) WHERE {_OF} AND number = %s",
                (config.name, target, number),
            )
    ranges, never, oldest = session.one(
        "SELECT COUNT(*), COUNT(*) - COUNT(checked_at), TIMESTAMPDIFF(MICROSECOND, MIN(checked_at), NOW(6)) "
        "FROM migrate_meta.verify_watch WHERE migration = %s AND target <> %s",
        (config.name, _MONEY),
    )
    known = session.query(
        "SELECT digest, found, first_seen FROM migrate_meta.verify_open WHERE migration = %s", [config.name]
    )
    return Round(
        result,
        tuple(document for digest, (document, *_) in found.items() if digest not in before),
        tuple({**json.loads(text), "first_seen": str(since)} for digest, text, since in known if digest in before),
        len(gone),
        sum(1 for target, _ in checked if target != _MONEY),
        int(ranges),
        int(never),
        int(oldest or 0) / 1e6,
    )


def _digest(found: Found) -> str:
    """What makes a finding the same as one of an earlier round: what and where, not the values, which may move on."""
    key = found["key"]
    if found["kind"] == "invariant":
        key = dict(list(key.items())[:1])
    where = key or (found.get("source"), found.get("target_values"))
    return hashlib.sha256(json.dumps([found["target"], found["kind"], where], sort_keys=True).encode()).hexdigest()


def _line(found: Found) -> str:
    key = ", ".join(f"{name}={value}" for name, value in (found["key"] or {}).items())
    return f"{found['kind']}  {found['target']}  {key or '(table without a key)'}"
