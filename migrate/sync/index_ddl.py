"""An index as DDL writes it."""

from __future__ import annotations

from dataclasses import dataclass

from migrate.sync.lexer import Cursor

Part = tuple[str | None, int | None]


@dataclass(frozen=True)
class WrittenIndex:
    """An index as written. `name` None: the server makes one. `foreign`: only if no other index serves the key."""

    name: str | None
    parts: tuple[Part, ...]
    unique: bool = False
    primary: bool = False
    kind: str = "BTREE"
    foreign: bool = False
    missing_only: bool = False


def read_index(
    cursor: Cursor, name: str | None, *, unique: bool = False, primary: bool = False, kind: str = "BTREE"
) -> WrittenIndex:
    """Reads an index, from behind its keywords to its options."""
    kind = kind or "BTREE"
    missing_only = cursor.skip("IF", "NOT", "EXISTS")
    if not cursor.sees("(") and not cursor.sees("USING") and not cursor.sees("TYPE"):
        name = cursor.name()
    if cursor.one_of("USING", "TYPE"):
        cursor.name()
    parts = read_parts(cursor)
    index_options(cursor)
    return WrittenIndex("PRIMARY" if primary else name, parts, unique, primary, kind, missing_only=missing_only)


def index_options(cursor: Cursor) -> None:
    """What may follow an index's columns: none of it is in the definition."""
    while True:
        if cursor.one_of("USING", "TYPE") or cursor.skip("WITH", "PARSER"):
            cursor.name()
        elif cursor.one_of("KEY_BLOCK_SIZE", "COMMENT", "ENGINE_ATTRIBUTE", "SECONDARY_ENGINE_ATTRIBUTE"):
            cursor.skip("=")
            cursor.take()
        elif not (cursor.one_of("VISIBLE", "INVISIBLE", "IGNORED") or cursor.skip("NOT", "IGNORED")):
            return


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
