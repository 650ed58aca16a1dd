"""A seeded ledger obeys its invariants, and goes on to while traffic posts to it; asked of the shards in plain SQL."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from migrate.config import Endpoint, load_config
from migrate.db import Session, connect
from migrate.errors import ConfigError
from migrate.packs import pack_dir
from migrate.sandbox import Sandbox
from migrate.sandbox.layout import drop_schemas, find_layout
from migrate.sandbox.seed import SeedReport, seed
from migrate.sandbox.traffic import Traffic, TrafficReport, run_traffic
from migrate.sandbox.workload import load_workload
from tests.ledger_rules import broken_rules, lost_postings

COMMAND = [sys.executable, "-c", "from migrate.cli import main; main()"]


@pytest.fixture
def sources(servers: Sandbox) -> tuple[Endpoint, ...]:
    return load_config(servers.config).sources


@pytest.fixture
def pack(tmp_path: Path, sources: tuple[Endpoint, ...]) -> Iterator[str]:
    """The payment pack with database names of its own, dropped at the end."""
    folder = tmp_path / "pack"
    shutil.copytree(pack_dir("payment"), folder)
    workload = folder / "workload.toml"
    workload.write_text(workload.read_text("utf-8").replace("payment_{:02d}", "seedtest_{:02d}"), "utf-8")
    yield str(folder)
    drop_schemas(load_workload(str(folder)).topology, sources)


def test_a_seeded_ledger_obeys_every_rule(sources: tuple[Endpoint, ...], pack: str) -> None:
    report: SeedReport = seed(sources, pack, 20_001)
    assert report.rows["payment.account_entry"] == 20_001
    assert (report.schemas, report.shards) == (4, 8)
    assert report.rows["payment.payment_order"] > 1000 and report.rows["payment.refund"] > 300
    assert broken_rules(sources, pack) == {}
    counted: Counter[str] = Counter()
    for place in find_layout(load_workload(pack), sources):
        with connect(place.source) as session:
            for table in report.rows:
                counted[table] += session.value(f"SELECT COUNT(*) FROM {place.table(table)}")
            assert session.value(f"SELECT COUNT(*) FROM {place.table('payment.account')} WHERE name LIKE '%%𠮷%%'") > 0
    assert dict(counted) == report.rows


@pytest.mark.parametrize(
    ("table", "change", "rules"),
    [
        ("account", "UPDATE {} SET balance = balance + 0.0001 LIMIT 1", {"balance", "last"}),
        ("account_entry", "DELETE FROM {} WHERE seq = 2 LIMIT 1", {"sequence", "debit = credit", "legs", "balance"}),
        ("account_entry", "UPDATE {} SET amount = amount + 1 WHERE seq = 1 LIMIT 1", {"step", "debit = credit"}),
        ("voucher", "DELETE FROM {} WHERE kind = 'PAY' LIMIT 1", {"orphans", "document"}),
        ("refund", "UPDATE {} SET amount = amount + 1000 LIMIT 1", {"refunds"}),
    ],
)
def test_the_rules_find_what_is_broken(
    sources: tuple[Endpoint, ...], pack: str, table: str, change: str, rules: set[str]
) -> None:
    seed(sources, pack, 1000)
    place = find_layout(load_workload(pack), sources)[1]
    with connect(place.source) as session:
        assert session.execute(change.format(place.table(f"payment.{table}"))) == 1
    assert rules <= set(broken_rules(sources, pack))


def test_the_same_numbers_make_the_same_ledger(sources: tuple[Endpoint, ...], pack: str) -> None:
    def checksums() -> list[Any]:
        found = []
        for place in find_layout(load_workload(pack), sources):
            with connect(place.source) as session:
                tables = ", ".join(place.table(t) for t in load_workload(pack).columns)
                found += session.query(f"CHECKSUM TABLE {tables}")
        return found

    seed(sources, pack, 4000)
    first = checksums()
    seed(sources, pack, 4000, force=True)
    assert checksums() == first
    seed(sources, pack, 4000, seed=2, force=True)
    assert checksums() != first


def test_seeding_twice_is_refused_without_force(sources: tuple[Endpoint, ...], pack: str) -> None:
    seed(sources, pack, 100)
    with pytest.raises(ConfigError, match=r"m1 already holds seedtest_\d\d: --force"):
        seed(sources, pack, 100)
    assert broken_rules(sources, pack) == {}


def test_totals_and_skew_shape_the_ledger(sources: tuple[Endpoint, ...], pack: str) -> None:
    report = seed(sources, pack, 10_000, schemas=5, tables=12, skew=0.9)
    assert (report.schemas, report.shards) == (5, 12)
    layout = find_layout(load_workload(pack), sources)
    assert sorted(Counter(p.schema for p in layout).values()) == [2, 2, 2, 3, 3]
    assert sorted(Counter(p.source.name for p in layout).values()) in ([5, 7], [6, 6])
    with connect(layout[0].source) as session:
        hot = session.value(f"SELECT COUNT(*) FROM {layout[0].table('payment.account_entry')}")
    assert 8_800 < hot < 9_200
    assert broken_rules(sources, pack) == {}


def test_traffic_keeps_the_ledger_whole(sources: tuple[Endpoint, ...], pack: str, tmp_path: Path) -> None:
    seed(sources, pack, 2000)
    journal = tmp_path / "journal.jsonl"
    report: TrafficReport = run_traffic(sources, pack, 200, 4, workers=4, journal=journal)
    assert (report.failed, report.in_transit) == (0, ())
    assert 400 < report.posted <= 820 and report.p50_ms > 0
    assert broken_rules(sources, pack) == {}
    assert lost_postings(sources, pack, journal) == (report.posted, [])
    assert {json.loads(line)["action"] for line in journal.open()} == {"TRANSFER", "PAY", "REFUND"}


def test_killed_connections_lose_nothing(sources: tuple[Endpoint, ...], pack: str, tmp_path: Path) -> None:
    seed(sources, pack, 2000)
    journal = tmp_path / "journal.jsonl"
    with Traffic(sources, pack, 300, workers=4, journal=journal) as traffic:
        for _ in range(15):
            traffic.wait(0.2)
            for source in sources:
                with connect(source) as session:
                    for row in session.query("SHOW PROCESSLIST"):
                        if row[0] != session.connection_id and row[4] != "Binlog Dump":
                            kill_quietly(session, row[0])
        deadline = time.monotonic() + 60
        while traffic.report().posted <= 100 and time.monotonic() < deadline:  # a busy machine may need longer
            traffic.wait(0.2)
        report = traffic.stop()
    assert report.errors and report.posted > 100 and report.in_transit == ()
    assert broken_rules(sources, pack) == {}
    assert lost_postings(sources, pack, journal) == (report.posted, [])


def kill_quietly(session: Session, id: int) -> None:
    try:
        session.execute(f"KILL {id}")
    except Exception as error:
        assert "Unknown thread" in str(error)


def test_a_crashed_server_loses_nothing(
    servers: Sandbox, sources: tuple[Endpoint, ...], pack: str, tmp_path: Path
) -> None:
    seed(sources, pack, 2000)
    journal = tmp_path / "journal.jsonl"
    with Traffic(sources, pack, 300, workers=4, journal=journal) as traffic:
        traffic.wait(1)
        servers.kill("m1")
        traffic.wait(1)
        before = traffic.report().posted
        servers.restart("m1")
        traffic.wait(2)
        report = traffic.stop()
    assert report.errors and report.posted > before and report.in_transit == ()
    assert broken_rules(sources, pack) == {}
    assert lost_postings(sources, pack, journal) == (report.posted, [])


def test_what_could_not_be_finished_is_named(servers: Sandbox, sources: tuple[Endpoint, ...], pack: str) -> None:
    seed(sources, pack, 2000)
    with Traffic(sources, pack, 300, workers=16) as traffic:  # some of which are between two shards
        traffic.wait(0.5)
        servers.kill("m1")
        traffic.wait(1)
        report = traffic.stop(settle_s=0.5)
    servers.restart("m1")
    assert len(report.in_transit) > 0
    unequal = {voucher for voucher, _ in broken_rules(sources, pack).get("debit = credit", [])}
    assert unequal and unequal <= set(report.in_transit)


def start_traffic(servers: Sandbox, pack: str, folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """The real command, posting already."""
    config = folder / "config.toml"
    shutil.copy(servers.config, config)
    process = subprocess.Popen(
        [*COMMAND, "-c", str(config), "sandbox", "traffic", "--pack", pack, "--tps", "400", *options],
        stdout=subprocess.PIPE,
    )
    journal = folder / "traffic.jsonl"
    deadline = time.monotonic() + 30
    while not (journal.exists() and journal.stat().st_size > 10_000):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("options", "code"), [((), 0), (("--seconds", "600"), 130)])
def test_a_stop_by_signal_leaves_no_posting_half_in(
    servers: Sandbox, sources: tuple[Endpoint, ...], pack: str, tmp_path: Path, number: int, options: tuple[str, ...],
    code: int,
) -> None:  # fmt: skip
    seed(sources, pack, 1000)
    process = start_traffic(servers, pack, tmp_path, "--json", *options)
    process.send_signal(number)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == code
    report = json.loads(output)
    assert report["posted"] > 0 and report["in_transit"] == []
    assert broken_rules(sources, pack) == {}
    assert lost_postings(sources, pack, tmp_path / "traffic.jsonl") == (report["posted"], [])


def test_traffic_in_the_background_stops_when_asked_to(
    servers: Sandbox, sources: tuple[Endpoint, ...], pack: str, tmp_path: Path
) -> None:
    seed(sources, pack, 1000)
    config = tmp_path / "config.toml"
    shutil.copy(servers.config, config)
    command = [*COMMAND, "-c", str(config), "sandbox", "traffic", "--pack", pack, "--background", "--json"]
    told = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    writer = psutil.Process(told["pid"])
    try:
        journal, deadline = Path(told["journal"]), time.monotonic() + 30
        while not (journal.exists() and journal.stat().st_size > 1000):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        writer.terminate()
        writer.wait(20)
    finally:
        with suppress(psutil.NoSuchProcess):
            writer.kill()
    report = json.loads(Path(told["log"]).read_text())
    assert report["in_transit"] == [] and broken_rules(sources, pack) == {}
    assert lost_postings(sources, pack, journal) == (report["posted"], [])


def test_a_kill_loses_nothing_acknowledged(
    servers: Sandbox, sources: tuple[Endpoint, ...], pack: str, tmp_path: Path
) -> None:
    seed(sources, pack, 1000)
    process = start_traffic(servers, pack, tmp_path)
    process.kill()
    process.communicate()
    time.sleep(0.5)  # the server may still be at the last statement that it was sent
    count, lost = lost_postings(sources, pack, tmp_path / "traffic.jsonl")
    assert count > 0 and lost == []
    in_transit = {"debit = credit", "legs", "orphans", "document"}
    assert set(broken_rules(sources, pack)) <= in_transit


@pytest.mark.parametrize("verb", ["seed", "traffic"])
def test_a_server_elsewhere_is_never_touched(tmp_path: Path, verb: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[migration]\nname = "x"\npack = "payment"\n[[source]]\nname = "prod"\nurl = "mysql://u@db.example.com"\n'
        '[target]\nurl = "mysql://u@127.0.0.1:1"\n'
    )
    done = subprocess.run([*COMMAND, "-c", str(config), "sandbox", verb], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "prod is on db.example.com" in done.stderr


def test_commands_say_what_is_missing(servers: Sandbox, sources: tuple[Endpoint, ...], pack: str) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, "-c", str(servers.config), "sandbox", *arguments, "--pack", pack]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    missing = run("traffic", "--seconds", "1")
    assert missing.returncode == 2 and "run the seed command first" in missing.stderr
    made = run("seed", "--rows", "500", "--json")
    assert made.returncode == 0 and json.loads(made.stdout)["rows"]["payment.account_entry"] == 500
    again = run("seed", "--rows", "500")
    assert again.returncode == 2 and "--force" in again.stderr
    assert not re.search(r"mysql://", made.stderr + again.stderr + missing.stderr)
    posted = run("traffic", "--tps", "50", "--seconds", "1")
    assert posted.returncode == 0 and "posted 5" in posted.stdout
