"""Builds TiDB's programs from their Go modules, with the dependencies that their own builds pin."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from migrate.sandbox.progress import Progress, run

RELEASE = "v8.5.6"
NEEDS_MB = 6000  # modules, compiled packages and the program, when none are there yet
_TOOLCHAIN = "go1.25.8"  # TiDB of this release panics at start when built by a later one
_MODULES = 225  # what a first build downloads, to tell the time left
_TIDB = "github.com/pingcap/tidb"
DIFF = "sync_diff_inspector"
_TOOLS = "github.com/pingcap/tidb-tools"
_TOOLS_VERSION = "v0.0.0-20240305021104-9f9bea84490b"
_PACKAGES = {
    "tidb-server": f"{_TIDB}/cmd/tidb-server",
    "dumpling": f"{_TIDB}/dumpling/cmd/dumpling",
    "tidb-lightning": f"{_TIDB}/lightning/cmd/tidb-lightning",
}
_RELEASE_VARIABLES = (
    f"{_TIDB}/pkg/parser/mysql.TiDBReleaseVersion",
    f"{_TIDB}/br/pkg/version/build.ReleaseVersion",
    f"{_TIDB}/dumpling/cli.ReleaseVersion",
)
_GO_MOD = f"""\
module sandbox.local/tidb

go 1.25.8

require (
	{_TIDB} v1.1.0-beta.0.20260413061245-ae18096e0237
	{_TIDB}/pkg/parser v0.0.0-20260331085336-4e0b702f38a8
)

replace (
	{_TIDB}/pkg/parser => {_TIDB}/pkg/parser v0.0.0-20260331085336-4e0b702f38a8
	github.com/apache/arrow-go/v18 => github.com/joechenrh/arrow-go/v18 v18.0.0-20250911101656-62c34c9a3b82
	github.com/go-ldap/ldap/v3 => github.com/YangKeao/ldap/v3 v3.4.5-0.20230421065457-369a3bab1117
	sourcegraph.com/sourcegraph/appdash => github.com/sourcegraph/appdash v0.0.0-20190731080439-ebfcffb1b5c0
	sourcegraph.com/sourcegraph/appdash-data => github.com/sourcegraph/appdash-data v0.0.0-20151005221446-73f23eafcf67
)
"""


def release(name: str) -> str:
    """The version of that program that is built."""
    return _TOOLS_VERSION if name == DIFF else RELEASE


def build(go: Sequence[str], name: str, folder: Path) -> None:
    """Puts the program `name` into `folder`. Minutes the first time; the modules and packages stay in Go's caches."""
    source = folder / "source"
    source.mkdir()
    env = {"GOTOOLCHAIN": _TOOLCHAIN, "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -mod=mod".strip()}
    package = _of_tools(go, source, env) if name == DIFF else _of_tidb(source, name)
    with Progress(f"{name} {release(name)}: downloading Go modules", _MODULES, "modules") as progress:

        def downloaded(line: str) -> None:
            progress.at(progress.done + line.startswith("go: downloading"))

        listing = run([*go, "list", "-deps", "-f", "{{if .Stale}}stale{{end}}", package],
                      cwd=source, env=env, watch=downloaded)  # fmt: skip
    packages = listing.split().count("stale")
    # TiDB's packages of 2024 reach into the runtime by names that today's linker keeps to itself
    flags = "-s -w -checklinkname=0 " + " ".join(f"-X {variable}={RELEASE}" for variable in _RELEASE_VARIABLES)
    with Progress(f"{name} {release(name)}: compiling", packages, "packages") as progress:

        def compiled(line: str) -> None:
            progress.at(progress.done + bool(line))

        run([*go, "build", "-v", "-ldflags", flags, "-o", folder / name, package],
            cwd=source, env=env, watch=compiled)  # fmt: skip


def _of_tidb(source: Path, name: str) -> str:
    """Makes a module that builds TiDB's programs; the package to build in it."""
    (source / "go.mod").write_text(_GO_MOD)
    (source / "main.go").write_text(f'package main\n\nimport _ "{_TIDB}/pkg/parser/mysql"\n\nfunc main() {{}}\n')
    return _PACKAGES[name]


def _of_tools(go: Sequence[str], source: Path, env: Mapping[str, str]) -> str:
    """Makes a module that builds sync-diff-inspector: with what its own pins, and the checksums it gives; the package
    to build in it."""
    told = run([*go, "mod", "download", "-json", f"{_TOOLS}@{_TOOLS_VERSION}"], cwd=source, env=env)
    theirs = Path(json.loads(told[told.index("{") :])["Dir"])
    pins = (theirs / "go.mod").read_text().replace(f"module {_TOOLS}\n", "module sandbox.local/tools\n", 1)
    (source / "go.mod").write_text(f"{pins}\nrequire {_TOOLS} {_TOOLS_VERSION}\n")
    (source / "go.sum").write_bytes((theirs / "go.sum").read_bytes())
    return f"{_TOOLS}/{DIFF}"
