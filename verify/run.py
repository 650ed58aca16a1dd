"""The commands as functions: a config in, a Result out. Nothing here prints, writes or exits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice

from migrate.config import Config
from migrate.errors import ConfigError
from migrate.ledger import Ledger, load_ledger
from verify.accounts import account_mismatches
from verify.checksum import Checksum, checksums
from verify.controls import control_totals, net_totals, pair_of
from verify.counts import counts
from verify.invariants import check_invariants
from verify.model import Mismatch, TableResult
from verify.progress import Progress
from verify.readers import Readers
from verify.result import Result
from verify.rows import bucketed, mismatches
from verify.tables import Pair, load

LIMIT = 10_000  # mismatches of a table, offenders of a rule


def verify_counts(
    config: Config, *, tables: Sequence[str] = (), workers: int | None = None, progress: bool = False
) -> Result:
    """Row counts of every target table against those of its shards."""
    return _run(
        "counts",
        config,
        workers,
        progress,
        lambda readers: Result("counts", tuple(counts(readers, load(readers, tables)))),
    )


def verify_checksum(
    config: Config,
    *,
    strong: bool = False,
    tables: Sequence[str] = (),
    workers: int | None = None,
    progress: bool = False,
) -> Result:
    """Digests of all rows of every target table against those of its shards; `strong` makes them 64 bits."""

    def work(readers: Readers) -> Result:
        pairs = load(readers, tables)
        found = checksums(readers, pairs, strong)
        return Result("checksum", tuple(c.result() for c in found), digest=_digest_name(pairs, strong))

    return _run("checksum", config, workers, progress, work)


def verify_rows(
    config: Config,
    *,
    full: bool = False,
    strong: bool = False,
    limit: int = LIMIT,
    tables: Sequence[str] = (),
    workers: int | None = None,
    progress: bool = False,
) -> Result:
    """The rows that differ, of the tables whose digests differ; `full` compares every table bucket by bucket."""

    def work(readers: Readers) -> Result:
        pairs = load(readers, tables)
        return _rows(readers, pairs, checksums(readers, pairs, strong), full, strong, limit)

    return _run("rows", config, workers, progress, work)


def verify_balances(
    config: Config, *, live: bool = False, limit: int = LIMIT, workers: int | None = None, progress: bool = False
) -> Result:
    """Control totals, the accounts that differ, and the invariants. ConfigError for a config without a pack.

    `live`: both sides are being written, so a young voucher may miss a leg.
    """
    if config.pack is None:
        raise ConfigError(
            f"{config.path}: migration.pack: balances need a pack, whose ledger.toml says where the money is"
        )
    ledger = load_ledger(config.pack)
    return _run(
        "balances", config, workers, progress, lambda readers: _balances(readers, load(readers), ledger, limit, live)
    )


def verify_all(
    config: Config,
    *,
    strong: bool = False,
    live: bool = False,
    limit: int = LIMIT,
    workers: int | None = None,
    progress: bool = False,
) -> Result:
    """Counts, digests, the rows of what differs, and balances where the config has a pack."""
    ledger = load_ledger(config.pack) if config.pack is not None else None

    def work(readers: Readers) -> Result:
        pairs = load(readers)
        counted = counts(readers, pairs)
        rows = _rows(readers, pairs, checksums(readers, pairs, strong), False, strong, limit)
        notes = list(rows.notes)
        tables = []
        for count, table in zip(counted, rows.tables, strict=True):
            same = (count.source_rows, count.target_rows) == (table.source_rows, table.target_rows)
            if not same:
                notes.append(
                    f"{table.target}: the counts and the digests saw different numbers of rows: it is being written"
                )
            tables.append(replace(table, ok=table.ok and count.ok and same))
        if ledger is None:
            notes.append("the config has no pack, so balances were not verified")
            return replace(rows, command="all", tables=tuple(tables), notes=tuple(notes))
        money = _balances(readers, pairs, ledger, limit, live)
        return replace(
            rows,
            command="all",
            tables=tuple(tables),
            mismatches=rows.mismatches + money.mismatches,
            totals=money.totals,
            invariants=money.invariants,
            notes=tuple(notes),
        )

    return _run("all", config, workers, progress, work)


def _run(title: str, config: Config, workers: int | None, progress: bool, work: Callable[[Readers], Result]) -> Result:
    started = time.monotonic()
    with Readers(config, workers, Progress(title if progress else None)) as readers:
        result = work(readers)
    return replace(result, seconds=time.monotonic() - started)


def _rows(
    readers: Readers, pairs: Sequence[Pair], found: Sequence[Checksum], full: bool, strong: bool, limit: int
) -> Result:
    tables: list[TableResult] = []
    named: list[Mismatch] = []
    notes: list[str] = []
    for checksum in found:
        result = checksum.result()
        if full or not checksum.equal:
            buckets = bucketed(readers, checksum.pair, checksum.source.rows, strong)
            rows = list(islice(mismatches(readers, checksum.pair, buckets), limit + 1))
            result = _counted(result, rows[:limit], more=len(rows) > limit)
            named += rows[:limit]
            if not rows and not result.ok:
                notes.append(
                    f"{result.target}: the digests differed, but no row did when it was fetched: "
                    "it is being written; verify it when it is quiet"
                )
        tables.append(result)
    return Result("rows", tuple(tables), tuple(named), digest=_digest_name(pairs, strong), notes=tuple(notes))


def _counted(result: TableResult, rows: Sequence[Mismatch], more: bool) -> TableResult:
    kinds = Counter(m.kind for m in rows)
    return replace(
        result,
        ok=result.ok and not rows,
        missing=kinds["missing"],
        extra=kinds["extra"],
        different=kinds["different"],
        duplicate=kinds["duplicate"],
        more=more,
    )


def _balances(readers: Readers, pairs: Sequence[Pair], ledger: Ledger, limit: int, live: bool) -> Result:
    """Money by shard, currency, day and account. A table's verdict is that of its totals and accounts."""
    names = dict.fromkeys(control.table for control in ledger.controls)
    counted = counts(readers, [pair_of(pairs, name) for name in names])
    totals = control_totals(readers, pairs, ledger.controls)
    totals += net_totals(totals, ledger.role.entry)
    accounts = list(islice(account_mismatches(readers, pairs, ledger), limit + 1))
    invariants = check_invariants(readers, pairs, ledger, limit, live)
    wrong = {m.target for m in accounts} | {t.table for t in totals if not t.ok}
    tables = tuple(
        replace(table, ok=table.ok and table.target not in wrong, more=len(accounts) > limit) for table in counted
    )
    return Result("balances", tables, tuple(accounts[:limit]), tuple(totals), tuple(invariants))


def _digest_name(pairs: Sequence[Pair], strong: bool) -> str:
    return f"CRC32 of {pairs[0].hash.name}, {64 if strong else 32} bits"
