"""Verification around a freeze: what takes time is done before it, so that in it little is left to read."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from types import TracebackType
from typing import Self

from migrate.config import Config
from migrate.ledger import load_ledger
from verify.accounts import account_mismatches
from verify.changed import Changed, unequal_keys, verify_keys
from verify.controls import control_totals, measures, net_totals
from verify.counts import counts
from verify.cuts import Cuts
from verify.invariants import check_invariants
from verify.narrow import counted
from verify.price import priced
from verify.readers import Readers
from verify.result import Result
from verify.run import LIMIT, everything
from verify.suspects import Suspects
from verify.tables import load


class Freeze:
    """Both sides' catalogues, read before the freeze, and the sessions that read in it.

    Close it; `close(kill=True)` from another thread ends what runs.
    """

    def __init__(self, config: Config, workers: int | None = None):
        self._config = config
        self._readers = Readers(config, workers)
        try:
            self._pairs = load(self._readers)
            self._ledger = load_ledger(config.pack) if config.pack is not None else None
            self._measured = measures(self._pairs, self._ledger.controls) if self._ledger else []
        except BaseException as error:
            self._readers.__exit__(type(error))
            raise

    def text(self) -> str:
        """What was prepared, in words."""
        shards = sum(len(pair.merged.shards) for pair in self._pairs)
        return f"{len(self._pairs)} tables of {shards} shards are known on both sides"

    def ahead(self, changed: Changed) -> Result:
        """Before the freeze, while both sides are written: counts, control totals, accounts and invariants of
        everything, and the rows of those keys."""
        return self._at(still=False, work=lambda cuts: self._proven(cuts, "ahead", changed, whole=True))

    def unequal(self, changed: Changed) -> Changed:
        """Those of the keys whose rows weren't found equal, where the two sides have no common cut: they may be on
        their way. Some others are among them."""
        with Cuts(self._readers, self._pairs, still=True) as cuts:
            found = unequal_keys(cuts, self._pairs, changed)
            cuts.renew()
        return found

    def frozen(self, changed: Changed) -> Result:
        """In the freeze: counts and control totals of everything, and the rows of those keys."""
        return self._at(still=True, work=lambda cuts: self._proven(cuts, "frozen", changed, whole=False))

    def everything(self) -> Result:
        """In the freeze: all that there is to verify, with digests of 64 bits."""
        return self._at(
            still=True,
            work=lambda cuts: everything(
                cuts, self._pairs, self._ledger, strong=True, live=True, limit=LIMIT, resume=False
            ),
        )

    def _at(self, *, still: bool, work: Callable[[Cuts], Result]) -> Result:
        started = time.monotonic()
        with Cuts(self._readers, self._pairs, still=still) as cuts:
            result = work(cuts)
            notes, records = tuple(cuts.notes()), cuts.records
            cuts.renew()
        return replace(
            result, mismatches=priced(self._config, result.mismatches), seconds=time.monotonic() - started,
            cuts=records, notes=result.notes + notes,
        )  # fmt: skip

    def _proven(self, cuts: Cuts, command: str, changed: Changed, *, whole: bool) -> Result:
        rows = verify_keys(cuts, self._pairs, changed, LIMIT)
        if not whole or self._ledger is None:
            return replace(cuts.at_one(lambda: self._totals(rows)), command=command)
        ledger = self._ledger

        def money() -> Result:
            result = self._totals(rows)
            suspects = Suspects(rows.mismatches)
            accounts = tuple(islice(account_mismatches(self._readers, self._pairs, ledger, suspects), LIMIT))
            found = check_invariants(self._readers, self._pairs, ledger, LIMIT, True, suspects)
            return replace(result, mismatches=result.mismatches + accounts, invariants=tuple(found))

        return replace(cuts.at_one(money), command=command)

    def _totals(self, rows: Result) -> Result:
        """Counts and control totals of all tables, beside what the rows of some keys have shown."""
        totals = control_totals(self._readers, self._measured)
        if self._ledger:
            totals += net_totals(totals, self._ledger.role.entry)
        wrong = {t.table for t in totals if not t.ok} | {t.target for t in rows.tables if not t.ok}
        tables = []
        for table in counts(self._readers, self._pairs):
            named = [m for m in rows.mismatches if m.target == table.target]
            verdict = counted(table, named, more=False) if named else table
            tables.append(replace(verdict, ok=verdict.ok and table.target not in wrong))
        return replace(rows, tables=tuple(tables), totals=tuple(totals) if self._ledger else None)

    def close(self, kill: bool = False) -> None:
        """Ends the sessions; `kill`: what they are reading, too."""
        self._readers.__exit__(TimeoutError if kill else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(kill=kind is not None)
