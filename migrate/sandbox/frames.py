"""The rows that postings become, table by table, as fields that the columns of workload.toml refer to."""

from __future__ import annotations

import numpy as np

from migrate.sandbox.postings import Accounts, Legs, Postings
from migrate.sandbox.rows import Fields, take
from migrate.sandbox.workload import Workload


def account_fields(accounts: Accounts, opened_ms: int) -> Fields:
    """All accounts, without opening, balance and sequence."""
    return {
        "id": accounts.id,
        "currency": accounts.currency,
        "nature": accounts.nature,
        "time": np.full(len(accounts), opened_ms, dtype=np.int64),
    }


def entry_fields(workload: Workload, accounts: Accounts, postings: Postings, legs: Legs) -> Fields:
    """All legs, without before, after and sequence: those only who applies them in order can know."""
    entry = workload.ledger.role.entry
    return {
        **take(_posting_fields(workload, accounts, postings), legs.posting),
        "id": legs.id,
        "account": accounts.id[legs.account],
        "direction": np.where(legs.number == 0, entry.debit, entry.credit),
        "amount": legs.amount,
        "leg": legs.number,
    }


def voucher_fields(workload: Workload, accounts: Accounts, postings: Postings) -> Fields:
    """One voucher a posting."""
    return {**_posting_fields(workload, accounts, postings), "id": postings.id}


def document_fields(workload: Workload, accounts: Accounts, postings: Postings, action: int) -> Fields:
    """The documents of the postings of that action (its number)."""
    rows = np.flatnonzero(postings.action == action)
    original = np.where(postings.original >= 0, postings.document[postings.original], 0)
    fields = {**_posting_fields(workload, accounts, postings), "id": postings.document, "original": original}
    return take(fields, rows)


def _posting_fields(workload: Workload, accounts: Accounts, postings: Postings) -> Fields:
    return {
        "voucher": postings.id,
        "debit": accounts.id[postings.debit],
        "credit": accounts.id[postings.credit],
        "amount": postings.amount,
        "currency": accounts.currency[postings.debit],
        "time": postings.time,
        "action": np.array([a.name for a in workload.actions])[postings.action],
        "legs": np.where(postings.third >= 0, 3, 2),
    }
