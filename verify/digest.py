"""The digest of a table's rows on one side: the statements that make it, and their results as Totals.

`SUM(CRC32(MD5(text)))` is what TiDB pushes down to TiKV whole, grouped or not. The hash comes first because CRC32 alone
is affine: two swapped balances, or one edit made in an even number of rows, would leave a sum of it as it was.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from migrate.db import Session
from migrate.model import Column, Interleave, TableDef
from verify.encoding import Hash, Kind, Side, finish, piece
from verify.model import Totals


@dataclass(frozen=True, slots=True)
class Digest:
    """How one side's table is digested. `text` and `key` are the SQL of the row's text and of its key's; a table
    without a key is identified by the whole text. `finished`: the columns that this process finishes. `only`: the
    condition of the range of rows that this is about."""

    table: str
    hash: Hash
    text: str
    key: str
    finished: tuple[tuple[Kind, str], ...] = ()
    only: str = ""

    def where(self, *conditions: str) -> str:
        """The WHERE clause of those conditions (without the word) and of the range."""
        listed = [c for c in (self.only, *conditions) if c]
        return f" WHERE {' AND '.join(listed)}" if listed else ""

    def sums(self, strong: bool) -> str:
        """The aggregates of the digest: count, sum, and a second sum that makes it 64 bits. The second's salt is the
        hash itself: a hash of the hash."""
        first = self.hash.sql(self.text)
        second = f"SUM(CRC32({self.hash.sql(first)}))" if strong else "0"
        return f"COUNT(*), SUM(CRC32({first})), {second}"

    def bucket(self, buckets: int) -> str:
        """The bucket of a row, by its key's bytes; the same on both sides."""
        return f"CRC32({self.hash.sql(self.key)})%{buckets}"

    def totals_sql(self, strong: bool = False, condition: str = "") -> str:
        return f"SELECT {self.sums(strong)} FROM {self.table}{self.where(condition)}"

    def buckets_sql(self, buckets: int, strong: bool = False, condition: str = "") -> str:
        return f"SELECT {self.bucket(buckets)}, {self.sums(strong)} FROM {self.table}{self.where(condition)} GROUP BY 1"

    @staticmethod
    def buckets_together_sql(digests: Sequence[Digest], buckets: int, strong: bool = False) -> str:
        """The same of several tables of a server, added up there."""
        if len(digests) == 1:
            return digests[0].buckets_sql(buckets, strong)
        names = "SELECT 0 AS bucket, 0 AS number, 0 AS first, 0 AS second FROM DUAL WHERE FALSE"
        each = " UNION ALL ".join([names, *(f"({d.buckets_sql(buckets, strong)})" for d in digests)])
        return f"SELECT bucket, SUM(number), SUM(first), SUM(second) FROM ({each}) AS one_by_one GROUP BY 1"

    def inside(self, buckets: int, chosen: Iterable[int]) -> str:
        """The condition of the rows of some buckets."""
        return f"{self.bucket(buckets)} IN ({','.join(map(str, chosen))})"

    def rows_sql(self, number: int, condition: str = "") -> str:
        """The rows that `condition` leaves: hash of the key, `number` (whose rows they are), text, and what isn't in
        it."""
        columns = ", ".join([self.hash.sql(self.key), str(number), self.text, *(sql for _, sql in self.finished)])
        return f"SELECT {columns} FROM {self.table}{self.where(condition)}"

    def totals(self, session: Session, strong: bool = False, condition: str = "") -> Totals:
        """The totals of the rows that `condition` leaves."""
        if not self.finished:
            return totals_of(session.one(self.totals_sql(strong, condition)))
        return self._finish(session, "0", strong, condition).get(0, Totals())

    def buckets(self, session: Session, buckets: int, strong: bool = False, condition: str = "") -> dict[int, Totals]:
        """The totals by bucket; a bucket without rows isn't in it."""
        if not self.finished:
            return by_bucket(session, self.buckets_sql(buckets, strong, condition))
        return self._finish(session, self.bucket(buckets), strong, condition)

    def _finish(self, session: Session, bucket: str, strong: bool, condition: str) -> dict[int, Totals]:
        columns = ", ".join([bucket, self.hash.sql(self.text), *(sql for _, sql in self.finished)])
        found: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
        for number, text, *values in session.stream(f"SELECT {columns} FROM {self.table}{self.where(condition)}"):
            hashed = self.hash.of(",".join((text, *self.pieces(values))))
            sums = found[int(number)]
            sums[0] += 1
            sums[1] += zlib.crc32(hashed.encode())
            if strong:
                sums[2] += zlib.crc32(self.hash.of(hashed).encode())
        return {number: Totals(*sums) for number, sums in found.items()}

    def pieces(self, values: Iterable[Any]) -> Iterator[str]:
        """The pieces of the columns that are finished here, from what the server gives for them."""
        return (finish(kind, value) for (kind, _), value in zip(self.finished, values, strict=True))


def digest_of(
    table: str,
    definition: TableDef,
    columns: Iterable[tuple[str, Kind]],
    key: Iterable[str],
    side: Side,
    hash_: Hash,
    remaps: dict[str, Interleave] | None = None,
    only: str = "",
) -> Digest:
    """The digest of that table by those columns, in that order; `key` names those that identify a row, if any; `only`:
    the condition of the rows that it is about."""
    remap = {name.lower(): value for name, value in (remaps or {}).items()}

    def sql(name: str, kind: Kind) -> str:
        column: Column = definition.column(name)
        return piece(column, kind, side, hash_, remap.get(name.lower()))

    made = [(name, kind, sql(name, kind)) for name, kind in columns]
    text = _joined(p for _, kind, p in made if not kind.client)
    keys = {name.lower() for name in key}
    return Digest(
        table,
        hash_,
        text,
        _joined(p for name, _, p in made if name.lower() in keys) if keys else text,
        tuple((kind, p) for _, kind, p in made if kind.client),
        only,
    )


def _joined(pieces: Iterable[str]) -> str:
    listed = list(pieces)
    return f"CONCAT_WS(',',{','.join(listed)})" if listed else "''"


def by_bucket(session: Session, sql: str) -> dict[int, Totals]:
    """The totals by bucket that a statement of `buckets_sql` gives."""
    return {int(bucket): totals_of(sums) for bucket, *sums in session.query(sql)}


def totals_of(sums: Iterable[Any]) -> Totals:
    """The Totals of a row of `sums`."""
    rows, first, second = (int(s or 0) for s in sums)
    return Totals(rows, first, second)
