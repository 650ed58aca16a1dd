"""What a pack is filled with: workload.toml, read and checked against the roles of its ledger.toml."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from migrate.config import read_toml
from migrate.errors import ConfigError
from migrate.ledger import ColumnName, Ledger, TableName, load_ledger
from migrate.packs import pack_dir
from migrate.sandbox.flows import Flow, Kind, Word
from migrate.sandbox.topology import LEDGER, Database, Topology

# What a column may take from the posting or the account that its row is about.
_FIELDS = frozenset((
    "id", "account", "voucher", "debit", "credit", "direction", "amount", "currency", "nature", "opening", "balance",
    "before", "after", "sequence", "time", "action", "legs", "leg", "original",
))  # fmt: skip
_FLOW_FIELDS = frozenset((
    "kind", "master", "owner", "day", "document", "status", "number", "of", "count", "batch", "last",
))  # fmt: skip
Weights = Annotated[dict[str, Annotated[int, Field(gt=0)]], Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AccountSpec(_Strict):
    entries_each: Annotated[int, Field(ge=1)] = 50
    opening: tuple[Decimal, Decimal]
    currencies: Weights
    natures: Weights | None = None  # where ledger.toml has role.account.nature, and no kinds say it


class PostingSpec(_Strict):
    """When, how much, and how often more than one shard or more than two accounts take part. Where flows aren't said to
    begin at a time, they end with the seed."""

    begins: datetime | None = None
    days: Annotated[int, Field(ge=1)] = 30
    amount: tuple[Decimal, Decimal]
    step: Decimal = Decimal("0.01")
    scale: Annotated[int, Field(ge=0, le=9)] = 4
    cross_shard: Share = 0.5
    split: Share = 0.0
    commission: Annotated[Decimal, Field(gt=0, lt=1)] = Decimal("0.006")

    def units(self, amount: Decimal) -> int:
        """The amount as a whole number of the smallest unit."""
        scaled = amount.scaleb(self.scale)
        if scaled != int(scaled):
            raise ConfigError(f"workload.toml: {amount} has more than {self.scale} decimals")
        return int(scaled)

    @property
    def begins_ms(self) -> int:
        assert self.begins is not None
        return int(self.begins.replace(tzinfo=UTC).timestamp()) * 1000

    def beginning(self, ms: int) -> PostingSpec:
        """The same with another beginning, in milliseconds of the epoch."""
        return self.model_copy(update={"begins": datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)})

    @model_validator(mode="after")
    def _amounts(self) -> Self:
        if not self.step <= self.amount[0] <= self.amount[1] or self.units(self.step) < 1:
            raise ValueError("amount: expected step <= lowest <= highest")
        return self


class Generator(_Strict):
    """Where a column's values come from: one of field, choice, between and value, then format, then NULL for some.
    In TOML a bare string is a field. `minor`: an amount as the whole number of its units of 10 ** -minor, as cents."""

    field: str | None = None
    choice: tuple[str | int, ...] | Weights | None = None
    between: tuple[int, int] | None = None
    value: str | int | None = None
    minor: Annotated[int, Field(ge=0, le=9)] | None = None
    format: str | None = None
    null: Share = 0.0

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, raw: Any) -> Any:
        return {"field": raw} if isinstance(raw, str) else raw

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(x is not None for x in (self.field, self.choice, self.between, self.value)) != 1:
            raise ValueError("give one of field, choice, between, value")
        return self


Columns = dict[ColumnName, Generator]


class Rebuilt(_Strict):
    """The document as the rebuilt application writes it, with the same fields to take from."""

    table: TableName
    columns: Columns


class Action(_Strict):
    """A kind of posting; with a `document`, a row of that table tells of it, which is `rebuilt` where the target is
    primary and has other columns. One that `reverses` another gives part of an earlier posting's amount back and its
    `original` is that one's document."""

    name: str
    share: Annotated[int, Field(gt=0)]
    document: TableName | None = None
    shard_by: Literal["id", "original", "voucher", "debit", "credit"] = "id"
    reverses: str | None = None
    rebuilt: Rebuilt | None = None


