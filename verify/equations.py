"""Rules of the form "both sides add up to the same, per key", checked for all keys in one pass that TiKV aggregates.

Each key gets a weight: the CRC32 of its hash. If the sums are equal for every key, then so are the sums of weight *
amount; and where they differ for some key, the weighted sums differ but for a chance of 1 in 2^32. Weighted sums need
no group, no join and no window: a server of any version adds them up, TiDB does so in TiKV, and those of the shards
add up to the whole, though the keys that they share lie on several. Only if a sum isn't zero are keys looked at:
first buckets of them, then the keys of bad buckets, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from migrate.errors import ConfigError
from migrate.model import ShardTable, quote
from verify.controls import pair_of
from verify.encoding import Kind
from verify.mapped import over
from verify.tables import Pair


@dataclass(frozen=True, slots=True)
class Term:
    """One table's part. `into`: the name of the sum it is shown in; `sign`: of its side of the equation; `amount` and
    `where` are SQL over the table's own columns; `step`: SQL of an integer that, with the key, makes the weight."""

    table: str
    key: tuple[str, ...]
    into: str
    sign: int
    amount: str
    where: str = "1"
    time: str | None = None
    step: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT of the target's: its rows offend the rule. Columns called amount and currency price them; that called
    `time` says since when, and younger rows than `tolerance_s` seconds are under way. With `key`, {} in the SQL is
    where a condition on that column goes. `unless_unique`: a table and its column, whose unique index answers it."""

    sql: str
    time: str | None = None
    tolerance_s: int = 0
    at_rest: bool = False  # also when nothing moves
    key: str | None = None
    unless_unique: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Equation:
    """Per key, the terms with their signs sum to nothing. `labels` name the key's parts; one called currency prices
    what is wrong. `tolerance_s`: how long parts may be under way. `grouped`: there are so few keys that each is added
    up by itself. `net`: how a leg that is under way, as debit - credit, shows in its sums. `details`: for a rule with
    steps, what shows where in the key it breaks. `at_rest`: parts may be under way even when nothing moves. `money`:
    the amounts are money, and not numbers of rows."""

    labels: tuple[str, ...]
    terms: tuple[Term, ...]
    tolerance_s: int = 0
    at_rest: bool = False
    money: bool = True
    grouped: bool = False
    net: int = 0
    details: Query | None = None

    @property
    def shown(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(term.into for term in self.terms))

    def places(self) -> dict[tuple[str, tuple[str, ...]], list[Term]]:
        """The terms by the table and key that they are read by together."""
        found: dict[tuple[str, tuple[str, ...]], list[Term]] = {}
        for term in self.terms:
            found.setdefault((term.table, term.key), []).append(term)
        return found

    def kinds(self, pairs: Sequence[Pair]) -> tuple[Kind, ...]:
        """How the key's parts are compared. ConfigError if two tables have them in types that can't be."""
        kinds: tuple[Kind, ...] | None = None
        for (table, key), _ in self.places().items():
            here = tuple(pair_of(pairs, table).kind(column) for column in key)
            if kinds is not None and here != kinds:
                one, other = (", ".join(k.value for k in some) for some in (kinds, here))
                raise ConfigError(f"ledger.toml: {table} has ({', '.join(key)}) as {other}, another table as {one}")
            kinds = here
        return kinds or ()


@dataclass(frozen=True, slots=True)
class Condition:
    """A rule of single rows: those that `where` (SQL over the table's own columns) finds offend it. `columns` are
    shown, by label; amount and currency price them. Rows younger than `tolerance_s` by `time` are under way; with
    `at_rest` even when nothing moves."""

    table: str
    where: str
    columns: tuple[tuple[str, str], ...]
    time: str | None = None
    tolerance_s: int = 0
    at_rest: bool = False


class Weighing:
    """The SQL of some terms of one table on one side."""

    def __init__(self, pair: Pair, shard: ShardTable | None):
        self.pair, self.shard = pair, shard
        self.table = shard.shard.sql if shard else pair.merged.target.sql

    def over(self, sql: str) -> str:
        """SQL over the merged table's columns, as this side has them."""
        return over(self.shard, sql)

    def pieces(self, key: Iterable[str]) -> list[str]:
        return [self.pair.piece(column, self.shard) for column in key]

    def _hash(self, pieces: Sequence[str]) -> str:
        return f"CRC32({self.pair.hash.sql('CONCAT_WS(' + ','.join((chr(39) + ',' + chr(39), *pieces)) + ')')})"

    def bucket(self, key: Iterable[str], number: int) -> str:
        return f"{self._hash(self.pieces(key))} % {number}"

    def inside(self, key: Sequence[str], number: int, chosen: Iterable[int]) -> str:
        """The condition of the rows whose key is in one of those buckets; empty if there is but one."""
        return f"{self.bucket(key, number)} IN ({','.join(map(str, chosen))})" if number > 1 else ""

    def beginning(self, key: Sequence[str], values: Iterable[tuple[str, ...]]) -> str:
        """The condition of the rows whose key's first column has one of those values (literals of the merged table)."""
        return self.pair.having(key[:1], values).condition(self.shard)

    def holds(self, term: Term) -> str:
        """Which rows count: those of the term's condition that have a key."""
        definition = self.pair.merged.definition
        keyed = [f"{quote(c)} IS NOT NULL" for c in term.key if definition.column(c).nullable]
        return self.over(" AND ".join(f"({part})" for part in (term.where, *keyed) if part != "1") or "1")

    def weighted(self, term: Term) -> str:
        """The sum of weight * amount."""
        weight = self._hash([*self.pieces(term.key), *([self.over(term.step)] if term.step else [])])
        return self._sum(term, f"{weight} * ({self.over(term.amount)})")

    def plain(self, term: Term) -> str:
        return self._sum(term, self.over(term.amount))

    def _sum(self, term: Term, amount: str) -> str:
        holds = self.holds(term)
        return f"SUM({amount})" if holds == "1" else f"SUM(CASE WHEN {holds} THEN {amount} ELSE 0 END)"

    def young(self, term: Term, since: str | None) -> str:
        """How much of it was written since then."""
        if since is None or term.time is None:
            return "0"
        recent = f"{self.holds(term)} AND {self.over(quote(term.time))} >= '{since}'"
        return f"SUM(CASE WHEN {recent} THEN ABS({self.over(term.amount)}) ELSE 0 END)"
