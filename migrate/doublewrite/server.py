"""One server as the application writes to it: which of its tables are double-written, and how they are named."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from migrate.catalog import read_catalog
from migrate.config import Config, Endpoint, Ignore
from migrate.db import Session, patiently
from migrate.doublewrite import phase as phases
from migrate.doublewrite.epoch import COLUMNS, Epoch, Side
from migrate.doublewrite.errors import Refused
from migrate.doublewrite.image import Images
from migrate.doublewrite.outbox import SCHEMA, Change, check_installed
from migrate.doublewrite.phase import Phase
from migrate.doublewrite.plan import Name, Plan
from migrate.doublewrite.router import Image, Router
from migrate.doublewrite.sharding import Key
from migrate.doublewrite.statement import read
from migrate.doublewrite.timed import timed
from migrate.errors import ConfigError, ConnectionLost, TryAgain
from migrate.ledger import Money, load_ledger
from migrate.model import Shard, TableDef, quote

log = logging.getLogger("migrate")
_ANSWER_S = 15.0  # a secondary that takes longer to answer is away
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
        """The money that a change moves, and its currency. The images are the target's."""
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
        self, config: Config, router: Router, endpoint: Endpoint,
        committed: Callable[[Server, Epoch, Sequence[Change]], None], seen: Callable[[Epoch], None],
    ):  # fmt: skip
        """`committed` is told of each transaction's changes after its COMMIT, `seen` of each epoch that was read."""
        self.name, self.endpoint, self.router = endpoint.name, endpoint, router
        self._config = config
        self.migration = config.name
        self.is_target = endpoint == config.target
        self.functions: frozenset[str] = frozenset()  # stored ones, lower case
        self._tables: Mapping[Name, Written] | None = None
        self.committed, self.seen = committed, seen
        self._ignores: tuple[Ignore, ...] = config.ignores
        self._plans: dict[tuple[str, bool], Plan] = {}
        self._lock = threading.Lock()
        self._bare: dict[str, Name | None] = {}
        for target in router.tables:
            schema, table = target.split(".")
            self._bare[table] = None if table in self._bare else (schema, table)

    @property
    def side(self) -> Side:
        """Whether it is an instance (source) or the target."""
        return "target" if self.is_target else "source"

    @property
    def met(self) -> bool:
        """Whether it is known what the server holds."""
        return self._tables is not None

    @property
    def tables(self) -> Mapping[Name, Written]:
        """The tables that are double-written. A server that was away at the start is asked when they are needed."""
        if self._tables is None:
            with timed(self.endpoint, _ANSWER_S) as session:
                self.meet(session)
        assert self._tables is not None
        return self._tables

    def meet(self, session: Session) -> None:
        """Reads what the server holds. ConfigError if the double write isn't installed or a table is missing, Refused
        if one has triggers or cascades, which change rows where nobody sees it."""
        check_installed(session, self.migration)
        tables = written_tables(session, self._config, self.router)
        check_unseen_writers(session, [*tables])
        self.functions = frozenset(
            str(name).lower() for (name,) in session.query(
                "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_TYPE = 'FUNCTION' "
                "AND ROUTINE_SCHEMA NOT IN ('sys', 'mysql')"
            )
        )  # fmt: skip
        self._tables = tables

    def plan(self, sql: str, formatted: bool) -> Plan:
        """What the statement does; understood once. Refused if it isn't."""
        known = self._plans.get((sql, formatted))
        if known is None:
            _ = self.tables  # its functions are known then
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
            if self.router.tables[target].mapped:
                raise Refused(
                    f"{target} has other columns than its shards, and this is {self.name}, where they are: name the "
                    "shard's own table and columns (a session's info['side'] says which side it is on)"
                )
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


def meet_servers(config: Config, servers: Mapping[str, Server]) -> Phase:
    """Reads what every server holds, and the phase. The primary is waited for; the target, as long as it is only the
    secondary, isn't: it is met when it is back, and until then nothing is delivered (`forward` is unknown).

    ConnectionLost if a server stays away for longer than the configuration's `patience_s`.
    """

    def source(endpoint: Endpoint) -> Epoch:
        with Session(endpoint) as session:
            servers[endpoint.name].meet(session)
            sql = f"SELECT {COLUMNS} FROM {SCHEMA}.epoch WHERE migration = %s AND slot = 0"
            return Epoch.of(session.one(sql, [config.name]))

    def target(answer_s: float) -> Phase:
        with timed(config.target, answer_s) as session:
            servers[config.target.name].meet(session)
            return phases.read(session, config.name)

    lost, patience_s = (ConnectionLost, TryAgain), config.run.patience_s
    epochs = [patiently(patience_s, partial(source, endpoint), *lost) for endpoint in config.sources]
    newest = max(epochs, key=lambda e: e.number)
    if newest.primary == "target":
        return patiently(patience_s, partial(target, 0), *lost)
    try:
        return target(_ANSWER_S)
    except lost as error:
        log.warning("started without the target, which is away; changes stay in the outbox until it is back: %s", error)
        return Phase(newest, "", None)


def written_tables(session: Session, config: Config, router: Router) -> dict[Name, Written]:
    """The tables of the session's server that are double-written. ConfigError if the target lacks one,
    or spells its columns differently."""
    money = load_ledger(config.pack).money if config.pack else {}

    def made(name: Name, target: str, definition: TableDef, shard: Shard | None) -> Written:
        sql = f"{quote(name[0])}.{quote(name[1])}"
        kept = router.kept(shard) if shard else frozenset()
        return Written(sql, target, definition, Images(sql, definition, kept), money.get(target), shard)

    if session.endpoint.name != config.target.name:
        return {
            (s.schema, s.table): made((s.schema, s.table), router.target_of[s], t.physical, s)
            for s, t in router.shards.items()
            if s.instance == session.endpoint.name
        }
    schemas = sorted({t.target.schema for t in router.tables.values()})
    found = {(t.shard.schema, t.shard.table): t.definition for t in read_catalog(session, "target", schemas)}
    names = {target: (t.target.schema, t.target.table) for target, t in router.tables.items()}
    if missing := [target for target, name in names.items() if name not in found]:
        raise ConfigError(f"the target has no {', '.join(missing)}: run `migrate schema --execute` first")
    for target, name in names.items():
        spelled = {c.name for s in router.tables[target].shards for c in s.definition.columns}
        own = {c.name for c in found[name].columns}
        if strange := sorted({s.lower() for s in spelled - own} & {s.lower() for s in own}):
            raise ConfigError(f"{target} spells {', '.join(strange)} differently from a shard or its route")
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
