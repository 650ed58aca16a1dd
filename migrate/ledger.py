"""What is what in a ledger: ledger.toml read into roles, control totals and invariants. Pure data, no SQL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from migrate.config import read_toml
from migrate.model import Target
from migrate.packs import pack_dir
from migrate.roles import (
    Account,
    Buffer,
    Clearing,
    ColumnName,
    Entry,
    Escrow,
    Filter,
    Instalment,
    Reference,
    Reversal,
    Role,
    Settlement,
    Snapshot,
    SubAccount,
    TableName,
    Voucher,
)

Severity = Literal["error", "warning"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]

BuiltIn = Literal[
    "debit_equals_credit",  # per voucher and currency, the debits sum to the credits
    "trial_balance",  # per currency, what all accounts hold sums to nothing
    "balance_equals_opening_plus_entries",  # per account
    "balance_continuity",  # seq runs 1, 2, 3 .. per account; each balance_before is the last balance_after
    "no_orphan_entry",  # no entry without its account or voucher, no voucher without entries
    "idempotency_unique",  # no idempotency key twice, over all shards
    "balance_nature",  # no account stands on the wrong side of zero
    "sub_accounts_equal_master",
    "buffer_drained",  # no posting waits longer than it may; none at all when nothing moves
    "escrow_equals_open_orders",
    "settlement_equals_details",  # details = batch = what the merchant's account was posted
    "reversal_matches_original",
    "instalments_within_hold",  # together at most what is held, none twice
    "clearing_booked_once",
    "snapshot_equals_entries",  # a day-end balance is the opening and all entries to the end of that day
    "no_dangling_reference",
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Roles(_Strict):
    account: Account
    entry: Entry
    voucher: Voucher | None = None
    sub_account: tuple[SubAccount, ...] = ()
    buffer: tuple[Buffer, ...] = ()
    escrow: tuple[Escrow, ...] = ()
    settlement: tuple[Settlement, ...] = ()
    reversal: tuple[Reversal, ...] = ()
    instalment: tuple[Instalment, ...] = ()
    clearing: tuple[Clearing, ...] = ()
    snapshot: tuple[Snapshot, ...] = ()
    reference: tuple[Reference, ...] = ()


class Control(_Strict):
    """A control total: COUNT and the exact SUM of each of `sums`, grouped by the columns `by` and the day of `day`.
    `currency` is the column that says what the sums are in, by which a difference is priced."""

    table: TableName
    sums: Annotated[tuple[ColumnName, ...], Field(min_length=1)]
    by: tuple[ColumnName, ...] = ()
    day: ColumnName | None = None
    currency: ColumnName | None = None

    @property
    def target(self) -> Target:
        schema, table = self.table.split(".")
        return Target(schema, table)


class Addend(_Strict):
    """One table's part of a side of an equation: the sum of `sum` minus the `less`, by the columns `by`."""

    table: TableName
    by: Annotated[tuple[ColumnName, ...], Field(min_length=1)]
    sum: ColumnName
    less: tuple[ColumnName, ...] = ()
    where: Filter = {}
    time: ColumnName | None = None


class Equation(_Strict):
    """A rule of the user's own of the form "both sides add up to the same, per key". Unlike one in SQL it is checked
    on the shards too, and in one pass of TiKV. `per` names the key's parts, in the order of every addend's `by`;
    a part called currency prices the difference. `in_transit_s` needs a `time` in an addend."""

    name: Name
    per: Annotated[tuple[str, ...], Field(min_length=1)]
    left: Annotated[tuple[Addend, ...], Field(min_length=1)]
    right: Annotated[tuple[Addend, ...], Field(min_length=1)]
    in_transit_s: Annotated[int, Field(ge=0)] = 0
    at_rest: bool = False  # under way even when nothing moves, for it is somebody else that is waited for
    severity: Severity = "error"

    @model_validator(mode="after")
    def _keys(self) -> Self:
        if self.at_rest and not self.in_transit_s:
            raise ValueError("at_rest needs in_transit_s")
        for addend in (*self.left, *self.right):
            if len(addend.by) != len(self.per):
                raise ValueError(f"{addend.table}: by has {len(addend.by)} columns and per names {len(self.per)}")
        return self


class Invariant(_Strict):
    """A rule of the user's own: a SELECT that gives the offending rows on the target, and so nothing if it holds.
    Columns called amount and currency, if it has both, price the offenders."""

    name: Name
    sql: Annotated[str, Field(pattern=r"(?is)^\s*(SELECT|WITH)\b")]
    severity: Severity = "error"


class Money(_Strict):
    """Where a table's money is: columns of amounts, that of the currency, and those that say whose it is and which
    way it went. Of a row with another account the whole amount is at risk; of one with another amount, the
    difference."""

    amounts: tuple[ColumnName, ...]
    currency: ColumnName | None = None
    whose: tuple[ColumnName, ...] = ()


