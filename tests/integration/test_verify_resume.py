"""Ranges: proven one by one, kept, and gone on with after kill -9, to the same result as an undisturbed run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from migrate.config import Config, Verify, load_config, parse_url
from migrate.db import connect
from migrate.sandbox import Sandbox
from tests.killing import KILLED, At, Killing
from tests.verify_lab import Lab
from verify.prove import plan
from verify.readers import Readers
from verify.result import Result
from verify.run import verify_checksum, verify_rows
from verify.tables import load

_SAVES = "UPDATE migrate_meta.verify_range"


@pytest.fixture(autouse=True)
def ranges_of_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verify.prove._SHARD_ROWS", 1)


@pytest.fixture
def lab(servers: Sandbox, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(servers.sources, servers.target, tmp_path, "vr")
    yield lab
    with connect(parse_url(servers.target.url, "target")) as session:
        session.execute("CREATE DATABASE IF NOT EXISTS migrate_meta")
        session.execute("DROP TABLE IF EXISTS migrate_meta.verify_range")
    lab.drop()


def small_ranges(lab: Lab, rows: int = 30) -> Config:
    """The lab's config, with ranges of so many rows; statistics are made now, for the plan goes by them."""
    for number, source in enumerate(lab.sources):
        for table in lab.tables:
            lab.run(source, f"ANALYZE TABLE $.{table}_{number}")
    path = lab.config().path
    text = path.read_text()
    path.write_text(text + f"[verify]\nrange_rows = {rows}\n")
    return load_config(path)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("BIGINT", list(range(-150, 150))),
        ("BIGINT UNSIGNED", [2**64 - 1 - n for n in range(300)]),
        ("DECIMAL(20,8)", [f"{n}.00000001" for n in range(-150, 150)] + ["0.00000000", "0.00000002"]),
        ("DATETIME(3)", [f"2026-01-01 0{n // 60}:{n % 60:02d}:00.{n:03d}" for n in range(300)]),
        ("DATE", [f"2026-{1 + n // 28:02d}-{1 + n % 28:02d}" for n in range(300)]),
        ("VARBINARY(8)", [f"{n:04d}".encode() for n in range(300)] + [b"", b"\0", b"\xff"]),
        ("VARCHAR(20)", [f"k{n:04d}" for n in range(300)]),
    ],
)
def test_every_row_is_in_one_range_of_both_sides(lab: Lab, column: str, values: list[Any]) -> None:
    lab.table("t", f"k {column} NOT NULL PRIMARY KEY, v INT", [(v, n) for n, v in enumerate(values)])
    config = small_ranges(lab)
    with Readers(config) as readers:
        parts = plan(readers, load(readers))
    assert (len(parts) > 4) == (column != "VARCHAR(20)")
    result = verify_checksum(config, strong=True)
    assert result.ok, result.text()
    assert result.tables[0].target_rows == len(values)
    lab.on_target("UPDATE $.t SET v = -1 WHERE v IN (0, 7, 123)")
    assert len(verify_rows(config).mismatches) == 3


def test_ranges_of_interleaved_keys(lab: Lab) -> None:
    lab.table("t", "id BIGINT NOT NULL PRIMARY KEY, v INT", [])
    for number, source in enumerate(lab.sources):
        lab.insert(source, f"t_{number}", [(n, number) for n in range(-20, 130)])
    lab.insert(lab.target, "t", [(2 * n + number, number) for n in range(-20, 130) for number in (0, 1)])
    small_ranges(lab)
    config = replace(lab.config(extra='key_collision = "interleave"'), verify=Verify(range_rows=30))
    with Readers(config) as readers:
        assert len(plan(readers, load(readers))) > 4
    assert verify_checksum(config).ok
    lab.on_target("DELETE FROM $.t WHERE id IN (7, 100, 203)")
    assert [m.shard and m.shard[-3:] for m in verify_rows(config).mismatches] == ["t_1", "t_0", "t_1"]


