"""A small sharded ledger on real servers, with its target, ready to be double-written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from migrate.config import Config, Run
from migrate.db import connect
from migrate.doublewrite import DoubleWrite
from migrate.doublewrite.phase import Phase
from migrate.doublewrite.phases import Wish, change, install_everywhere
from migrate.doublewrite.pump import Report, drain, reverse
from migrate.doublewrite.router import Router
from migrate.schema import create_schema
from migrate.source import read_routing
from tests.integration.shards import Server, config_for, database, route, run

ACCOUNT = """(id BIGINT NOT NULL PRIMARY KEY, owner VARCHAR(40) NOT NULL, currency CHAR(3) NOT NULL DEFAULT 'CNY',
    opening DECIMAL(20,4) NOT NULL DEFAULT 1000, balance DECIMAL(20,4) NOT NULL, seq BIGINT NOT NULL DEFAULT 0,
    touched TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP)"""
ENTRY = """(id BIGINT NOT NULL PRIMARY KEY, account_id BIGINT NOT NULL, voucher_id BIGINT NOT NULL,
    direction CHAR(1) NOT NULL, amount DECIMAL(20,4) NOT NULL, currency CHAR(3) NOT NULL DEFAULT 'CNY',
    once VARCHAR(40) NOT NULL, at DATETIME(3) NOT NULL DEFAULT '2026-01-01', UNIQUE KEY once (once))"""
LEDGER = """
[role.account]
table = "{db}.account"
id = "id"
opening = "opening"
balance = "balance"
currency = "currency"
increases = "C"
[role.entry]
table = "{db}.entry"
id = "id"
account = "account_id"
voucher = "voucher_id"
direction = "direction"
amount = "amount"
currency = "currency"
time = "at"
idempotency = "once"
"""


PATIENCE_S = 60  # for what happens soon, on a machine that has nothing else to do


def until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> None:
    """Waits until it is so."""
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, f"not within {patience_s} s: {what}"
        time.sleep(0.05)


def delivered(ledger: DoubleWrite) -> None:
    """Waits until everything that can be delivered is."""
    assert ledger._courier.rest(2 * PATIENCE_S)


class Scene:
    """Shards `{db}.account_N` and `entry_N`, dealt to the instances in turn, and their targets."""

    def __init__(self, sources: Sequence[Server], target: Server, db: str, folder: Path, *, shards: int = 4):
        self.sources, self.target, self.db, self.folder, self.shards = sources, target, db, folder, shards
        self.kinds: dict[str, str] = {"account": "id", "entry": "account_id"}
        for n in range(shards):
            run(self.home(n), f"CREATE TABLE {db}.account_{n:02} {ACCOUNT}", f"CREATE TABLE {db}.entry_{n:02} {ENTRY}")
        self.config: Config = None  # type: ignore[assignment]

    def home(self, number: int) -> Server:
        """The instance of a shard."""
        return self.sources[number % len(self.sources)]

    def ready(self, **options: Any) -> Scene:
        """Writes the pack, creates the target's tables, and installs the double write."""
        pack = self.folder / "pack"
        pack.mkdir(exist_ok=True)
        (pack / "ledger.toml").write_text(LEDGER.format(db=self.db))
        keys = "".join(f'"{self.db}.{kind}" = "{column}"\n' for kind, column in self.kinds.items())
        (pack / "sharding.toml").write_text(f'[[sharding]]\nnumber = "key % shards"\n[sharding.keys]\n{keys}')
        routes = [route(self.db, rf"{kind}_\d+", f"{self.db}.{kind}", **options.get(kind, {})) for kind in self.kinds]
        made = config_for(self.sources, self.target, self.db, *routes, pack=str(pack))
        self.config = replace(made, run=Run(workers=2, patience_s=options.get("patience_s", 10)))
        with connect(self.config.target) as session:
            create_schema(session, read_routing(self.config).checked(), execute=True)
        install_everywhere(self.config)
        return self

    def toml(self, target: str | None = None) -> str:
        """The configuration as a file; `target` another way to the target."""
        return (
            f'[migration]\nname = "{self.config.name}"\npack = "{self.config.pack}"\n'
            + "".join(f'[[source]]\nname = "m{i}"\nurl = "{s.url}"\n' for i, s in enumerate(self.sources, 1))
            + f'[target]\nurl = "{target or self.target.url}"\n'
            + "".join(
                f"[[route]]\nschema = '{self.db}'\ntable = '{k}_\\d+'\ntarget = '{self.db}.{k}'\n" for k in self.kinds
            )
            + f"[[ignore]]\nschema = '(?!{self.db}$).*'\n[run]\npatience_s = 60\n"
        )

    def copy(self, kind: str) -> None:
        """Brings what the shards hold to the target."""
        rows = self.on_shards(kind)
        with connect(self.config.target) as session:
            marks = ", ".join(["%s"] * len(rows[0]))
            session.executemany(f"INSERT INTO {self.db}.{kind} VALUES ({marks})", rows)

    @property
    def router(self) -> Router:
        return Router.of(self.config)

    def open(self, **options: Any) -> DoubleWrite:
        """The library. Its deliveries aren't late, unless a test is about that."""
        return DoubleWrite(self.config, **{"deadline_s": PATIENCE_S, **options})

    def phase(self, name: str, share: int = 0, **options: Any) -> Phase:
        """Goes to that phase, from off too."""
        primary = options.pop("primary", None)
        return change(self.config, Wish(name, share, primary), in_step=True, **options)

    def drain(self) -> Report:
        return drain(self.config, self.router).run(until_empty=True, seconds=PATIENCE_S)

    def reverse(self, **options: Any) -> Report:
        return reverse(self.config, self.router).run(until_empty=True, seconds=options.get("seconds", PATIENCE_S))

    def on_shards(self, kind: str, columns: str = "*") -> list[tuple[Any, ...]]:
        """All rows of the shards, in order."""
        rows: list[tuple[Any, ...]] = []
        for n in range(self.shards):
            rows += run(
                self.home(n), f"SELECT {columns} FROM {self.db}.{kind}_{n:02}", init_command="SET time_zone='+00:00'"
            )
        return sorted(rows, key=repr)

    def on_target(self, kind: str, columns: str = "*") -> list[tuple[Any, ...]]:
        rows = run(self.target, f"SELECT {columns} FROM {self.db}.{kind}", init_command="SET time_zone='+00:00'")
        return sorted(rows, key=repr)

    def same(self) -> bool:
        """Whether both sides hold the same rows."""
        return all(self.on_shards(kind) == self.on_target(kind) for kind in self.kinds)

    def pending(self, *, everywhere: bool = False) -> int:
        """Changes in the instances' outboxes."""
        sql = f"SELECT COUNT(*) FROM migrate_outbox.outbox WHERE migration = '{self.config.name}'"
        servers = [*self.sources, self.target] if everywhere else self.sources
        return sum(int(run(s, sql)[0][0]) for s in servers)

    def outbox(self, server: Server, columns: str) -> list[tuple[Any, ...]]:
        return run(
            server, f"SELECT {columns} FROM migrate_outbox.outbox WHERE migration = '{self.config.name}' ORDER BY seq"
        )


@contextmanager
def scene(sources: Sequence[Server], target: Server, folder: Path, **options: Any) -> Iterator[Scene]:
    """A scene in a database of its own. Call `ready` on it."""
    with database(*sources, target, prefix="dw") as db:
        yield Scene(sources, target, db, folder, **options)


def models(db: str) -> tuple[Any, Any]:
    """ORM classes of the account and the entry, named as on the target."""

    class Base(DeclarativeBase):
        pass

    class Account(Base):
        __tablename__ = "account"
        __table_args__ = {"schema": db}  # noqa: RUF012
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        owner: Mapped[str]
        balance: Mapped[Decimal]
        seq: Mapped[int] = mapped_column(default=0)

    class Entry(Base):
        __tablename__ = "entry"
        __table_args__ = {"schema": db}  # noqa: RUF012
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        account_id: Mapped[int]
        voucher_id: Mapped[int]
        direction: Mapped[str]
        amount: Mapped[Decimal]
        once: Mapped[str]

    return Account, Entry
