"""The rehearsal on real sources with a throw-away target: everything but fence and switch. The sources are only read;
what the freeze would last is projected from what was measured on them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, time
from typing import Any

from platformdirs import user_state_path

from migrate.config import Config
from migrate.cutover.drain import drain_binlogs
from migrate.db import wait
from migrate.errors import NoGo
from migrate.rehearse.outcome import Rehearsal
from migrate.rehearse.project import Measured, Size
from migrate.rehearse.rules import source_rules
from migrate.rehearse.samples import Sample, Sampler
from migrate.rehearse.says import checked, copied, planned, verified
from migrate.rehearse.steps import Done, Stopwatch
from migrate.rehearse.tools import Tools
from migrate.source import capture_positions
from migrate.status import read_status
from migrate.sync.status import read_sync_status

FIXED_S = 1.0  # what fence, proof, sequences, smoke test and switch took on the sandbox, rounded up; not measured here
_DRAINS = 5
_APART_S = 2.0
_CATCH_UP_S = 3600.0


def rehearse_on_source(
    config: Config, root: Path | None, *, workers: int | None, wanted: tuple[Size, ...]
) -> Rehearsal:
    """Check, plan, schema, copy, sync, verification, and the drain measured, on a target that nothing is in yet."""
    root = root or user_state_path("migrate-rehearsal")
    watch = Stopwatch(root / "evidence" / f"{config.name}-{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}")
    hard = ["--workers", str(workers)] if workers else []
    with Tools(config.path, watch.folder) as tools, Sampler(config) as sampler:

        def command(*words: str, said: Any) -> Done:
            answer = tools.run(*words)
            return Done(answer.ok, said(answer.document) if answer.document else answer.error(), answer.document)

        def follow() -> Done:
            began, since = monotonic(), time()
            running = tools.beside("sync", "sync")
            names = {s.name for s in config.sources}
            while not read_sync_status(config, shards=False).caught_up(names, since):
                running.must_live()
                if monotonic() - began > _CATCH_UP_S:
                    raise NoGo(f"sync did not catch up in {_CATCH_UP_S:.0f} s: the sources write more than it applies")
                wait(0.2)
            took = monotonic() - began
            return Done(True, f"every instance less than a second behind after {took:.1f} s", {"caught_up_s": took})

        def drained() -> Done:
            took = []
            for _ in range(_DRAINS):
                began, positions = monotonic(), capture_positions(config)
                drain_binlogs(config, positions, config.cutover.freeze_s)
                took.append(round(monotonic() - began, 3))
                wait(_APART_S)
            said = f"what was under way was applied within {', '.join(f'{t:.2f}' for t in took)} s"
            return Done(True, said, {"drains_s": took, "changes_per_s": _rate(sampler.samples)})

        take = watch.take
        take("throw-away target", lambda: _untouched(config))
        take("check", lambda: command("check", said=checked))
        take("plan", lambda: command("plan", *hard, said=planned))
        take("schema", lambda: command("schema", "--execute", said=lambda d: f"{len(d['tables'])} tables"))
        take("copy", lambda: command("copy", *hard, said=copied))
        take("sync", follow)
        take("verify", lambda: command("verify", "all", *hard, said=verified))
        if config.pack is not None:
            take("verify in the freeze", lambda: command("verify", "balances", *hard, said=verified))
        else:
            take("verify in the freeze", lambda: command("verify", "counts", *hard, said=verified))
        take("drain", drained)
    samples = tuple(sampler.samples)
    measured = _measured(watch, config.cutover.freeze_s)
    rules = source_rules(watch, measured, samples, config)
    return Rehearsal(watch, tuple(rules), samples, measured, config, wanted)


def _untouched(config: Config) -> Done:
    """NoGo if the target has a migration of that name: it may be one that matters."""
    status = read_status(config)
    if status.way is not None:
        raise NoGo(
            f"{config.target} has the migration {config.name!r} already ({status.way}): a rehearsal needs a throw-away "
            "target; name an empty one, or drop the target tables and migrate_meta there if nobody needs them"
        )
    return Done(True, f"{config.target} knows no migration {config.name!r}", {"target": str(config.target)})


def _rate(samples: list[Sample]) -> float:
    """Row changes a second, over all instances, in the last samples."""
    recent = [sum(s.rate.values()) for s in samples[-10:] if s.rate]
    return round(sum(recent) / len(recent), 1) if recent else 0.0


def _measured(watch: Stopwatch, limit_s: float) -> Measured:
    documents = watch.documents
    whole, part = documents.get("verify", {}), documents.get("verify in the freeze", {})
    rows = sum(t["source_rows"] for t in whole.get("tables", ()))
    shards = sum(len(t["shards"]) for t in documents.get("plan", {}).get("tables", ()))
    drains = documents.get("drain", {})
    copied_ = documents.get("copy", {})
    fixed = FIXED_S if drains.get("drains_s") else None
    took = part.get("seconds")
    return Measured(
        Size(rows, shards, float(drains.get("changes_per_s", 0))),
        fixed_s=fixed,
        drain_s=max(drains["drains_s"]) if drains.get("drains_s") else None,
        verify_s=took,
        back_s=fixed + took if fixed is not None and took is not None else None,
        verified_rows_s=rows / whole["seconds"] if whole.get("seconds") else None,
        copied_rows_s=copied_["rows"] / copied_["seconds"] if copied_.get("seconds") else None,
        what="row changes",
        limit_s=limit_s,
    )