class Ledger(_Strict):
    """The roles of a ledger, the control totals and the rules that it must obey."""

    role: Roles
    control: tuple[Control, ...] = ()  # besides those that come from the roles
    equation: tuple[Equation, ...] = ()
    invariant: tuple[Invariant, ...] = ()  # besides the built-in ones
    severity: dict[BuiltIn, Severity | Literal["off"]] = Field(default_factory=dict)  # error if not named

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        directions = (self.role.entry.debit, self.role.entry.credit)
        if self.role.account.increases not in (None, *directions):
            raise ValueError(f"role.account.increases: expected one of {directions}, the values of role.entry")
        names = [*(i.name for i in self.invariant), *(e.name for e in self.equation), *get_args(BuiltIn)]
        twice = next((n for n in names if names.count(n) > 1), None)
        if twice:
            raise ValueError(f"invariant: {twice} stands twice or is built in")
        for number, sub in enumerate(self.role.sub_account):
            if not (sub.masters or self.role.account.summary):
                raise ValueError(f"role.sub_account[{number}].masters: which accounts have sub-accounts?")
        if self.role.clearing and not self.role.voucher and any(c.voucher for c in self.role.clearing):
            raise ValueError("role.clearing: a voucher's column needs role.voucher")
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
        named = {c.table for c in (*controls, *self.control)}
        for role in self._documents():
            if role.table not in named:
                by = (role.currency,) if role.currency else ()
                controls.append(Control(table=role.table, sums=(role.amount,), by=by))
                named.add(role.table)
        return (*controls, *self.control)

    def _documents(self) -> tuple[Any, ...]:
        """The roles that have an amount of their own, besides entries and vouchers."""
        r = self.role
        listed: list[Any] = [*r.escrow, *r.settlement, *r.instalment, *r.clearing, *r.reversal, *r.buffer]
        return tuple(role for role in listed if role.amount)

    @property
    def money(self) -> dict[str, Money]:
        """Where the money is, by target table in lower case; all that the roles and controls tell of it."""
        a, e, v = self.role.account, self.role.entry, self.role.voucher
        found: dict[str, Money] = {}

        def add(table: str, amounts: tuple[str, ...], currency: str | None, whose: tuple[str | None, ...] = ()) -> None:
            was = found.get(table.lower(), Money(amounts=()))
            found[table.lower()] = Money(
                amounts=tuple(dict.fromkeys((*was.amounts, *amounts))),
                currency=was.currency or currency,
                whose=tuple(dict.fromkeys((*was.whose, *(w for w in whose if w)))),
            )

        add(a.table, (a.balance,), a.currency, (a.currency, a.nature))
        add(e.table, (e.amount,), e.currency, (e.currency, e.account, e.voucher, e.direction))
        if v:
            add(v.table, (v.amount,), v.currency, (v.currency, v.account))
        for role in self._documents():
            add(role.table, (role.amount,), role.currency, (role.currency,))
        for sub in self.role.sub_account:
            add(sub.table, (sub.balance,), sub.currency, (sub.master,))
        for control in self.control:
            add(control.table, control.sums, control.currency, (control.currency,))
        return found

    @property
    def built_in(self) -> dict[BuiltIn, Severity]:
        """The built-in invariants that these roles let one check, with their severity."""
        r = self.role
        given: dict[BuiltIn, object] = {
            "debit_equals_credit": True,
            "trial_balance": r.account.nature or r.account.opening,
            "balance_equals_opening_plus_entries": True,
            "no_orphan_entry": True,
            "balance_continuity": r.entry.sequence and r.entry.balance_before,
            "idempotency_unique": r.entry.idempotency or (r.voucher and r.voucher.idempotency),
            "balance_nature": r.account.never_negative is not None,
            "sub_accounts_equal_master": r.sub_account,
            "buffer_drained": r.buffer,
            "escrow_equals_open_orders": r.escrow,
            "settlement_equals_details": r.settlement,
            "reversal_matches_original": r.reversal,
            "instalments_within_hold": r.instalment,
            "clearing_booked_once": r.clearing,
            "snapshot_equals_entries": r.snapshot,
            "no_dangling_reference": r.reference,
        }
        found: dict[BuiltIn, Severity] = {}
        for name, present in given.items():
            severity = self.severity.get(name, "error")
            if present and severity != "off":
                found[name] = severity
        return found


def ledger_path(pack: str | Path) -> Path:
    """The ledger.toml of a pack, named by its name, its folder or that file itself."""
    return Path(pack) if Path(pack).suffix == ".toml" else pack_dir(str(pack)) / "ledger.toml"


def load_ledger(pack: str | Path) -> Ledger:
    """The ledger of a pack, by its name, its folder or the path of a ledger.toml. ConfigError names file and key."""
    return read_toml(ledger_path(pack), Ledger)


__all__ = ["Account", "ColumnName", "Control", "Entry", "Filter", "Ledger", "Role", "TableName", "Voucher",
           "ledger_path", "load_ledger"]  # fmt: skip
