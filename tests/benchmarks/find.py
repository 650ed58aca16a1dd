"""python -m tests.benchmarks.find: what it costs to find 1, 100 and 10,000 bad rows among many.

    python -m tests.benchmarks.find --rows 500000 --rows 10000000 --json

One MySQL 5.6 with the payment ledger in 8 shards, copied once for each size. Then `verify checksum` and `verify all` of
equal sides, and `verify all` with bad entries on the target: missing, extra, 0.0001 more, and pairs with swapped
balances, under which all totals stay right. A run counts only if it named exactly the rows that were planted, each with
its kind; its time includes the two seconds after which, without sync, what differs is read again. With several sizes:
what a million rows more cost, and whether memory grows with them.
"""

from __future__ import annotations

import json
import signal
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from migrate.config import parse_url
from migrate.db import Session, connect
from tests.benchmarks.arena import Arena, arena
from tests.benchmarks.stopwatch import Timing, run

ENTRY = "payment.account_entry"
TABLES = ("account", "account_entry", "voucher", "payment_order", "refund")
_BATCH = 1000
_GROWTH_MIB = 100  # of the largest process, from the smallest size to the largest
_EXTRA = (
    "SELECT -id, account_id, -seq, voucher_id, direction, amount, currency, balance_before, balance_after, "
    "CONCAT('extra ', id), summary, created_at"
)


@dataclass(frozen=True)
class Measured:
    """What a command took, the median of its runs: wall clock of the whole process, the seconds that it says its work
    took, the processor time of both servers, which other work on the machine hardly changes, and the memory of its
    largest process."""

    command: str
    rows: int
    bad: int
    seconds: float
    work_s: float
    servers_cpu_s: float
    peak_rss_mib: float

    @property
    def per_million_s(self) -> float:
        return self.work_s / self.rows * 1e6


def _config(place: Arena) -> Path:
    """A config that routes all tables of the ledger."""
    path = place.root / "whole.toml"
    text = f'[migration]\nname = "whole"\npack = "payment"\n[[source]]\nname = "m1"\nurl = "{place.source.url}"\n'
    text += f'[target]\nurl = "{place.target.url}"\n[run]\nworkers = {place.workers}\n'
    for table in TABLES:
        text += f"[[route]]\nschema = 'payment_\\d+'\ntable = '{table}_\\d+'\ntarget = \"payment.{table}\"\n"
    path.write_text(text)
    path.chmod(0o600)
    return path


def _batches(keys: Sequence[int]) -> Iterator[str]:
    for start in range(0, len(keys), _BATCH):
        yield ", ".join(map(str, keys[start : start + _BATCH]))


