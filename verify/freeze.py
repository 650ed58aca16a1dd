"""Verification around a freeze: what takes time is done before it, so that in it little is left to read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from types import TracebackType
from typing import Self

from migrate.config import Config
from migrate.ledger import load_ledger
from verify.accounts import account_mismatches
from verify.changed import Changed, unequal_keys, verify_keys
from verify.controls import ControlTotal, measures, net_totals
from verify.cuts import Cuts
from verify.invariants import InvariantResult, check_invariants
from verify.model import Mismatch, TableResult
from verify.narrow import counted as with_kinds
from verify.price import priced
from verify.readers import Readers
from verify.result import Result
from verify.run import LIMIT, everything
from verify.suspects import Suspects
from verify.tables import load
from verify.totals import fitting, read_totals, time_totals, time_within

_SHARE = 1 / 3  # of a freeze, that reading counts and control totals once more may take


class Freeze:
    """Both sides' catalogues, read before the freeze, and the sessions that read in it.

    In the freeze, counts and control totals are read of those tables only of which that takes a third of it at most,
    as `ahead` or `measure` has found; of the others, however large they are, the rows that were written.

    Close it; `close(kill=True)` from another thread ends what runs.
    """

    def __init__(self, config: Config, workers: int | None = None):
        self._config, self._workers = config, workers
        self._readers = Readers(config, workers)
        try:
            self._pairs = load(self._readers)
            self._ledger = load_ledger(config.pack) if config.pack is not None else None
            self._measured = measures(self._pairs, self._ledger.controls) if self._ledger else []
        except BaseException as error:
            self._readers.__exit__(type(error))
            raise
        self._again = frozenset(pair.name for pair in self._pairs)
        self._told: tuple[str, ...] = ()
        self._compared = 0

    def text(self) -> str:
        """What was prepared, in words."""
        shards = sum(len(pair.merged.shards) for pair in self._pairs)
        return f"{len(self._pairs)} tables of {shards} shards are known on both sides"

    def equal(self, changed: Changed) -> Result:
        """Before the freeze, while both sides are written, at exact cuts: the rows of those keys."""
        self._compared += _keys(changed)
        return self._at(
            still=False,
            work=lambda cuts: replace(verify_keys(cuts, self._pairs, changed, LIMIT), command="ahead"),
        )

    def unequal(self, changed: Changed) -> Changed:
        """Those of the keys whose rows weren't found equal, where the two sides have no common cut: they may be on
        their way. Some others are among them."""
        with Cuts(self._readers, self._pairs, still=True) as cuts:
            found = unequal_keys(cuts, self._pairs, changed)
            cuts.renew()
        return found

    def ahead(self) -> Result:
        """Before the freeze, while both sides are written, at exact cuts: accounts, invariants, counts and control
        totals of everything, these last of all: where the freeze doesn't read them again, they are known as of now."""

        def work(cuts: Cuts) -> Result:
            accounts, invariants = cuts.at_one(self._money)
            cuts.renew()
            timed = time_totals(cuts, self._pairs, self._measured)
            self._decide(
                {t.name: t.seconds for t in timed}, {t.name: f"at {t.cut.taken_at}, TSO {t.cut.tso}" for t in timed}
            )
            counted, totals = [t.counted for t in timed], [c for t in timed for c in t.totals]
            tables, every = self._verdicts(counted, totals, Result("ahead", ()))
            notes = (f"{self._compared:,} rows that were written since the last clean verification are equal, too",)
            return Result("ahead", tables, accounts, every, invariants, notes=notes + self._told)

        return self._at(still=False, work=work)

    def measure(self, last: str) -> str:
        """The same without a common cut: only how long counts and control totals take, as far as the freeze has time
        for them. `last` says when they were known to be equal. What the freeze reads, in words."""
        seconds = time_within(self._config, self._workers, self._pairs, self._measured, self._within_s)
        self._decide(seconds, {pair.name: last for pair in self._pairs})
        return "\n".join(self._told)

    def frozen(self, changed: Changed) -> Result:
        """In the freeze: the rows of those keys, counts and control totals of everything that there is time for."""

        def work(cuts: Cuts) -> Result:
            rows = verify_keys(cuts, self._pairs, changed, LIMIT)
            again = [pair for pair in self._pairs if pair.name in self._again]
            tables, totals = cuts.at_one(lambda: read_totals(self._readers, again, self._measured))
            by_name = {t.target: t for t in rows.tables}
            tables += [by_name.get(n, TableResult(n, 0, 0, True)) for n in self._rest]
            verdicts, every = self._verdicts(tables, totals, rows)
            notes = (f"{_keys(changed):,} rows that were written were compared, by digests of 64 bits", *self._told)
            if self._rest:
                notes += (f"of {', '.join(self._rest)} the rows that were written are counted here, no others",)
            return replace(rows, command="frozen", tables=verdicts, totals=every, notes=rows.notes + notes)

        return self._at(still=True, work=work)

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

    @property
    def _rest(self) -> list[str]:
        """The tables of which counts and control totals aren't read in the freeze."""
        return [pair.name for pair in self._pairs if pair.name not in self._again]

    @property
    def _within_s(self) -> float:
        """What reading counts and control totals may take of the freeze."""
        return self._config.cutover.freeze_s * _SHARE

    def _decide(self, seconds: Mapping[str, float], equal: Mapping[str, str]) -> None:
        """Of which tables they are read in it. `seconds` that each takes, as far as it was read to its end; `equal`:
        when each table's were known to be."""
        self._again = fitting(seconds, self._within_s)
        whole = len(seconds) == len(self._pairs)
        time_s = f"{sum(seconds.values()):.1f} s" if whole else f"longer than {self._within_s:.1f} s"
        took = f"counts and control totals of everything take {time_s}"
        if self._config.cutover.digests == "all":
            self._told = (f"{took}; everything is verified in the freeze",)
            return
        if not (rest := self._rest):
            self._told = (f"{took}: they are read in the freeze",)
            return

        def listed(names: Iterable[str]) -> str:
            return ", ".join(f"{n} ({seconds[n]:.1f} s)" if n in seconds else n for n in names) or "no table"

        self._told = (
            f"{took}, and may take {self._within_s:.1f} s of the freeze, a third of cutover.freeze_s. In it they are "
            f"read of {listed(n for n in seconds if n in self._again)}. Of {listed(rest)} the rows written since are "
            f"compared, by digests of 64 bits; their totals were equal {min(equal[n] for n in rest)}",
            f"not seen in the freeze: a row of {', '.join(rest)} on the target that anyone wrote past sync and past "
            "the library after that, unless it is among the rows compared in it. `verify rows` after the switch, or "
            "`verify watch`, finds it",
        )

    def _money(self) -> tuple[tuple[Mismatch, ...], tuple[InvariantResult, ...] | None]:
        """The accounts that differ, and the invariants."""
        if self._ledger is None:
            return (), None
        accounts = tuple(islice(account_mismatches(self._readers, self._pairs, self._ledger, Suspects()), LIMIT))
        return accounts, tuple(check_invariants(self._readers, self._pairs, self._ledger, LIMIT, True, Suspects()))

    def _verdicts(
        self, tables: Sequence[TableResult], totals: Sequence[ControlTotal], rows: Result
    ) -> tuple[tuple[TableResult, ...], tuple[ControlTotal, ...] | None]:
        """All tables with what their totals and the rows say of them, and the totals with those of both directions."""
        every = list(totals)
        if self._ledger:
            every += net_totals(every, self._ledger.role.entry)
        wrong = {t.table for t in every if not t.ok} | {t.target for t in rows.tables if not t.ok}
        found = {}
        for table in tables:
            named = [m for m in rows.mismatches if m.target == table.target]
            verdict = with_kinds(table, named, more=False) if named else table
            found[table.target] = replace(verdict, ok=verdict.ok and table.target not in wrong)
        return tuple(found[p.name] for p in self._pairs), tuple(every) if self._ledger else None

    def close(self, kill: bool = False) -> None:
        """Ends the sessions; `kill`: what they are reading, too."""
        self._readers.__exit__(TimeoutError if kill else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(kill=kind is not None)


def _keys(changed: Changed) -> int:
    return sum(len(keys) for shards in changed.values() for keys in shards.values())
