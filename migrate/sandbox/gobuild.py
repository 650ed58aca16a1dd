"""Builds TiDB's programs from its Go module, with the dependencies that its own build pins."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from migrate.sandbox.progress import Progress, run

RELEASE = "v8.5.6"
NEEDS_MB = 6000  # modules, compiled packages and the program, when none are there yet
_TOOLCHAIN = "go1.25.8"  # TiDB of this release panics at start when built by a later one
_MODULES = 225  # what a first build downloads, to tell the time left
_TIDB = "github.com/pingcap/tidb"
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


def build(go: Sequence[str], name: str, folder: Path) -> None:
    """Puts the program `name` into `folder`. Minutes the first time; the modules and packages stay in Go's caches."""
    package = _PACKAGES[name]
    source = folder / "source"
    source.mkdir()
    (source / "go.mod").write_text(_GO_MOD)
    (source / "main.go").write_text(f'package main\n\nimport _ "{_TIDB}/pkg/parser/mysql"\n\nfunc main() {{}}\n')
    env = {"GOTOOLCHAIN": _TOOLCHAIN, "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -mod=mod".strip()}
    with Progress(f"{name} {RELEASE}: downloading Go modules", _MODULES, "modules") as progress:

        def downloaded(line: str) -> None:
            progress.at(progress.done + line.startswith("go: downloading"))

        listing = run([*go, "list", "-deps", "-f", "{{if .Stale}}stale{{end}}", package],
                      cwd=source, env=env, watch=downloaded)  # fmt: skip
    packages = listing.split().count("stale")
    flags = "-s -w " + " ".join(f"-X {variable}={RELEASE}" for variable in _RELEASE_VARIABLES)
    with Progress(f"{name} {RELEASE}: compiling", packages, "packages") as progress:

        def compiled(line: str) -> None:
            progress.at(progress.done + bool(line))

        run([*go, "build", "-v", "-ldflags", flags, "-o", folder / name, package],
            cwd=source, env=env, watch=compiled)  # fmt: skip
