"""An export is what TiDB's own loader reads by its defaults: the same rows arrive without our `load`."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from migrate.copy.exporter import export
from migrate.sandbox import Sandbox, Server
from migrate.sandbox.toolchain import peer_binary
from tests import fidelity_cases as cases
from tests.fidelity import Case, assert_same, configured, make_table, read, rows, run

_LONG_WAY = 1800  # Lightning is built from source once


def _lightning(target: Server, data: Path, folder: Path, more: str = "") -> None:
    match = re.fullmatch(r"mysql://([^:]+):([^@]*)@([^:]+):(\d+)", target.url)
    assert match
    status = rows(target, "SELECT value FROM information_schema.cluster_config WHERE type = 'tidb' AND "
                          "`key` = 'status.status-port'")[0][0]  # fmt: skip
    config = folder / "lightning.toml"
    config.write_text(f"""\
[lightning]
file = "{folder}/lightning.log"
[checkpoint]
enable = false
[tikv-importer]
backend = "tidb"
sorted-kv-dir = "{folder}/sorted"
[mydumper]
data-source-dir = "{data}"
[tidb]
host = "{match[3]}"
port = {match[4]}
user = "{match[1]}"
password = "{match[2]}"
status-port = {status}
{more}
""")
    done = subprocess.run([str(peer_binary("tidb-lightning")), "-config", str(config)], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(_LONG_WAY)
@pytest.mark.parametrize("compress", [False, True])
def test_lightning_loads_an_export_unchanged(servers: Sandbox, tmp_path: Path, compress: bool) -> None:
    source, target, schema = servers.sources[0], servers.target, f"light_{int(compress)}"
    # Lightning writes our DDL anew, and without the escape of a backslash in a member.
    members = [c for c in cases.MEMBERS if "\\" not in c.type]
    groups = {"numbers": cases.NUMBERS, "floats": cases.FLOATS, "binaries": cases.BINARIES, "texts": cases.TEXTS,
              "bits": cases.BITS, "members": members, "times": cases.TIMES,
              "plain": [Case("VARCHAR(9)", cases.texts("a", "中", ""))]}  # fmt: skip
    for table, group in groups.items():
        make_table(source, schema, table, group)
    odd = 'odd `名."x"'
    run(source, f"CREATE TABLE {schema}.`odd.name %` (id INT PRIMARY KEY, `{odd.replace('`', '``')}` VARCHAR(9))",
        f"INSERT INTO {schema}.`odd.name %` VALUES (0, '\\\\N'), (1, NULL)")  # fmt: skip
    config = configured(tmp_path, [source], target, schema, renamed={"odd.name %": f"{schema}.odd`名 %2F"})
    export(config, tmp_path / "out", 2, compress=compress)
    _lightning(target, tmp_path / "out", tmp_path)
    for table, group in groups.items():
        assert_same(source, target, schema, table, group)
    assert read(source, schema, "odd.name %") == read(target, schema, "odd`名 %2F")


@pytest.mark.timeout(_LONG_WAY)
def test_lightning_keeps_an_id_of_zero_if_it_is_told_to(servers: Sandbox, tmp_path: Path) -> None:
    source, target, schema = servers.sources[0], servers.target, "light_zero"
    run(source, f"CREATE DATABASE {schema}", f"CREATE TABLE {schema}.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)",
        f"INSERT INTO {schema}.t VALUES (0, 1), (-1, 2)")  # fmt: skip
    export(configured(tmp_path, [source], target, schema), tmp_path / "out", 1)
    _lightning(target, tmp_path / "out", tmp_path, more='sql-mode = "NO_AUTO_VALUE_ON_ZERO"')
    assert_same(source, target, schema, "t")
