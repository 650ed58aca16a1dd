"""What CREATE TABLE and ALTER TABLE ask for, read into one list of actions."""

from __future__ import annotations

from dataclasses import dataclass, field

from migrate.sync.column_ddl import Written, read_check, read_column
from migrate.sync.default_ddl import Default, read_default
from migrate.sync.dialect import Dialect
from migrate.sync.index_ddl import WrittenIndex, read_index, read_parts
from migrate.sync.lexer import Cursor, Unreadable

_ENGINES = {"innodb": "InnoDB", "myisam": "MyISAM", "memory": "MEMORY", "heap": "MEMORY", "archive": "ARCHIVE",
            "csv": "CSV", "blackhole": "BLACKHOLE", "aria": "Aria", "rocksdb": "ROCKSDB"}  # fmt: skip
# Options of a table that change nothing in its definition; a word or a number follows.
_OPTIONS = ("AUTO_INCREMENT", "AVG_ROW_LENGTH", "CHECKSUM", "TABLE_CHECKSUM", "COMPRESSION", "CONNECTION",
            "DELAY_KEY_WRITE", "ENCRYPTION", "INSERT_METHOD", "KEY_BLOCK_SIZE", "MAX_ROWS", "MIN_ROWS", "PACK_KEYS",
            "PASSWORD", "ROW_FORMAT", "STATS_AUTO_RECALC", "STATS_PERSISTENT", "STATS_SAMPLE_PAGES", "TABLESPACE",
            "AUTOEXTEND_SIZE", "ENGINE_ATTRIBUTE", "SECONDARY_ENGINE_ATTRIBUTE", "PAGE_CHECKSUM", "TRANSACTIONAL",
            "ALGORITHM", "LOCK")  # fmt: skip
# Actions on partitions by which rows go, or come, without row events; and those that keep every row.
_LOSSY = ("DROP PARTITION", "TRUNCATE PARTITION", "EXCHANGE PARTITION", "DISCARD", "IMPORT", "CONVERT PARTITION",
          "CONVERT TABLE")  # fmt: skip
_KEEPING = ("ADD PARTITION", "COALESCE PARTITION", "REORGANIZE PARTITION", "ANALYZE PARTITION", "CHECK PARTITION",
            "OPTIMIZE PARTITION", "REBUILD PARTITION", "REPAIR PARTITION")  # fmt: skip


@dataclass
class Actions:
    """Everything that one statement asks of one table."""

    columns: list[tuple[Written, str | None, str | None]] = field(default_factory=list)  # as, instead of, after
    dropped: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, Default | None] = field(default_factory=dict)
    indexes: list[WrittenIndex] = field(default_factory=list)
    dropped_indexes: list[tuple[str, bool]] = field(default_factory=list)  # name, whether it must exist
    renamed_indexes: dict[str, str] = field(default_factory=dict)
    foreign: list[tuple[str | None, str]] = field(default_factory=list)  # name, referenced table
    dropped_foreign: list[str] = field(default_factory=list)
    checks: list[str | None] = field(default_factory=list)
    dropped_constraints: list[tuple[str, bool]] = field(default_factory=list)  # name, whether it is a CHECK for certain
    charset: str | None = None
    collation: str | None = None
    convert: bool = False
    comment: str | None = None
    engine: str | None = None
    partitioned: bool | None = None
    rename_to: tuple[str, str] | None = None
    lossy: str | None = None


FIRST = "\0first"  # the place before all columns; no column is called so


def read_body(cursor: Cursor, dialect: Dialect) -> Actions:
    """The parenthesis of a CREATE TABLE, and the options behind it."""
    actions = Actions()
    cursor.expect("(")
    while True:
        if not _constraint(cursor, actions):
            _column(cursor, actions, dialect)
        if not cursor.skip(","):
            break
    cursor.expect(")")
    read_options(cursor, actions)
    return actions


def read_options(cursor: Cursor, actions: Actions) -> None:
    """The options of a table, up to what isn't one."""
    while _option(cursor, actions) or (actions.partitioned is None and _partition_by(cursor, actions)):
        cursor.skip(",")


def read_alter(cursor: Cursor, schema: str, dialect: Dialect) -> Actions:
    """The actions of an ALTER TABLE."""
    actions = Actions()
    while cursor.next.kind != "end" and not cursor.sees(";"):
        _action(cursor, actions, schema, dialect)
        if not cursor.skip(","):  # options and PARTITION BY may follow without one
            read_options(cursor, actions)
            break
    return actions


