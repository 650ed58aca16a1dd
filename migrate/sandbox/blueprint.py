"""What a sandbox consists of, kept in its folder so that every start makes the same one."""

from __future__ import annotations

import os
import random
import secrets
import socket
import string
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from migrate.errors import ConfigError
from migrate.packs import pack_dir, pack_names

_FILE = "sandbox.json"
_PORTS = range(15_000, 30_000)  # below those that the kernel gives to outgoing connections


class Blueprint(BaseModel):
    """Versions, ports and the password. `ports` are those of the instances, of TiDB, and of TiDB's status page."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instances: Annotated[int, Field(ge=1, le=64)]
    mysql: str
    tidb: str | None
    pack: str
    ports: tuple[int, ...]
    password: Annotated[str, Field(repr=False)]

    @classmethod
    def load(cls, root: Path) -> Blueprint | None:
        """The blueprint of the sandbox below `root`; None if there is no sandbox."""
        try:
            return cls.model_validate_json((root / _FILE).read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValidationError) as error:
            raise ConfigError(f"{root / _FILE} can't be read; remove {root}, or use another --root") from error

    @classmethod
    def new(cls, instances: int, mysql: str, tidb: str | None, port: int | None, pack: str) -> Blueprint:
        """A blueprint with a password of its own and, unless `port` is the first of them, free ports."""
        if not 1 <= instances <= 64:
            raise ConfigError(f"a sandbox has 1 to 64 instances, not {instances}")
        if port is not None and not 1024 <= port <= 65_535 - instances - 2:
            raise ConfigError(f"port {port} is out of range: 1024 to {65_535 - instances - 2}")
        count = instances + 2
        ports = free_ports(count) if port is None else range(port, port + count)
        letters = string.ascii_letters + string.digits
        password = "".join(secrets.choice(letters) for _ in range(20))
        return cls(instances=instances, mysql=mysql, tidb=tidb, pack=pack, ports=tuple(ports), password=password)

    def refuse_changes(self, instances: int | None, mysql: str | None, tidb: str | None, port: int | None) -> None:
        """ConfigError if a value that is given isn't the sandbox's own: its data was made with that."""
        own = {"instances": self.instances, "mysql": self.mysql, "tidb": self.tidb, "port": self.ports[0]}
        given = {"instances": instances, "mysql": mysql, "tidb": tidb, "port": port}
        for key, value in given.items():
            if value is not None and value != own[key]:
                raise ConfigError(f"this sandbox was made with {key} {own[key] or 'unset'}, not {value}: "
                                  "use another --root, or first `migrate sandbox down --purge`")  # fmt: skip

    def save(self, root: Path) -> None:
        """Writes it below `root`, whole or not at all, for the owner's eyes only."""
        write_private(root / _FILE, self.model_dump_json(indent=2))


def pack_reference(pack: str) -> str:
    """The pack as a config names it from anywhere: its name, or the absolute path of a folder."""
    folder = pack_dir(pack)
    return pack if pack in pack_names() else str(folder.absolute())


def absolute_program(wanted: str | None) -> str | None:
    """A path to a program as it is from anywhere; a version and None as they are."""
    return str(Path(wanted).expanduser().absolute()) if wanted and "/" in wanted else wanted


def write_private(path: Path, text: str) -> None:
    """Replaces a file at once; only its owner may read it."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on now."""
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == count:
            return found
    raise ConfigError(f"no {count} free ports between {_PORTS.start} and {_PORTS.stop}; give --port")
