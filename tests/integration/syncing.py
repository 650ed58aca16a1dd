"""Shards on one or two instances, copied and then followed, that tests change and compare with their target tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from migrate.config import Config
from migrate.copy.copier import copy
from migrate.db import Session, connect
from migrate.position import Position, capture, reached
from migrate.schema import create_schema
from migrate.source import read_routing
from migrate.state import State
from migrate.sync.follow import follow
from migrate.sync.marks import Marks
from migrate.sync.monitor import Progress
from migrate.sync.resolution import Held, Kind, read_holds, resolve
from migrate.sync.run import _begin, _ready, command
from tests.integration.shards import Server, config_for, database, endpoint, route, run

Rows = list[tuple[Any, ...]]
OPTIONS = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci"


class Table(NamedTuple):
    """Shards of one target table: columns, the instance of each shard (0 or 1), and rows of the first ones."""

    columns: str
    instances: Sequence[int] = (0, 0)
    rows: Sequence[str] = ()


class Lab:
    """Target tables `{schema}.NAME` with shards NAME_0, NAME_1 .., and followers of their instances in threads."""

    def __init__(
        self, sources: Sequence[Server], target: Server, schema: str, tables: Mapping[str, Table], chunk_rows: int
    ):
        self.sources, self.target, self.schema = list(sources), target, schema
        self.instances = {f"{name}_{n}": i for name, t in tables.items() for n, i in enumerate(t.instances)}
        for name, table in tables.items():
            for n, instance in enumerate(table.instances):
                create = f"CREATE TABLE {name}_{n} ({table.columns}) {OPTIONS}"
                rows = [f"INSERT INTO {name}_{n} VALUES {r}" for r in table.rows[n : n + 1] if r]
                run(self.sources[instance], create, *rows, database=schema)
        routes = [route(schema, rf"{name}_\d", f"{schema}.{name}") for name in tables]
        config = config_for(sources, target, schema, *routes)
        self.config: Config = replace(
            config, run=config.run.model_copy(update={"patience_s": 30, "chunk_rows": chunk_rows})
        )
        self._pool = ThreadPoolExecutor(len(sources))
        self._running: dict[str, Future[Progress]] = {}

    def copied(self) -> Lab:
        """Has the target tables made and filled."""
        with connect(self.config.target) as session:
            create_schema(session, read_routing(self.config).checked(), execute=True)
        copy(self.config, 1)
        return self

    # -- followers ----------------------------------------------------------------------------------------------------

    def start(self, until: Mapping[str, Position] | None = None, *, only: Sequence[str] = ()) -> Lab:
        """Starts the followers that don't run, as `migrate sync` does; or `only` some of them."""
        names = [s.name for s in self.config.sources]
        State.settled(self.config, lambda state: _begin(state, _ready(state, names)))
        for name in only or [n for n in names if n not in self._running]:
            self._running[name] = self._pool.submit(follow, self.config, name, (until or {}).get(name))
        return self

    def stop(self) -> dict[str, Progress]:
        """Ends them; raises what they raised."""
        self.command("stop")
        running, self._running = self._running, {}
        return {name: future.result(timeout=60) for name, future in running.items()}

    def ended(self) -> dict[str, Progress]:
        """Waits for their own end."""
        running, self._running = self._running, {}
        return {name: future.result(timeout=60) for name, future in running.items()}

    def command(self, wanted: str) -> None:
        State.settled(self.config, lambda state: command(state, wanted))

    def positions(self) -> dict[str, Position]:
        """Where the instances' binlogs stand now."""
        found = {}
        for source in self.config.sources:
            with Session(source) as session:
                found[source.name] = capture(session, source.name)
        return found

    def settle(self, timeout_s: float = 40, *, only: Sequence[str] = ()) -> None:
        """Waits until all that the sources have (or `only` some of them) is applied, or held."""
        goal = {n: p for n, p in self.positions().items() if not only or n in only}
        with Session(self.config.target) as session:

            def there() -> bool:
                for name, position in goal.items():
                    marks = Marks(self.config.name, name).read(session)
                    if not all(m.inside == 0 and reached(m.position, position) for m in marks):
                        return False
                return True

            self.until(there, "the followers to get there", timeout_s)

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 40) -> None:
        """Waits for a condition; a follower that failed meanwhile raises."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            for future in self._running.values():
                if future.done():
                    future.result()
            assert time.monotonic() < deadline, f"waited in vain for {what}; held: {self.holds()}"
            time.sleep(0.03)

    # -- holds --------------------------------------------------------------------------------------------------------

    def holds(self) -> list[Held]:
        with Session(self.config.target) as session:
            return read_holds(session, self.config.name)

    def held(self, table: str) -> list[Held]:
        return [h for h in self.holds() if h.target == f"{self.schema}.{table}"]

    def until_held(self, table: str, *words: str, instance: str | None = None) -> Held:
        """Waits until the table is held; its reason has all the words."""

        def found() -> list[Held]:
            return [h for h in self.held(table) if h.resolution is None and instance in (None, h.instance)]

        self.until(lambda: bool(found()), f"{table} to be held")
        hold = found()[0]
        for word in words:
            assert word in hold.reason, f"{word!r} isn't in: {hold.reason}"
        return hold

    def resolve(self, table: str, how: Kind, replacement: str | None = None) -> None:
        State.settled(self.config, lambda state: resolve(state, f"{self.schema}.{table}", how, replacement))

    def release(self, table: str, how: Kind, replacement: str | None = None) -> None:
        """Decides about a held table, and waits until it isn't held any more."""
        self.resolve(table, how, replacement)
        self.until(lambda: not self.held(table), f"{table} to be released")

    # -- rows ---------------------------------------------------------------------------------------------------------

    def on(self, shard: str, *statements: str, **options: Any) -> Rows:
        """Runs statements on a shard's instance, {t} standing for the shard; several are one transaction."""
        statements = tuple(s.replace("{t}", shard) for s in statements)
        if len(statements) > 1 and not statements[0].upper().startswith(("SET", "ALTER", "CREATE", "RENAME", "DROP")):
            statements = ("BEGIN", *statements, "COMMIT")
        return run(self.sources[self.instances[shard]], *statements, database=self.schema, **options)

    def at_target(self, *statements: str) -> Rows:
        return run(self.target, *statements, database=self.schema)

    def source_rows(self, table: str) -> Rows:
        """The rows of all shards of a target table, in the order of all columns."""
        found: Rows = []
        for shard in self.instances:
            if shard.rpartition("_")[0] == table:
                found += run(self.sources[self.instances[shard]], f"SELECT * FROM {shard}", database=self.schema)
        return sorted(found, key=repr)

    def target_rows(self, table: str) -> Rows:
        return sorted(self.at_target(f"SELECT * FROM {table}"), key=repr)

    def same(self, *tables: str) -> None:
        """Once all is applied, nothing is held and the target tables have the rows of their shards."""
        self.settle()
        for table in tables:
            assert not self.held(table), self.held(table)[0].reason
            assert self.target_rows(table) == self.source_rows(table)


