"""The evidence in migrate_meta and its files: one chain, and every way of tampering with it is told and named."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from migrate.config import Config
from migrate.sandbox import Sandbox
from tests.verify_lab import Lab
from verify.chain import check
from verify.evidence import folder_of, keep, loaded, mismatches_of
from verify.result import Result
from verify.run import verify_rows

EVIDENCE = "migrate_meta.evidence"
TEXT = "migrate_meta.evidence_text"


@pytest.fixture(scope="module")
def lab(servers: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(servers.sources, servers.target, tmp_path_factory.mktemp("evidence"), "vevi")
    lab.table("t", "id INT NOT NULL PRIMARY KEY, v DECIMAL(20,4) NOT NULL", [(n, n) for n in range(100)])
    lab.on_target("UPDATE $.t SET v = 0.5 WHERE id IN (7, 8)")
    yield lab
    lab.drop()


@pytest.fixture(scope="module")
def result(lab: Lab) -> Result:
    return verify_rows(lab.config())


@pytest.fixture
def chained(lab: Lab, result: Result) -> Iterator[Config]:
    """A migration with four records."""
    path = lab.folder / f"chain{len(list(lab.folder.iterdir()))}.toml"
    text = lab.config().path.read_text("utf-8").replace(f'name = "{lab.schema}"', f'name = "{path.stem}"', 1)
    path.write_text(text, "utf-8")
    from migrate.config import load_config

    config = load_config(path)
    for _ in range(4):
        keep(config, result)
    yield config
    lab.on_target(f"DELETE FROM {EVIDENCE} WHERE migration = '{config.name}'")


def test_a_record_says_what_was_proven_and_how(chained: Config, result: Result) -> None:
    record = loaded(chained, 2)
    told = record.document
    assert (told["command"], told["ok"], told["run"], told["migration"]) == ("verify rows", False, 2, chained.name)
    assert told["result"]["tables"][0]["different"] == 2
    assert told["mismatches"]["count"] == record.named == 2
    assert told["servers"]["m1"].startswith("5.6") and "TiDB" in told["servers"]["target"]
    assert told["config"]["sources"].keys() == {"m1", "m2"} and len(told["config"]["sha256"]) == 64
    whole = json.dumps(told)
    assert chained.target.password and chained.target.password not in whole
    assert told["result"]["cuts"], "positions and TSO"
    named = list(mismatches_of(chained, record))
    assert [m["key"]["id"] for m in named] == ["7", "8"] and named[0]["source_row"]["v"] == "7.0000"
    chain = check(chained)
    assert chain.ok and chain.records == chain.files == 4 and chain.head == loaded(chained).digest
    path = folder_of(chained) / "000002.json"
    assert path.stat().st_mode & 0o077 == 0 and json.loads(json.loads(path.read_text())["text"]) == told


def break_by(lab: Lab, config: Config, statement: str) -> None:
    ids = f"(SELECT id FROM {EVIDENCE} WHERE migration = '{config.name}' AND run = 2)"
    lab.on_target(statement.replace("@m", f"'{config.name}'").replace("@id", ids))


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        ([f"UPDATE {TEXT} SET text = REPLACE(text, '\"ok\":false', '\"ok\":true') WHERE kind = 'record' AND id = @id"],
         "run 2: its text or its digest was changed"),
        ([f"UPDATE {TEXT} SET text = REPLACE(text, '0.5000', '7.0000') WHERE kind = 'mismatch' AND id = @id"],
         "run 2: the mismatches stored with it were changed"),
        ([f"DELETE FROM {TEXT} WHERE kind = 'mismatch' AND number = 1 AND id = @id"], "run 2: the mismatches stored"),
        ([f"UPDATE {EVIDENCE} SET ok = 1 WHERE migration = @m AND run = 2"], "run 2: its columns were changed"),
        ([f"UPDATE {EVIDENCE} SET digest = REPEAT('0', 64) WHERE migration = @m AND run = 2"], "run 2: its text or"),
        ([f"DELETE FROM {EVIDENCE} WHERE migration = @m AND run = 2"], "run 2 is missing"),
        ([f"DELETE FROM {EVIDENCE} WHERE migration = @m AND run = 4"], "run 4 is in .* and not in migrate_meta"),
        ([f"DELETE FROM {EVIDENCE} WHERE migration = @m AND run = 2",
          f"UPDATE {EVIDENCE} SET run = run - 1 WHERE migration = @m AND run > 2"], "run 2: .*replaced"),
        ([f"UPDATE {EVIDENCE} SET run = 9 - run WHERE migration = @m AND run IN (2)",
          f"UPDATE {EVIDENCE} SET run = 2 WHERE migration = @m AND run = 3",
          f"UPDATE {EVIDENCE} SET run = 3 WHERE migration = @m AND run = 7"], "run 2: .*replaced"),
    ],
)  # fmt: skip
def test_tampering_is_told(lab: Lab, chained: Config, statements: list[str], words: str) -> None:
    import re

    for statement in statements:
        break_by(lab, chained, statement)
    chain = check(chained)
    assert not chain.ok and re.search(words, chain.broken or ""), chain.broken
    assert chain.records in (1, 3)


def test_a_chain_written_anew_differs_from_its_files(lab: Lab, chained: Config, result: Result) -> None:
    """Whoever can compute hashes can write a chain anew; the files, kept elsewhere, are what he must change too."""
    lab.on_target(f"DELETE FROM {EVIDENCE} WHERE migration = '{chained.name}' AND run > 2")
    elsewhere = lab.folder / "elsewhere"
    keep(chained, result, elsewhere)
    assert check(chained, elsewhere).ok
    assert "another than in migrate_meta" in str(check(chained).broken)


def test_a_changed_file_is_told(chained: Config) -> None:
    path = folder_of(chained) / "000003.json"
    path.write_text(path.read_text().replace("false", "true"))
    assert f"{path}: the file was changed" in str(check(chained).broken)


def test_runs_that_end_at_once_make_one_chain(chained: Config, result: Result) -> None:
    failed: list[Any] = []

    def work() -> None:
        try:
            keep(chained, result)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    chain = check(chained)
    assert chain.ok and chain.records == 10, chain.broken


def test_a_large_record_is_stored_in_pieces(chained: Config, result: Result) -> None:
    from dataclasses import replace

    notes = tuple(f"{n} {'x' * 1000}" for n in range(3000))
    record = keep(chained, replace(result, notes=notes))
    assert loaded(chained, record.run).document["result"]["notes"] == list(notes)
    assert check(chained).ok


def test_files_go_where_they_are_told(chained: Config, result: Result, tmp_path: Path) -> None:
    record = keep(chained, result, tmp_path / "deep" / "folder")
    assert [p.name for p in (tmp_path / "deep" / "folder").iterdir()] == [f"{record.run:06d}.json"]
