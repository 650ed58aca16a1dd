"""How an export spreads shards over files: what is written stays, what is lost comes again, a large shard is shared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from migrate.config import Config
from migrate.copy import exporter
from migrate.copy.copier import load
from migrate.copy.exporter import export
from migrate.copy.manifest import ExportFile, parts_of, read_manifest
from migrate.db import connect
from migrate.errors import MigrateError
from migrate.model import Chunk
from migrate.sandbox import Sandbox
from migrate.schema import create_schema
from migrate.source import read_routing
from tests.integration.shards import config_for, database, route, run

SIZES = (900, 120, 110, 100)  # rows of the shards; a file holds 100 of them, a part 20
SUM = "COUNT(*), SUM(CRC32(CONCAT_WS('|', id, memo)))"


@pytest.fixture
def place(servers: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    """Four shards on one instance, a target, and files that are small."""
    for module in ("files", "exporter"):
        monkeypatch.setattr(f"migrate.copy.{module}.FILE_ROWS", 100)
    monkeypatch.setattr("migrate.copy.reader._BLOCK", 10)
    source = servers.sources[0]
    with database(source, servers.target, prefix="files") as schema:
        for number, size in enumerate(SIZES):
            rows = "), (".join(f"{10_000 * number + 3 * row}, 'row {row}'" for row in range(size))
            run(source, f"CREATE TABLE t_{number} (id BIGINT PRIMARY KEY, memo VARCHAR(20))",
                f"INSERT INTO t_{number} VALUES ({rows})", f"ANALYZE TABLE t_{number}", database=schema)  # fmt: skip
        config = config_for([source], servers.target, schema, route(schema, r"t_\d", f"{schema}.t"))
        yield replace(config, run=config.run.model_copy(update={"chunk_rows": 20}))


def files_of(folder: Path) -> dict[str, list[ExportFile]]:
    """The manifest's files by shard, in the order of the key; they tile it."""
    found: dict[str, list[ExportFile]] = {}
    for file in sorted(read_manifest(folder)[1], key=lambda f: (f.chunk.shard, f.chunk.number)):
        found.setdefault(file.chunk.shard.table, []).append(file)
    for files in found.values():
        assert files[0].chunk.lower is None and files[-1].chunk.upper is None
        assert all(one.chunk.upper == other.chunk.lower for one, other in pairwise(files))
    return found


def loaded(config: Config, servers: Sandbox, folder: Path) -> None:
    """What the folder holds is what the shards hold."""
    with connect(config.target) as session:
        create_schema(session, read_routing(config).checked(), execute=True)
    load(config, folder, 2)
    schema = config.routes[0].target.split(".")[0]
    counts = [run(servers.sources[0], f"SELECT {SUM} FROM t_{n}", database=schema)[0] for n in range(len(SIZES))]
    assert run(servers.target, f"SELECT {SUM} FROM t", database=schema) == [tuple(map(sum, zip(*counts, strict=True)))]


@pytest.mark.parametrize("compress", [False, True])
def test_what_is_written_stays(
    servers: Sandbox, place: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: bool
) -> None:
    folder = tmp_path / "out"
    monkeypatch.setattr("migrate.faults._ARMED", "after_file_written:raise:3")
    with pytest.raises(MigrateError, match="fault injected"):
        export(place, folder, 1, compress=compress)
    monkeypatch.setattr("migrate.faults._ARMED", None)
    recorded = (folder / "manifest.unfinished.jsonl").read_text()
    kept = {p: p.stat().st_mtime_ns for p in folder.glob("*.csv*") if f'"{p.name}"' in recorded}
    assert len(kept) == 2
    report = export(place, folder, 1, compress=compress)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert report.document()["rows"] == sum(SIZES)
    files_of(folder)
    loaded(place, servers, folder)


def test_a_file_that_was_lost_comes_again(
    servers: Sandbox, place: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the bounds that it had, though other files stand behind it and rows have come since."""
    folder = tmp_path / "out"
    monkeypatch.setattr("migrate.faults._ARMED", "after_file_written:raise:5")
    with pytest.raises(MigrateError, match="fault injected"):
        export(place, folder, 1)
    monkeypatch.setattr("migrate.faults._ARMED", None)
    schema = place.routes[0].target.split(".")[0]
    lost = folder / f"{schema}.t.000000000001.csv"
    lost.unlink()
    run(servers.sources[0], "INSERT INTO t_0 VALUES (301, 'late'), (9999, 'last')", database=schema)
    export(place, folder, 1)
    files = files_of(folder)["t_0"]
    assert [f.rows for f in files][:3] == [100, 101, 100]
    assert lost.is_file()
    loaded(place, servers, folder)


def test_a_shard_above_its_share_is_cut_beforehand(
    place: Config, servers: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[str] = []

    def planned(shards: exporter._Shards, chunks: list[Chunk]) -> None:
        walked.append(chunks[0].shard.table)
        shards._pieces += chunks

    monkeypatch.setattr(exporter._Shards, "planned", planned)
    export(place, tmp_path / "one", 1)
    assert walked == []
    export(place, tmp_path / "two", 2)
    assert walked == ["t_0"]
    for folder in ("one", "two"):
        assert {t: [f.rows for f in files] for t, files in files_of(tmp_path / folder).items()} == {
            "t_0": [100] * 9 + [0], "t_1": [100, 20], "t_2": [100, 10], "t_3": [100, 0]
        }  # fmt: skip
    loaded(place, servers, tmp_path / "two")


def test_parts_are_about_a_chunk_each(place: Config, tmp_path: Path) -> None:
    export(place, tmp_path / "out", 2)
    pairs = [p for ps in parts_of(read_manifest(tmp_path / "out")[1]).values() for p in ps]
    assert sum(part.rows for _, part in pairs) == sum(SIZES)
    assert {part.rows for _, part in pairs} == {20, 10, 0}
    assert len({(chunk.shard, chunk.number) for chunk, _ in pairs}) == len(pairs)
