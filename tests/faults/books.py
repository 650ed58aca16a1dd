"""A ledger that is written all the time, its copy, and the syncs that follow it: what the fault tests of sync break."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from migrate.config import parse_url
from migrate.packs import pack_dir
from migrate.sandbox import Sandbox
from migrate.sandbox.layout import drop_schemas
from migrate.sandbox.seed import seed
from migrate.sandbox.traffic import Traffic
from migrate.sandbox.workload import load_workload
from migrate.sync.marks import PARTS
from tests.faults.chaos import Chaos
from tests.faults.client import Client
from tests.faults.ledger import query
from tests.ledger_rules import broken_rules, lost_postings

TABLES = ("account", "account_entry", "voucher", "payment_order", "refund")
Row = tuple[Any, ...]


class Books:
    """The payment ledger, and tables that a `Chaos` writes to, in databases of their own on all sources of a sandbox.

    `copied` begins a migration of them; the one begun last is what the other methods are about. `writing` has all of
    it written to meanwhile.
    """

    def __init__(self, sandbox: Sandbox, name: str, folder: Path, rows: int = 600):
        self.sandbox, self.name, self.folder = sandbox, name, folder
        self.target = sandbox.target
        self.journal = folder / f"{name}.jsonl"
        self.journal.touch()
        pack = folder / f"pack_{name}"
        shutil.copytree(pack_dir("payment"), pack)
        for file in ("workload.toml", "ledger.toml"):
            text = (pack / file).read_text("utf-8").replace("payment_{:02d}", f"{name}_{{:02d}}")
            (pack / file).write_text(text.replace("payment.", f"{name}."), "utf-8")
        self.pack = str(pack)
        self.endpoints = [parse_url(s.url, s.name) for s in sandbox.sources]
        seed(self.endpoints, self.pack, rows, force=True)
        self.things = [
            (server, f"{name}_9{i}.thing_{2 * i + j:02}") for i, server in enumerate(sandbox.sources) for j in (0, 1)
        ]
        Chaos.create(self.things)
        self._number = 0
        self.config = folder / "none"

    def drop(self) -> None:
        drop_schemas(load_workload(self.pack).topology, self.endpoints)
        query(self.target, f"DROP DATABASE IF EXISTS {self.name}")

    # -- migrations ---------------------------------------------------------------------------------------------------

    @property
    def migration(self) -> str:
        return self.config.stem

    def copied(self, *, patience_s: int = 60, **urls: str) -> Books:
        """Begins a migration into an empty target, by the servers themselves, and copies. `urls`: how it reaches
        servers (m1, m2, target) from then on."""
        self._number += 1
        self.config = self.folder / f"{self.name}_{self._number}.toml"
        query(self.target, f"DROP DATABASE IF EXISTS {self.name}")
        self._write_config(patience_s, {})
        self.run("schema", "--execute").ok()
        self.run("copy").ok()
        self._write_config(patience_s, urls)
        return self

    def _write_config(self, patience_s: int, urls: dict[str, str]) -> None:
        text = f'[migration]\nname = "{self.config.stem}"\npack = "{self.pack}"\n'
        for server in self.sandbox.sources:
            text += f'[[source]]\nname = "{server.name}"\nurl = "{urls.get(server.name, server.url)}"\n'
        text += f'[target]\nurl = "{urls.get("target", self.target.url)}"\n'
        for table in (*TABLES, "thing"):
            text += (
                f"[[route]]\nschema = '{self.name}_\\d+'\ntable = '{table}_\\d+'\ntarget = \"{self.name}.{table}\"\n"
            )
        text += f"[[ignore]]\nschema = '(?!{self.name}_).*'\n[run]\nworkers = 2\npatience_s = {patience_s}\n"
        self.config.write_text(text, "utf-8")
        self.config.chmod(0o600)

    def client(self, *verb: str, **environment: str) -> Client:
        """Starts `migrate -c CONFIG VERB`."""
        return Client("-c", str(self.config), *verb, environment=environment)

    def run(self, *verb: str, **environment: str) -> Client:
        return self.client(*verb, **environment).ended()

    # -- what it tells of itself --------------------------------------------------------------------------------------

    def told(self) -> dict[str, dict[str, Any]]:
        """What each follower said last, and when by the target's clock (heard)."""
        rows = query(self.target, "SELECT instance, state FROM migrate_meta.sync_status WHERE "
                     f"migration = '{self.migration}'")  # fmt: skip
        return {instance: json.loads(state) for instance, state in rows}

    def batches(self) -> int:
        """Batches that all parts of all instances have committed until now."""
        sql = f"SELECT SUM(seq) FROM migrate_meta.applied WHERE migration = '{self.migration}'"
        return int(query(self.target, sql)[0][0] or 0)

    def follows(self, client: Client, batches: int = 2, timeout_s: float = 60) -> Client:
        """Waits until a sync gets on: that many more batches are in."""
        goal = self.batches() + batches
        return client.until(lambda: self.batches() >= goal, timeout_s)

    def until_near(self, client: Client) -> Client:
        """Waits until every follower of a sync is less than a second behind."""
        names = {s.name for s in self.sandbox.sources}

        def near() -> bool:
            told = self.told()
            return names <= set(told) and all(t["state"] == "following" and t["lag_s"] < 1 for t in told.values())

        return client.until(near)

    def until_calm(self, client: Client) -> Client:
        """Waits until a sync is out of the time in which the copy may have read rows that moved, and near."""
        sql = f"SELECT COUNT(*) FROM migrate_meta.calm WHERE migration = '{self.migration}'"
        client.until(lambda: query(self.target, sql)[0][0] == len(self.sandbox.sources))
        return self.until_near(self.follows(client))

    # -- writers and judges -------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, tps: float = 15, chaos_tps: float = 25) -> Iterator[Chaos]:
        """Money moves, and rows are changed in every way."""
        chaos = Chaos(self.things, chaos_tps, random.randrange(1, 1 << 32))
        traffic = Traffic(self.endpoints, self.pack, tps, journal=self.journal)
        chaos.start()
        try:
            with traffic:
                yield chaos
                report = traffic.stop()
        finally:
            chaos.stop()
        assert not report.in_transit, report
        assert report.posted, report
        assert chaos.did, "chaos did nothing"

    def judge(self) -> None:
        """Now that nobody writes: sync catches up, and both sides hold the same, all that was acknowledged, once."""
        self.run("sync", "--until-caught-up").ok()
        self.clean()

    def clean(self) -> None:
        """Both sides hold the same, by the toolkit's verification and by tests of its own; nothing is held."""
        mine = f"WHERE migration = '{self.migration}'"
        assert not query(self.target, f"SELECT target, reason FROM migrate_meta.hold {mine}")
        sums = f"SELECT target, COUNT(*), COUNT(DISTINCT seq), SUM(inside) FROM migrate_meta.applied {mine}"
        marks = query(self.target, f"{sums} GROUP BY instance, target")
        assert marks == [("", PARTS, 1, 0)] * len(self.sandbox.sources)
        for table in (*TABLES, "thing"):
            self._same(table)
        count, lost = lost_postings(self.endpoints, self.pack, self.journal)
        assert count
        assert not lost, "MySQL lost what it acknowledged"
        assert not broken_rules(self.endpoints, self.pack)
        self._acknowledged_once()
        verified = subprocess.run(
            [sys.executable, "-m", "verify.cli", "-c", str(self.config), "all"],
            check=False,
            capture_output=True,
            text=True,
        )
        assert verified.returncode == 0, verified.stdout + verified.stderr

    def _same(self, table: str) -> None:
        """Each row of each shard is on the target once, and no other."""
        there = Counter(query(self.target, f"SELECT * FROM {self.name}.{table}"))
        here: Counter[Row] = Counter()
        for server in self.sandbox.sources:
            names = query(server, "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA "
                          f"REGEXP '^{self.name}_[0-9]+$' AND TABLE_NAME REGEXP '^{table}_[0-9]+$'")  # fmt: skip
            for schema, name in names:
                here.update(query(server, f"SELECT * FROM {schema}.{name}"))
        assert here, table
        missing, extra = here - there, there - here
        assert not missing, f"{table}: {sum(missing.values())} are missing, {sum(extra.values())} extra: " \
            f"{list(missing)[:3]} {list(extra)[:3]}"  # fmt: skip
        assert not extra, f"{table}: {sum(extra.values())} are extra: {list(extra)[:3]}"

    def _acknowledged_once(self) -> None:
        """Every entry that the writers know to be committed is on the target once, with its money."""
        found = query(self.target, f"SELECT id, account_id, direction, amount FROM {self.name}.account_entry")
        held = {id: (account, amount if way == "C" else -amount) for id, account, way, amount in found}
        assert len(held) == len(found), "entries are on the target twice"
        entries = [e for line in self.journal.read_text().splitlines() for e in json.loads(line)["entries"]]
        lost = [e["id"] for e in entries if held.get(e["id"]) != (e["account"], Decimal(e["change"]))]
        assert not lost, f"{len(lost)} acknowledged entries aren't on the target: {lost[:5]}"
