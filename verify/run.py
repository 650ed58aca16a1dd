"""The commands as functions: a config in, a Result out. Nothing here prints, writes or exits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice

from migrate.config import Config
from migrate.errors import ConfigError
from migrate.ledger import Ledger, load_ledger
from verify.accounts import account_mismatches
from verify.checksum import Checksum, checksums
from verify.controls import ControlTotal, Measure, control_totals, measures, net_totals
from verify.counts import counts
from verify.cuts import Cuts
from verify.invariants import InvariantResult, check_invariants
from verify.model import Mismatch
from verify.narrow import digest_name, rows_of, verdict
from verify.price import priced
from verify.progress import Progress
from verify.prove import prove
from verify.readers import Readers
from verify.result import Result
from verify.resume import Resume
from verify.suspects import Suspects
from verify.tables import Pair, load

LIMIT = 10_000  # mismatches of a table, offenders of a rule


def verify_counts(
    config: Config, *, tables: Sequence[str] = (), workers: int | None = None, progress: bool = False
) -> Result:
    """Row counts of every target table against those of its shards."""

    def work(cuts: Cuts, pairs: Sequence[Pair]) -> Result:
        return Result("counts", tuple(cuts.at_one(lambda: counts(cuts.readers, pairs))))

    return _run("counts", config, workers, progress, work, tables)


def verify_checksum(
    config: Config,
    *,
    strong: bool = False,
    tables: Sequence[str] = (),
    workers: int | None = None,
    progress: bool = False,
    resume: bool = False,
) -> Result:
    """Digests of all rows of every target table against those of its shards, and the control totals of a pack's ledger
    out of the same scan. `strong` makes the digests 64 bits; `resume` goes on with a run that was killed."""

    def work(cuts: Cuts, pairs: Sequence[Pair]) -> Result:
        found, notes = _checksums(cuts, pairs, strong, resume)
        return Result(
            "checksum",
            tuple(verdict(c) for c in found),
            totals=_totals(config, found),
            digest=digest_name(pairs, strong),
            notes=notes,
        )

    return _run("checksum", config, workers, progress, work, tables)


def verify_rows(
    config: Config,
    *,
    full: bool = False,
    strong: bool = False,
    limit: int = LIMIT,
    tables: Sequence[str] = (),
    workers: int | None = None,
    progress: bool = False,
    resume: bool = False,
) -> Result:
    """The rows that differ, of the tables whose digests differ; `full` compares every table bucket by bucket."""

    def work(cuts: Cuts, pairs: Sequence[Pair]) -> Result:
        found, notes = _checksums(cuts, pairs, strong, resume)
        result = rows_of(cuts, pairs, found, full, strong, limit)
        return replace(result, notes=notes + result.notes)

    return _run("rows", config, workers, progress, work, tables)


def verify_balances(
    config: Config, *, live: bool = False, limit: int = LIMIT, workers: int | None = None, progress: bool = False
) -> Result:
    """Control totals, the accounts that differ, and the invariants. ConfigError for a config without a pack.

    `live`: both sides are being written, so a young voucher may miss a leg; that is known by itself where sync runs.
    """
    if config.pack is None:
        raise ConfigError(
            f"{config.path}: migration.pack: balances need a pack, whose ledger.toml says where the money is"
        )
    ledger = load_ledger(config.pack)

    def work(cuts: Cuts, pairs: Sequence[Pair]) -> Result:
        return cuts.at_one(lambda: _balances(cuts, pairs, ledger, limit, live))

    return _run("balances", config, workers, progress, work)


def verify_all(
    config: Config,
    *,
    strong: bool = False,
    live: bool = False,
    limit: int = LIMIT,
    workers: int | None = None,
    progress: bool = False,
    resume: bool = False,
) -> Result:
    """Counts, digests, the rows of what differs, and balances where the config has a pack."""
    ledger = load_ledger(config.pack) if config.pack is not None else None

    def work(cuts: Cuts, pairs: Sequence[Pair]) -> Result:
        return everything(cuts, pairs, ledger, strong=strong, live=live, limit=limit, resume=resume)

    return _run("all", config, workers, progress, work)


def everything(
    cuts: Cuts, pairs: Sequence[Pair], ledger: Ledger | None, *, strong: bool, live: bool, limit: int, resume: bool
) -> Result:
    """What `verify all` does, at those cuts."""
    config = cuts.readers.config
    if ledger:
        measures(pairs, ledger.controls)  # what the ledger names is there, or nothing begins
    found, notes = _checksums(cuts, pairs, strong, resume)
    rows = rows_of(cuts, pairs, found, False, strong, limit)
    if ledger is None:
        notes += ("the config has no pack, so balances were not verified",)
        return replace(rows, command="all", notes=notes + rows.notes)
    suspects = Suspects(m for m in rows.mismatches if m.kind != "late")
    accounts, invariants = cuts.at_one(lambda: _money(cuts, pairs, ledger, limit, live, suspects))
    return replace(
        rows,
        command="all",
        mismatches=rows.mismatches + tuple(accounts[:limit]),
        totals=_totals(config, found),
        invariants=tuple(invariants),
        notes=notes + rows.notes,
    )


def _run(
    title: str,
    config: Config,
    workers: int | None,
    progress: bool,
    work: Callable[[Cuts, Sequence[Pair]], Result],
    tables: Sequence[str] = (),
) -> Result:
    started = time.monotonic()
    with Readers(config, workers, Progress(title if progress else None)) as readers:
        pairs = load(readers, tables)
        with Cuts(readers, pairs) as cuts:
            result = work(cuts, pairs)
            notes, records = tuple(cuts.notes()), cuts.records
    return replace(
        result,
        mismatches=priced(config, result.mismatches),
        seconds=time.monotonic() - started,
        cuts=(*result.cuts, *records),
        notes=result.notes + notes,
    )


def _checksums(
    cuts: Cuts, pairs: Sequence[Pair], strong: bool, going_on: bool
) -> tuple[list[Checksum], tuple[str, ...]]:
    """The tables, proven, and what a reader must know of it."""
    config = cuts.readers.config
    measured = _measured(config, pairs)
    resume = Resume(config, repr((strong, pairs, measured))) if going_on else None
    proven = prove(cuts, pairs, measured, strong, resume)
    notes = []
    if resume:
        resume.done()
        notes += [resume.refused] if resume.refused else []
    if kept := [p for p in proven if p.kept]:
        oldest = min(p.cut.taken_at for p in kept)
        notes.append(
            f"{len(kept)} of {len(proven)} ranges were proven by a run that didn't end, at cuts from {oldest} on "
            "(--anew proves all of them now)"
        )
        cuts.adopt(p.cut for p in kept)
    return checksums(pairs, proven), tuple(notes)


def _measured(config: Config, pairs: Sequence[Pair]) -> list[Measure]:
    """The control totals of those tables that the pack's ledger asks for."""
    if config.pack is None:
        return []
    names = {pair.name.lower() for pair in pairs}
    return measures(pairs, [c for c in load_ledger(config.pack).controls if c.table.lower() in names])


