"""gh-ost and pt-online-schema-change, by the statements that they issue: the swap at their end is an ALTER."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from migrate.model import Shard
from migrate.sync.evolve import Apply, Hold, Pass, decide
from tests.integration.evolving import Scene, scene


@pytest.fixture
def old(servers: Any) -> Iterator[Scene]:
    yield from scene(servers.sources[0], servers.target)


@pytest.fixture
def new(sandbox97: Any) -> Iterator[Scene]:
    yield from scene(sandbox97.sources[0], sandbox97.target)


def gh_ost(schema: str, table: str, alter: str, aside: str = "_{}_del") -> list[str]:
    db, ghost, log, gone = (f"`{n}`" for n in (schema, f"_{table}_gho", f"_{table}_ghc", aside.format(table)))
    return [
        f"drop /* gh-ost */ table if exists {db}.{ghost}",
        f"drop /* gh-ost */ table if exists {db}.{gone}",
        f"drop /* gh-ost */ table if exists {db}.{log}",
        f"create /* gh-ost */ table {db}.{log} (\n\t\t\tid bigint unsigned auto_increment,\n\t\t\tlast_update "
        "timestamp not null DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,\n\t\t\thint varchar(64) charset "
        "ascii not null,\n\t\t\tvalue varchar(4096) charset ascii not null,\n\t\t\tprimary key(id),\n\t\t\tunique key "
        "hint_uidx(hint)\n\t\t) auto_increment=256 comment='gh-ost changelog'",
        f"create /* gh-ost */ table {db}.{ghost} like {db}.`{table}`",
        f"alter /* gh-ost */ table {db}.{ghost} {alter}",
        f"alter /* gh-ost */ table {db}.{ghost} AUTO_INCREMENT=17",
        f"create /* gh-ost */ table {db}.{gone} (\n\t\t\tid int auto_increment primary key\n\t\t) engine=InnoDB "
        "comment='ghost-cut-over-sentry'",
        f"drop /* gh-ost */ table if exists {db}.{gone}",
        f"rename /* gh-ost */ table {db}.`{table}` to {db}.{gone}, {db}.{ghost} to {db}.`{table}`",
        f"drop /* gh-ost */ table if exists {db}.{log}",
        f"drop /* gh-ost */ table if exists {db}.{gone}",
    ]


def pt_osc(schema: str, table: str, create: str, alter: str) -> list[str]:
    db, whole, made = f"`{schema}`", f"`{schema}`.`{table}`", f"`{schema}`.`_{table}_new`"
    name = f"pt_osc_{schema}_{table}"
    return [
        create.format(made),
        f"ALTER TABLE {made} {alter}",
        f"CREATE TRIGGER `{name}_del` AFTER DELETE ON {whole} FOR EACH ROW BEGIN DECLARE CONTINUE HANDLER FOR 1146 "
        f"begin end; DELETE IGNORE FROM {made} WHERE {made}.`id` <=> OLD.`id`; END",
        f"CREATE TRIGGER `{name}_ins` AFTER INSERT ON {whole} FOR EACH ROW REPLACE INTO {made} (`id`) VALUES "
        "(NEW.`id`)",
        f"ANALYZE TABLE {made} /* pt-online-schema-change */",
        f"RENAME TABLE {whole} TO {db}.`_{table}_old`, {made} TO {whole}",
        f"DROP TABLE IF EXISTS {db}.`_{table}_old`",
        f"DROP TRIGGER IF EXISTS {db}.`{name}_del`",
        f"DROP TRIGGER IF EXISTS {db}.`{name}_ins`",
    ]


CREATE = (
    "CREATE TABLE {} (\n  `id` int(11) NOT NULL,\n  `v` varchar(20) COLLATE utf8mb4_bin NOT NULL DEFAULT 'x',\n  `n` "
    "int(11) DEFAULT NULL,\n  `d` decimal(10,2) DEFAULT NULL,\n  `e` enum('a','b') DEFAULT NULL,\n  `s` set('a','b') "
    "DEFAULT NULL,\n  `w` text,\n  `b` varbinary(5) DEFAULT NULL,\n  `u` smallint(5) unsigned NOT NULL,\n  `f` float "
    "DEFAULT NULL,\n  `l` varchar(9) CHARACTER SET latin1 DEFAULT NULL,\n  `t` datetime(3) DEFAULT NULL,\n  PRIMARY "
    "KEY (`id`),\n  UNIQUE KEY `uv` (`v`),\n  KEY `kn` (`n`)\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
)
ALTER = "ADD COLUMN x INT NOT NULL DEFAULT 4 AFTER n, MODIFY d DECIMAL(20,2)"


def altered(place: Scene, table: str, statements: list[str]) -> None:
    """Only the swap asks anything of the target."""
    for statement in statements:
        for decision in place.alter(statement):
            assert not isinstance(decision, Hold), decision
            assert isinstance(decision, Apply) <= ("rename" in statement.lower())
    definition = place.history.definition(place.schema, table)
    assert definition is not None
    assert [c.name for c in definition.columns][:4] == ["id", "v", "n", "x"]
    assert definition.triggers == ()


def test_gh_ost_on_56(old: Scene) -> None:
    altered(old, "t_1", gh_ost(old.schema, "t_1", ALTER))
    altered(old, "t_2", gh_ost(old.schema, "t_2", ALTER, "_{}_20240102030405_del"))
    old.as_meant()


def test_gh_ost_on_97(new: Scene) -> None:
    altered(new, "t_1", gh_ost(new.schema, "t_1", ALTER))
    altered(new, "t_2", gh_ost(new.schema, "t_2", ALTER))
    new.as_meant()


def test_pt_online_schema_change(old: Scene) -> None:
    altered(old, "t_1", pt_osc(old.schema, "t_1", CREATE, ALTER))
    altered(old, "t_2", pt_osc(old.schema, "t_2", CREATE, ALTER))
    old.as_meant()


def test_a_swap_that_loses_a_column_holds(old: Scene) -> None:
    *before, swap, _, _ = gh_ost(old.schema, "t_1", "DROP COLUMN n")
    for statement in before:
        assert not any(isinstance(d, Hold) for d in old.alter(statement))
    held, aside = old.alter(swap)
    assert isinstance(held, Hold)
    assert "column n is dropped or renamed" in held.reason
    assert not isinstance(aside, Hold)


def test_a_shadow_whose_column_is_made_anew_is_not_known_any_more(old: Scene) -> None:
    """Nothing shows at the swap that the values of f are gone: the definitions are the same."""
    *before, swap, _, _ = gh_ost(old.schema, "t_1", "DROP COLUMN f, ADD COLUMN f FLOAT AFTER u")
    for statement in before[:6]:
        old.carry_all(statement)
    assert old.history.definition(old.schema, "_t_1_gho") is None
    assert {c.table: c.kind for c in old.history.read(old.schema, swap)}["t_1"] == "unknown"


def test_a_shadow_of_before_the_copy_is_not_known(old: Scene) -> None:
    swap = gh_ost(old.schema, "t_1", ALTER)[9]
    unknown = {c.table: c for c in old.history.read(old.schema, swap)}
    held = decide(unknown["t_1"], Shard("m1", old.schema, "t_1"), old.merged(), old.on_target())
    assert isinstance(held, Hold)
    assert "_t_1_gho takes its place, whose definition isn't known" in held.reason


def test_shadows_that_a_route_matches_too_are_left_alone(old: Scene) -> None:
    for statement in gh_ost(old.schema, "t_1", ALTER)[4:6]:
        for change in old.history.read(old.schema, statement):
            decision = decide(change, Shard("m1", old.schema, change.table), old.merged(), old.on_target())
            assert decision == Pass("a shadow of t_1, which an online schema change alters")
            old.history.apply(change)


def test_the_table_aside_goes_on_under_its_new_name(old: Scene) -> None:
    for statement in gh_ost(old.schema, "t_1", ALTER)[:10]:
        old.alter(statement)
    aside = old.history.definition(old.schema, "_t_1_del")
    assert aside is not None
    assert "x" not in [c.name for c in aside.columns]
    assert old.history.definition(old.schema, "_t_1_gho") is None
