"""Two shapes of a table, compared: what a reader needs to see, not what servers spell differently."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from migrate.model import BINARIES, INTEGERS, Column, Index, TableDef
from migrate.schema.column import members


def differences(one: TableDef, other: TableDef, *, expressions: bool = True, rebuilt: bool = False) -> list[str]:
    """What is different in `other`, a sentence each; none: they hold the same rows in the same way.

    Display widths, ZEROFILL, utf8 for utf8mb3 and the spelling of defaults don't count. Column order, collations,
    ENUM members and every index do. `expressions`: generated columns are compared by their text too, which
    two kinds of servers write differently. `rebuilt`: of a mapped table only what its rows depend on counts, not the
    order of columns, their defaults, collations outside of keys, the names of indexes, and those that aren't unique.
    """
    found: list[str] = []
    ones = {c.name.lower(): c for c in one.columns}
    others = {c.name.lower(): c for c in other.columns}
    keyed = {c.lower() for d in (one, other) for i in d.unique_indexes for c in i.columns}
    found += [f"column {c.name} is missing" for n, c in ones.items() if n not in others]
    found += [f"column {c.name} is there in addition" for n, c in others.items() if n not in ones]
    for name in ones.keys() & others.keys():
        before, after = _facts(ones[name], expressions), _facts(others[name], expressions)
        for fact in before:
            free = rebuilt and (fact == "default" or (fact == "collation" and name not in keyed))
            if before[fact] != after[fact] and not free:
                found.append(f"column {ones[name].name}: {fact} is {after[fact]}, not {before[fact]}")
    found.sort()
    if rebuilt:
        return found + _keys_apart(one, other)
    if not found and list(ones) != list(others):
        found.append(f"the columns are in another order: {', '.join(others)}, not {', '.join(ones)}")
    mine, theirs = {i.name.lower(): i for i in one.indexes}, {i.name.lower(): i for i in other.indexes}
    for name in sorted(mine.keys() | theirs.keys()):
        if name not in theirs:
            found.append(f"index {mine[name].name} ({_index(mine[name])}) is missing")
        elif name not in mine:
            found.append(f"index {theirs[name].name} ({_index(theirs[name])}) is there in addition")
        elif _index(mine[name]) != _index(theirs[name]):
            found.append(f"index {mine[name].name} is {_index(theirs[name])}, not {_index(mine[name])}")
    return found


def _keys_apart(one: TableDef, other: TableDef) -> list[str]:
    mine, theirs = ({_index(i): i for i in d.unique_indexes} for d in (one, other))
    found = [f"{what} is missing" for what in mine if what not in theirs]
    return found + [f"{what} ({theirs[what].name}) is there in addition" for what in theirs if what not in mine]


def _facts(column: Column, expressions: bool) -> dict[str, object]:
    facts: dict[str, object] = {
        "type": _type(column),
        "nullability": "NULL" if column.nullable else "NOT NULL",
        "collation": _utf8(column.collation),
        "default": _default(column),
        "ON UPDATE": (column.on_update or "").replace("()", "") or None,
        "AUTO_INCREMENT": column.auto_increment,
        "generation": column.generated and ("stored" if column.stored else "virtual"),
    }
    if expressions:
        facts["expression"] = column.generated
    return facts


def _type(column: Column) -> str:
    if column.type in ("enum", "set"):
        return f"{column.type}{members(column.full_type)}"
    full = column.full_type.lower().replace(" zerofill", "")
    if column.type in INTEGERS or column.type == "year":
        return re.sub(r"\(\d+\)", "", full)
    return full


def _utf8(collation: str | None) -> str | None:
    return re.sub(r"^utf8_", "utf8mb3_", collation) if collation else None


def _default(column: Column) -> str | None:
    text = column.default
    if text is None:
        return None
    if column.default_is_expression or re.match(r"(?i)(current_|curdate|now\()", text):
        bare = text.lower().replace(" ", "").removesuffix("()")
        return {"current_date": "curdate", "now": "current_timestamp"}.get(bare, bare)
    if column.type in BINARIES:
        raw = bytes.fromhex(text[2:]) if re.fullmatch(r"0x([0-9A-Fa-f]{2})*", text) else text.encode()
        return repr(raw.rstrip(b"\0"))
    if column.type in INTEGERS | {"decimal", "float", "double"}:
        try:
            return str(Decimal(text).normalize())
        except InvalidOperation:
            return text
    return text


def _index(index: Index) -> str:
    parts = ", ".join((str(c).lower() if c else "expression") + (f"({p})" if p else "") for c, p in index.parts)
    kind = "" if index.kind in ("BTREE", "HASH") else f"{index.kind} "
    return f"{'unique ' if index.unique else ''}{kind}{parts}"
