"""Checks of the shards' definitions: complete routes, equal shapes, keys, engines, money that isn't a float."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from migrate.doublewrite.router import obstacles
from migrate.doublewrite.sharding import Sharding
from migrate.ledger import Ledger
from migrate.model import FLOATS, TEXTS, MergedTable
from migrate.preflight.report import Check, failed, ok, warning
from migrate.routes import Routing
from migrate.schema import apart, target_ddl

_UNICODE = ("utf8", "utf8mb3", "utf8mb4", "ascii")


def routes(routing: Routing) -> Iterator[Check]:
    """Nothing left out: every table is routed or ignored, every route finds something."""
    for problem in routing.problems:
        yield failed("routes", "config", problem, "mend the [[route]] and [[ignore]] entries")
    if not routing.tables:
        yield failed("routes", "config", "no table is routed", "add a [[route]]")
    elif not routing.problems:
        shards = sum(len(t.shards) for t in routing.tables)
        yield ok("routes", "config", f"{shards} shards to {len(routing.tables)} tables, {len(routing.ignored)} ignored")


def shapes(table: MergedTable) -> Iterator[Check]:
    """The shards of a target have one shape."""
    first = table.shards[0]
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for other in table.shards[1:]:
        sentences = apart(table, other)
        if sentences:
            alike[tuple(sentences)].append(str(other.shard))
    for told, shards in alike.items():
        yield failed("shapes", str(table.target), f"{_some(shards)} differ from {first.shard}: {'; '.join(told)}",
                     "ALTER these shards so that all are the same")  # fmt: skip
    if not alike:
        yield ok("shapes", str(table.target), f"{len(table.shards)} shards of one shape")


def keys(table: MergedTable) -> Iterator[Check]:
    """A key tells rows apart, and cuts a shard into chunks."""
    if table.definition.key is None:
        yield warning("primary_key", str(table.target), "no primary key and no unique key without NULLs: each shard is "
                      "copied in one piece, and two equal rows can't be told apart", "add a primary key to its "
                      "shards")  # fmt: skip
    else:
        columns = ", ".join(table.definition.key.columns)
        yield ok("primary_key", str(table.target), f"{table.definition.key.name} ({columns})")


def engines(table: MergedTable) -> Iterator[Check]:
    """Consistent snapshots need a transactional engine."""
    strange = sorted({t.definition.engine for t in table.shards} - {"InnoDB"})
    for engine in strange:
        shards = [str(t.shard) for t in table.shards if t.definition.engine == engine]
        yield failed("engine", str(table.target), f"{_some(shards)}: {engine} has no snapshots, so a verification at "
                     "a cut isn't possible", "ALTER TABLE .. ENGINE = InnoDB")  # fmt: skip


def charsets(table: MergedTable) -> Iterator[Check]:
    """Texts that become other bytes on the way to utf8mb4."""
    found: dict[str, list[str]] = defaultdict(list)
    for column in table.definition.columns:
        if column.type in TEXTS and (column.charset or "utf8mb4") not in _UNICODE:
            found[str(column.charset)].append(column.name)
    for charset, columns in found.items():
        yield warning("text_charset", str(table.target), f"{', '.join(columns)}: {charset} becomes utf8mb4",
                      "look at some values: text of another charset stored here would stay garbled")  # fmt: skip


def floats(table: MergedTable, money: set[tuple[str, str]]) -> Iterator[Check]:
    """Money is never a float; other floats are shown, since their last digits may differ."""
    for column in table.definition.columns:
        if column.type not in FLOATS:
            continue
        where = f"{table.target}.{column.name}"
        if (str(table.target).lower(), column.name.lower()) in money:
            yield failed("float", where, f"holds money as {column.full_type}, which can't hold every cent",
                         "ALTER it to DECIMAL on the source, and settle what rounding did")  # fmt: skip
        else:
            yield warning("float", where, f"is {column.full_type}: carried bit by bit, but sums of it aren't exact",
                          "make it DECIMAL if it is an amount")  # fmt: skip


def money_columns(ledger: Ledger) -> set[tuple[str, str]]:
    """(target table, column) of all amounts and balances of a ledger, in lower case."""
    found = {(c.table, name) for c in ledger.controls for name in c.sums}
    entry = ledger.role.entry
    found |= {(entry.table, name) for name in (entry.amount, entry.balance_before, entry.balance_after) if name}
    return {(table.lower(), name.lower()) for table, name in found}


def carried(table: MergedTable) -> Iterator[Check]:
    """What TiDB can't hold as it is."""
    schema = target_ddl(table)
    for refusal in schema.refusals:
        yield failed("schema", refusal.split(":")[0], refusal.split(": ", 1)[1], "change the column on the sources")
    for trigger in sorted({name for t in table.shards for name in t.definition.triggers}):
        yield warning("triggers", str(table.target), f"trigger {trigger} stays behind: TiDB has none",
                      "let the application or a job do what it does before the cutover")  # fmt: skip
    if not schema.refusals:
        yield ok("schema", str(table.target), f"{len(schema.changes)} changes, which `migrate schema` shows")


def way_back(table: MergedTable, shardings: Sequence[Sharding]) -> Iterator[Check]:
    """Whether rows of a mapped table can be written back to its shards, and what stands in the way."""
    if not table.mapped:
        return
    if found := obstacles(table, shardings):
        yield warning("way_back", str(table.target), "its columns are mapped so that there is no double write, and no "
                      f"way back from its cutover: {'; '.join(found)}",
                      "mend that, or cut over with --no-way-back and keep the old system")  # fmt: skip
    else:
        yield ok("way_back", str(table.target), "its columns are mapped, and rows can be written back as they were")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
