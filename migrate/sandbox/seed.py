"""Fills empty MySQL servers with a pack's ledger that obeys every invariant, the same for the same numbers."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import cache

import numpy as np

from migrate.config import Endpoint
from migrate.db import Session, connect
from migrate.errors import ConfigError, MigrateError
from migrate.model import quote
from migrate.sandbox.flowseed import flow_tables
from migrate.sandbox.frames import account_fields, document_fields, entry_fields, voucher_fields
from migrate.sandbox.layout import Layout, create_tables, drop_schemas, existing_schemas, plan_layouts
from migrate.sandbox.postings import Accounts, Draw, Ints, Legs, Snowflake
from migrate.sandbox.rows import Fields, normal, render, tab_separated, take
from migrate.sandbox.topology import Spots
from migrate.sandbox.workload import Columns, Workload, load_workload

_DAY_MS = 86_400_000
_PIECE = 50_000  # rows of one LOAD DATA
_WORKERS = 2


@dataclass(frozen=True)
class SeedReport:
    """What was made: rows per target table, over all shards."""

    rows: dict[str, int]
    schemas: int
    shards: int  # sets of them, over all databases
    seconds: float


@dataclass(frozen=True)
class _Piece:
    """Rows for one shard, small enough for one statement."""

    source: Endpoint
    table: str
    columns: Columns
    fields: Fields
    scale: int
    seed: tuple[int, ...]


def seed(
    sources: Sequence[Endpoint],
    pack: str,
    rows: int = 100_000,
    *,
    schemas: int | None = None,
    tables: int | None = None,
    skew: float = 0,
    seed: int = 1,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SeedReport:
    """Creates the pack's databases on the servers and fills them with exactly `rows` entries and what belongs to them.
    A pack with flows gets a few more.

    `schemas` and `tables` (of each kind) are totals over all servers, for every database of the pack. `skew` is the
    part of the entries that the first shard gets. `progress` is called with the rows loaded and the rows to load.
    ConfigError if there are databases of those names already, unless `force` drops them.
    """
    began = time.monotonic()
    workload = load_workload(pack)
    layout = plan_layouts(workload.topologies, sources, schemas, tables)
    if rows < 2 or not 0 <= skew < 1:
        raise ConfigError("rows: at least 2; skew: from 0 to below 1")
    for topology in workload.topologies.values():
        if force:
            drop_schemas(topology, sources)
        for source in sources:
            if names := existing_schemas(topology, source):
                raise ConfigError(f"{source.name} already holds {names[0]}: --force drops it and all that a seed made")
    create_tables(layout, workload)
    spots = Spots(workload.databases, Counter(place.database for place in layout))
    made = _tables(workload, spots, _weights(spots.ledger, skew), rows, seed)
    _load(_pieces(workload, layout, made, seed), sum(len(keys) for _, _, keys in made), progress)
    counts = dict.fromkeys(workload.columns, 0)
    for table, _, keys in made:
        counts[table] += len(keys)
    return SeedReport(counts, len({p.schema for p in layout}), len(layout), time.monotonic() - began)


# Target table, its rows, what makes the number of each one's shard set, modulo that of all.
_Made = list[tuple[str, Fields, Ints]]


def _tables(workload: Workload, spots: Spots, weights: list[float], rows: int, seed: int) -> _Made:
    """Every row of every table, as columns of numbers."""
    if workload.flows:
        return flow_tables(workload, spots, weights, rows, seed, int(time.time() * 1000))
    spec, rng, ids = workload.postings, np.random.default_rng(seed), Snowflake(0)
    accounts = _accounts(workload, weights, rows, rng)
    draw = Draw(workload, accounts, rng, ids)
    count = max(int(rows / (2 + spec.split)), -(-rows // 3))  # of two or three legs each, in all exactly `rows`
    times = spec.begins_ms + np.sort(rng.integers(0, spec.days * _DAY_MS, count))
    postings = draw.postings(times, splits=rows - 2 * count)
    legs = draw.legs(postings)
    entries = entry_fields(workload, accounts, postings, legs)
    balances = _balance(workload, accounts, legs, entries, rng)
    made = [
        (workload.account_table, account_fields(accounts, spec.begins_ms) | balances, accounts.id),
        (workload.entry_table, entries, entries["account"]),
    ]
    if workload.voucher_table:
        vouchers = voucher_fields(workload, accounts, postings)
        made.append((workload.voucher_table, vouchers, vouchers["debit"]))
    for number, action in enumerate(workload.actions):
        if action.document:
            documents = document_fields(workload, accounts, postings, number)
            made.append((action.document, documents, documents[action.shard_by]))
    return made


def _weights(shards: int, skew: float) -> list[float]:
    if not skew or shards == 1:
        return [1 / shards] * shards
    return [skew] + [(1 - skew) / (shards - 1)] * (shards - 1)


def _accounts(workload: Workload, weights: list[float], rows: int, rng: np.random.Generator) -> Accounts:
    """As many accounts per shard as its weight says, at least two of each currency."""
    spec, shards = workload.accounts, len(weights)
    names = list(spec.currencies)
    shares = normal(spec.currencies.values())
    counts = [max(2 * len(names), round(rows / spec.entries_each * w)) for w in weights]
    currencies = [c for n in counts for c in (*names, *names, *rng.choice(names, n - 2 * len(names), p=shares))]
    shard = np.repeat(np.arange(shards, dtype=np.int64), counts)
    number = np.concatenate([np.arange(n, dtype=np.int64) for n in counts])
    first = int(Snowflake(0).take(np.array([workload.postings.begins_ms - _DAY_MS]))[0]) // shards * shards
    return Accounts(first + number * shards + shard, shard, currencies, _natures(workload, len(shard), rng), weights)


def _natures(workload: Workload, count: int, rng: np.random.Generator) -> Sequence[str]:
    natures = workload.accounts.natures
    if not natures:
        return [str(workload.ledger.role.account.increases)] * count
    return list(map(str, rng.choice(list(natures), count, p=normal(natures.values()))))


def _balance(workload: Workload, accounts: Accounts, legs: Legs, entries: Fields, rng: np.random.Generator) -> Fields:
    """Adds before, after and sequence to the entries; gives opening, balance and sequence of every account.

    An account opens with enough that its balance never falls below zero.
    """
    spec = workload.postings
    low, high = (spec.units(a) for a in workload.accounts.opening)
    change = np.where(entries["direction"] == accounts.nature[legs.account], legs.amount, -legs.amount)
    order = np.argsort(legs.account, kind="stable")
    counts = np.bincount(legs.account, minlength=len(accounts))
    start = np.cumsum(counts) - counts
    running = np.concatenate(([0], np.cumsum(change[order])))
    since_start = running[1:] - np.repeat(running[start], counts)
    lowest = np.zeros(len(accounts), dtype=np.int64)
    np.minimum.at(lowest, legs.account[order], since_start)
    opening = rng.integers(low, high + 1, len(accounts)) - lowest
    after = np.empty_like(change)
    after[order] = since_start + np.repeat(opening, counts)
    sequence = np.empty_like(change)
    sequence[order] = np.arange(1, len(legs) + 1) - np.repeat(start, counts)
    entries |= {"before": after - change, "after": after, "sequence": sequence}
    return {"opening": opening, "balance": opening + running[start + counts] - running[start], "sequence": counts}


def _pieces(workload: Workload, layout: Layout, made: _Made, seed: int) -> Iterator[_Piece]:
    for number, (table, fields, keys) in enumerate(made):
        shard = keys % len(layout)
        order = np.argsort(shard, kind="stable")
        ends = np.searchsorted(shard[order], np.arange(1, len(layout) + 1))
        for place, rows in zip(layout, np.split(order, ends[:-1]), strict=True):
            for at in range(0, len(rows), _PIECE):
                piece = take(fields, rows[at : at + _PIECE])
                yield _Piece(
                    place.source, place.table(table), workload.columns[table], piece, workload.postings.scale,
                    (seed, number, place.number, at),
                )  # fmt: skip


def _load(pieces: Iterator[_Piece], total: int, progress: Callable[[int, int], None]) -> None:
    """Loads them, few at a time."""
    done = 0
    waiting: set[Future[int]] = set()
    with ProcessPoolExecutor(_WORKERS) as pool:
        for piece in pieces:
            waiting.add(pool.submit(_load_piece, piece))
            if len(waiting) > 2 * _WORKERS:
                ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                done += sum(f.result() for f in ready)
                progress(done, total)
        done += sum(f.result() for f in waiting)
        progress(done, total)


def _load_piece(piece: _Piece) -> int:
    """Runs in a process of the pool. MigrateError if the server changed, dropped or doubted anything."""
    texts = render(piece.columns, piece.fields, piece.scale, np.random.default_rng(piece.seed))
    count = len(next(iter(texts.values())))
    handle, path = tempfile.mkstemp(prefix="seed-")
    try:
        with open(handle, "wb") as file:
            file.write(tab_separated(texts))
        session = _session(piece.source)
        loaded = session.execute(
            f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE {piece.table} CHARACTER SET utf8mb4 "
            f"({', '.join(map(quote, texts))})"
        )
        warnings = session.query("SHOW WARNINGS LIMIT 1")
    finally:
        os.unlink(path)
    if warnings or loaded != count:
        raise MigrateError(f"{piece.table}: {loaded} of {count} rows loaded; {warnings[0][2] if warnings else ''}")
    return count


@cache
def _session(source: Endpoint) -> Session:
    """The one connection of this process of the pool; there are thousands of pieces where there are many shards."""
    return connect(source)
