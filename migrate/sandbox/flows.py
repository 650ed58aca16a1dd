"""Flows of workload.toml: documents that money moves by in several steps, declared as states and what leads on."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from migrate.roles import TableName

Word = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]
_LEG = re.compile(r"(D|C) (\w+) (\w+)")
_PICK = re.compile(r"(?:(\w+)(?: (near|beside) (\w+))?|(master) of (\w+))")
_MOVE = re.compile(r"(\w+)\.(\w+) ([+-]) (\w+)")
_ROW = re.compile(r"(each )?([^\s`]+\.[^\s`]+?)(?: near (\w+))?")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Kind(_Strict):
    """Accounts of one kind: a `share` of those that the rows ask for; or `each` on every shard set, or `total` over
    all, of every currency; or `parts_of` another kind, one on every shard set for each of those, which together open
    with what their master does. One kind opens with what `balances` all others. `fields`: more for its columns."""

    nature: Literal["D", "C"]
    share: Annotated[int, Field(gt=0)] | None = None
    each: Annotated[int, Field(gt=0)] | None = None
    total: Annotated[int, Field(gt=0)] | None = None
    parts_of: Word | None = None
    opening: tuple[Decimal, Decimal] = (Decimal(0), Decimal(0))
    balances: bool = False
    fields: dict[Word, str] = {}

    @model_validator(mode="after")
    def _one_number(self) -> Self:
        if sum(x is not None for x in (self.share, self.each, self.total, self.parts_of)) != 1:
            raise ValueError("give one of share, each, total, parts_of")
        return self


class Pick(_Strict):
    """Whom a flow takes: any account of the kind; one on the shard set of another (`near`); another part of the
    same master (`beside`); or the `master` of a part."""

    kind: str | None
    way: Literal["any", "near", "beside", "master"]
    of: str | None

    @classmethod
    def read(cls, text: str) -> Pick:
        found = _PICK.fullmatch(text)
        if not found:
            raise ValueError(f"{text!r}: expected KIND, KIND near NAME, KIND beside NAME or master of NAME")
        if found[4]:
            return cls(kind=None, way="master", of=found[5])
        return cls.model_validate({"kind": found[1], "way": found[2] or "any", "of": found[3]})


class RowOf(_Strict):
    """A row of a further table: one of each document, or one of all that merge; with an account, or at home."""

    table: TableName
    near: str | None = None
    each: bool = False

    @classmethod
    def read(cls, text: str) -> RowOf:
        each, table, near = _parts(_ROW, text, "SCHEMA.TABLE near ACCOUNT")
        return cls(table=table, near=near, each=bool(each))


class Step(_Strict):
    """What leads from one status to another; without `from` it begins the flow, without `legs` it posts nothing.

    A leg is "D account amount"; the amounts are `amount` (the document's), `part` (what this step takes of the
    rest: all of it, a portion from .. to, or the next instalment), each of `splits` (a ratio of the part) and `net`
    (what they leave). `into`: the document's counter that the part goes to; with nothing left the status is
    `at_last`. `moves` are "account.field + amount" on accounts, `rows` further tables that get a row, "near" an
    account, one for "each" document. `updates`: such rows of the document, whose status follows its own. `merge`: up to
    so many documents that agree in the accounts `by` go on as one, a row of the flow's batches; or one by one, if that
    only lists them (`apart`). `reverses`: the voucher takes back the flow's first."""

    from_: Annotated[str, Field(alias="from")] = ""
    to: Word
    share: Annotated[int, Field(gt=0)] = 1
    after: tuple[int, int] = (1, 60)  # seconds; for the seed
    takes: Literal["rest", "instalment"] | tuple[float, float] = "rest"
    into: Word | None = None
    at_last: Word | None = None
    legs: tuple[str, ...] = ()
    splits: dict[Word, Annotated[Decimal, Field(gt=0, lt=1)]] = {}
    moves: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    updates: tuple[str, ...] = ()
    merge: Annotated[int, Field(ge=0)] = 0
    by: tuple[Word, ...] = ()
    apart: bool = False
    reverses: bool = False

    @cached_property
    def posted(self) -> list[tuple[str, str, str]]:
        """Direction (D or C), account and amount of each leg."""
        return [_parts(_LEG, leg, "D|C ACCOUNT AMOUNT") for leg in self.legs]

    @cached_property
    def moved(self) -> list[tuple[str, str, int, str]]:
        """Account, field, sign and amount of each move."""
        found = [_parts(_MOVE, move, "ACCOUNT.FIELD + AMOUNT") for move in self.moves]
        return [(account, field, 1 if sign == "+" else -1, amount) for account, field, sign, amount in found]

    @cached_property
    def inserted(self) -> list[RowOf]:
        """The further rows."""
        return [RowOf.read(row) for row in self.rows]

    @cached_property
    def updated(self) -> list[RowOf]:
        """The rows that follow the status."""
        return [RowOf.read(row) for row in self.updates]

    @property
    def amounts(self) -> set[str]:
        return {"amount", "part", "net", *self.splits}


