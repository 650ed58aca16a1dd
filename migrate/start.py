"""`migrate init`: a config to start from."""

from __future__ import annotations

from pathlib import Path

from migrate.errors import ConfigError
from migrate.packs import config_dir, pack_dir


def write_config(pack: str, path: Path) -> None:
    """Writes a config for the pack, with its routes. ConfigError if the pack is unknown or the file exists."""
    routes = pack_dir(pack) / "routes.toml"
    text = (config_dir() / "start.toml").read_text(encoding="utf-8")
    text = text.replace("@pack@", pack).replace(
        "@routes@", routes.read_text(encoding="utf-8").strip() if routes.is_file() else ""
    )
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path} exists already; name another file with --out") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
