"""Rules of what stands around entries and vouchers: sub-accounts, buffers, orders, settlements, reversals,
instalments, clearing items, snapshots and references."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from migrate.ledger import Ledger
from migrate.model import quote
from verify.equations import Condition, Equation, Query, Term
from verify.phrases import alone, exact, filter_sql, net, sign, table_sql

Part = Equation | Condition | Query


def _sub_accounts(ledger: Ledger) -> Iterator[Part]:
    a = ledger.role.account
    for sub in ledger.role.sub_account:
        priced = sub.currency is not None
        key, of = ((sub.master, sub.currency or ""), (a.id, a.currency)) if priced else ((sub.master,), (a.id,))
        masters = filter_sql(sub.masters or a.summary)
        yield Equation(
            ("master", "currency")[: len(key)],
            (
                Term(a.table, of, "balance of master", 1, exact(a.balance), masters),
                Term(sub.table, key, "sub-accounts", -1, exact(sub.balance), filter_sql(sub.where), sub.time),
            ),
            sub.in_transit_s,
            sub.at_rest,
        )


def _buffers(ledger: Ledger) -> Iterator[Part]:
    for b in ledger.role.buffer:
        named = ((b.item, b.id), ("account", b.account), ("amount", b.amount), ("currency", b.currency),
                 ("waiting since", b.time))  # fmt: skip
        columns = tuple((label, column) for label, column in named if column)
        yield Condition(b.table, filter_sql(b.pending), columns, b.time, b.max_age_s, b.at_rest)


def _escrows(ledger: Ledger) -> Iterator[Part]:
    a = ledger.role.account
    for e in ledger.role.escrow:
        amount = " - ".join((exact(e.amount), *(f"IFNULL({exact(column)}, 0)" for column in e.less)))
        key, of = ((e.currency,), (a.currency,)) if e.account is None else (
            (e.account, e.currency), (a.id, a.currency))  # fmt: skip
        yield Equation(
            ("account", "currency")[-len(key) :],
            (
                Term(a.table, of, "held", 1, exact(e.held or a.balance), filter_sql(e.holders)),
                Term(e.table, key, "open orders", -1, amount, filter_sql(e.open), e.time),
            ),
            e.in_transit_s,
            e.at_rest,
        )


def _settlements(ledger: Ledger) -> Iterator[Part]:
    a, e = ledger.role.account, ledger.role.entry
    for s in ledger.role.settlement:
        d, which = s.detail, filter_sql(s.where)
        own, detailed = filter_sql(s.where), filter_sql(d.where)
        priced = s.currency is not None and d.currency is not None
        key, of = ((s.id, s.currency or ""), (d.batch, d.currency or "")) if priced else ((s.id,), (d.batch,))
        yield Equation(
            ("batch", "currency")[: len(key)],
            (
                Term(s.table, key, "batch amount", 1, exact(s.amount), own, s.time),
                Term(d.table, of, "details", -1, exact(d.amount), detailed),
            ),
            s.in_transit_s,
            s.at_rest,
        )
        if s.count:
            yield Equation(
                ("batch",),
                (
                    Term(s.table, (s.id,), "batch count", 1, exact(s.count), own, s.time),
                    Term(d.table, (d.batch,), "details", -1, "1.0", detailed),
                ),
                s.in_transit_s,
                s.at_rest,
                money=False,
            )
        if s.voucher and s.account:
            credited = f"ABS(SUM({sign(ledger, 'a.')} * ({net(ledger, 'e.')})))"
            which = filter_sql(s.where | s.posted, "s.")
            currency = f", s.{quote(s.currency)} AS `currency`" if s.currency else ""
            timed = f", s.{quote(s.time)} AS `time`" if s.time else ""
            group = ", ".join(f"s.{quote(c)}" for c in (s.id, s.voucher, s.account, s.amount, s.currency, s.time) if c)
            yield Query(
                f"SELECT s.{quote(s.id)} AS `batch`, s.{quote(s.voucher)} AS `voucher`, s.{quote(s.account)} AS "
                f"`account`, s.{quote(s.amount)} AS `batch amount`, IFNULL({credited}, 0) AS `posted`, "
                f"ABS(s.{quote(s.amount)} - IFNULL({credited}, 0)) AS `amount`{currency}{timed} FROM {s.target.sql} s "
                f"LEFT JOIN {e.target.sql} e ON e.{quote(e.voucher)} = s.{quote(s.voucher)} "
                f"AND e.{quote(e.account)} = s.{quote(s.account)} "
                f"LEFT JOIN {a.target.sql} a ON a.{quote(a.id)} = s.{quote(s.account)} WHERE {which} "
                f"GROUP BY {group} HAVING `batch amount` <> `posted`",
                time="time" if s.time else None,
                tolerance_s=s.in_transit_s,
                at_rest=s.at_rest,
            )


def _reversals(ledger: Ledger) -> Iterator[Part]:
    for r in ledger.role.reversal:
        of = table_sql(r.of or r.table)
        id_, amount = quote(r.of_id or r.id), quote(r.of_amount or r.amount)
        currency, theirs = r.currency, r.of_currency or r.currency
        wrong = f"r.total > o.{amount}" if r.partial else f"r.total <> o.{amount} OR r.times > 1"
        strange = f" OR r.low <> o.{quote(theirs)} OR r.high <> o.{quote(theirs)}" if currency and theirs else ""
        bounds = f", MIN({quote(currency)}) low, MAX({quote(currency)}) high" if currency else ""
        priced = f"ABS(r.total - IFNULL(o.{amount}, 0)) AS `amount`" + (", r.low AS `currency`" if currency else "")
        problem = (
            f"CASE WHEN o.{id_} IS NULL THEN 'there is no original' "
            + ("" if r.partial else "WHEN r.times > 1 THEN 'reversed more than once' ")
            + "ELSE 'not the amount or currency of the original' END"
        )
        yield Query(
            f"SELECT {problem} AS `problem`, r.first AS `reversal`, r.original AS `original`, r.times AS `reversals`, "
            f"r.total AS `reversed`, o.{amount} AS `original amount`, {priced} FROM "
            f"(SELECT {quote(r.original)} original, MIN({quote(r.id)}) first, COUNT(*) times, "
            f"SUM({quote(r.amount)}) total{bounds} FROM {r.target.sql} WHERE {quote(r.original)} IS NOT NULL "
            f"AND {filter_sql(r.where)} GROUP BY {quote(r.original)}) r "
            f"LEFT JOIN {of} o ON o.{id_} = r.original WHERE o.{id_} IS NULL OR {wrong}{strange}"
        )


def _instalments(ledger: Ledger) -> Iterator[Part]:
    for i in ledger.role.instalment:
        id_, held = quote(i.of_id), quote(i.of_amount)
        low = f", MIN({quote(i.currency)}) low" if i.currency else ""
        currency = ", i.low AS `currency`" if i.currency else ""
        released = filter_sql(i.released)
        yield Query(
            f"SELECT 'more is released than held' AS `problem`, i.hold AS `hold`, i.total AS `released`, "
            f"h.{held} AS `held`, i.total - IFNULL(h.{held}, 0) AS `amount`{currency} FROM "
            f"(SELECT {quote(i.hold)} hold, SUM({quote(i.amount)}) total{low} FROM {i.target.sql} WHERE {released} "
            f"GROUP BY {quote(i.hold)}) i LEFT JOIN {table_sql(i.of)} h ON h.{id_} = i.hold "
            f"WHERE h.{id_} IS NULL OR i.total > h.{held}"
        )
        if i.number:
            group = f"{quote(i.hold)}, {quote(i.number)}"
            currency = f", MIN({quote(i.currency)}) AS `currency`" if i.currency else ""
            yield Query(
                f"SELECT 'released more than once' AS `problem`, {quote(i.hold)} AS `hold`, {quote(i.number)} AS "
                f"`instalment`, COUNT(*) AS `times`, MIN({quote(i.id)}) AS `first id`, "
                f"MAX({quote(i.id)}) AS `last id`, "
                f"SUM({quote(i.amount)}) - MIN({quote(i.amount)}) AS `amount`{currency} FROM {i.target.sql} "
                f"WHERE {released} GROUP BY {group} HAVING COUNT(*) > 1"
            )


def _clearing(ledger: Ledger) -> Iterator[Part]:
    v = ledger.role.voucher
    for c in ledger.role.clearing:
        currency = f", MIN({quote(c.currency)}) AS `currency`" if c.currency else ""
        rest = f"SUM({quote(c.amount)}) - MIN({quote(c.amount)}) AS `amount`{currency}"
        ids = f"COUNT(*) AS `times`, MIN({quote(c.id)}) AS `first item`, MAX({quote(c.id)}) AS `last item`"
        key = ", ".join(quote(column) for column in c.key)
        yield Query(
            f"SELECT 'the channel''s item stands more than once' AS `problem`, {key}, {ids}, {rest} "
            f"FROM {c.target.sql} GROUP BY {key} HAVING COUNT(*) > 1"
        )
        if c.voucher is None or v is None:
            continue
        yield Query(
            f"SELECT 'one voucher books more than one item' AS `problem`, {quote(c.voucher)} AS `voucher`, {ids}, "
            f"{rest} FROM {c.target.sql} WHERE {quote(c.voucher)} IS NOT NULL "
            f"GROUP BY {quote(c.voucher)} HAVING COUNT(DISTINCT {key}) > 1"  # not the same item twice, which is above
        )
        shown = f"c.{quote(c.id)} AS `item`, c.{quote(c.voucher)} AS `voucher`, c.{quote(c.amount)} AS `item amount`"
        shown += f", v.{quote(v.amount)} AS `voucher amount`, "
        shown += f"ABS(c.{quote(c.amount)} - IFNULL(v.{quote(v.amount)}, 0)) AS `amount`"
        shown += f", c.{quote(c.currency)} AS `currency`" if c.currency else ""
        shown += f", c.{quote(c.time)} AS `time`" if c.time else ""
        yield Query(
            f"SELECT 'not booked by a voucher of its amount' AS `problem`, {shown} FROM {c.target.sql} c "
            f"LEFT JOIN {v.target.sql} v ON v.{quote(v.id)} = c.{quote(c.voucher)} "
            f"WHERE {filter_sql(c.booked, 'c.')} AND (v.{quote(v.id)} IS NULL "
            f"OR v.{quote(v.amount)} <> c.{quote(c.amount)})",
            time="time" if c.time else None,
            tolerance_s=c.in_transit_s,
            at_rest=c.at_rest,
        )


def _snapshots(ledger: Ledger) -> Iterator[Part]:
    a, e = ledger.role.account, ledger.role.entry
    opening = f"a.{quote(a.opening)}" if a.opening else "0"
    for s in ledger.role.snapshot:
        # one line a day of entries and one a snapshot, the entries of a day before its snapshot
        days = (
            f"SELECT {quote(e.account)} account, DATE({quote(e.time)}) day, 0 kind, SUM({net(ledger)}) net, "
            f"NULL kept "
            f"FROM {e.target.sql} GROUP BY {quote(e.account)}, DATE({quote(e.time)}) UNION ALL "
            f"SELECT {quote(s.account)}, DATE({quote(s.day)}), 1, 0, {quote(s.balance)} FROM {s.target.sql}"
        )
        expected = f"{opening} + {sign(ledger, 'a.')} * d.net"
        yield Query(
            f"SELECT d.account AS `account`, d.day AS `day`, d.kept AS `snapshot`, {expected} AS `expected`, "
            f"ABS(d.kept - ({expected})) AS `amount`, a.{quote(a.currency)} AS `currency` FROM "
            "(SELECT account, day, kind, kept, SUM(net) OVER (PARTITION BY account ORDER BY day, kind "
            f"ROWS UNBOUNDED PRECEDING) net FROM ({days}) x) d "
            f"LEFT JOIN {a.target.sql} a ON a.{quote(a.id)} = d.account "
            f"WHERE d.kind = 1 AND NOT (d.kept <=> {expected})"
        )


def _references(ledger: Ledger) -> Iterator[Part]:
    for r in ledger.role.reference:
        what = f"{r.table}.{r.column} is no {r.of}.{r.of_column}"
        where = f"t.{quote(r.column)} IS NOT NULL AND {filter_sql(r.where, 't.')}"
        yield alone(what, r.table, (r.column, r.column), r.of, r.of_column, r.time, r.in_transit_s, where, r.at_rest)


BY_DOCUMENTS: dict[str, Callable[[Ledger], Iterable[Part]]] = {
    "sub_accounts_equal_master": _sub_accounts,
    "buffer_drained": _buffers,
    "escrow_equals_open_orders": _escrows,
    "settlement_equals_details": _settlements,
    "reversal_matches_original": _reversals,
    "instalments_within_hold": _instalments,
    "clearing_booked_once": _clearing,
    "snapshot_equals_entries": _snapshots,
    "no_dangling_reference": _references,
}
