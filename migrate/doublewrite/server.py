"""One server as the application writes to it: which of its tables are double-written, and how they are named."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from migrate.catalog import read_catalog
from migrate.config import Config, Endpoint, Ignore
from migrate.db import Session, connect
from migrate.doublewrite.epoch import Epoch
from migrate.doublewrite.errors import Refused
from migrate.doublewrite.image import Images
from migrate.doublewrite.outbox import Change, check_installed
from migrate.doublewrite.plan import Name, Plan
from migrate.doublewrite.router import Image, Router
from migrate.doublewrite.sharding import Key
from migrate.doublewrite.statement import read
from migrate.errors import ConfigError
from migrate.ledger import Money, load_ledger
from migrate.model import Shard, TableDef, quote

_PLANS = 4096


@dataclass(frozen=True)
class Written:
    """A table of this server that is double-written. `shard`: None on the target."""

    sql: str
    target: str
    definition: TableDef
    images: Images
    money: Money | None
    shard: Shard | None

    def at_stake(self, before: Image | None, after: Image | None) -> tuple[Decimal, str | None]:
        """The money that a change moves, and its currency."""
        if self.money is None:
            return Decimal(0), None

        def amount(image: Image | None, column: str) -> Decimal:
            return Decimal((image or {}).get(column) or 0)

        moved = [abs(amount(after, c) - amount(before, c)) for c in self.money.amounts]
        currency = (after or before or {}).get(self.money.currency or "")
        return max(moved, default=Decimal(0)), currency


class Server:
    """An instance, or the target. Shared by all connections to it."""

    def __init__(
        self, config: Config, router: Router, endpoint: Endpoint, tables: Mapping[Name, Written],
        functions: frozenset[str], committed: Callable[[Server, Epoch, Sequence[Change]], None],
        seen: Callable[[Epoch], None],
    ):  # fmt: skip
        """`committed` is told of each transaction's changes after its COMMIT, `seen` of each epoch that was read."""
        self.name, self.endpoint, self.router = endpoint.name, endpoint, router
        self.migration = config.name
        self.is_target = endpoint == config.target
        self.tables, self.functions = tables, functions
        self.committed, self.seen = committed, seen
        self._ignores: tuple[Ignore, ...] = config.ignores
        self._plans: dict[tuple[str, bool], Plan] = {}
        self._lock = threading.Lock()
        self._bare: dict[str, Name | None] = {}
        for target in router.tables:
            schema, table = target.split(".")
            self._bare[table] = None if table in self._bare else (schema, table)

    def plan(self, sql: str, formatted: bool) -> Plan:
        """What the statement does; understood once. Refused if it isn't."""
        known = self._plans.get((sql, formatted))
        if known is None:
            known = read(sql, formatted, self.functions)
            with self._lock:
                if len(self._plans) >= _PLANS:
                    self._plans.clear()
                self._plans[sql, formatted] = known
        return known

    def rename(self, name: Name, key: Key | None) -> Name:
        """The name on this server of a table that a statement names: a target's name becomes that of the shard of the
        sharding key. Refused if that shard is elsewhere, or if a shard is named where there are none."""
        logical = self._bare.get(name[1]) or name if not name[0] else name
        target = ".".join(logical)
        if target in self.router.tables:
            if self.is_target:
                return logical
            if key is None:
                raise Refused(f"{target} is sharded: open the session for a sharding key")
            shard = self.router.shard(target, key).shard
            if shard.instance != self.name:
                raise Refused(
                    f"{target} of key {key!r} is {shard}: that needs a session of its own, this is {self.name}"
                )
            return shard.schema, shard.table
        if self.is_target and any(s.schema == name[0] and s.table == name[1] for s in self.router.shards):
            raise Refused(
                f"{'.'.join(name)} is a shard, and the target is primary: name its table by the target's name"
            )
        return name

    def written(self, name: Name) -> Written | None:
        """The table that a change is about, by its name on this server; None if it is ignored. Refused if nobody said
        what is to become of it."""
        if name in self.tables:
            return self.tables[name]
        if name[0] and any(i.matches(*name) for i in self._ignores):
            return None
        raise Refused(f"{'.'.join(filter(None, name))} on {self.name} is neither routed nor ignored (or lacks its "
                      "schema): a change of it can't be captured")  # fmt: skip


