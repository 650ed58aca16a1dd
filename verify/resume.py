"""What a run has proven, kept in migrate_meta range by range, so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from migrate.config import Config
from migrate.db import Session, connect, patiently
from migrate.errors import ConnectionLost, OutcomeUnknown, ServerError, TryAgain
from verify.cut import CutRecord
from verify.meta import NAME, TARGET, make
from verify.ranges import Range
from verify.tally import Proof

T = TypeVar("T")

_LIFE_H = 6  # older proofs aren't gone on from
_TABLE = f"""verify_range (migration {NAME}, sweep CHAR(64) NOT NULL, number INT NOT NULL, {TARGET},
    bounds JSON NOT NULL, cut JSON, proof LONGBLOB, at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (migration, sweep, number) CLUSTERED) CHARSET utf8mb4 COLLATE utf8mb4_bin"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A range of an earlier run that never ended, with its cut and proof if it had come to it."""

    target: str
    range: Range
    cut: CutRecord | None
    proof: Proof | None


class Resume:
    """The ranges of one sweep. An account that may not write migrate_meta keeps none: `refused` says so then."""

    def __init__(self, config: Config, what: str):
        """`what`: all that must be the same for a proof to be of use to another run."""
        self._config = config
        self._sweep = hashlib.sha256(what.encode()).hexdigest()
        self._session: Session | None = None
        self.refused: str | None = None

    def kept(self) -> list[Kept]:
        """The ranges of a run that was killed, in their order; none if there was no such run, or long ago. What was
        unequal isn't kept: it may have been mended, and is proven anew."""

        def read(session: Session) -> list[Kept]:
            make(session, [_TABLE])
            session.execute(
                "DELETE FROM migrate_meta.verify_range WHERE migration = %s AND at < NOW(6) - INTERVAL %s HOUR",
                (self._config.name, _LIFE_H),
            )
            rows = session.query(
                "SELECT target, bounds, cut, proof FROM migrate_meta.verify_range WHERE migration = %s AND sweep = %s "
                "ORDER BY number",
                (self._config.name, self._sweep),
            )
            return [
                Kept(
                    target,
                    Range(*json.loads(bounds)),
                    CutRecord.of(json.loads(cut)) if cut else None,
                    Proof.load(proof) if proof else None,
                )
                for target, bounds, cut, proof in rows
            ]

        return self._with(read) or []

    def plan(self, ranges: Sequence[tuple[str, Range]]) -> None:
        """Keeps the ranges (target and range) in that order, none of them proven, in place of what was kept."""

        def write(session: Session) -> None:
            with session.transaction():
                self._clear(session)
                for begin in range(0, len(ranges), 500):
                    rows = [
                        (self._config.name, self._sweep, n, target, json.dumps([r.column, r.lower, r.upper]))
                        for n, (target, r) in enumerate(ranges[begin : begin + 500], begin)
                    ]
                    session.executemany(
                        "INSERT INTO migrate_meta.verify_range (migration, sweep, number, target, bounds) "
                        "VALUES (%s, %s, %s, %s, %s)",
                        rows,
                    )

        self._with(write)

    def save(self, number: int, cut: CutRecord, proof: Proof) -> None:
        """Keeps a range's proof, if both sides were equal."""
        if proof.equal:
            document = json.dumps(cut.document())
            self._with(
                lambda session: session.execute(
                    "UPDATE migrate_meta.verify_range SET cut = %s, proof = %s, at = NOW(6) "
                    "WHERE migration = %s AND sweep = %s AND number = %s",
                    (document, proof.dump(), self._config.name, self._sweep, number),
                )
            )

    def done(self) -> None:
        """Forgets the ranges: the run has come to its end."""
        self._with(self._clear)
        if self._session:
            self._session.close()

    def _clear(self, session: Session) -> None:
        session.execute(
            "DELETE FROM migrate_meta.verify_range WHERE migration = %s AND sweep = %s",
            (self._config.name, self._sweep),
        )

    def _with(self, work: Callable[[Session], T]) -> T | None:
        """Does the work, which may be repeated, unless it was refused once."""
        if self.refused:
            return None

        def once() -> T:
            self._session = self._session or connect(self._config.target)
            try:
                return work(self._session)
            except ConnectionLost:
                self._session.close()
                self._session = None
                raise

        try:
            return patiently(self._config.run.patience_s, once, ConnectionLost, TryAgain, OutcomeUnknown)
        except (ServerError, OutcomeUnknown) as error:  # a proof that isn't kept is one to prove again, no more
            self.refused = f"a killed run can't be gone on with: {error}"
        return None
