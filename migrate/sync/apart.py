"""Shards of one target whose definitions differ while a change goes round: what came where already."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from migrate.model import Column, Index, MergedTable, Shard

_NAMED = 5


def apart(merged: MergedTable) -> list[str]:
    """Which columns, types and indexes have come to which shards, a sentence each; none if all are the same."""
    found = []
    shards = [s.shard for s in merged.shards]
    columns: dict[str, dict[Shard, Column]] = defaultdict(dict)
    indexes: dict[str, dict[Shard, Index]] = defaultdict(dict)
    orders: dict[tuple[str, ...], list[Shard]] = defaultdict(list)
    for table in merged.shards:
        for column in table.definition.columns:
            columns[column.name.lower()][table.shard] = column
        for index in table.definition.indexes:
            indexes[index.name.lower()][table.shard] = index
    common = {name for name, where in columns.items() if len(where) == len(shards)}
    for table in merged.shards:
        names = (c.name.lower() for c in table.definition.columns)
        orders[tuple(n for n in names if n in common)].append(table.shard)
    for where in columns.values():
        name = next(iter(where.values())).name
        found += _presence(f"column {name}", where, shards)
        found += _forms(f"column {name}", {shard: _column(c) for shard, c in where.items()})
    for held in indexes.values():
        name = next(iter(held.values())).name
        found += _presence(f"index {name}", held, shards)
        found += _forms(f"index {name}", {shard: _index(i) for shard, i in held.items()})
    if len(orders) > 1:
        fewest = min(orders.values(), key=len)
        found.append(f"the columns are in another order on {_list(fewest)}")
    return [f"{merged.target}: {sentence}" for sentence in found]


def _presence(what: str, where: Iterable[Shard], shards: Sequence[Shard]) -> list[str]:
    there = set(where)
    missing = [s for s in shards if s not in there]
    if not missing:
        return []
    return [f"{what} is on {len(there)} of {len(shards)} shards; waiting for {_list(missing)}"]


def _forms(what: str, forms: dict[Shard, str]) -> list[str]:
    by_form: dict[str, list[Shard]] = defaultdict(list)
    for shard, form in forms.items():
        by_form[form].append(shard)
    if len(by_form) < 2:
        return []
    ordered = sorted(by_form.items(), key=lambda item: -len(item[1]))
    (most, many), *rest = ordered
    others = ", ".join(f"{form} on {_list(where)}" for form, where in rest)
    return [f"{what} is {most} on {len(many)} of {len(forms)} shards, {others}"]


def _column(column: Column) -> str:
    words = [column.full_type, column.collation or "", "" if column.nullable else "NOT NULL"]
    words += [f"DEFAULT {column.default}"] if column.default is not None else []
    words += ["AUTO_INCREMENT"] if column.auto_increment else []
    words += [f"AS ({column.generated})"] if column.generated is not None else []
    return " ".join(w for w in words if w)


def _index(index: Index) -> str:
    parts = ", ".join((c or "an expression") + (f"({p})" if p else "") for c, p in index.parts)
    return f"{'unique ' if index.unique else ''}({parts})"


def _list(shards: Sequence[Shard]) -> str:
    named = ", ".join(str(s) for s in shards[:_NAMED])
    return named if len(shards) <= _NAMED else f"{named} and {len(shards) - _NAMED} more"