def open_servers(
    config: Config, router: Router, committed: Callable[[Server, Epoch, Sequence[Change]], None],
    seen: Callable[[Epoch], None],
) -> dict[str, Server]:  # fmt: skip
    """The instances and the target, by name. ConfigError if the double write isn't installed, Refused if a table has
    triggers or cascades, which change rows where nobody sees it."""
    servers = {}
    for endpoint in (*config.sources, config.target):
        with connect(endpoint, patience_s=config.run.patience_s) as session:
            check_installed(session, config.name)
            tables = written_tables(session, config, router)
            check_unseen_writers(session, [*tables])
            functions = frozenset(
                str(name).lower() for (name,) in session.query(
                    "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_TYPE = 'FUNCTION' "
                    "AND ROUTINE_SCHEMA NOT IN ('sys', 'mysql')"
                )
            )  # fmt: skip
        servers[endpoint.name] = Server(config, router, endpoint, tables, functions, committed, seen)
    return servers


def written_tables(session: Session, config: Config, router: Router) -> dict[Name, Written]:
    """The tables of the session's server that are double-written. ConfigError if the target lacks one."""
    money = load_ledger(config.pack).money if config.pack else {}

    def made(name: Name, target: str, definition: TableDef, shard: Shard | None) -> Written:
        sql = f"{quote(name[0])}.{quote(name[1])}"
        return Written(sql, target, definition, Images(sql, definition), money.get(target), shard)

    if session.endpoint != config.target:
        return {
            (s.schema, s.table): made((s.schema, s.table), router.target_of[s], t.definition, s)
            for s, t in router.shards.items()
            if s.instance == session.endpoint.name
        }
    schemas = sorted({t.target.schema for t in router.tables.values()})
    found = {(t.shard.schema, t.shard.table): t.definition for t in read_catalog(session, "target", schemas)}
    names = {target: (t.target.schema, t.target.table) for target, t in router.tables.items()}
    if missing := [target for target, name in names.items() if name not in found]:
        raise ConfigError(f"the target has no {', '.join(missing)}: run `migrate schema --execute` first")
    return {name: made(name, target, found[name], None) for target, name in names.items()}


def check_unseen_writers(session: Session, names: Sequence[Name]) -> None:
    """Refused if one of those tables has a trigger, or a foreign key that cascades."""
    schemas = sorted({schema for schema, _ in names})
    if not schemas:
        return
    marks = ", ".join(["%s"] * len(schemas))
    for schema, table, trigger in session.query(
        f"SELECT EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE, TRIGGER_NAME FROM information_schema.TRIGGERS "
        f"WHERE EVENT_OBJECT_SCHEMA IN ({marks})",
        schemas,
    ):
        if (schema, table) in names:
            raise Refused(
                f"{session.endpoint.name}: {schema}.{table} has the trigger {trigger}: its changes can't be captured; "
                "do in the application what it does, and drop it"
            )
    for schema, table, constraint in session.query(
        "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS "
        f"WHERE CONSTRAINT_SCHEMA IN ({marks}) AND (DELETE_RULE IN ('CASCADE', 'SET NULL') "
        "OR UPDATE_RULE IN ('CASCADE', 'SET NULL'))",
        schemas,
    ):
        if (schema, table) in names:
            raise Refused(
                f"{session.endpoint.name}: {schema}.{table} has the foreign key {constraint}, which cascades: what it "
                "changes can't be captured; make it RESTRICT"
            )