@contextmanager
def lab(
    sources: Sequence[Server], target: Server, tables: Mapping[str, Table], *, chunk_rows: int = 10_000
) -> Iterator[Lab]:
    """A lab in a database of its own; its followers end with it."""
    with database(*sources, target, prefix="sync") as schema:
        found = Lab(sources, target, schema, tables, chunk_rows)
        try:
            yield found
        finally:
            found.stop()


def config_file(lab: Lab, folder: Path) -> Path:
    """The lab's configuration as a file, for the command line."""
    path = folder / f"{lab.schema}.toml"
    path.touch(mode=0o600)
    urls = {endpoint(s, f"m{i}").name: s.url for i, s in enumerate(lab.sources, 1)}
    path.write_text(
        f'[migration]\nname = "{lab.config.name}"\n'
        + "".join(f'[[source]]\nname = "{name}"\nurl = "{url}"\n' for name, url in urls.items())
        + f'[target]\nurl = "{lab.target.url}"\n'
        + "".join(
            f"[[route]]\nschema = '{r.schema_}'\ntable = '{r.table}'\ntarget = \"{r.target}\"\n"
            for r in lab.config.routes
        )
        + "".join(f"[[ignore]]\nschema = '{i.schema_}'\n" for i in lab.config.ignores)
        + "[run]\nworkers = 1\npatience_s = 30\n"
    )
    return path
