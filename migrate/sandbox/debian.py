"""Packages of Debian, unpacked into a folder of ours beside their own C library. Needs no root."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from migrate.sandbox.errors import SandboxError
from migrate.sandbox.progress import Progress, folder_size, run

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MIRROR = "https://deb.debian.org/debian"
_INDEX_BYTES = 32_000_000


def unpack_packages(
    apt: Sequence[str], package: str, folder: Path, *, suite: str = "sid", title: str = "MySQL 9.7"
) -> None:
    """Unpacks a package and all it depends on into `folder`/root, verified by the Debian archive's keys."""
    if not _KEYRING.is_file():
        raise SandboxError(f"no keys to verify Debian packages with at {_KEYRING}: install debian-archive-keyring")
    for name in ("lists/partial", "cache/archives/partial", "debs", "root"):
        (folder / name).mkdir(parents=True)
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {_mirror()} {suite} main\n")
    options = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "",
        "APT::Update::Error-Mode": "any",
    }
    command = [*apt, "-q", *(f"-o{key}={value}" for key, value in options.items())]
    with Progress(f"{title}: reading Debian's package index", _INDEX_BYTES, "B") as progress:
        run([*command, "update"], cwd=folder, watch=lambda _: progress.at(folder_size(folder / "lists")))
    plan = run([*command, "--no-install-recommends", "--simulate", "install", package], cwd=folder)
    packages = [name for name in re.findall(r"^Inst (\S+)", plan, re.MULTILINE) if not name.startswith("perl")]
    uris = run([*command, "--print-uris", "download", *packages], cwd=folder)
    size = sum(int(n) for n in re.findall(r"^'\S+' \S+ (\d+)", uris, re.MULTILINE))
    debs = folder / "debs"
    with Progress(f"{title}: downloading", size, "B") as progress:
        run([*command, "download", *packages], cwd=debs, watch=lambda _: progress.at(folder_size(debs)))
    archives = sorted(debs.glob("*.deb"))
    with Progress(f"{title}: unpacking", len(archives), "packages") as progress:
        for number, archive in enumerate(archives, 1):
            run(["dpkg", "-x", archive, folder / "root"], cwd=folder)
            progress.at(number)
    for name in ("lists", "cache", "debs"):
        shutil.rmtree(folder / name)


def _mirror() -> str:
    """The mirror that this machine's own apt is set to, or Debian's."""
    for path in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")):
        text = path.read_text(errors="replace") if path.is_file() else ""
        if found := re.search(r"^(?:URIs:\s*|deb\s+(?:\[[^\]]*\]\s+)?)(https?://\S+/debian/?)\s", text, re.MULTILINE):
            return found[1]
    return _MIRROR
