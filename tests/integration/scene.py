"""Two instances with a shard each and a target, all well, to plant preflight's faults in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from migrate.config import Config, Endpoint
from migrate.preflight import Report, run_preflight
from tests.integration.shards import Server, config_for, database, endpoint, route, run

LEDGER = """
[role.account]
table = "{s}.account"
id = "id"
balance = "balance"
currency = "currency"
increases = "C"
[role.entry]
table = "{s}.entry"
id = "id"
account = "account_id"
voucher = "voucher_id"
direction = "direction"
amount = "amount"
currency = "currency"
time = "at"
"""
ENTRY = (
    "id BIGINT NOT NULL PRIMARY KEY, account_id BIGINT NOT NULL, voucher_id BIGINT NOT NULL, "
    "direction CHAR(1) NOT NULL, amount DECIMAL(20,4) NOT NULL, currency CHAR(3) NOT NULL, at DATETIME(3) NOT NULL, "
    "kind ENUM('a','b') NULL, memo VARCHAR(100) NULL, KEY acc (account_id)"
)


class Scene:
    """Two instances with a shard each, and a target; all is well with them."""

    def __init__(self, sources: list[Server], target: Server, schema: str, folder: Path):
        self.sources, self.target, self.schema = sources, target, schema
        (folder / "ledger.toml").write_text(LEDGER.format(s=schema))
        self.config = config_for(
            sources, target, schema, route(schema, r"entry_\d+", f"{schema}.entry"), pack=str(folder)
        )
        for number, source in enumerate(sources):
            row = f"({number}, 1, 1, 'D', 1.5, 'CNY', '2026-01-01', 'a', '中文😀')"
            run(source, f"CREATE TABLE entry_{number} ({ENTRY}) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
                f"INSERT INTO entry_{number} VALUES {row}", database=schema)  # fmt: skip

    def on(self, number: int, *statements: str, **options: Any) -> list[tuple[Any, ...]]:
        return run(self.sources[number], *statements, database=self.schema, **options)

    def report(self, config: Config | None = None, **options: Any) -> Report:
        return run_preflight(config or self.config, **options)

    def with_target(self, target: Server | Endpoint) -> Config:
        return replace(self.config, target=endpoint(target, "target"))

    def with_source(self, source: Endpoint) -> Config:
        return replace(self.config, sources=(source, *self.config.sources[1:]))


@contextmanager
def scene_of(sources: list[Server], target: Server, folder: Path) -> Iterator[Scene]:
    """A scene in a database of its own."""
    with database(*sources, target) as schema:
        yield Scene(sources, target, schema, folder)


@contextmanager
def setting(server: Server, name: str, value: str) -> Iterator[None]:
    """A global variable, for a while."""
    before = run(server, f"SELECT @@GLOBAL.{name}")[0][0]
    run(server, f"SET GLOBAL {name} = {value}")
    try:
        yield
    finally:
        literal = str(before) if isinstance(before, int) else f"'{before}'"
        run(server, f"SET GLOBAL {name} = {literal}")


@contextmanager
def account(server: Server, *grants: str) -> Iterator[Endpoint]:
    """An account that has these grants and no others."""
    host = "localhost" if server.name != "tidb" else "%"
    run(server, f"DROP USER IF EXISTS 'little'@'{host}'") if host == "%" else None
    run(server, f"CREATE USER 'little'@'{host}' IDENTIFIED BY 'p@ss:/#%'")
    try:
        for grant in grants:
            run(server, f"{grant} TO 'little'@'{host}'")
        yield replace(endpoint(server, "m1"), user="little", password="p@ss:/#%")
    finally:
        run(server, f"DROP USER 'little'@'{host}'")


def bad(report: Report, status: str = "failed") -> dict[str, str]:
    """The checks of that status, each with its place and message; all of them say what to do."""
    found = [c for c in report.checks if c.status == status]
    assert all(c.remedy for c in found)
    assert report.ok == (not any(c.status == "failed" for c in report.checks))
    return {c.name: f"{c.where}: {c.message}" for c in found}
