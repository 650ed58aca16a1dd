"""A night on which the application's outbox feeds the target, as the phases of the double write have it; and what the
target numbers by itself."""

from __future__ import annotations

from pathlib import Path

from migrate.config import Route
from migrate.copy.copier import copy
from migrate.cutover.sequences import raise_counters, read_counters
from migrate.db import connect
from migrate.doublewrite.phases import read
from migrate.sandbox import Sandbox
from migrate.schema import create_schema
from migrate.source import read_routing
from tests.cutover_lab import Watcher, cutover_lab
from tests.integration.doublewrite_scene import until
from tests.integration.shards import config_for, database, run
from tests.integration.syncing import Table, lab


def test_the_outbox_is_drained_and_goes_on_after_the_way_back(servers: Sandbox, tmp_path: Path) -> None:
    with cutover_lab(servers, tmp_path, phase="shadow") as made, Watcher(made):
        app = made.app()
        until(lambda: made.journal.exists() and made.entries() > 20, "the application writes")
        outcome = made.cut_over()
        assert outcome.go, outcome.text()
        assert "the outboxes of the shards are empty" in next(s.said for s in outcome.steps if s.name == "drain")
        written = made.entries()
        until(lambda: made.entries() > written, "the application writes")
        outcome = made.roll_back()
        assert outcome.go, outcome.text()
        phase = read(made.config)
        assert (phase.epoch.phase, phase.forward) == ("shadow", "outbox")
        before = made.entries()
        until(lambda: made.entries() > before, "the application writes")
        app.stop()
        made.client("double-write", "drain", "--until-empty").ok()
        assert made.judge() > 20


def test_the_target_goes_on_above_every_number_that_a_shard_gave_out(servers: Sandbox) -> None:
    """Of rows that were deleted, too, and by interleaved keys as they were merged."""
    columns = "id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, v INT"
    tables = {"plain": Table(columns, (0, 1), ("(5, 1)", "(6, 1)"))}
    with lab(servers.sources, servers.target, tables) as made:
        for n in (0, 1):
            made.on(f"plain_{n}", f"INSERT INTO {{t}} VALUES ({70_000 + n}, 2)")
            made.on(f"plain_{n}", "DELETE FROM {t} WHERE v = 2")
        made.copied()
        routed = read_routing(made.config).checked()
        with connect(made.config.target) as session:
            said = raise_counters(session, routed, read_counters(made.config, routed))
        assert said == [f"{made.schema}.plain.id goes on from 70002"]
        made.at_target("INSERT INTO plain (v) VALUES (3)")
        assert made.at_target("SELECT id FROM plain WHERE v = 3") == [(70_002,)]


def test_interleaved_numbers(servers: Sandbox) -> None:
    with database(*servers.sources, servers.target, prefix="seq") as schema:
        for n, server in enumerate(servers.sources):
            run(server, f"CREATE TABLE {schema}.t_{n} (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, v INT)",
                f"INSERT INTO {schema}.t_{n} VALUES ({100 + n}, 1)")  # fmt: skip
        route = Route(schema=schema, table=r"t_\d", target=f"{schema}.t", key_collision="interleave")
        config = config_for(servers.sources, servers.target, schema, route)
        routed = read_routing(config).checked()
        with connect(config.target) as session:
            create_schema(session, routed, execute=True)
        copy(config, 1)
        with connect(config.target) as session:
            raise_counters(session, routed, read_counters(config, routed))
        run(servers.target, f"INSERT INTO {schema}.t (v) VALUES (3)")
        # the last one of shard 1 is 101, which is 101 * 2 + 1 on the target
        [(id,)] = run(servers.target, f"SELECT id FROM {schema}.t WHERE v = 3")
        assert id > 203, "a number that shard 1 gave out"