def _action(cursor: Cursor, actions: Actions, schema: str, dialect: Dialect) -> None:
    words = f"{cursor.next.value} {cursor.peek(1).value}".upper()
    if any(words.startswith(start) for start in _LOSSY):
        actions.lossy = words
        _rest(cursor)
    elif words in _KEEPING:
        _rest(cursor)
    elif cursor.skip("ADD"):
        column = cursor.skip("COLUMN")
        missing_only = cursor.skip("IF", "NOT", "EXISTS")
        if missing_only:
            raise Unreadable("ADD COLUMN IF NOT EXISTS")
        if column or not _constraint(cursor, actions):
            _columns(cursor, actions, dialect)
    elif cursor.skip("MODIFY"):
        cursor.skip("COLUMN")
        name = cursor.name()
        written = read_column(cursor, name, dialect)
        _place(cursor, actions, written, name)
    elif cursor.skip("CHANGE"):
        cursor.skip("COLUMN")
        old = cursor.name()
        written = read_column(cursor, cursor.name(), dialect)
        _place(cursor, actions, written, old)
    elif cursor.skip("DROP"):
        _drop(cursor, actions)
    elif cursor.skip("RENAME"):
        _rename(cursor, actions, schema)
    elif cursor.skip("ALTER"):
        _alter(cursor, actions)
    elif cursor.skip("CONVERT", "TO"):
        actions.convert = True
        if not _charset(cursor, actions):
            raise Unreadable("CONVERT TO what")
        if cursor.skip("COLLATE"):
            cursor.skip("=")
            actions.collation = cursor.take().value
    elif cursor.skip("REMOVE", "PARTITIONING"):
        actions.partitioned = False
    elif cursor.skip("ORDER", "BY"):
        _rest(cursor)
    elif not (
        cursor.skip("ENABLE", "KEYS")
        or cursor.skip("DISABLE", "KEYS")
        or cursor.one_of("FORCE")
        or cursor.skip("WITH", "VALIDATION")
        or cursor.skip("WITHOUT", "VALIDATION")
        or _partition_by(cursor, actions)
    ):
        if not _option(cursor, actions):
            raise Unreadable(f"near {cursor.next}")
        read_options(cursor, actions)


def _rest(cursor: Cursor) -> None:
    while cursor.next.kind != "end":
        cursor.take()


def _partition_by(cursor: Cursor, actions: Actions) -> bool:
    if not cursor.skip("PARTITION", "BY"):
        return False
    actions.partitioned = True
    _rest(cursor)
    return True


def _columns(cursor: Cursor, actions: Actions, dialect: Dialect) -> None:
    """What stands behind ADD [COLUMN]: one column with its place, or several in a parenthesis."""
    if not cursor.skip("("):
        written = read_column(cursor, cursor.name(), dialect)
        _place(cursor, actions, written, None)
        return
    while True:
        if not _constraint(cursor, actions):
            _column(cursor, actions, dialect)
        if not cursor.skip(","):
            break
    cursor.expect(")")


def _column(cursor: Cursor, actions: Actions, dialect: Dialect) -> None:
    written = read_column(cursor, cursor.name(), dialect)
    _append(actions, written, None, None)


def _place(cursor: Cursor, actions: Actions, written: Written, instead_of: str | None) -> None:
    after = FIRST if cursor.skip("FIRST") else cursor.name() if cursor.skip("AFTER") else None
    _append(actions, written, instead_of, after)


def _append(actions: Actions, written: Written, instead_of: str | None, after: str | None) -> None:
    """Adds a column, and the key that it is by its own attributes."""
    actions.columns.append((written, instead_of, after))
    if written.key:
        primary = written.key == "PRIMARY"
        name = "PRIMARY" if primary else None
        actions.indexes.append(WrittenIndex(name, ((written.name, None),), unique=True, primary=primary))


def _drop(cursor: Cursor, actions: Actions) -> None:
    if cursor.skip("PRIMARY", "KEY"):
        actions.dropped_indexes.append(("PRIMARY", True))
    elif cursor.one_of("INDEX", "KEY"):
        optional = cursor.skip("IF", "EXISTS")
        actions.dropped_indexes.append((cursor.name(), not optional))
    elif cursor.skip("FOREIGN", "KEY"):
        cursor.skip("IF", "EXISTS")
        actions.dropped_foreign.append(cursor.name())
    elif word := cursor.one_of("CHECK", "CONSTRAINT"):
        cursor.skip("IF", "EXISTS")
        actions.dropped_constraints.append((cursor.name(), word == "CHECK"))
    else:
        cursor.skip("COLUMN")
        if cursor.skip("IF", "EXISTS"):
            raise Unreadable("DROP COLUMN IF EXISTS")
        actions.dropped.add(cursor.name().lower())
        cursor.one_of("RESTRICT", "CASCADE")


def _rename(cursor: Cursor, actions: Actions, schema: str) -> None:
    if cursor.skip("COLUMN"):
        old = cursor.name()
        cursor.expect("TO")
        actions.renamed[old.lower()] = cursor.name()
    elif (cursor.sees("INDEX") or cursor.sees("KEY")) and cursor.peek(2).value.upper() == "TO":
        cursor.take()
        old = cursor.name()
        cursor.expect("TO")
        actions.renamed_indexes[old.lower()] = cursor.name()
    else:
        if not cursor.one_of("TO", "AS"):
            cursor.skip("=")
        actions.rename_to = cursor.table(schema)