class _File(_Strict):
    topology: Topology
    database: dict[Word, Database] = Field(default_factory=dict)
    accounts: AccountSpec
    postings: PostingSpec
    action: tuple[Action, ...] = ()
    kind: dict[Word, Kind] = Field(default_factory=dict)
    flow: tuple[Flow, ...] = ()
    columns: dict[TableName, Columns] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fields(self) -> Self:
        own = {f for kind in self.kind.values() for f in kind.fields} | {f for flow in self.flow for f in flow.fields}
        own |= {field for flow in self.flow for step in flow.step for _, field, _, _ in step.moved}
        known = _FIELDS | (_FLOW_FIELDS | own if self.flow else set())
        rebuilt = [action.rebuilt for action in self.action if action.rebuilt]
        for table, columns in (*self.columns.items(), *((r.table, r.columns) for r in rebuilt)):
            for column, generator in columns.items():
                if generator.field is not None and generator.field not in known:
                    raise ValueError(f"columns.{table}.{column}: unknown field {generator.field!r}")
        return self

    @model_validator(mode="after")
    def _flows(self) -> Self:
        if self.action and self.postings.begins is None:
            raise ValueError("postings.begins: needed with [[action]]")
        if bool(self.action) == bool(self.flow) or bool(self.kind) != bool(self.flow):
            raise ValueError("give either [[action]] or [[flow]], and [kind.NAME] with [[flow]]")
        for i, flow in enumerate(self.flow):
            for pick in flow.picks.values():
                if pick.kind is not None and pick.kind not in self.kind:
                    raise ValueError(f"flow[{i}].accounts: no kind {pick.kind!r}")
            tables = [flow.table, flow.batch_table, *(row.table for step in flow.step for row in step.inserted)]
            for table in tables:
                if table and table not in self.columns:
                    raise ValueError(f"flow[{i}]: no columns.{table!r}")
            for row in (row for step in flow.step for row in step.updated):
                fields = {g.field for g in self.columns.get(row.table, {}).values()}
                if not {"document", "status"} <= fields:
                    raise ValueError(f"flow[{i}]: columns.{row.table!r} need the fields document and status")
        for name, kind in self.kind.items():
            if kind.parts_of and kind.parts_of not in self.kind:
                raise ValueError(f"kind.{name}.parts_of: no kind {kind.parts_of!r}")
        return self

    @model_validator(mode="after")
    def _databases(self) -> Self:
        if self.database and not self.flow:
            raise ValueError("database: only with [[flow]]")
        listed = [table for database in self.database.values() for table in database.tables]
        for name, database in self.database.items():
            for table in database.tables:
                if name == LEDGER or listed.count(table) > 1 or table not in self.columns:
                    raise ValueError(f"database.{name}: {table} is of another database, or there are no columns of it")
        return self

    @model_validator(mode="after")
    def _actions(self) -> Self:
        if self.action and self.action[0].reverses:
            raise ValueError("action[0]: the first action can't reverse another")
        known = {a.name: a for a in self.action if not a.reverses and a.document}
        for i, action in enumerate(self.action):
            if action.reverses and action.reverses not in known:
                raise ValueError(f"action[{i}].reverses: no action {action.reverses!r} with a document")
            if action.rebuilt and not action.document:
                raise ValueError(f"action[{i}].rebuilt: of which document?")
            if action.document and action.document not in self.columns:
                raise ValueError(f"action[{i}].document: no columns.{action.document!r}")
        return self


