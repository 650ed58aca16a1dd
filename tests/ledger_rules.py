"""The rules of the payment ledger asked of its shards in plain SQL, by none of the toolkit's own checks."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from migrate.config import Endpoint
from migrate.db import Session, connect
from migrate.sandbox.layout import find_layout
from migrate.sandbox.workload import load_workload


def broken_rules(sources: Sequence[Endpoint], pack: str) -> dict[str, list[Any]]:
    """The offending rows of every rule of the payment ledger, over all shards; what holds isn't in it."""
    layout = find_layout(load_workload(pack), sources)
    found: dict[str, list[Any]] = defaultdict(list)
    legs: dict[tuple[int, str], dict[str, Decimal]] = defaultdict(lambda: {"D": Decimal(0), "C": Decimal(0)})
    vouchers: dict[int, tuple[Decimal, str, int]] = {}
    orders: dict[int, Decimal] = {}
    refunds: dict[int, Decimal] = defaultdict(Decimal)
    documents: list[tuple[Any, ...]] = []
    told: Counter[int] = Counter()
    ids: Counter[tuple[str, int]] = Counter()
    keys: Counter[tuple[str, str]] = Counter()
    sessions: dict[Endpoint, Session] = {s: connect(s) for s in sources}
    for place in layout:
        session, n = sessions[place.source], len(layout)
        a, e, v, o, r = (place.table(f"payment.{t}") for t in
                         ("account", "account_entry", "voucher", "payment_order", "refund"))  # fmt: skip

        def rule(name: str, sql: str, session: Session = session) -> None:
            if rows := session.query(sql + " LIMIT 5"):
                found[name].extend(rows)

        signed = "SUM(IF(e.direction = 'C', e.amount, -e.amount))"
        rule("balance", f"SELECT a.id FROM {a} a LEFT JOIN {e} e ON e.account_id = a.id GROUP BY a.id "
             f"HAVING MAX(a.balance) <> MAX(a.opening_balance) + COALESCE({signed}, 0)")  # fmt: skip
        rule("sequence", f"SELECT a.id FROM {a} a LEFT JOIN {e} e ON e.account_id = a.id GROUP BY a.id "
             "HAVING COUNT(e.seq) <> MAX(a.entry_seq) OR COALESCE(MAX(e.seq), 0) <> MAX(a.entry_seq)")  # fmt: skip
        rule("step", f"SELECT id FROM {e} WHERE balance_after <> balance_before + IF(direction = 'C', amount, -amount)")
        rule("continuity", f"SELECT x.id FROM {e} x JOIN {e} y ON y.account_id = x.account_id AND y.seq = x.seq + 1 "
             "WHERE y.balance_before <> x.balance_after")  # fmt: skip
        rule("first", f"SELECT e.id FROM {e} e JOIN {a} a ON a.id = e.account_id "
             "WHERE e.seq = 1 AND e.balance_before <> a.opening_balance")  # fmt: skip
        rule("last", f"SELECT e.id FROM {e} e JOIN {a} a ON a.id = e.account_id "
             "WHERE e.seq = a.entry_seq AND e.balance_after <> a.balance")  # fmt: skip
        rule("no account", f"SELECT e.id FROM {e} e LEFT JOIN {a} a ON a.id = e.account_id WHERE a.id IS NULL")
        rule("currency", f"SELECT e.id FROM {e} e JOIN {a} a ON a.id = e.account_id WHERE a.currency <> e.currency")
        rule("negative", f"SELECT id FROM {a} WHERE balance < 0 OR opening_balance < 0")
        rule("amount", f"SELECT id FROM {e} WHERE amount <= 0")
        rule("sharding", f"SELECT id FROM {a} WHERE id % {n} <> {place.number}")
        rule("sharding", f"SELECT id FROM {v} WHERE debit_account_id % {n} <> {place.number}")
        rule("sharding", f"SELECT id FROM {o} WHERE id % {n} <> {place.number}")
        rule("sharding", f"SELECT id FROM {r} WHERE order_id % {n} <> {place.number}")
        for voucher, currency, direction, total, count in session.query(
            f"SELECT voucher_id, currency, direction, SUM(amount), COUNT(*) FROM {e} GROUP BY 1, 2, 3"
        ):
            legs[voucher, currency][direction] += total
            told[voucher] += count
        for id, amount, currency, count in session.query(f"SELECT id, amount, currency, legs FROM {v}"):
            vouchers[id] = amount, currency, count
        orders.update(session.query(f"SELECT id, amount FROM {o}"))
        for order, amount in session.query(f"SELECT order_id, amount FROM {r}"):
            refunds[order] += amount
        for name, table in (("account", a), ("entry", e), ("voucher", v), ("order", o), ("refund", r)):
            ids.update((name, id) for (id,) in session.query(f"SELECT id FROM {table}"))
            if name != "account":
                keys.update((name, key) for (key,) in session.query(f"SELECT idempotency_key FROM {table}"))
        for table in (o, r):
            documents += session.query(f"SELECT voucher_id, amount FROM {table}")
    rules = {
        "debit = credit": [k for k, sums in legs.items() if sums["D"] != sums["C"]],
        "voucher amount": [k for k, s in legs.items() if vouchers.get(k[0], (None,))[0] != s["D"]],
        "legs": [id for id, (_, _, count) in vouchers.items() if count != told[id]],
        "document": [id for id, amount in documents if vouchers.get(id, (None,))[0] != amount],
        "orphans": list(set(told) ^ set(vouchers)),
        "refunds": [order for order, total in refunds.items() if total > orders.get(order, 0)],
        "id twice": [k for k, count in ids.items() if count > 1],
        "key twice": [k for k, count in keys.items() if count > 1],
    }
    for session in sessions.values():
        session.close()
    return dict(found) | {name: rows[:5] for name, rows in rules.items() if rows}


def lost_postings(sources: Sequence[Endpoint], pack: str, journal: Path) -> tuple[int, list[int]]:
    """How many postings the journal acknowledges, and the ids of entries that it has and the shards haven't."""
    layout = find_layout(load_workload(pack), sources)
    held: dict[int, tuple[int, Decimal]] = {}
    for place in layout:
        with connect(place.source) as session:
            for id, account, change in session.query(
                "SELECT id, account_id, IF(direction = 'C', amount, -amount) "
                f"FROM {place.table('payment.account_entry')}"
            ):
                held[id] = account, change
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    entries = [e for record in records for e in record["entries"]]
    return len(records), [e["id"] for e in entries if held.get(e["id"]) != (e["account"], Decimal(e["change"]))]
