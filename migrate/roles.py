"""The roles that tables of a ledger play: which table, and which of its columns is what. Pure data.

Every field names a column of the role's table unless it says otherwise.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from migrate.model import Target

TableName = Annotated[str, Field(pattern=r"^[^.`]+\.[^.`]+$")]
ColumnName = Annotated[str, Field(pattern=r"^[^.`]+$")]
Seconds = Annotated[int, Field(ge=0)]

# Which rows count: every column has that value, or one of those values. {} are all rows; NULL is no value.
Filter = dict[ColumnName, str | int | tuple[str | int, ...]]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Role(_Strict):
    """A table of the target and its columns."""

    table: TableName

    @property
    def target(self) -> Target:
        schema, table = self.table.split(".")
        return Target(schema, table)


class Account(Role):
    """Holders of balances. What raises a balance is one direction for all (`increases`, a value of the entries'
    direction) or differs by account (`nature`, a column that holds that value)."""

    id: ColumnName
    balance: ColumnName
    opening: ColumnName | None = None  # without it every account opened with nothing
    currency: ColumnName
    sequence: ColumnName | None = None  # the sequence of the account's last entry
    increases: str | None = None
    nature: ColumnName | None = None
    summary: Filter = {}  # accounts that only add up others: they have no entries, and no balance counts twice
    never_negative: Filter | None = None  # accounts that may never stand on the other side of zero

    @model_validator(mode="after")
    def _one_sign(self) -> Self:
        if (self.increases is None) == (self.nature is None):
            raise ValueError("give one of increases (a direction) and nature (a column)")
        return self


class Entry(Role):
    """Legs of vouchers: an amount, never negative, on one side of one account."""

    id: ColumnName
    account: ColumnName
    voucher: ColumnName
    direction: ColumnName
    debit: str = "D"  # the value of `direction` for a debit
    credit: str = "C"
    amount: ColumnName
    currency: ColumnName
    balance_before: ColumnName | None = None
    balance_after: ColumnName | None = None
    sequence: ColumnName | None = None
    time: ColumnName
    idempotency: ColumnName | None = None

    @model_validator(mode="after")
    def _two_directions(self) -> Self:
        if self.debit == self.credit:
            raise ValueError(f"debit and credit are both {self.debit!r}")
        if (self.balance_before is None) != (self.balance_after is None):
            raise ValueError("give both balance_before and balance_after, or neither")
        return self


class Voucher(Role):
    """What ties the legs of one transaction together. Its legs may lie on several shards, which commit one by one:
    a voucher younger than `in_transit_s` seconds may still miss some, an older one may not."""

    id: ColumnName
    account: ColumnName | None = None  # the account whose shard the voucher lives on
    amount: ColumnName
    currency: ColumnName
    time: ColumnName
    idempotency: ColumnName | None = None
    in_transit_s: Seconds = 0


class _Timed(Role):
    """A document whose parts may lie on several shards, and so may disagree for `in_transit_s` seconds; with `at_rest`
    even when nothing moves, for it is somebody else that is waited for."""

    time: ColumnName | None = None
    in_transit_s: Seconds = 0
    at_rest: bool = False

    @model_validator(mode="after")
    def _needs_time(self) -> Self:
        if self.in_transit_s and not self.time:
            raise ValueError("in_transit_s needs time")
        if self.at_rest and not self.in_transit_s:
            raise ValueError("at_rest needs in_transit_s")
        return self


class SubAccount(_Timed):
    """Parts of a hot account, which add up to their master; in a table of their own or in that of the accounts,
    where `master` is NULL for what is no part."""

    id: ColumnName
    master: ColumnName  # the id of an account
    balance: ColumnName
    currency: ColumnName | None = None
    where: Filter = {}
    masters: Filter = {}  # on the account table: which accounts have parts; those of account.summary if not given


class Buffer(Role):
    """What waits to go on: postings to be merged and booked, payments to be cleared, batches to be paid out. None may
    be `pending` for longer than `max_age_s`; and none at all when nothing moves, unless somebody else is waited for
    (`at_rest`)."""

    id: ColumnName
    time: ColumnName
    pending: Annotated[Filter, Field(min_length=1)]
    max_age_s: Seconds
    at_rest: bool = False
    item: Annotated[str, Field(min_length=1)] = "posting"  # what the rows are called in the findings; no column
    account: ColumnName | None = None
    amount: ColumnName | None = None
    currency: ColumnName | None = None


class Escrow(_Timed):
    """Orders whose money is held: what is open of them equals what their accounts hold."""

    id: ColumnName
    amount: ColumnName
    less: tuple[ColumnName, ...] = ()  # what of the amount is no longer held: released, refunded
    currency: ColumnName
    open: Filter = {}
    account: ColumnName | None = None  # the holder; without it they are compared by currency
    holders: Filter = {}  # on the account table: which accounts hold
    held: ColumnName | None = None  # of the account table: what is held; its balance if not given


class Detail(_Strict):
    """The lines of a settlement batch."""

    table: TableName
    batch: ColumnName
    amount: ColumnName
    currency: ColumnName | None = None  # if both have one, they are compared by currency, and so priced
    where: Filter = {}


class Settlement(_Timed):
    """Batches: as much as their details, and as much as was posted to the merchant's account."""

    id: ColumnName
    amount: ColumnName
    currency: ColumnName | None = None
    where: Filter = {}
    detail: Detail
    count: ColumnName | None = None  # how many details
    account: ColumnName | None = None  # the merchant's
    voucher: ColumnName | None = None  # that pays it out
    posted: Filter = {}  # the batches whose voucher must be there; all if not given

    @model_validator(mode="after")
    def _posting(self) -> Self:
        if (self.account is None) != (self.voucher is None):
            raise ValueError("give both account and voucher, or neither")
        return self


class Reversal(Role):
    """Documents that take back others. `original` is NULL for one that takes nothing back. In whole, once; or in
    part (`partial`), together at most the original."""

    id: ColumnName
    original: ColumnName
    amount: ColumnName
    currency: ColumnName | None = None
    where: Filter = {}
    partial: bool = False
    of: TableName | None = None  # the table of the originals; the same one if not given
    of_id: ColumnName | None = None  # the same columns there if not given
    of_amount: ColumnName | None = None
    of_currency: ColumnName | None = None


class Instalment(Role):
    """Parts of a hold that are released one by one."""

    id: ColumnName
    hold: ColumnName
    number: ColumnName | None = None  # 1, 2, 3 .. within the hold
    amount: ColumnName
    currency: ColumnName | None = None
    released: Filter = {}
    of: TableName  # the table of the holds
    of_id: ColumnName
    of_amount: ColumnName


class Clearing(_Timed):
    """Items of a channel's clearing file: each booked once, by a voucher of its amount."""

    id: ColumnName
    key: Annotated[tuple[ColumnName, ...], Field(min_length=1)]  # what the channel calls it
    amount: ColumnName
    currency: ColumnName | None = None
    voucher: ColumnName | None = None
    booked: Filter = {}  # the items that must have their voucher; all if not given


class Snapshot(Role):
    """Balances of accounts at the end of a day."""

    account: ColumnName
    day: ColumnName
    balance: ColumnName


class Reference(_Timed):
    """A column whose value, unless NULL, must be an id elsewhere."""

    column: ColumnName
    of: TableName
    of_column: ColumnName
    where: Filter = {}
