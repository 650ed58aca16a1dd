"""python -m tests.benchmarks NAME [--rows N] [--workers W] [--runs R] [--json]"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tests.benchmarks import peers
from tests.benchmarks.arena import Arena, arena
from tests.benchmarks.stopwatch import Timing, run

Side = Callable[[Arena], Timing]


def _add(*timings: Timing) -> Timing:
    return Timing(sum(t.seconds for t in timings), max(t.peak_rss_mib for t in timings))


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _prepared(place: Arena) -> None:
    place.fresh_target()
    run(place.migrate("schema", "--execute"))


def _loaded(place: Arena, timing: Timing) -> Timing:
    found = place.target_rows()
    if found != place.rows:
        raise AssertionError(f"{found} rows on the target, expected {place.rows}")
    return timing


def ours_export(place: Arena) -> Timing:
    return run(place.migrate("export", "--json", "--out", str(_empty(place.root / "ours"))))


def peer_export(place: Arena) -> Timing:
    return run(peers.dumpling(place, _empty(place.root / "peer")))


def ours_load(place: Arena) -> Timing:
    _prepared(place)
    return _loaded(place, run(place.migrate("load", "--json", "--from", str(place.root / "ours"))))


def peer_load(place: Arena) -> Timing:
    _prepared(place)
    return _loaded(place, run(peers.lightning(place, place.root / "peer", routed=True)))


def ours_copy(place: Arena) -> Timing:
    _prepared(place)
    return _loaded(place, run(place.migrate("copy", "--json")))


def peer_copy(place: Arena) -> Timing:
    _prepared(place)
    exported = peer_export(place)
    return _loaded(place, _add(exported, run(peers.lightning(place, place.root / "peer", routed=True))))


def ours_verify(place: Arena, *options: str) -> Timing:
    """Counts, checksum and control totals together."""
    timing = run(place.verify("checksum", "--anew", "--json", *options))
    document = json.loads(timing.output)
    table, totals = document["tables"][0], [t for t in document["totals"] if "net" in t["source"]]
    if not table["ok"] or table["target_rows"] != place.rows:
        raise AssertionError(f"verification didn't see {place.rows} equal rows: {table}")
    if sum(t["target"]["rows"] for t in totals) != place.rows:
        raise AssertionError(f"the control totals aren't those of {place.rows} rows")
    return timing


def ours_verify_strong(place: Arena) -> Timing:
    return ours_verify(place, "--strong")


def peer_verify(place: Arena) -> Timing:
    timing = run(peers.sync_diff(place))
    if "all are equal" not in timing.output:
        raise AssertionError(f"sync-diff-inspector found the sides to differ:\n{timing.output[-2000:]}")
    return timing


def _export_both(place: Arena) -> None:
    ours_export(place)
    peer_export(place)


def _copy_first(place: Arena) -> None:
    ours_copy(place)


def _nothing(place: Arena) -> None:
    del place


BENCHMARKS: dict[str, tuple[str, Callable[[Arena], None], Side, Side]] = {
    "export": ("Dumpling", _nothing, ours_export, peer_export),
    "load": ("Lightning, tidb backend", _export_both, ours_load, peer_load),
    "copy": ("Dumpling, then Lightning", _nothing, ours_copy, peer_copy),
    "verify": ("sync-diff-inspector", _copy_first, ours_verify, peer_verify),
    "verify-strong": ("sync-diff-inspector", _copy_first, ours_verify_strong, peer_verify),
}


@click.command()
@click.argument("names", type=click.Choice([*BENCHMARKS, "all"]), nargs=-1, required=True)
@click.option("--rows", default=500_000, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--runs", default=3, show_default=True, help="Counted runs of each side, in turn, after one warm-up.")
@click.option("--skew", default=0.0, help="The part of the rows that one shard holds.")
@click.option("--shards", default=8, show_default=True)
@click.option("--unique", is_flag=True, help="The table's two secondary indexes are unique.")
@click.option("--ours-only", is_flag=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    names: tuple[str, ...],
    rows: int,
    workers: int,
    runs: int,
    skew: float,
    shards: int,
    unique: bool,
    ours_only: bool,
    as_json: bool,
) -> None:
    """Times our command and the peer's, in turn, on the same data, and prints medians and their ratio."""
    found = {}
    prepared = None
    with arena(rows, workers, skew=skew, shards=shards, unique=unique) as place:
        for each in BENCHMARKS if "all" in names else names:
            prepare = BENCHMARKS[each][1]
            if prepare is not prepared:
                prepare(place)
            prepared = prepare
            found[each] = _measure(place, each, runs, ours_only)
            if not as_json:
                _show(each, found[each])
    if as_json:
        click.echo(json.dumps(found[names[0]] if len(found) == 1 else found, indent=1))


def _measure(place: Arena, name: str, runs: int, ours_only: bool) -> dict[str, Any]:
    peer, _, ours, theirs = BENCHMARKS[name]
    our_runs: list[Timing] = []
    peer_runs: list[Timing] = []
    for number in range(runs + 1):
        mine = ours(place)
        other = None if ours_only else theirs(place)
        print(f"{name} {number}: {mine.seconds:.2f} s, {other.seconds if other else 0:.2f} s", file=sys.stderr)
        if number:
            our_runs.append(mine)
            peer_runs += [other] if other else []
    ours_s = statistics.median(t.seconds for t in our_runs)
    work_s = statistics.median(t.work_s or t.seconds for t in our_runs)
    peer_s = statistics.median(t.seconds for t in peer_runs) if peer_runs else None
    return {
        "rows": place.rows,
        "workers": place.workers,
        "ours_s": round(ours_s, 3),
        "peer": peer if peer_runs else None,
        "peer_s": round(peer_s, 3) if peer_s else None,
        "ratio": round(peer_s / ours_s, 2) if peer_s else None,
        "ours_work_s": round(work_s, 3),
        "ratio_work": round(peer_s / work_s, 2) if peer_s else None,
        "peak_rss_mib": round(max(t.peak_rss_mib for t in our_runs), 1),
        "runs": {
            "ours_s": [round(t.seconds, 3) for t in our_runs],
            "ours_work_s": [t.work_s for t in our_runs],
            "peer_s": [round(t.seconds, 3) for t in peer_runs],
        },
    }


def _show(name: str, result: dict[str, Any]) -> None:
    beside = (
        f"; {result['peer']} {result['peer_s']:.2f} s; ratio {result['ratio']:.2f} "
        f"({result['ratio_work']:.2f} without the start of the interpreter)"
        if result["peer"]
        else "; the peer wasn't run"
    )
    click.echo(f"{name}: {result['ours_s']:.2f} s{beside}; peak of a process {result['peak_rss_mib']:.0f} MiB")


if __name__ == "__main__":
    main()
