"""Tables on real shards and on a real target for the tests of verification, which write both sides themselves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from migrate.config import Config, load_config
from migrate.sandbox import Server

_numbers = itertools.count(1)
Row = tuple[Any, ...]


class Lab:
    """Databases of one test on some sources and a target; routes send `NAME_<n>` to `NAME`."""

    def __init__(self, sources: Sequence[Server], target: Server, folder: Path, prefix: str = "v"):
        self.schema = f"{prefix}_lab{next(_numbers)}"
        self.sources, self.target, self.folder = list(sources), target, folder
        self.tables: list[str] = []
        for server in (*self.sources, target):
            self.run(server, f"DROP DATABASE IF EXISTS {self.schema}", f"CREATE DATABASE {self.schema}")

    def drop(self) -> None:
        for server in (*self.sources, self.target):
            self.run(server, f"DROP DATABASE IF EXISTS {self.schema}")

    def run(self, server: Server, *statements: str, rows: Sequence[Row] = ()) -> None:
        """Runs statements; with `rows`, the one statement for all of them."""
        with server.connect(charset="utf8mb4") as connection, connection.cursor() as cursor:
            cursor.execute("SET sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00'")
            for statement in statements:
                if rows:
                    cursor.executemany(statement, rows)
                else:
                    cursor.execute(statement.replace("$", self.schema))

    def on_target(self, *statements: str) -> None:
        """Runs statements on the target; $ stands for the schema."""
        self.run(self.target, *statements)

    def on_shard(self, number: int, *statements: str) -> None:
        self.run(self.sources[number % len(self.sources)], *statements)

    def table(
        self, name: str, columns: str, rows: Sequence[Row] = (), *, target_columns: str | None = None, shards: int = 2
    ) -> None:
        """The table `name`, its rows dealt to the shards and all on the target."""
        self.tables.append(name)
        for number in range(shards):
            self.on_shard(number, f"CREATE TABLE $.{name}_{number} ({columns}) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4")
            self.insert(self.sources[number % len(self.sources)], f"{name}_{number}", rows[number::shards])
        self.on_target(f"CREATE TABLE $.{name} ({target_columns or columns}) DEFAULT CHARSET=utf8mb4")
        self.insert(self.target, name, rows)

    def insert(self, server: Server, table: str, rows: Sequence[Row]) -> None:
        if rows:
            values = ",".join(["%s"] * len(rows[0]))
            self.run(server, f"INSERT INTO {self.schema}.{table} VALUES ({values})", rows=rows)

    def config(self, pack: str | None = None, extra: str = "", only: Sequence[str] | None = None) -> Config:
        """The config of this lab, as a user would write it."""
        names = self.tables if only is None else only
        text = f'[migration]\nname = "{self.schema}"\n{f"pack = {pack!r}" if pack else ""}\n'
        text += "".join(f'[[source]]\nname = "{s.name}"\nurl = "{s.url}"\n' for s in self.sources)
        text += f'[target]\nurl = "{self.target.url}"\n'
        for name in names:
            policy = extra if name == names[0] else ""
            text += f"[[route]]\nschema = '{self.schema}'\ntable = '{name}_\\d+'\n"
            text += f'target = "{self.schema}.{name}"\n{policy}\n'
        text += f"[[ignore]]\nschema = '(?!{self.schema}$).*'\n"
        path = self.folder / f"{self.schema}.toml"
        path.write_text(text, encoding="utf-8")
        return load_config(path)
