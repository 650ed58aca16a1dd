"""The rehearsal of a migration whose routes map columns. The library doesn't carry them: the application posts to the
shards itself, is stopped for the night, and the instances' read_only is the fence. There is no way back to rehearse."""

from __future__ import annotations

from collections.abc import Sequence

from migrate.errors import ConfigError
from migrate.rehearse.faults import Fault
from migrate.rehearse.says import checked, copied, planned, seeded
from migrate.rehearse.stage import Stage

FENCE = 'fence = "read-only"\n'


def play_one_way(stage: Stage, rows: int, faults: Sequence[Fault]) -> None:
    """The order of the steps. ConfigError for faults: they need an application that goes on through the switch."""
    if faults:
        raise ConfigError("--faults: the routes map columns, and the application is stopped before the cutover")
    take = stage.watch.take
    take("seed", lambda: stage.command("sandbox", "seed", "--rows", str(rows), said=seeded))
    take("check", lambda: stage.command("check", said=checked))
    take("plan", lambda: stage.command("plan", "--no-scan", said=planned))
    take("schema", lambda: stage.command("schema", "--execute", said=lambda d: f"{len(d['tables'])} tables"))
    take("traffic", stage.start_traffic)
    take("copy", lambda: stage.command("copy", said=copied))
    take("sync", stage.start_sync)
    take("verify", stage.verify)
    take("end of traffic", stage.end_traffic)
    take("last verification", stage.verify_at_rest)
    take("cutover", stage.cutover)
    take("judge", stage.judged)
    if stage.traffic is not None:  # a step has failed; what the client saw is told all the same
        stage.end_traffic()