@pytest.fixture(scope="module")
def killing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killing]:
    with Killing(tmp_path_factory.mktemp("killing"), "import verify.prove; verify.prove._SHARD_ROWS = 1") as killing:
        yield killing


def run_killed(killing: Killing, config: Config, at: At) -> None:
    assert killing.run(["-c", str(config.path), "checksum"], at).code == KILLED


def run(config: Config, resume: bool = True, verify: Callable[..., Result] = verify_checksum) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(verify(config, resume=resume).document()))
    return document


def same(document: dict[str, Any]) -> dict[str, Any]:
    """What two runs of the same data must have in common."""
    return {k: v for k, v in document.items() if k not in ("seconds", "cuts", "notes")}


@pytest.mark.parametrize(
    ("at", "proven"),
    [
        pytest.param(At("INSERT INTO migrate_meta.verify_range"), 0, id="before the plan"),
        pytest.param(At(_SAVES), 0, id="before the first range"),
        pytest.param(At(_SAVES, 2), 1, id="after the first range"),
        pytest.param(At(_SAVES, 7), 6, id="after the sixth range"),
        pytest.param(At("DELETE FROM migrate_meta.verify_range .* sweep", 2), -1, id="at the end"),
    ],
)
def test_a_killed_run_is_gone_on_with(lab: Lab, killing: Killing, at: At, proven: int) -> None:
    lab.table("t", "id BIGINT NOT NULL PRIMARY KEY, v INT", [(n, n % 7) for n in range(300)])
    config = small_ranges(lab)
    undisturbed = run(config, resume=False)
    assert undisturbed["ok"]
    run_killed(killing, config, at)
    again = run(config)
    assert same(again) == same(undisturbed)
    kept = [note.split(" ")[:3:2] for note in again["notes"] if "were proven by a run that didn't end" in note]
    ranges = kept[0][1] if kept else ""
    assert kept == ([[ranges if proven < 0 else str(proven), ranges]] if proven else [])
    assert len(again["cuts"]) == (2 if proven > 0 else 1)
    assert not any("didn't end" in note for note in run(config)["notes"])  # an ended run leaves nothing


def test_what_was_unequal_is_proven_anew(lab: Lab, killing: Killing) -> None:
    lab.table("t", "id BIGINT NOT NULL PRIMARY KEY, v INT", [(n, n % 7) for n in range(300)])
    config = small_ranges(lab)
    lab.on_target("UPDATE $.t SET v = 9 WHERE id = 3")
    run_killed(killing, config, At(_SAVES, 8))  # of nine ranges that were proven by then, the unequal one isn't kept
    lab.on_target("UPDATE $.t SET v = 3 WHERE id = 3")
    again = run(config)
    assert again["ok"]
    assert any(note.startswith("7 of") for note in again["notes"])


def test_other_tables_options_and_shapes_are_another_run(lab: Lab, killing: Killing) -> None:
    lab.table("t", "id BIGINT NOT NULL PRIMARY KEY, v INT", [(n, n % 7) for n in range(300)])
    config = small_ranges(lab)
    run_killed(killing, config, At(_SAVES, 6))
    assert not run(config, True, partial(verify_checksum, strong=True))["notes"]
    lab.on_target("ALTER TABLE $.t ADD INDEX (v)")
    assert not run(config, resume=False)["notes"]


def test_an_account_that_may_not_write_verifies_without_keeping(lab: Lab) -> None:
    lab.table("t", "id BIGINT NOT NULL PRIMARY KEY, v INT", [(n, n % 7) for n in range(30)])
    config = small_ranges(lab)
    lab.on_target(
        "DROP USER IF EXISTS 'auditor'", "CREATE USER 'auditor' IDENTIFIED BY 'x'", "GRANT SELECT ON *.* TO 'auditor'"
    )
    target = parse_url(f"mysql://auditor:x@127.0.0.1:{lab.target.port}", "target")
    try:
        result = verify_checksum(replace(config, target=target), resume=True)
    finally:
        lab.on_target("DROP USER 'auditor'")
    assert result.ok
    assert any("a killed run can't be gone on with" in note for note in result.notes)
