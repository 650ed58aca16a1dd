"""What is what in a ledger: ledger.toml read into roles, control totals and invariants. Pure data, no SQL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from migrate.config import read_toml
from migrate.model import Target
from migrate.packs import pack_dir

TableName = Annotated[str, Field(pattern=r"^[^.`]+\.[^.`]+$")]
ColumnName = Annotated[str, Field(pattern=r"^[^.`]+$")]
Severity = Literal["error", "warning"]

BuiltIn = Literal[
    "debit_equals_credit",  # per voucher and currency, the debits sum to the credits
    "balance_equals_opening_plus_entries",  # per account
    "balance_continuity",  # seq runs 1, 2, 3 .. per account; each balance_before is the last balance_after
    "no_orphan_entry",  # no entry without its account or voucher, no voucher without entries
    "idempotency_unique",  # no idempotency key twice, over all shards
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Role(_Strict):
    """A table of the target and its columns; every other field names a column unless it says otherwise."""

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
    in_transit_s: Annotated[int, Field(ge=0)] = 0


class Roles(_Strict):
    account: Account
    entry: Entry
    voucher: Voucher | None = None


class Control(_Strict):
    """A control total: COUNT and the exact SUM of each of `sums`, grouped by the columns `by` and the day of `day`."""

    table: TableName
    sums: Annotated[tuple[ColumnName, ...], Field(min_length=1)]
    by: tuple[ColumnName, ...] = ()
    day: ColumnName | None = None

    @property
    def target(self) -> Target:
        schema, table = self.table.split(".")
        return Target(schema, table)


class Invariant(_Strict):
    """A rule of the user's own: a SELECT that gives the offending rows on the target, and so nothing if it holds."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    sql: Annotated[str, Field(pattern=r"(?is)^\s*(SELECT|WITH)\b")]
    severity: Severity = "error"


class Ledger(_Strict):
    """The roles of a ledger, the control totals and the rules that it must obey."""

    role: Roles
    control: tuple[Control, ...] = ()  # besides those that come from the roles
    invariant: tuple[Invariant, ...] = ()  # besides the built-in ones
    severity: dict[BuiltIn, Severity] = Field(default_factory=dict)  # of built-in invariants; error if not named

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        directions = (self.role.entry.debit, self.role.entry.credit)
        if self.role.account.increases not in (None, *directions):
            raise ValueError(f"role.account.increases: expected one of {directions}, the values of role.entry")
        names = [i.name for i in self.invariant] + list(get_args(BuiltIn))
        twice = next((n for n in names if names.count(n) > 1), None)
        if twice:
            raise ValueError(f"invariant: {twice} stands twice or is built in")
        return self

    @property
    def controls(self) -> tuple[Control, ...]:
        """All control totals: those of the roles, then the file's own."""
        account, entry, voucher = self.role.account, self.role.entry, self.role.voucher
        balances = (account.balance, account.opening) if account.opening else (account.balance,)
        controls = [
            Control(table=account.table, sums=balances, by=(account.currency,)),
            Control(table=entry.table, sums=(entry.amount,), by=(entry.currency, entry.direction), day=entry.time),
        ]
        if voucher:
            controls.append(
                Control(table=voucher.table, sums=(voucher.amount,), by=(voucher.currency,), day=voucher.time)
            )
        return (*controls, *self.control)

    @property
    def built_in(self) -> dict[BuiltIn, Severity]:
        """The built-in invariants that these roles let one check, with their severity."""
        entry, voucher = self.role.entry, self.role.voucher
        names: list[BuiltIn] = ["debit_equals_credit", "balance_equals_opening_plus_entries", "no_orphan_entry"]
        if entry.sequence and entry.balance_before:
            names.append("balance_continuity")
        if entry.idempotency or (voucher and voucher.idempotency):
            names.append("idempotency_unique")
        return {name: self.severity.get(name, "error") for name in names}


def load_ledger(pack: str | Path) -> Ledger:
    """The ledger of a pack, by its name, its folder or the path of a ledger.toml. ConfigError names file and key."""
    path = Path(pack) if Path(pack).suffix == ".toml" else pack_dir(str(pack)) / "ledger.toml"
    return read_toml(path, Ledger)