def _totals(config: Config, found: Sequence[Checksum]) -> tuple[ControlTotal, ...] | None:
    if config.pack is None:
        return None
    totals = [total for checksum in found for total in checksum.control_totals()]
    return (*totals, *net_totals(totals, load_ledger(config.pack).role.entry))


def _balances(cuts: Cuts, pairs: Sequence[Pair], ledger: Ledger, limit: int, live: bool) -> Result:
    """Money by shard, currency, day and account. A table's verdict is that of its totals and accounts."""
    readers = cuts.readers
    measured = measures(pairs, ledger.controls)
    counted = counts(readers, [m.pair for m in {m.pair.name: m for m in measured}.values()])
    totals = control_totals(readers, measured)
    totals += net_totals(totals, ledger.role.entry)
    accounts, invariants = _money(cuts, pairs, ledger, limit, live, Suspects())
    wrong = {m.target for m in accounts} | {t.table for t in totals if not t.ok}
    tables = tuple(
        replace(table, ok=table.ok and table.target not in wrong, more=len(accounts) > limit) for table in counted
    )
    return Result("balances", tables, tuple(accounts[:limit]), tuple(totals), tuple(invariants))


def _money(
    cuts: Cuts, pairs: Sequence[Pair], ledger: Ledger, limit: int, live: bool, suspects: Suspects
) -> tuple[list[Mismatch], list[InvariantResult]]:
    """The accounts that differ, one more than the limit at most, and the invariants. Where sync runs, money moves."""
    readers = cuts.readers
    live = live or cuts.exact
    accounts = list(islice(account_mismatches(readers, pairs, ledger, suspects), limit + 1))
    return accounts, check_invariants(readers, pairs, ledger, limit, live, suspects)
