"""Shards of one table that are altered, and the merged table on TiDB that follows them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from migrate.catalog import read_catalog
from migrate.db import Session
from migrate.model import MergedTable, Shard, ShardTable, TableDef, Target
from migrate.schema import create_schema, differences, target_ddl
from migrate.sync.change import Change
from migrate.sync.dialect import read_dialect
from migrate.sync.evolve import Apply, Decision, Hold, Pass, decide
from migrate.sync.history import History
from tests.integration.shards import Server, database, endpoint, run

BASE = """
CREATE TABLE {} (
 id INT NOT NULL, v VARCHAR(20) COLLATE utf8mb4_bin NOT NULL DEFAULT 'x', n INT, d DECIMAL(10,2), e ENUM('a','b'),
 s SET('a','b'), w TEXT, b VARBINARY(5), u SMALLINT UNSIGNED NOT NULL, f FLOAT, l VARCHAR(9) CHARACTER SET latin1,
 t DATETIME(3), PRIMARY KEY (id), KEY kn (n), UNIQUE KEY uv (v)
) CHARSET utf8mb4
"""
ROWS = "INSERT INTO {0} VALUES ({1}, 'v{1}', 5, 1.50, 'b', 'a,b', 'text', 'by', 7, 1.5, 'ü', '2020-01-01 10:00:00.123')"
STRICT = "SET sql_mode = 'STRICT_TRANS_TABLES,ALLOW_INVALID_DATES'"


class Scene:
    """Tables t_1 and t_2 in one database of a source, merged into `t` of the same on the target."""

    def __init__(self, source: Server, target: Server, schema: str, sessions: Sequence[Session], base: str):
        self.source, self.server, self.schema = source, target, schema
        self.session, self.target = sessions
        for table in ("t_1", "t_2"):
            run(source, "SET sql_mode = ''", base.format(table), database=schema)
            if base == BASE:
                run(source, ROWS.format(table, table[-1]), database=schema)
        catalogue = {(t.shard.schema, t.shard.table): t.definition for t in read_catalog(self.session, "m1", [schema])}
        self.history = History("m1", catalogue, read_dialect(self.session))
        create_schema(self.target, [self.merged()], execute=True)
        if base == BASE:
            for number in (1, 2):
                run(target, ROWS.format("t", number), database=schema, charset="utf8mb4")

    def merged(self) -> MergedTable:
        shards = [Shard("m1", self.schema, t) for t in ("t_1", "t_2")]
        found = [(s, self.history.definition(s.schema, s.table)) for s in shards]
        return MergedTable(Target(self.schema, "t"), tuple(ShardTable(s, d) for s, d in found if d))

    def on_target(self) -> TableDef:
        return next(t.definition for t in read_catalog(self.target, "target", [self.schema]))

    def alter(self, statement: str) -> list[Decision]:
        """Runs it on the source and does with the target what is decided; the decisions."""
        run(self.source, "SET sql_mode = ''", statement, database=self.schema, charset="utf8mb4")
        decisions = [self.carry(change) for change in self.history.read(self.schema, statement)]
        catalogue = {t.shard.table: t.definition for t in read_catalog(self.session, "m1", [self.schema])}
        if not any(isinstance(d, Hold) for d in decisions):
            assert catalogue == {n[1]: self.history.definition(*n) for n in self.history.names()}
        return decisions

    def carry_all(self, statement: str) -> None:
        """Runs it on the source, and takes what it does for what is in force, whatever that is."""
        run(self.source, "SET sql_mode = ''", statement, database=self.schema, charset="utf8mb4")
        for change in self.history.read(self.schema, statement):
            self.history.apply(change)

    def carry(self, change: Change) -> Decision:
        names = [(change.schema, change.table)] + ([change.renamed_to] if change.renamed_to else [])
        name = next((n for n in names if re.fullmatch(r"t_\d", n[1])), None)
        if name is None:
            self.history.apply(change)
            return Pass("not routed")
        shard = Shard("m1", *name)
        first = decision = decide(change, shard, self.merged(), self.on_target())
        steps = 0
        while isinstance(decision, Apply):
            expected = decision.statements[1:]
            run(
                self.server,
                STRICT,
                decision.statements[0],
                database=self.schema,
            )
            decision = decide(change, shard, self.merged(), self.on_target())
            assert (decision.statements if isinstance(decision, Apply) else ()) == expected
            steps += 1
            assert steps < 20
        if not isinstance(first, Hold):
            self.history.apply(change)
        return first

    def same_rows(self) -> None:
        """Every column that a shard has holds in the target what it holds in the shard."""
        for table in self.merged().shards:
            names = ", ".join(f"`{c.name}`" for c in table.definition.stored_columns)
            there = run(
                self.source, f"SELECT {names} FROM {table.shard.table}", database=self.schema, charset="utf8mb4"
            )
            number = table.shard.table[-1]
            here = run(
                self.server, f"SELECT {names} FROM t WHERE id = {number}", database=self.schema, charset="utf8mb4"
            )
            assert here == there

    def as_meant(self) -> None:
        """The target is what `migrate schema` would make of the shards now."""
        meant, made = target_ddl(self.merged()).definition, self.on_target()
        assert differences(meant, made) == []
        assert [c.comment for c in made.columns] == [c.comment for c in meant.columns]
        assert made.comment == meant.comment


def scene(source: Server, target: Server, base: str = BASE) -> Iterator[Scene]:
    with database(source, target, prefix="evolve") as schema:
        sessions = [Session(endpoint(source, "m1")), Session(endpoint(target, "target"))]
        try:
            yield Scene(source, target, schema, sessions, base)
        finally:
            for session in sessions:
                session.close()
