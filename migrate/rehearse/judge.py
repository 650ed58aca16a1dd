"""The judge: every acknowledged posting is on both sides exactly once, with its accounts and amounts, and no other is.

It reads the traffic's own journal, and looks for each entry and voucher in the tables; it shares nothing with what
copied, followed or verified them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from migrate.config import Config, Endpoint
from migrate.db import connect
from migrate.ledger import Ledger, load_ledger
from migrate.model import MergedTable, quote
from migrate.rehearse.client import Journal
from migrate.source import read_routing

Fact = tuple[int, ...] | tuple[int, int, Decimal]
_SHOWN = 5


@dataclass(frozen=True)
class Verdict:
    """By side ('shards', 'target'): rows that were acknowledged and are `lost`, rows that are there `twice`, and rows
    that are there though nobody acknowledged them (`strange`)."""

    postings: int
    rows: int
    lost: dict[str, list[str]]
    twice: dict[str, list[str]]
    strange: dict[str, list[str]]

    @property
    def ok(self) -> bool:
        return self.postings > 0 and not any(
            named for found in (self.lost, self.twice, self.strange) for named in found.values()
        )

    def document(self) -> dict[str, Any]:
        return {"ok": self.ok, **vars(self)}

    def text(self) -> str:
        if not self.postings:
            return "no posting was acknowledged"
        if self.ok:
            return f"{self.postings:,} acknowledged postings ({self.rows:,} rows) are on both sides, each exactly once"
        said = []
        for word, found in (("lost", self.lost), ("twice", self.twice), ("not acknowledged", self.strange)):
            for side, named in found.items():
                if named:
                    said.append(f"{len(named)} rows {word} on the {side}: {'; '.join(named[:_SHOWN])}")
        return "\n".join(said)


def judge(config: Config, journal: Journal) -> Verdict:
    """Both sides against the journal, when nothing is written any more and everything has arrived."""
    assert config.pack is not None
    ledger = load_ledger(config.pack)
    entry, voucher = ledger.role.entry, ledger.role.voucher
    tables = {str(t.target): t for t in read_routing(config).checked()}
    wanted: dict[str, Counter[Fact]] = {entry.table: Counter()}
    if voucher is not None:
        wanted[voucher.table] = Counter()
    postings = 0
    for posting in journal.postings():
        postings += 1
        for id_, account, change in posting.entries:
            wanted[entry.table][id_, account, abs(Decimal(change)).normalize()] += 1
        if voucher is not None:
            wanted[voucher.table][(posting.voucher,)] += 1
    lost: dict[str, list[str]] = {}
    twice: dict[str, list[str]] = {}
    strange: dict[str, list[str]] = {}
    for side in ("shards", "target"):
        for target, facts in wanted.items():
            if not facts:
                continue
            first = min(fact[0] for fact in facts)
            found = Counter(_found(config, ledger, tables[target], side, first))
            lost.setdefault(side, []).extend(_named(target, facts - found))
            twice.setdefault(side, []).extend(_named(target, Counter({f: n for f, n in found.items() if n > 1})))
            others = Counter({f: n for f, n in (found - facts).items() if f not in facts})
            strange.setdefault(side, []).extend(_named(target, others))
    return Verdict(postings, sum(f.total() for f in wanted.values()), lost, twice, strange)


def _named(target: str, facts: Counter[Fact]) -> list[str]:
    return [f"{target} {' '.join(map(str, fact))}" for fact in sorted(facts, key=lambda f: f[0])]


def _found(config: Config, ledger: Ledger, table: MergedTable, side: str, first: int) -> Iterator[Fact]:
    """The rows of a table from the first id of the traffic on: ids grow with the time, and the seed is older."""
    entry = ledger.role.entry
    if str(table.target) == entry.table:
        columns = [entry.id, entry.account, entry.amount]
    else:
        assert ledger.role.voucher is not None
        columns = [ledger.role.voucher.id]
    select = f"SELECT {', '.join(map(quote, columns))} FROM {{}} WHERE {quote(columns[0])} >= {first}"
    places: dict[Endpoint, list[str]] = {}
    if side == "target":
        places[config.target] = [table.target.sql]
    else:
        for shard in table.shards:
            places.setdefault(config.source(shard.shard.instance), []).append(shard.shard.sql)
    for endpoint, names in places.items():
        with connect(endpoint, patience_s=config.run.patience_s) as session:
            for name in names:
                for row in session.query(select.format(name)):
                    yield (int(row[0]), int(row[1]), row[2].normalize()) if len(row) == 3 else (int(row[0]),)