def _alter(cursor: Cursor, actions: Actions) -> None:
    if cursor.one_of("INDEX", "KEY"):
        cursor.name()
        if not cursor.one_of("VISIBLE", "INVISIBLE", "IGNORED"):
            cursor.expect("NOT", "IGNORED")
    elif cursor.one_of("CHECK", "CONSTRAINT"):
        cursor.name()
        if not cursor.skip("ENFORCED"):
            cursor.expect("NOT", "ENFORCED")
    else:
        cursor.skip("COLUMN")
        name = cursor.name()
        if cursor.skip("SET", "DEFAULT"):
            actions.defaults[name.lower()] = read_default(cursor)
        elif cursor.skip("DROP", "DEFAULT"):
            actions.defaults[name.lower()] = None
        else:
            raise Unreadable(f"ALTER COLUMN {name} {cursor.next}")


def _charset(cursor: Cursor, actions: Actions) -> bool:
    if not (cursor.skip("CHARACTER", "SET") or cursor.skip("CHARSET") or cursor.skip("CHAR", "SET")):
        return False
    cursor.skip("=")
    actions.charset, actions.collation = cursor.take().value, None
    return True


def _option(cursor: Cursor, actions: Actions) -> bool:
    """Reads one option of a table, if one comes next."""
    start = cursor.at
    cursor.skip("DEFAULT")
    if _charset(cursor, actions):
        return True
    if cursor.skip("COLLATE"):
        cursor.skip("=")
        actions.collation = cursor.take().value
    elif cursor.skip("COMMENT"):
        cursor.skip("=")
        actions.comment = cursor.text()
    elif cursor.one_of("ENGINE", "TYPE"):
        cursor.skip("=")
        name = cursor.take().value
        if name.lower() not in _ENGINES:
            raise Unreadable(f"the engine {name}")
        actions.engine = _ENGINES[name.lower()]
    elif cursor.skip("DATA", "DIRECTORY") or cursor.skip("INDEX", "DIRECTORY") or cursor.one_of(*_OPTIONS):
        cursor.skip("=")
        cursor.take()
    elif cursor.skip("START", "TRANSACTION"):  # behind the CREATE TABLE that MySQL 8 writes for CREATE .. SELECT
        pass
    else:
        cursor.at = start
        return False
    return True


def _constraint(cursor: Cursor, actions: Actions) -> bool:
    """Reads an index, a key or a CHECK, if one comes next."""
    name = None
    if cursor.sees("CHECK") and cursor.peek(1).value == "(":
        actions.checks.append(read_check(cursor))
        return True
    if cursor.skip("CONSTRAINT"):
        if not any(cursor.sees(w) for w in ("PRIMARY", "UNIQUE", "FOREIGN", "CHECK")):
            name = cursor.name()
        if cursor.sees("CHECK"):
            read_check(cursor)
            actions.checks.append(name)
            return True
    if cursor.skip("PRIMARY", "KEY"):
        actions.indexes.append(read_index(cursor, None, unique=True, primary=True))
    elif cursor.skip("UNIQUE"):
        cursor.one_of("INDEX", "KEY")
        actions.indexes.append(read_index(cursor, name, unique=True))
    elif cursor.skip("FOREIGN", "KEY"):
        _foreign_key(cursor, actions, name)
    elif kind := cursor.one_of("FULLTEXT", "SPATIAL"):
        cursor.one_of("INDEX", "KEY")
        actions.indexes.append(read_index(cursor, None, kind=kind))
    elif (cursor.sees("INDEX") or cursor.sees("KEY")) and cursor.next.kind == "word":
        cursor.take()
        actions.indexes.append(read_index(cursor, None))
    else:
        return False
    return True


def _foreign_key(cursor: Cursor, actions: Actions, name: str | None) -> None:
    cursor.skip("IF", "NOT", "EXISTS")
    given = cursor.name() if not cursor.sees("(") else None
    if given and name is None:
        raise Unreadable("a foreign key whose name depends on the version")
    parts = read_parts(cursor)
    cursor.expect("REFERENCES")
    _, referenced = cursor.table("")
    if cursor.sees("("):
        cursor.parenthesis()
    if cursor.skip("MATCH"):
        cursor.take()
    while cursor.skip("ON"):
        cursor.take()
        if not cursor.one_of("RESTRICT", "CASCADE"):
            cursor.take(), cursor.take()  # SET NULL, NO ACTION, SET DEFAULT
    actions.foreign.append((name, referenced))
    actions.indexes.append(WrittenIndex(name, parts, foreign=True))