class Plants:
    """Bad entries on the target, spread over the table; the rows as they were are kept beside it."""

    def __init__(self, session: Session, rows: int, most: int):
        self._session = session
        session.execute("CREATE DATABASE IF NOT EXISTS kept")
        session.execute(f"CREATE TABLE kept.entry LIKE {ENTRY}")
        self._spread = max(1, rows // (2 * most))
        self._extra: list[int] = []

    def plant(self, bad: int) -> dict[int, str]:
        """Makes so many rows bad; their keys and kinds."""
        share = bad // 4 // 2 * 2  # swaps come in pairs
        keys = [
            int(key)
            for (key,) in self._session.query(
                f"SELECT id FROM {ENTRY} WHERE CRC32(id) % {self._spread} = 0 ORDER BY CRC32(id), id LIMIT {2 * bad}"
            )
        ]
        missing, self._extra, swapped = keys[:share], keys[share : 2 * share], keys[2 * share : 3 * share]
        different = keys[3 * share : bad]
        if len(keys) < bad:
            raise AssertionError(f"{len(keys)} rows to choose from, wanted {bad}")
        for listed in _batches([*missing, *swapped, *different]):
            self._session.execute(f"INSERT INTO kept.entry SELECT * FROM {ENTRY} WHERE id IN ({listed})")
        for listed in _batches(missing):
            self._session.execute(f"DELETE FROM {ENTRY} WHERE id IN ({listed})")
        for listed in _batches(self._extra):
            self._session.execute(f"INSERT INTO {ENTRY} {_EXTRA} FROM {ENTRY} WHERE id IN ({listed})")
        for listed in _batches(different):
            self._session.execute(f"UPDATE {ENTRY} SET amount = amount + 0.0001 WHERE id IN ({listed})")
        swapped = self._swap(swapped)
        return {
            **dict.fromkeys(missing, "missing"),
            **{-key: "extra" for key in self._extra},
            **dict.fromkeys((*different, *swapped), "different"),
        }

    def _swap(self, keys: Sequence[int]) -> list[int]:
        """Swaps the balances of pairs of those rows: of the largest with the smallest, and so on inwards, but for
        pairs whose balances are equal. The keys of those that were."""
        rows: list[tuple[Any, ...]] = []
        for listed in _batches(keys):
            rows += self._session.query(f"SELECT id, balance_after FROM {ENTRY} WHERE id IN ({listed})")
        rows.sort(key=lambda row: (row[1], row[0]))
        swapped = []
        half = len(rows) // 2
        with self._session.transaction():
            for one, other in zip(rows[:half], reversed(rows[half:]), strict=True):
                if one[1] == other[1]:
                    continue
                for key, balance in ((one[0], other[1]), (other[0], one[1])):
                    self._session.execute(f"UPDATE {ENTRY} SET balance_after = %s WHERE id = %s", (balance, key))
                    swapped.append(int(key))
        return swapped

    def restore(self) -> None:
        for listed in _batches([-key for key in self._extra]):
            self._session.execute(f"DELETE FROM {ENTRY} WHERE id IN ({listed})")
        kept = [int(key) for (key,) in self._session.query("SELECT id FROM kept.entry")]
        for listed in _batches(kept):
            self._session.execute(f"REPLACE INTO {ENTRY} SELECT * FROM kept.entry WHERE id IN ({listed})")
        self._session.execute("TRUNCATE TABLE kept.entry")


def _verify(config: Path, verb: str, planted: dict[int, str]) -> Timing:
    """Runs it. AssertionError if it didn't name exactly what was planted."""
    command = [sys.executable, "-m", "verify.cli", "-c", str(config), verb, "--anew", "--json"]
    if verb == "all":
        command += ["--limit", str(max(10_000, 2 * len(planted)))]
    timing = run(command, expected=1 if planted else 0)
    document = json.loads(timing.output)
    found = {
        int(m["key"]["id"]): m["kind"] for m in document["mismatches"] if m["target"] == ENTRY and "id" in m["key"]
    }
    if found != planted:
        wrong = sorted(found.items() ^ planted.items())
        raise AssertionError(f"{len(found)} rows named, {len(planted)} planted; among what differs: {wrong[:5]}")
    return timing


def _measure(rows: int, bads: Sequence[int], workers: int, runs: int) -> Iterator[Measured]:
    with arena(rows, workers, unique=True) as place:
        config = _config(place)
        made = sum(place.seeded.rows.values())
        _tell(rows, f"seeded in {place.seeded.seconds:.0f} s, {made:,} rows with those of all tables")
        command = [sys.executable, "-m", "migrate.cli", "-c", str(config)]
        run([*command, "schema", "--execute"])
        copied = run([*command, "copy"])
        _tell(rows, f"copied in {copied.seconds:.0f} s  {copied.peak_rss_mib:.0f} MiB")
        if place.target_rows() != rows:
            raise AssertionError(f"{place.target_rows()} entries on the target, expected {rows}")

        def measured(verb: str, planted: dict[int, str]) -> Measured:
            timings, busy = [], []
            for _ in range(runs):
                before = place.servers_cpu_s()
                timings.append(_verify(config, verb, planted))
                busy.append(place.servers_cpu_s() - before)
            return Measured(
                verb,
                rows,
                len(planted),
                round(statistics.median(t.seconds for t in timings), 3),
                round(statistics.median(t.work_s or t.seconds for t in timings), 3),
                round(statistics.median(busy), 3),
                round(max(t.peak_rss_mib for t in timings), 1),
            )

        yield measured("checksum", {})
        yield measured("all", {})
        with connect(parse_url(place.target.url, "target")) as session:
            plants = Plants(session, rows, max(bads))
            for bad in bads:
                planted = plants.plant(bad)
                yield measured("all", planted)
                plants.restore()
        _verify(config, "checksum", {})  # what was restored is clean


def _tell(rows: int, text: str) -> None:
    click.echo(f"{rows:>12,} rows  {text}", err=True)


def _linear(found: Sequence[Measured], sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Of each command at the smallest and the largest size: what a million rows cost, and what a million more did."""
    told = []
    for small in (m for m in found if m.rows == min(sizes)):
        large = next(m for m in found if (m.command, m.rows) == (small.command, max(sizes)) and _near(m, small))
        millions = (large.rows - small.rows) / 1e6
        more_s = (large.work_s - small.work_s) / millions
        more_cpu_s = (large.servers_cpu_s - small.servers_cpu_s) / millions
        told.append({
            "command": small.command, "bad": small.bad, "s_per_million_small": round(small.per_million_s, 3),
            "s_per_million_large": round(large.per_million_s, 3), "s_per_million_more": round(more_s, 3),
            "servers_cpu_s_per_million_small": round(small.servers_cpu_s / small.rows * 1e6, 3),
            "servers_cpu_s_per_million_more": round(more_cpu_s, 3),
            "peak_growth_mib": round(large.peak_rss_mib - small.peak_rss_mib, 1),
        })  # fmt: skip
    return told


def _near(one: Measured, other: Measured) -> bool:
    """Whether the two had as many bad rows, but for a few pairs that had one balance already."""
    return abs(one.bad - other.bad) <= max(one.bad, other.bad) // 50


@click.command()
@click.option("--rows", "sizes", type=int, multiple=True, default=[500_000], show_default=True, help="Entries; again.")
@click.option("--bad", "bads", type=int, multiple=True, default=[1, 100, 10_000], show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--runs", default=1, show_default=True, help="Of each command; the median counts.")
@click.option("--json", "as_json", is_flag=True)
def main(sizes: tuple[int, ...], bads: tuple[int, ...], workers: int, runs: int, as_json: bool) -> None:
    """Plants bad rows among many, and times how long it takes to find them, all of them and nothing else."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a killed run leaves nothing behind
    found: list[Measured] = []
    for rows in sorted(set(sizes)):
        for measured in _measure(rows, bads, workers, runs):
            found.append(measured)
            click.echo(
                f"{rows:>12,} rows  {measured.bad:>6,} bad  {measured.command:<8} {measured.seconds:8.2f} s "
                f"({measured.work_s:.2f} s of work, {measured.per_million_s:.2f} s a million rows; "
                f"{measured.servers_cpu_s:.1f} s of the servers' processor time)  "
                f"{measured.peak_rss_mib:6.0f} MiB",
                err=as_json,
            )
    linear = _linear(found, sizes) if len(set(sizes)) > 1 else []
    for each in linear:
        click.echo(
            f"{each['command']} with {each['bad']:,} bad: {each['s_per_million_small']} s a million rows at the "
            f"smallest size, {each['s_per_million_large']} s at the largest; each million more costs "
            f"{each['s_per_million_more']} s; of the servers' processor time "
            f"{each['servers_cpu_s_per_million_small']} s a million at the smallest size, and each more "
            f"{each['servers_cpu_s_per_million_more']} s; "
            f"memory +{each['peak_growth_mib']} MiB",
            err=as_json,
        )
    if as_json:
        click.echo(json.dumps({"measured": [asdict(m) for m in found], "linear": linear}, indent=1))
    if grown := [each for each in linear if each["peak_growth_mib"] > _GROWTH_MIB]:
        raise click.ClickException(f"memory grows with the rows: {grown}")


if __name__ == "__main__":
    main()
