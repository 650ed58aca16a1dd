"""Where the tables of one instance go, and how their rows look, at the position of its stream."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from migrate.catalog import SYSTEM_SCHEMAS, read_catalog
from migrate.config import Config
from migrate.db import connect
from migrate.errors import MigrateError, NoGo, ServerError
from migrate.model import MergedTable, Shard, ShardTable, TableDef, Target
from migrate.routes import as_routed, resolve
from migrate.state import State
from migrate.sync.asking import Asking
from migrate.sync.batch import Batch, Doubt, Layout
from migrate.sync.change import Change
from migrate.sync.dialect import read_dialect
from migrate.sync.evolve import Apply, Hold, Pass, decide
from migrate.sync.evolve_mapped import decide_mapped
from migrate.sync.history import History
from migrate.sync.image import RowDecoder
from migrate.sync.mapped import MappedDecoder
from migrate.sync.shadow import shadow_of
from migrate.sync.tablemap import TableMap

log = logging.getLogger("migrate")

_DONE_ALREADY = (1050, 1060, 1061)  # the table, the column, the index is there

# The reverse applier writes here first in each of its transactions on a shard: what came from the target must not go
# back to it.
ECHO = ("migrate_outbox", "applied")


class Router:
    """Layouts of the rows that flow, and what statements mean for them. `only` lets one target table through, else
    all but the `held` ones pass."""

    def __init__(self, config: Config, instance: str, only: Target | None = None):
        self.config, self.instance, self._only = config, instance, only
        self.held: set[Target] = set()
        self._layouts: list[Layout] = []
        with Asking(config, instance) as source:  # whoever made us says what is waited for
            dialect = read_dialect(source)
        known = State.settled(config, State.definitions)
        mine = {(s.schema, s.table): d for s, d in known.items() if s.instance == instance}
        self.history = History(instance, mine, dialect)
        self._merged = {t.target: t for t in self._resolved(known)}
        self._targets = {m.shard: t.target for t in self._merged.values() for m in t.shards}

    def _resolved(self, known: dict[Shard, TableDef]) -> tuple[MergedTable, ...]:
        routed = [ShardTable(s, d) for s, d in known.items() if self._target_of(s) is not None]
        names: dict[tuple[str, str], list[str]] = defaultdict(list)
        for table in routed:
            names[table.shard.instance, table.shard.schema].append(table.shard.table)
        # A shadow of an online schema change may match a route by its name; it is no shard.
        tables = [t for t in routed if shadow_of(t.shard.table, names[t.shard.instance, t.shard.schema]) is None]
        return resolve(self.config, tables).tables

    def _routed(self, shard: Shard) -> bool:
        return self._target_of(shard) is not None and not self._shadow(shard.schema, shard.table)

    def wanted(self, schema: str, table: str) -> bool:
        """Whether the stream must give the rows of that table."""
        if (schema, table) == ECHO:
            return True
        if schema in SYSTEM_SCHEMAS or any(i.matches(schema, table) for i in self.config.ignores):
            return False
        return Shard(self.instance, schema, table) in self._targets or not self._shadow(schema, table)

    def _shadow(self, schema: str, table: str) -> bool:
        return (
            shadow_of(table, [s.table for s in self._targets if (s.instance, s.schema) == (self.instance, schema)])
            is not None
        )

    def layout(self, table_map: TableMap) -> Layout | None:
        """How the rows of a table map look; None if they aren't let through. MigrateError if the table isn't known."""
        if (table_map.schema, table_map.table) == ECHO:
            return None
        shard = Shard(self.instance, table_map.schema, table_map.table)
        target = self._targets.get(shard) or self._target_of(shard)
        if target is None:
            raise NoGo(
                f"{shard} has rows, but is neither routed nor ignored: add a [[route]] or an [[ignore]] for it, then "
                "start sync again"
            )
        if target in self.held or self._only not in (None, target):
            return None
        definition = self.history.definition(shard.schema, shard.table)
        if definition is None:
            raise MigrateError(f"{shard}: its definition at this position isn't known; copy {target} anew")
        if definition.key is None:
            raise Doubt(
                target,
                f"{shard} has neither a primary key nor a unique one without NULL: which row a change means can't be "
                "told; give the table a key, or copy it again when nothing writes it",
            )
        merged = self._merged[target]
        try:
            routed = as_routed(self.config, ShardTable(shard, definition))
            decoder = (
                MappedDecoder(routed, table_map)
                if routed.mapped
                else RowDecoder(shard, definition, table_map, merged.remap(shard))
            )
        except MigrateError as error:
            raise Doubt(target, str(error)) from None
        layout = Layout(shard, merged, routed.definition, decoder)
        self._layouts.append(layout)
        return layout

    def forget(self) -> None:
        """Ends the validity of all layouts: a definition has changed, or which tables are let through."""
        for layout in self._layouts:
            layout.valid = False
        self._layouts.clear()

    def hold(self, target: Target) -> None:
        """Lets no change of the table through from here on."""
        self.held.add(target)
        self.forget()

    def changes(self, schema: str, sql: str, sql_mode: int) -> list[tuple[Change, Shard, Target | None]]:
        """What a statement does to tables of ours, each with the shard and the target that it concerns; a table that
        no target takes (a shadow of an online schema change, say) is followed for its definition alone."""
        found = []
        for change in self.history.read(schema, sql, sql_mode):
            names = [(change.schema, change.table)] + ([change.renamed_to] if change.renamed_to else [])
            for name in names:
                shard = Shard(self.instance, *name)
                if self._routed(shard):
                    target = self._targets.get(shard) or self._target_of(shard)
                    found.append((change, shard, target))
                    break
            else:
                if any(self._followed(*name) for name in names):
                    found.append((change, Shard(self.instance, change.schema, change.table), None))
        return found

    def _followed(self, schema: str, table: str) -> bool:
        if schema in SYSTEM_SCHEMAS or any(i.matches(schema, table) for i in self.config.ignores):
            return False
        return any(s.schema == schema and s.instance == self.instance for s in self._targets)

    def _target_of(self, shard: Shard) -> Target | None:
        route = next((r for r in self.config.routes if r.matches(shard.schema, shard.table)), None)
        return None if route is None else Target(*route.target.split("."))

    def passes(self, target: Target | None) -> bool:
        """Whether changes of that target are let through here."""
        return target is None or (target not in self.held and self._only in (None, target))

    def decide(self, change: Change, shard: Shard, target: Target) -> Pass | Apply | Hold:
        """What the change means for the target table, as it is now."""
        merged = self._fresh(target)
        shadow = self._shadow(shard.schema, shard.table)
        if self._maps(target) and change.kind in ("alter", "create") and change.after is not None and not shadow:
            return decide_mapped(change, shard, merged, lambda table: as_routed(self.config, table))
        return decide(change, shard, merged, self._on_target(target))

    def _fresh(self, target: Target) -> MergedTable:
        """The merged table, its shards as they are defined now at their own instances' positions."""
        known = State.settled(self.config, State.definitions)
        merged = self._merged[target]
        return replace(
            merged,
            shards=tuple(self._as_it_is(m.shard, known.get(m.shard, m.physical)) for m in merged.shards),
        )

    def _on_target(self, target: Target) -> TableDef | None:
        with connect(self.config.target, patience_s=self.config.run.patience_s) as session:
            catalog = read_catalog(session, "target", [target.schema])
        return next((t.definition for t in catalog if t.shard.table.lower() == target.table.lower()), None)

    def run_on_target(self, statement: str) -> None:
        """Runs a DDL statement on the target. One that another instance has just brought about changes nothing."""
        with connect(self.config.target, patience_s=self.config.run.patience_s) as session:
            try:
                session.execute(statement)
            except ServerError as error:
                if error.number not in _DONE_ALREADY:
                    raise

    def take(self, change: Change, shard: Shard, target: Target | None, batch: Batch) -> None:
        """From here on the change is in force; the batch will record it. What couldn't be read is read from the server:
        if that has changed again since, the rows won't fit, and the table is held."""
        if change.kind == "unknown":
            with connect(self.config.source(self.instance), patience_s=self.config.run.patience_s) as source:
                catalog = read_catalog(source, self.instance, [change.schema])
            now = next((t.definition for t in catalog if t.shard.table == change.table), None)
            change = replace(change, kind="drop" if now is None else "alter", after=now)
        self.history.apply(change)
        names = {(change.schema, change.table)} | ({change.renamed_to} if change.renamed_to else set())
        for name in names:
            batch.definitions[name] = self.history.definition(*name)
        if target is not None and target in self._merged and shard not in self._targets:
            definition = self.history.definition(shard.schema, shard.table)
            if definition is not None:
                merged = self._merged[target]
                self._merged[target] = replace(merged, shards=(*merged.shards, self._as_it_is(shard, definition)))
                self._targets[shard] = target
        self.forget()

    def _maps(self, target: Target) -> bool:
        """Whether a route to that table maps columns, even one that a shard doesn't fit now."""
        return any(route.mapped for route in self.config.routes if route.target == str(target))

    def _as_it_is(self, shard: Shard, definition: TableDef) -> ShardTable:
        """A shard as its route maps it, or as it stands where it doesn't fit: its first row is refused then."""
        try:
            return as_routed(self.config, ShardTable(shard, definition))
        except NoGo:
            return ShardTable(shard, definition)

    def names_on(self, shard: Shard, target: Target, columns: Sequence[str]) -> str:
        """Columns of the target as a statement about that shard says them, with commas between. Doubt if the shard
        isn't as its route maps it."""
        definition = self._merged[target].table(shard).definition
        try:
            return ", ".join(definition.column(name).sql for name in columns)
        except KeyError as missing:
            raise Doubt(target, f"{shard} has nothing that {missing} is made of: see its route's columns") from None

    def shards(self, target: Target) -> Iterator[Shard]:
        """All shards of a target table."""
        return (m.shard for m in self._merged[target].shards)

    def others(self, shard: Shard, target: Target) -> Iterator[Shard]:
        """The other shards of a target table."""
        return (s for s in self.shards(target) if s != shard)
