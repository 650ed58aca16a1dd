"""Statements of a binlog, read into changes of tables: what MySQL 5.6 to 9.7 and MariaDB write there.

The reader follows the servers' own grammar, from tokens to definitions, and takes nothing for granted: what it doesn't
know word for word is `unknown`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from migrate.sync.actions import Actions, read_alter, read_body
from migrate.sync.change import Change
from migrate.sync.column_ddl import column_collation
from migrate.sync.effects import Effects, Name, Tables
from migrate.sync.index_ddl import index_options, read_index
from migrate.sync.lexer import REAL_AS_FLOAT, Cursor, Unreadable, tokens
from migrate.sync.shape import altered, empty

_DML = ("INSERT", "REPLACE", "UPDATE", "DELETE", "LOAD", "WITH", "CALL", "DO", "IMPORT")
_NOTHING = ("GRANT", "REVOKE", "ANALYZE", "OPTIMIZE", "REPAIR", "CHECK", "FLUSH", "BEGIN", "START", "COMMIT",
            "ROLLBACK", "SAVEPOINT", "RELEASE", "XA", "SET", "USE", "INSTALL", "UNINSTALL", "LOCK", "UNLOCK", "PURGE",
            "RESET", "SELECT", "SHOW", "CHANGE", "STOP", "SIGNAL")  # fmt: skip
# Objects that aren't tables, nor belong to one.
_OBJECTS = ("USER", "ROLE", "VIEW", "FUNCTION", "PROCEDURE", "EVENT", "SERVER", "TABLESPACE", "UNDO", "LOGFILE",
            "SEQUENCE", "PACKAGE", "RESOURCE", "SPATIAL REFERENCE", "INSTANCE", "AGGREGATE", "LIBRARY")  # fmt: skip


@dataclass
class Reader:
    """One statement against what is known; changes so far are seen by what follows in it."""

    tables: Tables
    schema: str
    sql: str
    _effects: Effects = field(init=False)

    def __post_init__(self) -> None:
        self._effects = Effects(self.tables, self.sql)

    def read(self, sql_mode: int) -> list[Change]:
        """The changes, in order."""
        try:
            found = tokens(self.sql, self.tables.dialect, sql_mode)
            if sql_mode & REAL_AS_FLOAT and any(t.value.upper() == "REAL" for t in found):
                raise Unreadable("REAL means FLOAT in this sql_mode")
            cursor = Cursor(found)
        except Unreadable as error:
            self._effects.unknown((n for n in self.tables.names() if n[1].lower() in self.sql.lower()), str(error))
            return self._effects.changes
        main: list[Name] = []
        try:
            self._statement(cursor, main)
        except Unreadable as error:
            self._effects.changes.clear()
            self._effects.unknown(dict.fromkeys(main or self._mentioned(cursor)), str(error))
        return self._effects.changes

    def _statement(self, cursor: Cursor, main: list[Name]) -> None:
        while cursor.skip(";") or cursor.skip("("):
            pass
        if cursor.next.kind == "end":
            return
        handlers: dict[str, Callable[[Cursor, list[Name]], None]] = {
            "CREATE": self._create,
            "ALTER": self._alter,
            "DROP": self._drop,
            "RENAME": self._rename,
            "TRUNCATE": self._truncate,
        }
        word = cursor.take().value.upper()
        if word in handlers:
            handlers[word](cursor, main)
        elif word in _DML:
            self._dml(word, cursor)
        elif word not in _NOTHING:
            raise Unreadable(f"near {word}")

    def _mentioned(self, cursor: Cursor) -> list[Name]:
        """The known tables that the text names."""
        cursor.at = 0
        found: dict[Name, None] = {}
        while cursor.next.kind != "end":
            first = cursor.take()
            if first.kind not in ("word", "quoted"):
                continue
            names = [(self.schema, first.value)]
            if cursor.skip("."):
                names.insert(0, (first.value, cursor.take().value))
            known = next((n for n in names if self.tables.definition(*n) is not None), None)
            if known:
                found[known] = None
        return list(found)

    # -- statements

    def _create(self, cursor: Cursor, main: list[Name]) -> None:
        replaces = cursor.skip("OR", "REPLACE")
        if cursor.skip("DEFINER"):
            while cursor.next.kind != "end" and not any(cursor.sees(w) for w in ("TRIGGER", "SQL", *_OBJECTS)):
                cursor.take()
        if cursor.skip("TEMPORARY"):
            return
        cursor.one_of("ONLINE", "OFFLINE")
        if cursor.skip("TABLE"):
            self._create_table(cursor, main, replaces)
        elif any(cursor.sees(w) for w in ("INDEX", "UNIQUE", "FULLTEXT")) or cursor.sees("SPATIAL", "INDEX"):
            self._create_index(cursor, main)
        elif cursor.skip("TRIGGER"):
            cursor.skip("IF", "NOT", "EXISTS")
            self._create_trigger(cursor, main, replaces)
        elif cursor.one_of("DATABASE", "SCHEMA"):
            cursor.skip("IF", "NOT", "EXISTS")
            name = cursor.name()
            self._database(cursor, name, self.tables.dialect.default_collation)
        elif not (any(cursor.sees(*w.split()) for w in _OBJECTS) or cursor.one_of("ALGORITHM", "SQL")):
            raise Unreadable(f"near CREATE {cursor.next}")

    def _database(self, cursor: Cursor, name: str, collation: str) -> None:
        charset = collate = None
        while cursor.next.kind != "end":
            if cursor.skip("CHARACTER", "SET") or cursor.skip("CHARSET"):
                cursor.skip("=")
                charset, collate = cursor.take().value, None
            elif cursor.skip("COLLATE"):
                cursor.skip("=")
                collate = cursor.take().value
            else:
                cursor.take()
        self.tables.database(name, column_collation(charset, collate, collation, self.tables.dialect)[1])

    def _create_table(self, cursor: Cursor, main: list[Name], replaces: bool) -> None:
        careful = cursor.skip("IF", "NOT", "EXISTS")
        name = cursor.table(self.schema)
        main.append(name)
        if self._effects.definition(name) is not None:
            if careful:
                return
            if replaces:
                self._effects.change("drop", name, None)
        inside = cursor.sees("(", "LIKE")
        if inside:
            cursor.take()
        dialect = self.tables.dialect
        if cursor.skip("LIKE"):
            self._effects.like(name, cursor.table(self.schema))
            if inside:
                cursor.expect(")")
            cursor.end()
            return
        if not cursor.sees("("):
            raise Unreadable("a table made of a query's columns")
        actions = read_body(cursor, dialect)
        cursor.end()
        default = self.tables.collation(name[0])
        definition, _ = altered(empty(dialect, default), actions, name[1], default, dialect)
        self._effects.change("create", name, definition)

    def _create_index(self, cursor: Cursor, main: list[Name]) -> None:
        kind = cursor.one_of("UNIQUE", "FULLTEXT", "SPATIAL")
        cursor.expect("INDEX")
        careful = cursor.skip("IF", "NOT", "EXISTS")
        index = cursor.name()
        hashed = bool(cursor.one_of("USING", "TYPE")) and cursor.name().upper() == "HASH"
        cursor.expect("ON")
        name = cursor.table(self.schema)
        main.append(name)
        made = read_index(cursor, index, unique=kind == "UNIQUE", kind=kind if kind in ("FULLTEXT", "SPATIAL") else "")
        self._online(cursor)
        self._effects.act(name, Actions(indexes=[replace(made, missing_only=careful, hashed=made.hashed or hashed)]))

    def _online(self, cursor: Cursor) -> None:
        """The options behind an index: how it is made."""
        while True:
            index_options(cursor)
            if not cursor.one_of("ALGORITHM", "LOCK", "WAIT"):
                break
            cursor.skip("=")
            cursor.take()
        cursor.skip("NOWAIT")
        cursor.end()

    def _create_trigger(self, cursor: Cursor, main: list[Name], replaces: bool) -> None:
        schema, trigger = cursor.table(self.schema)
        while not cursor.skip("ON"):
            if cursor.take().kind == "end":
                raise Unreadable("a trigger of no table")
        name = cursor.table(schema)
        main.append(name)
        before = self._effects.definition(name)
        if before is not None:
            kept = {t for t in before.triggers if not (replaces and t == trigger)}
            self._effects.change("alter", name, replace(before, triggers=tuple(sorted(kept | {trigger}))))

    def _alter(self, cursor: Cursor, main: list[Name]) -> None:
        cursor.one_of("ONLINE", "OFFLINE")
        cursor.skip("IGNORE")
        if cursor.skip("TABLE"):
            cursor.skip("IF", "EXISTS")
            name = cursor.table(self.schema)
            main.append(name)
            if not cursor.skip("NOWAIT") and cursor.skip("WAIT"):
                cursor.integer()
            actions = read_alter(cursor, self.schema, self.tables.dialect)
            cursor.end()
            self._effects.act(name, actions)
        elif cursor.one_of("DATABASE", "SCHEMA"):
            named = cursor.named() and not any(
                cursor.sees(w) for w in ("CHARACTER", "CHARSET", "COLLATE", "DEFAULT", "ENCRYPTION", "READ", "UPGRADE")
            )
            schema = cursor.name() if named else self.schema
            self._database(cursor, schema, self.tables.collation(schema))
        elif not (
            any(cursor.sees(*w.split()) for w in _OBJECTS) or cursor.one_of("ALGORITHM", "DEFINER", "SQL", "PRIVATE")
        ):
            raise Unreadable(f"near ALTER {cursor.next}")

    def _drop(self, cursor: Cursor, main: list[Name]) -> None:
        if cursor.skip("TEMPORARY"):
            return
        cursor.one_of("ONLINE", "OFFLINE")
        if cursor.one_of("TABLE", "TABLES"):
            cursor.skip("IF", "EXISTS")
            names = [cursor.table(self.schema)]
            while cursor.skip(","):
                names.append(cursor.table(self.schema))
            main += names
            cursor.one_of("RESTRICT", "CASCADE")
            self._wait(cursor)
            for name in names:
                self._effects.change("drop", name, None)
        elif cursor.skip("INDEX"):
            careful = cursor.skip("IF", "EXISTS")
            index = cursor.name()
            cursor.expect("ON")
            name = cursor.table(self.schema)
            main.append(name)
            self._online(cursor)
            self._effects.act(name, Actions(dropped_indexes=[(index, not careful)]))
        elif cursor.skip("TRIGGER"):
            cursor.skip("IF", "EXISTS")
            self._drop_trigger(*cursor.table(self.schema))
        elif cursor.one_of("DATABASE", "SCHEMA"):
            cursor.skip("IF", "EXISTS")
            schema = cursor.name()
            of = self.tables.dialect.name
            for name in [n for n in self.tables.names() if of(n[0], "") == of(schema, "")]:
                self._effects.change("drop", name, None)
        elif not (any(cursor.sees(*w.split()) for w in _OBJECTS) or cursor.skip("PREPARE")):
            raise Unreadable(f"near DROP {cursor.next}")

    def _wait(self, cursor: Cursor) -> None:
        if not cursor.skip("NOWAIT") and cursor.skip("WAIT"):
            cursor.integer()
        cursor.end()

    def _drop_trigger(self, schema: str, trigger: str) -> None:
        for name in self.tables.names():
            before = self._effects.definition(name)
            if name[0] == schema and before is not None and trigger in before.triggers:
                self._effects.change(
                    "alter", name, replace(before, triggers=tuple(t for t in before.triggers if t != trigger))
                )

    def _rename(self, cursor: Cursor, main: list[Name]) -> None:
        if cursor.sees("USER"):
            return
        if not cursor.one_of("TABLE", "TABLES"):
            raise Unreadable(f"near RENAME {cursor.next}")
        cursor.skip("IF", "EXISTS")
        moves: list[tuple[Name, Name]] = []
        while True:
            old = cursor.table(self.schema)
            cursor.expect("TO")
            moves.append((old, cursor.table(self.schema)))
            main += moves[-1]
            if not cursor.skip(","):
                break
        self._wait(cursor)
        self._effects.moves(moves)

    def _truncate(self, cursor: Cursor, main: list[Name]) -> None:
        cursor.skip("TABLE")
        name = cursor.table(self.schema)
        main.append(name)
        self._wait(cursor)
        self._effects.change("truncate", name, self._effects.definition(name))

    def _dml(self, word: str, cursor: Cursor) -> None:
        """A statement that was logged as text: the table that it writes to, or else all that it names."""
        names = self._mentioned(cursor)
        cursor.at = 1
        if word in ("INSERT", "REPLACE"):
            while cursor.one_of("LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO"):
                pass
            names = [cursor.table(self.schema)]
        elif word == "LOAD":
            while not cursor.skip("INTO", "TABLE"):
                if cursor.take().kind == "end":
                    raise Unreadable("LOAD into what")
            names = [cursor.table(self.schema)]
        for name in names:
            self._effects.change("dml", name, self._effects.definition(name))


def one_line(sql: str, length: int = 200) -> str:
    """The statement on one line, cut if it is long, for messages."""
    text = re.sub(r"\s+", " ", sql).strip()
    return text if len(text) <= length else text[: length - 2] + ".."
