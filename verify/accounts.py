"""The accounts whose money differs: what their entries add up to and the balance they are stored with, side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import localcontext
from functools import partial

from migrate.ledger import Ledger
from migrate.model import literal, quote
from verify.controls import DIGITS, Figures, Group, Measure, money, pair_of
from verify.digest import Digest
from verify.model import Mismatch, MismatchKind, Totals, Values
from verify.readers import Readers
from verify.rows import both_totals, bucketed
from verify.suspects import Suspects, batches
from verify.tables import Pair

_PASS_ROWS = 200_000  # whose accounts are in memory at a time


def account_mismatches(
    readers: Readers, pairs: Sequence[Pair], ledger: Ledger, suspects: Suspects
) -> Iterator[Mismatch]:
    """Every account that differs: the sums of its entries first, then its stored balances.

    They are found by digests, not by sums, which two wrong accounts could cancel. Only the accounts of the suspects, if
    these explain the difference, or else of bad buckets are added up and compared.
    """
    account, entry = ledger.role.account, ledger.role.entry
    entries, accounts = pair_of(pairs, entry.table), pair_of(pairs, account.table)
    amount = money(entries, entry.amount)

    def side(value: str) -> str:
        return f"CASE WHEN {quote(entry.direction)} = {literal(value)} THEN {amount} ELSE 0 END"

    legs = (("debit", side(entry.debit)), ("credit", side(entry.credit)))
    narrow = entries.narrowed((entry.account, entry.currency, entry.direction, entry.amount), (entry.account,))
    yield from _differing(readers, Measure(narrow, (entry.account, entry.currency), legs), suspects)
    balances = (account.balance, account.opening) if account.opening else (account.balance,)
    narrow = accounts.narrowed((account.id, account.currency, *balances), (account.id,))
    stored = tuple((name, money(accounts, name)) for name in balances)
    yield from _differing(readers, Measure(narrow, (account.id, account.currency), stored), suspects)


def _differing(readers: Readers, measure: Measure, suspects: Suspects) -> Iterator[Mismatch]:
    totals = both_totals(readers, measure.pair)
    for sides in _figures(readers, measure, totals, suspects) if totals[0] != totals[1] else ():
        for group in sorted(sides[0].keys() | sides[1].keys()):
            source, target = (side.get(group) for side in sides)
            if source != target:
                yield _mismatch(measure, group, source, target)


def _figures(
    readers: Readers, measure: Measure, totals: tuple[Totals, Totals], suspects: Suspects
) -> Iterator[tuple[dict[Group, Figures], dict[Group, Figures]]]:
    """What the accounts that may differ add up to on the source and on the target, some of them at a time."""
    pair = measure.pair
    accounts = suspects.values(pair, pair.key)
    if accounts is not None and suspects.explain(pair, *totals):
        for some in batches(accounts, indexed=pair.indexed(pair.key[0])):
            yield _both(readers, replace(measure, pair=pair.having(pair.key, some)), lambda _: "")
        return
    buckets = bucketed(readers, pair, max(t.rows for t in totals))
    for chosen in buckets.passes(_PASS_ROWS):
        yield _both(readers, measure, partial(Digest.inside, buckets=buckets.number, chosen=chosen))


def _both(
    readers: Readers, measure: Measure, condition: Callable[[Digest], str]
) -> tuple[dict[Group, Figures], dict[Group, Figures]]:
    """Both sides' figures of the rows that the condition leaves."""
    pair = measure.pair
    target = measure.start(readers, None, condition(pair.on_target()))
    shards = [measure.start(readers, shard, condition(pair.on_source(shard))) for shard in pair.merged.shards]
    source: dict[Group, Figures] = defaultdict(Figures)
    for shard in shards:
        for group, figures in shard.result().items():
            source[group] += figures
    return source, target.result()


def _mismatch(measure: Measure, group: Group, source: Figures | None, target: Figures | None) -> Mismatch:
    kind: MismatchKind = "different" if source and target else "missing" if source else "extra"
    one, other = _values(measure, source), _values(measure, target)
    names = tuple(n for n in one or other or {} if one is None or other is None or one[n] != other[n])
    return Mismatch(
        measure.pair.name,
        measure.labels(group),
        kind,
        names,
        {n: one[n] for n in names} if one else None,
        {n: other[n] for n in names} if other else None,
    )


def _values(measure: Measure, figures: Figures | None) -> Values | None:
    if figures is None:
        return None
    values: Values = {"rows": str(figures.rows)}
    values |= {name: format(value, "f") for name, value in zip(measure.names, figures.sums, strict=True)}
    if measure.names == ("debit", "credit"):
        with localcontext(prec=DIGITS):
            values["net"] = format(figures.sums[1] - figures.sums[0], "f")
    return values
