"""Checks that sync will find every change in the sources' binlogs, whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from migrate.db import wait
from migrate.errors import ServerError
from migrate.model import MergedTable
from migrate.preflight.report import Check, failed, ok, warning
from migrate.preflight.server import Server
from migrate.xa import in_sql, prepared

_RETENTION_S = 3 * 86400
_SYNTAX = 1064
_PASSING_S = 2.0  # an XA transaction that is prepared for longer may have been forgotten


def server_ids(servers: Sequence[Server]) -> Iterator[Check]:
    """server_id: set, and another one on every instance."""
    owners: dict[str, list[str]] = defaultdict(list)
    for server in servers:
        owners[server.variable("server_id")].append(server.name)
    for server in servers:
        number = server.variable("server_id")
        others = [name for name in owners[number] if name != server.name]
        if number == "0":
            yield failed("server_id", server.name, "is 0: it gives its binlog to nobody",
                         "set server_id to a number of its own")  # fmt: skip
        elif others:
            yield failed("server_id", server.name, f"is {number}, which {', '.join(others)} has too",
                         "give every instance a server_id of its own")  # fmt: skip
        else:
            yield ok("server_id", server.name, number)


def log_bin(server: Server) -> Iterator[Check]:
    """log_bin, and that it leaves nothing out."""
    if server.variable("log_bin") != "ON":
        yield failed("log_bin", server.name, "keeps no binlog", "start it with log_bin, and restart it")
        return
    yield ok("log_bin", server.name, "ON")
    try:
        rows = server.session.query("SHOW MASTER STATUS")
    except ServerError as error:
        if error.number != _SYNTAX:  # MySQL 8.4 knows it by another name only
            raise
        rows = server.session.query("SHOW BINARY LOG STATUS")
    only, without = (str(rows[0][2] or ""), str(rows[0][3] or "")) if rows else ("", "")
    if only or without:
        what = [f"only {only}"] * bool(only) + [f"all but {without}"] * bool(without)
        yield failed("binlog_filters", server.name, f"its binlog has {', '.join(what)}",
                     "take binlog_do_db and binlog_ignore_db out of its options, and restart it")  # fmt: skip
    else:
        yield ok("binlog_filters", server.name, "none")


def row_format(server: Server) -> Iterator[Check]:
    """Whole row images: ROW, FULL, no partial JSON, no compressed transactions."""
    wanted = (("binlog_format", "ROW", "failed"), ("binlog_row_image", "FULL", "failed"),
              ("binlog_row_value_options", "", "failed"),
              ("binlog_transaction_compression", "OFF", "warning"))  # fmt: skip
    for name, value, status in wanted:
        now = server.variable(name, value)
        if now.upper() == value:
            if name in server.variables and status == "failed":
                yield ok(name, server.name, now or "not set")
        else:
            tell = failed if status == "failed" else warning
            yield tell(name, server.name, f"is {now}, not {value or 'empty'}: changes would not be seen whole",
                       f"SET GLOBAL {name} = '{value}', then let every client connect anew: sessions keep the "
                       "old value")  # fmt: skip


def retention(server: Server) -> Iterator[Check]:
    """How long binlogs are kept: shorter than a copy takes, and sync can't begin where the copy began."""
    seconds = server.number("binlog_expire_logs_seconds") or server.number("expire_logs_days") * 86400
    if 0 < seconds < _RETENTION_S:
        remedy = "SET GLOBAL binlog_expire_logs_seconds = 604800" if "binlog_expire_logs_seconds" in server.variables \
            else "SET GLOBAL expire_logs_days = 7"  # fmt: skip
        yield warning("binlog_retention", server.name, f"keeps binlogs for {seconds / 3600:.0f} hours only: if copy "
                      "and verification take longer, sync can't start", remedy)  # fmt: skip
    else:
        yield ok("binlog_retention", server.name, f"{seconds / 86400:.0f} days" if seconds else "for ever")


def gtids(servers: Sequence[Server]) -> Iterator[Check]:
    """gtid_mode: the same everywhere; without it a failover of the source can't be followed."""
    modes = {s.name: s.variable("gtid_mode", "OFF") for s in servers if s.flavor == "MySQL"}
    for name, mode in modes.items():
        if len(set(modes.values())) > 1:
            others = ", ".join(f"{n} {m}" for n, m in modes.items() if n != name)
            yield warning("gtid_mode", name, f"is {mode}, elsewhere it is not ({others})",
                          "make gtid_mode the same on all instances")  # fmt: skip
        elif mode != "ON":
            yield warning("gtid_mode", name, f"is {mode}: positions are file:pos, and don't survive a failover",
                          "don't fail the source over while migrating, or set gtid_mode = ON")  # fmt: skip
        else:
            yield ok("gtid_mode", name, mode)


def xa_transactions(server: Server) -> Iterator[Check]:
    """XA transactions that stay prepared: copy would wait for their end, and sync refuses those on routed tables."""
    now = prepared(server.session)
    if now is None:
        yield warning("xa_transactions", server.name, "can't be looked for: XA RECOVER is refused to the account",
                      "GRANT XA_RECOVER_ADMIN ON *.* to it")  # fmt: skip
        return
    if now:
        wait(_PASSING_S)
        stay = now & (prepared(server.session) or set())
        tell = failed if stay else warning
        xid = in_sql(min(stay or now))
        what = f"{len(stay)} stay prepared" if stay else f"{len(now)} were prepared a moment ago"
        yield tell("xa_transactions", server.name, f"{what}, {xid} for one: sync doesn't follow XA transactions that "
                   "change routed tables", f"end them (XA RECOVER; XA COMMIT {xid} or XA ROLLBACK {xid}), and let the "
                   "application use plain ones on routed tables until the cutover")  # fmt: skip
    else:
        yield ok("xa_transactions", server.name, "none is prepared")


def cascades(server: Server, tables: Sequence[MergedTable]) -> Iterator[Check]:
    """Foreign keys that change rows by themselves: InnoDB writes none of these changes to the binlog."""
    if server.variable("innodb_native_foreign_keys") == "OFF":  # foreign keys of the SQL layer are logged
        return
    shards = {(t.shard.schema, t.shard.table): t.shard for m in tables for t in m.shards
              if t.shard.instance == server.name and t.definition.foreign_keys}  # fmt: skip
    if not shards:
        return
    for schema, table, name, update, delete in server.session.query(
        "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, UPDATE_RULE, DELETE_RULE "
        "FROM information_schema.REFERENTIAL_CONSTRAINTS"
    ):
        acts = [f"ON {verb} {rule}" for verb, rule in (("UPDATE", update), ("DELETE", delete))
                if rule not in ("RESTRICT", "NO ACTION")]  # fmt: skip
        if (schema, table) in shards and acts:
            yield failed("cascades", str(shards[schema, table]), f"foreign key {name} is {' '.join(acts)}: what it "
                         "changes is in no binlog", "make it RESTRICT, and let the application change these "
                         "rows")  # fmt: skip