@dataclass(frozen=True)
class Workload:
    """A pack ready to be made: its roles, its DDL, and how to fill every column of every table."""

    pack: str
    ledger: Ledger
    ddl: str
    topology: Topology
    accounts: AccountSpec
    postings: PostingSpec
    actions: tuple[Action, ...]
    columns: dict[str, Columns]
    kinds: dict[str, Kind]
    flows: tuple[Flow, ...]
    databases: dict[str, Database]  # besides that of the ledger

    @property
    def topologies(self) -> dict[str, Topology]:
        """All databases by name, that of the ledger first."""
        return {LEDGER: self.topology, **self.databases}

    def database_of(self, table: str) -> str:
        """The name of the database that has the target table."""
        return next((name for name, database in self.databases.items() if table in database.tables), LEDGER)

    def derived(self, flow: Flow) -> set[str]:
        """The accounts of a flow that the others imply: the only one of its kind on a shard set."""
        picks = flow.picks.items()
        return {name for name, pick in picks if pick.way == "near" and self.kinds[pick.kind or ""].each == 1}

    def counters(self, flow: Flow) -> list[str]:
        """What of a document's amount is gone, by where to: the counters of all flows of its table."""
        flows = [f for f in self.flows if f is flow or (f.table and f.table == flow.table)]
        return list(dict.fromkeys(counter for f in flows for counter in f.counters))

    @property
    def account_table(self) -> str:
        return self.ledger.role.account.table

    @property
    def entry_table(self) -> str:
        return self.ledger.role.entry.table

    @property
    def voucher_table(self) -> str | None:
        return self.ledger.role.voucher.table if self.ledger.role.voucher else None


def load_workload(pack: str) -> Workload:
    """The workload of a pack, by its name or folder. ConfigError names the file and key, or says what is missing."""
    folder = pack_dir(pack)
    ledger = load_ledger(folder / "ledger.toml")
    path = folder / "workload.toml"
    file = read_toml(path, _File)
    if not file.flow and (ledger.role.account.nature is None) != (file.accounts.natures is None):
        raise ConfigError(f"{path}: accounts.natures: needed with, and only with, role.account.nature in ledger.toml")
    ledgers = {role.table for role in (ledger.role.account, ledger.role.entry, ledger.role.voucher) if role}
    for name, database in file.database.items():
        if strange := sorted(ledgers & set(database.tables)):
            raise ConfigError(f"{path}: database.{name}: {strange[0]} belongs to the ledger's own, of [topology]")
    columns = {table: dict(own) for table, own in file.columns.items()}
    for table, filled in _role_columns(ledger).items():
        twice = sorted(set(filled) & set(columns.get(table, {})))
        if twice:
            raise ConfigError(f"{path}: columns.{table}.{twice[0]}: its role in ledger.toml fills it already")
        columns[table] = filled | columns.get(table, {})
    ddl = _text(folder / "source.sql")
    return Workload(
        pack, ledger, ddl, file.topology, file.accounts, file.postings, file.action, columns, file.kind, file.flow,
        file.database,
    )  # fmt: skip


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot read it: {error.strerror}") from None


def _role_columns(ledger: Ledger) -> dict[str, Columns]:
    """Per table, the columns that have a role."""
    account, entry, voucher = ledger.role.account, ledger.role.entry, ledger.role.voucher

    def columns(key: str | None = None, form: str = "", **fields: str | None) -> Columns:
        found = {column: Generator.model_validate(field) for field, column in fields.items() if column}
        return found | ({key: Generator(field="id", format=form)} if key else {})

    roles = {
        account.table: columns(
            id=account.id, currency=account.currency, nature=account.nature, opening=account.opening,
            balance=account.balance, sequence=account.sequence,
        ),
        entry.table: columns(
            entry.idempotency, "E{}", id=entry.id, account=entry.account, voucher=entry.voucher,
            direction=entry.direction, amount=entry.amount, currency=entry.currency, before=entry.balance_before,
            after=entry.balance_after, sequence=entry.sequence, time=entry.time,
        ),
    }  # fmt: skip
    if voucher:
        roles[voucher.table] = columns(
            voucher.idempotency, "V{}", id=voucher.id, debit=voucher.account, amount=voucher.amount,
            currency=voucher.currency, time=voucher.time,
        )  # fmt: skip
    for snapshot in ledger.role.snapshot:
        roles[snapshot.table] = columns(account=snapshot.account, day=snapshot.day, balance=snapshot.balance)
    return roles
