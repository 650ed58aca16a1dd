"""An index as DDL writes it."""

from __future__ import annotations

from dataclasses import dataclass

from migrate.sync.lexer import Cursor

Part = tuple[str | None, int | None]


@dataclass(frozen=True)
class WrittenIndex:
    """An index as written. `name` None: the server makes one. `foreign`: only if no other index serves the key.
    `hashed`: USING HASH, which MariaDB keeps as written."""

    name: str | None
    parts: tuple[Part, ...]
    unique: bool = False
    primary: bool = False
    kind: str = "BTREE"
    foreign: bool = False
    hashed: bool = False
    missing_only: bool = False


def read_index(
    cursor: Cursor, name: str | None, *, unique: bool = False, primary: bool = False, kind: str = "BTREE"
) -> WrittenIndex:
    """Reads an index, from behind its keywords to its options."""
    kind = kind or "BTREE"
    missing_only = cursor.skip("IF", "NOT", "EXISTS")
    if not cursor.sees("(") and not cursor.sees("USING") and not cursor.sees("TYPE"):
        name = cursor.name()
    hashed = bool(cursor.one_of("USING", "TYPE")) and cursor.name().upper() == "HASH"
    parts = read_parts(cursor)
    hashed = index_options(cursor) or hashed
    return WrittenIndex(
        "PRIMARY" if primary else name, parts, unique, primary, kind, hashed=hashed, missing_only=missing_only
    )


def index_options(cursor: Cursor) -> bool:
    """Reads what may follow an index's columns; gives whether it is USING HASH, all else isn't in the definition."""
    hashed = False
    while True:
        if cursor.one_of("USING", "TYPE"):
            hashed = cursor.name().upper() == "HASH"
        elif cursor.skip("WITH", "PARSER"):
            cursor.name()
        elif cursor.one_of("KEY_BLOCK_SIZE", "COMMENT", "ENGINE_ATTRIBUTE", "SECONDARY_ENGINE_ATTRIBUTE"):
            cursor.skip("=")
            cursor.take()
        elif not (cursor.one_of("VISIBLE", "INVISIBLE", "IGNORED") or cursor.skip("NOT", "IGNORED")):
            return hashed


def read_parts(cursor: Cursor) -> tuple[Part, ...]:
    """Reads the columns of an index or a key, in their parenthesis."""
    cursor.expect("(")
    found: list[Part] = []
    while True:
        if cursor.sees("("):
            cursor.parenthesis()
            found.append((None, None))
        else:
            name = cursor.name()
            prefix = None
            if cursor.skip("("):
                prefix = cursor.integer()
                cursor.expect(")")
            found.append((name, prefix))
        cursor.one_of("ASC", "DESC")
        if not cursor.skip(","):
            break
    cursor.expect(")")
    return tuple(found)
