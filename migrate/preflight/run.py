"""The list of checks, in order. A check that fails stops no other; what can't be reached isn't checked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from migrate.catalog import read_catalog
from migrate.collisions import Collision, find_collisions
from migrate.config import Config, Endpoint
from migrate.db import Session, connect
from migrate.doublewrite.sharding import load_sharding
from migrate.errors import AccessDenied, ConfigError, ServerError
from migrate.ledger import load_ledger
from migrate.model import MergedTable, ShardTable
from migrate.preflight import binlog, privileges, settings, tables, target
from migrate.preflight.data import ENTRY_BYTES, scan_shard
from migrate.preflight.members import shown_members
from migrate.preflight.report import Check, Report, failed, ok, skipped, warning
from migrate.preflight.server import Server, look
from migrate.routes import resolve

_LIMIT = 20  # collisions of one index that are told one by one


def run_preflight(
    config: Config, *, export_dir: Path | None = None, resuming: bool | None = None, scan: bool = True
) -> Report:
    """Makes all checks. Reads only, on both sides.

    `export_dir`: where an export would go. `resuming`: target tables may hold this migration's rows; None asks the
    target. `scan`: read all rows, for keys that collide and values that wouldn't survive.
    """
    with ExitStack() as sessions:
        return Report(tuple(_checks(config, sessions, export_dir, resuming, scan)))


def _checks(
    config: Config, sessions: ExitStack, export_dir: Path | None, resuming: bool | None, scan: bool
) -> Iterator[Check]:
    sources: list[Server] = []
    for endpoint in config.sources:
        found = _reach(endpoint, sessions)
        yield from found[1]
        sources += found[0]
    targets, outcome = _reach(config.target, sessions)
    yield from outcome
    yield from _of_servers(sources, targets)
    if len(sources) < len(config.sources):
        yield skipped("tables", "sources", "not checked: not all sources can be reached")
        return
    catalog: list[ShardTable] = []
    for server in sources:
        try:
            catalog += read_catalog(server.session, server.name)
        except ServerError as error:
            yield _unfinished("tables", server.name, error)
            return
    routing = resolve(config, catalog)
    yield from tables.routes(routing)
    yield from _of_tables(config, sources, routing.tables)
    for server in targets:
        yield from _made("privileges", "target", privileges.target_privileges(
            server, (t.target.schema for t in routing.tables)))  # fmt: skip
        goes_on = target.begun(server.session, config.name) if resuming is None else resuming
        yield from _made("target_table", "target", target.target_tables(server, routing.tables, goes_on))
    yield from target.disk(routing.tables, export_dir)
    if scan:
        limits = [server.number("tidb_txn_entry_size_limit") or ENTRY_BYTES for server in targets]
        yield from _of_data(config, routing.tables, min(limits, default=ENTRY_BYTES))
    else:
        yield skipped("data", "sources", "the rows were not read, as asked for")


def _reach(endpoint: Endpoint, sessions: ExitStack) -> tuple[list[Server], list[Check]]:
    try:
        return [look(endpoint.name, sessions.enter_context(connect(endpoint)))], []
    except AccessDenied as error:
        return [], [failed("connection", endpoint.name, str(error), "mend user, password or grants of its url")]
    except ServerError as error:
        remedy = "see that the server runs, and that host, port and firewall let us in; the rest of its checks waits"
        return [], [failed("connection", endpoint.name, str(error), remedy)]


def _made(name: str, where: str, checks: Iterable[Check]) -> Iterator[Check]:
    """The checks; a server's refusal on the way becomes a failed one."""
    try:
        yield from checks
    except ServerError as error:
        yield _unfinished(name, where, error)


def _unfinished(name: str, where: str, error: ServerError) -> Check:
    remedy = "grant the account what the message names" if isinstance(error, AccessDenied) else "mend it, check again"
    return failed(name, where, f"could not be checked: {error}", remedy)


def _of_servers(sources: Sequence[Server], targets: Sequence[Server]) -> Iterator[Check]:
    for server in sources:
        yield from _made("version", server.name, settings.source_version(server))
        yield from _made("privileges", server.name, privileges.source_privileges(server))
        yield from _made("log_bin", server.name, binlog.log_bin(server))
        yield from _made("binlog_format", server.name, binlog.row_format(server))
        yield from _made("binlog_retention", server.name, binlog.retention(server))
        yield from _made("xa_transactions", server.name, binlog.xa_transactions(server))
    yield from binlog.server_ids(sources)
    yield from binlog.gtids(sources)
    for server in targets:
        yield from _made("version", server.name, settings.target_version(server))
        yield from target.local_infile(server)
        yield from settings.sql_modes(sources, server)
        yield from settings.time_zones(sources, server)
        yield from settings.packets(sources, server)
    yield from settings.clocks([*sources, *targets])


def _of_tables(config: Config, sources: Sequence[Server], merged: Sequence[MergedTable]) -> Iterator[Check]:
    money: set[tuple[str, str]] = set()
    try:
        money = tables.money_columns(load_ledger(config.pack)) if config.pack else set()
    except ConfigError as error:
        yield failed("ledger", "config", str(error), "mend the pack's ledger.toml")
    if not config.pack:
        yield warning("ledger", "config", "no pack is named: which columns hold money is not known",
                      "name a pack, or a folder with a ledger.toml of your own, in [migration]")  # fmt: skip
    shardings = load_sharding(config.pack)
    for server in sources:
        yield from _made("cascades", server.name, binlog.cascades(server, merged))
    for table in merged:
        yield from tables.shapes(table)
        yield from tables.keys(table)
        yield from tables.engines(table)
        yield from tables.charsets(table)
        yield from tables.floats(table, money)
        yield from tables.carried(table)
        yield from tables.way_back(table, shardings)


def _of_data(config: Config, merged: Sequence[MergedTable], entry_bytes: int) -> Iterator[Check]:
    """Reads all rows: a query a shard for their values, then the keys."""

    def reach(instance: str) -> AbstractContextManager[Session]:
        return connect(config.source(instance), patience_s=config.run.patience_s)

    def values(pair: tuple[MergedTable, ShardTable]) -> list[Check]:
        table, shard = pair
        where = str(shard.shard)
        try:
            with reach(shard.shard.instance) as session:
                return list(_made("data", where, scan_shard(session, table, shard, entry_bytes)))
        except ServerError as error:
            return [_unfinished("data", where, error)]

    with ThreadPoolExecutor(config.run.workers) as pool:
        for checks in pool.map(values, [(table, shard) for table in merged for shard in table.shards]):
            yield from checks
    for table in merged:
        yield from _made("members", str(table.target), shown_members(table, reach))
        try:
            collisions = find_collisions(config, [table])
        except ServerError as error:
            yield _unfinished("key_collision", str(table.target), error)
            continue
        yield from _collisions(table, collisions)


def _collisions(table: MergedTable, collisions: Sequence[Collision]) -> Iterator[Check]:
    by_index: dict[str, list[Collision]] = defaultdict(list)
    for collision in collisions:
        by_index[collision.index].append(collision)
    remedy = "give these rows other keys on the source" + (
        ", or use key_collision = 'interleave' for the route" if table.key_collision == "error" else ""
    )
    for index, found in by_index.items():
        for collision in found[:_LIMIT]:
            yield failed("key_collision", str(table.target), str(collision), remedy)
        if len(found) > _LIMIT:
            yield failed("key_collision", str(table.target), f"{index}: {len(found) - _LIMIT} more, at least", remedy)
    if not collisions:
        yield ok("key_collision", str(table.target), f"no key twice in {len(table.shards)} shards")
