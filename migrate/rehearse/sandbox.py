"""The rehearsal on servers of this machine: everything, with traffic through the library from the schema to the end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from platformdirs import user_state_path

from migrate.config import load_config
from migrate.errors import ConfigError, MigrateError
from migrate.rehearse.faults import FAULTS, Fault
from migrate.rehearse.outcome import Rehearsal
from migrate.rehearse.project import Size, measured
from migrate.rehearse.rules import sandbox_rules
from migrate.rehearse.says import checked, copied, installed, planned, seeded
from migrate.rehearse.stage import Stage
from migrate.rehearse.steps import Done, Stopwatch
from migrate.sandbox import Sandbox
from migrate.sandbox.sandbox import Description

FREEZE_S = 10.0  # what the cutover of a rehearsal may take before it undoes itself
LAG_S = 3.0  # and how far sync may be behind when it begins: all servers share this machine


def rehearse_on_sandbox(
    *, pack: str, rows: int, mysql: str, instances: int, root: Path | None, tps: float, seconds: float,
    faults: Sequence[str], wanted: tuple[Size, ...] = (),
) -> Rehearsal:  # fmt: skip
    """Servers up, and everything on them under traffic, to the judge. An earlier rehearsal's servers in that folder
    are thrown away; these stay up. ConfigError for a fault that isn't known."""
    chosen = _chosen(faults)
    root = root or user_state_path("migrate-rehearsal")
    sandbox = Sandbox(root)
    sandbox.down(purge=True)
    folder = root / "evidence" / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    made: list[Description] = []

    def up() -> Done:
        made.append(sandbox.up(instances=instances, mysql=mysql, pack=pack))
        servers = [f"{a.name} {a.version}" for a in (*made[0].sources, made[0].target)]
        return Done(True, ", ".join(servers), {"servers": servers})

    watch = Stopwatch(folder)
    if not watch.take("sandbox", up):
        raise MigrateError(watch.steps[0].said)
    config = load_config(_own_config(made[0].config))
    with Stage(sandbox, config, watch, tps) as stage:
        _play(stage, rows, seconds, chosen)
        freezes = stage.freezes()
    view = stage.journal.view(stage.told)
    samples = stage.sampler.samples
    rules = sandbox_rules(watch, view, stage.journal, samples, freezes, config)
    return Rehearsal(
        watch, tuple(rules), tuple(samples), measured(watch, tps, config.cutover.freeze_s), config, wanted,
        client=view, freezes=freezes, seconds=tuple(stage.journal.seconds()), root=root,
    )  # fmt: skip


def _play(stage: Stage, rows: int, seconds: float, faults: Sequence[Fault]) -> None:
    """The order of the steps."""
    take = stage.watch.take
    take("seed", lambda: stage.command("sandbox", "seed", "--rows", str(rows), said=seeded))
    take("check", lambda: stage.command("check", said=checked))
    take("plan", lambda: stage.command("plan", "--no-scan", said=planned))
    take("schema", lambda: stage.command("schema", "--execute", said=lambda d: f"{len(d['tables'])} tables"))
    take("double-write", lambda: stage.command("double-write", "install", "--execute", said=installed))
    take("traffic", stage.start_traffic)
    take("copy", lambda: stage.command("copy", said=copied))
    take("sync", stage.start_sync)
    take("verify", stage.verify)
    for fault in faults:
        fault.play(stage)
    take("cutover", stage.cutover)
    take("on the target", lambda: stage.go_on_at_the_target(seconds))
    take("audit", stage.audit)
    take("rollback", stage.rollback)
    take("sync again", stage.start_sync)
    take("verify again", stage.verify)
    take("end of traffic", stage.end_traffic)
    take("last verification", stage.verify_at_rest)
    take("end of sync", stage.end_sync)
    take("judge", stage.judged)
    if stage.traffic is not None:  # a step has failed; what the client saw is told all the same
        stage.end_traffic()


def _chosen(names: Sequence[str]) -> list[Fault]:
    known = {fault.name: fault for fault in FAULTS}
    for name in names:
        if name not in known and name != "all":
            raise ConfigError(f"--faults {name}: no such fault; there are: {', '.join(known)}, all")
    return [f for f in FAULTS if f.name in names or "all" in names]


def _own_config(path: Path) -> Path:
    """The sandbox's config with the bounds of a rehearsal's cutover, and a name that no other rehearsal has."""
    own = path.with_name("rehearsal.toml")
    port = load_config(path).target.port
    text = path.read_text(encoding="utf-8").replace('name = "sandbox"', f'name = "rehearsal-{port}"', 1)
    own.write_text(f"{text}\n[cutover]\nfreeze_s = {FREEZE_S}\nlag_s = {LAG_S}\n", encoding="utf-8")
    own.chmod(0o600)
    return own
