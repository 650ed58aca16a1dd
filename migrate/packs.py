"""Where packs and ready configs lie: beside the code in a checkout, inside the package in an installed wheel."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from migrate.errors import ConfigError


def _folder(package: str) -> Path:
    return Path(str(files(package)))


def pack_names() -> list[str]:
    """The names of the packs that came with the toolkit."""
    return sorted(p.parent.name for p in _folder("schemas").glob("*/ledger.toml"))


def pack_dir(name: str) -> Path:
    """The folder of a pack, by its name or by a path to a folder of the user's own. ConfigError if there is none."""
    for folder in (_folder("schemas") / name, Path(name)):
        if (folder / "ledger.toml").is_file():
            return folder
    raise ConfigError(f"unknown pack {name!r}; known: {', '.join(pack_names())}, or a folder that holds a ledger.toml")


def config_dir() -> Path:
    """The folder of the ready configs."""
    return _folder("configs")
