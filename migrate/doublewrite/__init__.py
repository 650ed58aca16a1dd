"""Double-write: the application writes both databases, forward and in reverse, and every difference is caught.

from migrate.doublewrite import DoubleWrite

ledger = DoubleWrite.open("migration.toml")
with ledger.session(account_id) as session:      # a SQLAlchemy session on whichever side is primary
    session.execute(update(Account).where(Account.id == account_id).values(balance=Account.balance - amount))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrate.doublewrite.errors import Fenced, NotOnBothSides, Refused, WrongPrimary

if TYPE_CHECKING:
    from migrate.doublewrite.session import DoubleWrite

__all__ = ["DoubleWrite", "Fenced", "NotOnBothSides", "Refused", "WrongPrimary"]


def __getattr__(name: str) -> Any:
    if name == "DoubleWrite":  # the commands need no SQLAlchemy
        from migrate.doublewrite.session import DoubleWrite

        return DoubleWrite
    raise AttributeError(name)