class Flow(_Strict):
    """A kind of document. Its row, of `table` if it has one, lies with the account `home`, the first if not given; that
    of a `batch` ("SCHEMA.TABLE near ACCOUNT") there too, if it says nothing else. `settle`: statuses that nothing may
    be left in when nothing moves."""

    name: Word
    share: Annotated[int, Field(gt=0)]
    table: TableName | None = None
    batch: str | None = None
    accounts: Annotated[dict[Word, str], Field(min_length=1)]
    home: Word | None = None
    amount: tuple[Decimal, Decimal] | None = None
    instalments: tuple[int, int] = (1, 1)
    settle: tuple[Word, ...] = ()
    step: Annotated[tuple[Step, ...], Field(min_length=1)]

    @cached_property
    def picks(self) -> dict[str, Pick]:
        return {name: Pick.read(text) for name, text in self.accounts.items()}

    @property
    def near(self) -> str:
        return self.home or next(iter(self.accounts))

    @cached_property
    def batched(self) -> RowOf | None:
        """The row of a batch."""
        return RowOf.read(self.batch) if self.batch else None

    @property
    def batch_table(self) -> str | None:
        return self.batched.table if self.batched else None

    @cached_property
    def apart(self) -> bool:
        """Whether its batches only list documents, which go on one by one."""
        return any(step.apart for step in self.step)

    @cached_property
    def counters(self) -> list[str]:
        """What of the amount is gone, by where to."""
        return list(dict.fromkeys(step.into for step in self.step if step.into))

    def after(self, status: str) -> list[Step]:
        return [step for step in self.step if step.from_ == status]

    @property
    def fields(self) -> set[str]:
        """What its rows may be filled with, besides what every posting has."""
        splits = {name for step in self.step for name in step.splits}
        owners = {f"owner of {name}" for name in self.accounts}
        return {*self.accounts, *self.counters, *splits, *owners, "part", "net"}

    @model_validator(mode="after")
    def _known(self) -> Self:
        names: list[str] = []
        for name, pick in self.picks.items():
            if pick.of is not None and pick.of not in names:
                raise ValueError(f"accounts.{name}: {pick.of} isn't picked before it")
            names.append(name)
        reached = {"", *(s.to for s in self.step), *(s.at_last for s in self.step if s.at_last)}
        if not self.after("") or self.near not in names or not set(self.settle) <= reached:
            raise ValueError(f"{self.name}: no step begins it, or home or settle names what it hasn't")
        for i, step in enumerate(self.step):
            used = [(a, m) for _, a, m in step.posted] + [(a, m) for a, _, _, m in step.moved]
            rows = [*step.inserted, *step.updated, *([self.batched] if self.batched else [])]
            used += [(row.near, "amount") for row in rows if row.near] + [(a, "amount") for a in step.by]
            for account, amount in used:
                if account not in names or amount not in step.amounts:
                    raise ValueError(f"step[{i}]: {account} {amount}: no such account, or no such amount")
            if step.from_ not in reached:
                raise ValueError(f"step[{i}].from: no step leads to {step.from_!r}")
            if (step.merge and not (self.batch and self.table and step.from_)) or (
                step.takes != "rest" and not step.into
            ):
                raise ValueError(f"step[{i}]: merge needs from, and the flow's table and batch; a part needs into")
            if step.apart and not (step.merge and not step.legs and not step.moves):
                raise ValueError(f"step[{i}].apart: only of a step that merges and moves nothing")
        return self


def _parts(form: re.Pattern[str], text: str, expected: str) -> Any:
    found = form.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r}: expected {expected}")
    return found.groups()
