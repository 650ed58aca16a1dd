"""A pack under names of the test's own: seeded on real servers, migrated, written to meanwhile, and broken."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from migrate.config import Config, load_config, parse_url
from migrate.copy.copier import copy
from migrate.db import connect
from migrate.packs import pack_dir
from migrate.preflight import run_preflight
from migrate.sandbox import Server
from migrate.sandbox.layout import Place, drop_schemas, find_layout
from migrate.sandbox.seed import SeedReport, seed
from migrate.sandbox.traffic import Traffic, TrafficReport
from migrate.sandbox.workload import load_workload
from migrate.schema import create_schema
from migrate.source import read_routing
from migrate.sync.status import read_sync_status
from verify.invariants import InvariantResult
from verify.result import Result
from verify.run import verify_all, verify_balances

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Fault:
    """What is done to both sides. `pick` gives the values that its statements, and what is expected, name."""

    name: str
    pick: str
    statements: tuple[str, ...]
    rule: str
    shown: dict[str, str] | tuple[dict[str, str], ...]
    amount: str | None
    currency: str | None = None
    also: tuple[str, ...] | None = None  # all other rules that it breaks; whichever if None


class PackLab:
    """The pack's ledger on those sources, in databases `NAME_..`, and its migration to `NAME` on the target."""

    def __init__(self, pack: str, name: str, sources: Sequence[Server], target: Server, folder: Path):
        self.name, self.target, self.journal = name, target, folder / "traffic.jsonl"
        shutil.copytree(pack_dir(pack), folder / name)
        for path in (folder / name).glob("*.toml"):
            text = path.read_text("utf-8")
            text = re.sub(rf"(schema = ['\"]){pack}_", rf"\1{name}_", text.replace(f"{pack}.", f"{name}."))
            path.write_text(text, "utf-8")
        self.pack = str(folder / name)
        self.workload = load_workload(self.pack)
        self.tables = [table.split(".")[1] for table in self.workload.columns]
        self.endpoints = [parse_url(s.url, f"m{i}") for i, s in enumerate(sources, 1)]
        path = folder / f"{name}.toml"
        text = f'[migration]\nname = "{name}"\npack = "{self.pack}"\n'
        text += "".join(f'[[source]]\nname = "m{i}"\nurl = "{s.url}"\n' for i, s in enumerate(sources, 1))
        text += f"[target]\nurl = \"{target.url}\"\n[run]\nworkers = 2\n[[ignore]]\nschema = '(?!{name}_).*'\n"
        path.write_text(text + (folder / name / "routes.toml").read_text("utf-8"), "utf-8")
        path.chmod(0o600)
        self.config: Config = load_config(path)
        self.drop()

    def drop(self) -> None:
        for topology in self.workload.topologies.values():
            drop_schemas(topology, self.endpoints)
        self.at_target(f"DROP DATABASE IF EXISTS {self.name}")

    # -- the migration ------------------------------------------------------------------------------------------------

    def migrated(self, rows: int) -> SeedReport:
        """Seed, check, schema and copy."""
        made = seed(self.endpoints, self.pack, rows)
        report = run_preflight(self.config)
        assert report.ok, [check for check in report.checks if check.status == "failed"]
        with connect(self.config.target) as session:
            create_schema(session, read_routing(self.config).checked(), True)
        copy(self.config, 2)
        return made

    def command(self, *verb: str) -> subprocess.Popen[str]:
        """Starts `migrate VERB`."""
        words = [sys.executable, "-m", "migrate.cli", "-c", str(self.config.path), *verb]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def caught_up(self) -> None:
        with self.command("sync", "--until-caught-up") as process:
            told = process.communicate(timeout=60)[0]
        assert process.returncode == 0, told

    @contextmanager
    def posting(self, tps: float, workers: int = 4) -> Iterator[Traffic]:
        """Traffic, and at the end its report: nothing failed and nothing is half in."""
        traffic = Traffic(self.endpoints, self.pack, tps, workers=workers, journal=self.journal)
        with traffic:
            yield traffic
            report: TrafficReport = traffic.stop()
        assert (report.failed, report.in_transit) == (0, ()), report
        assert report.posted > 0

    @contextmanager
    def syncing(self) -> Iterator[None]:
        """`migrate sync`, less than a second behind at first."""
        names, began = {s.name for s in self.config.sources}, time.time()
        with self.command("sync") as process:
            try:
                deadline = time.monotonic() + 60
                while not read_sync_status(self.config, shards=False).caught_up(names, began):
                    assert process.poll() is None and time.monotonic() < deadline, "sync doesn't get level"
                    time.sleep(0.1)
                yield
            finally:
                process.terminate()
                process.communicate(timeout=60)

    def followed(self, tps: float, waits_s: tuple[float, float], flows: set[tuple[str, str]]) -> None:
        """Traffic is followed, with a look at the balances between the waits, and stays clean; `flows` are among the
        actions and statuses that it went through."""
        with self.syncing(), self.posting(tps) as traffic:
            traffic.wait(waits_s[0])
            live = self.verify_settled()
            traffic.wait(waits_s[1])
        assert not [i.name for i in live.invariants or () if not i.ok], live.text()
        assert flows <= {(r["action"], r["status"]) for r in map(json.loads, self.journal.open())}
        self.caught_up()
        result = verify_all(self.config)
        assert result.ok, result.text()
        assert not any(i.offenders for i in result.invariants or ()), result.text()

    def verify_settled(self) -> Result:
        """Balances while both sides are written: what is under way is told as such."""
        time.sleep(0.5)
        return verify_balances(self.config, live=True)

    # -- faults -------------------------------------------------------------------------------------------------------

    def at_target(self, *statements: str) -> Rows:
        with self.target.connect(charset="utf8mb4") as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement.replace("$", self.name))
            return list(cursor.fetchall())

    def on_shards(self, sql: str) -> Rows:
        """Runs it on every shard set that has its tables; {TABLE} stands for the shard of that table. The rows of
        all."""
        named = next(table for table in self.tables if f"{{{table}}}" in sql)
        return [row for place in self.places(named) for row in self.on_shard(place, sql)]

    def places(self, table: str) -> list[Place]:
        """The shard sets of the table's database."""
        database = self.workload.database_of(f"{self.name}.{table}")
        return [place for place in find_layout(self.workload, self.endpoints) if place.database == database]

    def on_shard(self, place: Place, sql: str) -> Rows:
        names = {table: place.table(f"{self.name}.{table}") for table in self.tables}
        with connect(place.source) as session:
            if sql.lstrip().upper().startswith("SELECT"):
                return session.query(sql.format(**names))
            return [(session.execute(sql.format(**names)),)]

    def wrong(self, *statements: str) -> dict[str, InvariantResult]:
        """The rules that are broken once both sides have been changed so: {TABLE} as on the shards. Undone after."""
        tables = sorted({t for t in self.tables for s in statements if f"{{{t}}}" in s})
        kept = {t: self._kept(t) for t in tables}
        try:
            for statement in statements:
                changed = sum(row[0] for row in self.on_shards(statement))
                assert changed, statement
                self.at_target(statement.format(**{t: f"$.{t}" for t in self.tables}))
            result = verify_balances(self.config)
        finally:
            for table, (target, shards) in kept.items():
                self._restore(table, target, shards)
        assert not result.mismatches, result.text()  # both sides are wrong alike
        return {i.name: i for i in result.invariants or () if i.offenders}

    def judge(self, fault: Fault) -> None:
        """Plants the fault: its rule names it and prices it, on both sides alike."""
        values = self.at_target(fault.pick)[0]
        broken = self.wrong(*(statement.format(*values) for statement in fault.statements))
        assert fault.rule in broken, broken
        found = broken[fault.rule]
        for wanted in fault.shown if isinstance(fault.shown, tuple) else (fault.shown,):
            shown = {name: text.format(*values) for name, text in wanted.items()}
            assert any(shown.items() <= row.items() for row in found.rows), (shown, found.rows)
        if fault.amount is not None:
            assert sum(found.target.prices.values()) == Decimal(fault.amount.format(*values))
        if fault.currency is not None:
            assert set(found.target.prices) == {fault.currency.format(*values)}
        if fault.also is not None:
            assert set(broken) == {fault.rule, *fault.also}, broken
        if found.source is not None:
            assert found.source.count == found.target.count

    def _kept(self, table: str) -> tuple[Rows, list[tuple[Place, Rows]]]:
        places = self.places(table)
        return self.at_target(f"SELECT * FROM $.{table}"), [
            (place, self.on_shard(place, f"SELECT * FROM {{{table}}}")) for place in places
        ]

    def _restore(self, table: str, target: Rows, shards: list[tuple[Place, Rows]]) -> None:
        with self.target.connect(charset="utf8mb4") as connection, connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {self.name}.{table}")
            cursor.execute("SET time_zone = '+00:00'")
            cursor.executemany(f"INSERT INTO {self.name}.{table} VALUES ({', '.join(['%s'] * len(target[0]))})", target)
        for place, rows in shards:
            with connect(place.source) as session, session.transaction():
                name = place.table(f"{self.name}.{table}")
                session.execute(f"DELETE FROM {name}")
                for at in range(0, len(rows), 500):
                    part = rows[at : at + 500]
                    marks = ", ".join([f"({', '.join(['%s'] * len(part[0]))})"] * len(part))
                    session.execute(f"INSERT INTO {name} VALUES {marks}", [value for row in part for value in row])
