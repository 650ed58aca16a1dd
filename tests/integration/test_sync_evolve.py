"""Shards of one table altered one after the other, and the merged table on TiDB brought along, or held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from migrate.catalog import read_catalog
from migrate.db import Session
from migrate.model import MergedTable, Shard, ShardTable, TableDef, Target
from migrate.schema import create_schema, differences, target_ddl
from migrate.sync.apart import apart
from migrate.sync.change import Change
from migrate.sync.dialect import read_dialect
from migrate.sync.evolve import Apply, Decision, Hold, decide
from migrate.sync.history import History
from tests.integration.shards import Server, database, endpoint, run

BASE = """CREATE TABLE {} (id INT NOT NULL, v VARCHAR(20) COLLATE utf8mb4_bin NOT NULL DEFAULT 'x', n INT,
 d DECIMAL(10,2), e ENUM('a','b'), s SET('a','b'), w TEXT, b VARBINARY(5), u SMALLINT UNSIGNED NOT NULL, f FLOAT, l VARCHAR(9) CHARACTER
 SET latin1, t DATETIME(3), PRIMARY KEY (id), KEY kn (n), UNIQUE KEY uv (v)) CHARSET utf8mb4"""
ROWS = "INSERT INTO {0} VALUES ({1}, 'v{1}', 5, 1.50, 'b', 'a,b', 'text', 'by', 7, 1.5, 'ü', '2020-01-01 10:00:00.123')"


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

    def carry(self, change: Change) -> Decision:
        name = (
            change.renamed_to
            if change.renamed_to and change.renamed_to[1].startswith("t_")
            else (self.schema, change.table)
        )
        shard = Shard("m1", *name)
        first = decision = decide(change, shard, self.merged(), self.on_target())
        steps = 0
        while isinstance(decision, Apply):
            expected = decision.statements[1:]
            run(
                self.server,
                "SET sql_mode = 'STRICT_TRANS_TABLES,ALLOW_INVALID_DATES'",
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


@pytest.fixture
def old(servers: Any) -> Iterator[Scene]:
    yield from scene(servers.sources[0], servers.target)


@pytest.fixture
def new(sandbox97: Any) -> Iterator[Scene]:
    yield from scene(sandbox97.sources[0], sandbox97.target)


# {} is the shard; each runs on one, then on the other, and the target follows.
ADDITIVE = {
    "nullable": "ALTER TABLE {} ADD COLUMN x INT",
    "first": "ALTER TABLE {} ADD COLUMN x BIGINT UNSIGNED NULL COMMENT 'it''s' FIRST",
    "after_default": "ALTER TABLE {} ADD COLUMN x VARCHAR(9) NOT NULL DEFAULT 'é\\\\''' AFTER v",
    "implicit_int": "ALTER TABLE {} ADD COLUMN x INT NOT NULL",
    "implicit_many": "ALTER TABLE {} ADD x1 VARCHAR(5) NOT NULL, ADD x2 DECIMAL(8,3) NOT NULL AFTER id, "
    "ADD x3 ENUM('q','r') NOT NULL, ADD x4 SET('q') NOT NULL, ADD x5 VARBINARY(3) NOT NULL, ADD x6 DOUBLE NOT NULL, "
    "ADD x7 BIT(3) NOT NULL, ADD x8 TIME NOT NULL, ADD x9 YEAR NOT NULL",
    "implicit_dates": "ALTER TABLE {} ADD x1 DATE NOT NULL, ADD x2 DATETIME(3) NOT NULL",
    "several": "ALTER TABLE {} ADD x INT DEFAULT 3, ADD y CHAR(2) DEFAULT 'ab' AFTER x, ADD z TEXT FIRST, "
    "ADD KEY kx (x, n)",
    "plain_index": "CREATE INDEX i ON {} (d, n)",
    "index_dropped_and_added": "ALTER TABLE {} ADD KEY k2 (n, d), COMMENT = 'c'",
    "integer": "ALTER TABLE {} MODIFY n BIGINT",
    "key": "ALTER TABLE {} MODIFY id BIGINT NOT NULL",
    "unsigned": "ALTER TABLE {} MODIFY u INT UNSIGNED NOT NULL",
    "longer": "ALTER TABLE {} MODIFY v VARCHAR(30) COLLATE utf8mb4_bin NOT NULL DEFAULT 'x', MODIFY b VARBINARY(50)",
    "decimal": "ALTER TABLE {} MODIFY d DECIMAL(20,2)",
    "members": "ALTER TABLE {} MODIFY e ENUM('a','b','c'), MODIFY s SET('a','b','c')",
    "text": "ALTER TABLE {} MODIFY w MEDIUMTEXT",
    "loosened": "ALTER TABLE {} MODIFY u SMALLINT UNSIGNED NULL",
    "default": "ALTER TABLE {} ALTER n SET DEFAULT 9, ALTER v SET DEFAULT 'y'",
    "comment": "ALTER TABLE {} MODIFY n INT COMMENT 'new', COMMENT = 'all'",
    "moved": "ALTER TABLE {} MODIFY n INT FIRST, MODIFY d DECIMAL(10,2) AFTER t",
    "added_between": "ALTER TABLE {} ADD x INT AFTER n, MODIFY d DECIMAL(12,2) AFTER x",
    "utf8mb4": "ALTER TABLE {} MODIFY l VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
    "nothing": "ALTER TABLE {} ENGINE=InnoDB, AUTO_INCREMENT=5",
    "fulltext": "ALTER TABLE {} ADD FULLTEXT KEY ft (w)",
}

HELD = {
    "drop": ("ALTER TABLE {} DROP COLUMN n", "column n is dropped or renamed"),
    "rename": ("ALTER TABLE {} CHANGE n m INT", "column n is dropped or renamed"),
    "anew": ("ALTER TABLE {} DROP f, ADD f FLOAT", "column f is dropped and added anew"),
    "now": ("ALTER TABLE {} ADD x DATETIME DEFAULT CURRENT_TIMESTAMP", "as it was on the shard at that moment"),
    "auto": ("ALTER TABLE {} ADD x INT AUTO_INCREMENT UNIQUE", "AUTO_INCREMENT"),
    "unique": ("ALTER TABLE {} ADD UNIQUE KEY q (n)", "unique index q is new"),
    "unique_gone": ("ALTER TABLE {} DROP KEY uv", "unique index uv goes"),
    "primary": ("ALTER TABLE {} DROP PRIMARY KEY, ADD PRIMARY KEY (id, u)", "primary key changes"),
    "narrower": ("ALTER TABLE {} MODIFY n SMALLINT", "narrower"),
    "shorter": ("ALTER TABLE {} MODIFY b VARBINARY(4)", "narrower"),
    "sign": ("ALTER TABLE {} MODIFY u INT NOT NULL", "sign changes"),
    "scale": ("ALTER TABLE {} MODIFY d DECIMAL(14,4)", "other digits"),
    "digits": ("ALTER TABLE {} MODIFY d DECIMAL(8,2)", "narrower"),
    "fraction": ("ALTER TABLE {} MODIFY t DATETIME(6)", "other digits"),
    "members": ("ALTER TABLE {} MODIFY e ENUM('b','a')", "members change"),
    "tightened": ("ALTER TABLE {} MODIFY n INT NOT NULL", "becomes NOT NULL"),
    "type": ("ALTER TABLE {} MODIFY n VARCHAR(20)", "another type"),
    "float": ("ALTER TABLE {} MODIFY f FLOAT(7,1)", "rounded anew"),
    "charset": ("ALTER TABLE {} CONVERT TO CHARACTER SET latin1", "charset"),
    "collation": ("ALTER TABLE {} MODIFY v VARCHAR(20) COLLATE utf8mb4_unicode_ci NOT NULL DEFAULT 'x'", "collation"),
    "partition": ("ALTER TABLE {} DROP KEY uv PARTITION BY HASH (id) PARTITIONS 2", "partitioning"),
    "engine": ("ALTER TABLE {} ENGINE=MyISAM", "no transactions"),
    "renamed": ("RENAME TABLE {} TO gone", "renamed to"),
    "altered_away": ("ALTER TABLE {} RENAME gone", "renamed to"),
    "truncate": ("TRUNCATE TABLE {}", "without row events"),
    "dropped": ("DROP TABLE {}", "dropped"),
    "not_null_text": ("ALTER TABLE {} ADD x TEXT NOT NULL", "can have no default on TiDB"),
}  # fmt: skip


def follows(place: Scene, statement: str) -> None:
    for table in ("t_1", "t_2"):
        for decision in place.alter(statement.format(table)):
            assert not isinstance(decision, Hold), decision
        place.same_rows()
        if table == "t_1" and "{}" in statement:
            late = place.history.definition(place.schema, "t_2")
            assert late is not None
            insert_late(place, late)
    place.as_meant()
    assert apart(place.merged()) == []


def insert_late(place: Scene, late: TableDef) -> None:
    """A row of the shard that isn't altered yet still finds its place."""
    row = ROWS.format("t_2", 3).split("VALUES")[1]
    names = ", ".join(f"`{c.name}`" for c in late.columns)
    strict = "SET sql_mode = 'STRICT_TRANS_TABLES'"
    run(
        place.server,
        strict,
        f"INSERT INTO t ({names}) VALUES {row}",
        "DELETE FROM t WHERE id = 3",
        database=place.schema,
    )


@pytest.mark.parametrize("statement", ADDITIVE.values(), ids=ADDITIVE)
def test_additive_changes_reach_the_target_from_56(old: Scene, statement: str) -> None:
    follows(old, statement)


@pytest.mark.parametrize("statement", ADDITIVE.values(), ids=ADDITIVE)
def test_additive_changes_reach_the_target_from_97(new: Scene, statement: str) -> None:
    follows(new, statement)


@pytest.mark.parametrize(("statement", "reason"), HELD.values(), ids=HELD)
def test_everything_else_holds(old: Scene, statement: str, reason: str) -> None:
    before = old.on_target()
    decisions = old.alter(statement.format("t_1"))
    (held,) = [d for d in decisions if isinstance(d, Hold)]
    assert reason in held.reason
    assert f"m1.{old.schema}.t_1" in held.reason
    assert statement.format("t_1") in held.reason
    assert all(f"migrate sync {verb} {old.schema}.t" in held.remedy for verb in ("go-on", "skip", "replace"))
    assert old.on_target() == before
