"""What a statement of the application does, read from its text: which tables it names, where their names stand, and
the parts that capture needs. Everything that isn't understood for certain is refused."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.dialects.mysql import MySQL
from sqlglot.errors import SqlglotError

from migrate.doublewrite.clauses import Clauses
from migrate.doublewrite.plan import Kind, Name, Plan, Slot, refused

# Strings, names and comments, which hold no placeholder, and the placeholders of format and pyformat.
_PIECES = re.compile(
    r"""(?P<text>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`(?:[^`]|``)*`)"""
    r"|(?P<hidden>/\*M?!.*?\*/)|(?P<comment>--[ \t\r\n].*?(?:\n|\Z)|--\Z|\#.*?(?:\n|\Z)|/\*.*?\*/)"
    r"|(?P<holder>%s|%\((?P<name>\w+)\)s)|(?P<percent>%%)",
    re.DOTALL,
)
_WHY = {
    "CALL": "a stored procedure writes where nobody sees it",
    "LOAD": "its rows aren't in its text",
    "TRUNCATE": "it is no transaction's part and names no rows",
}
_PLAIN = {"SHOW", "DESC", "DESCRIBE", "EXPLAIN", "USE", "HELP"}


def read(sql: str, formatted: bool, functions: Collection[str] = ()) -> Plan:
    """The plan of a statement. `formatted`: it has parameters, so that %% is a percent sign. `functions`: stored ones,
    lower case, which may write what nobody sees. Refused if it can't be captured, or can't be understood."""
    plain, holders = _neutral(sql, formatted)
    plain, replaces = re.subn(r"\A(\s*)REPLACE(?=\s)", r"\1INSERT ", plain, flags=re.IGNORECASE)  # reads like an INSERT
    try:
        tokens = list(MySQL().tokenize(plain))
    except SqlglotError:
        raise refused(sql, "it can't be read") from None
    while tokens and tokens[-1].text == ";":
        tokens.pop()
    if not tokens:
        return Plan("pass", sql)
    if any(t.text == ";" and t.token_type.name == "SEMICOLON" for t in tokens):
        raise refused(sql, "it is more than one statement")
    words = [t.text.upper() for t in tokens]
    first = words[0]
    if first in _PLAIN:
        if first == "EXPLAIN" and "ANALYZE" in words:
            raise refused(sql, "it executes what it explains")
        return Plan("pass", sql)
    if first == "SET":
        return _setting(sql, words)
    if control := _control(sql, words):
        return control
    if first not in ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "TABLE", "("):
        raise refused(sql, _WHY.get(first, "it is no query and no change of rows (DDL and locks commit by themselves)"))
    tree = _parsed(sql, plain)
    for call in tree.find_all(exp.Anonymous):
        if call.name.lower() in functions:
            raise refused(sql, f"the stored function {call.name} may write where nobody sees it")
    slots, tables = _names(tree)
    if isinstance(tree, exp.Query):
        if list(tree.find_all(exp.Insert, exp.Update, exp.Delete)):
            raise refused(sql, "it changes rows inside a query")
        return Plan("read", sql, slots, tables, holders=holders, locks=tree.find(exp.Lock) is not None)
    reader = Clauses(sql, plain, tokens, words, slots, tables, holders)
    if isinstance(tree, exp.Insert) and first == "INSERT":
        return reader.insert("replace" if replaces else "insert")
    if isinstance(tree, exp.Update) and first == "UPDATE":
        return reader.update(tree)
    if isinstance(tree, exp.Delete) and first == "DELETE":
        return reader.delete(tree)
    raise refused(sql, "it can't be read for certain")


def _neutral(sql: str, formatted: bool) -> tuple[str, tuple[tuple[int, str | None], ...]]:
    """The text, of the same length, with a question mark for each parameter; and where the parameters stand."""
    holders: list[tuple[int, str | None]] = []

    def piece(match: re.Match[str]) -> str:
        whole = match[0]
        if match["hidden"]:
            raise refused(sql, "a comment that is executed hides a part of it")
        if match["text"] and formatted and re.search(r"(?<!%)(?:%%)*%(s|\(\w+\)s)", whole):
            raise refused(sql, "a parameter stands inside quotes")
        if not formatted or match["text"]:
            return whole
        if match["holder"]:
            holders.append((match.start(), match["name"]))
            return "?".ljust(len(whole))
        return "% " if match["percent"] else whole

    return _PIECES.sub(piece, sql), tuple(holders)


def _parsed(sql: str, plain: str) -> exp.Expression:
    try:
        trees = sqlglot.parse(plain, read="mysql")
    except (SqlglotError, RecursionError):
        raise refused(sql, "it can't be read for certain") from None
    if len(trees) != 1 or trees[0] is None:
        raise refused(sql, "it is more than one statement")
    tree: Any = trees[0]
    return tree  # type: ignore[no-any-return]


def _setting(sql: str, words: list[str]) -> Plan:
    for name in ("AUTOCOMMIT", "SQL_LOG_BIN", "SQL_MODE"):
        if any(name in w for w in words):
            raise refused(sql, f"{name.lower()} is set where the driver doesn't know of it; set it by the driver")
    return Plan("pass", sql)


def _control(sql: str, words: list[str]) -> Plan | None:
    """BEGIN, COMMIT, ROLLBACK and savepoints; None for everything else."""
    if words[0] == "BEGIN" or words[:2] == ["START", "TRANSACTION"]:
        return Plan("begin", sql)
    if words[0] == "COMMIT" and words in (["COMMIT"], ["COMMIT", "WORK"]):
        return Plan("commit", sql)
    if words[0] == "ROLLBACK" and "TO" not in words:
        if "CHAIN" in words:
            raise refused(sql, "a transaction that begins by itself")
        return Plan("rollback", sql)
    if words[0] in ("SAVEPOINT", "ROLLBACK", "RELEASE"):
        kind: Kind = {"SAVEPOINT": "savepoint", "ROLLBACK": "rollback_to", "RELEASE": "pass"}[words[0]]  # type: ignore[assignment]
        return Plan(kind, sql, savepoint=words[-1])
    return None


def _names(tree: exp.Expression) -> tuple[tuple[Slot, ...], tuple[Name, ...]]:
    """Where tables are named: as tables, and before columns."""
    hidden = {c.alias for c in tree.find_all(exp.CTE)} | {t.alias for t in tree.find_all(exp.Table) if t.alias}
    slots: list[Slot] = []
    bare: dict[str, Name] = {}
    for table in tree.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier) or (not table.db and table.name in hidden):
            continue
        name = (table.db, table.name)
        if not table.alias:
            bare[table.name] = name
        slots += _slots(table.args.get("db"), table.this, name, False)
    for column in tree.find_all(exp.Column):
        if not column.table or (not column.db and (column.table in hidden or column.table not in bare)):
            continue
        name = (column.db, column.table) if column.db else bare[column.table]
        slots += _slots(column.args.get("db"), column.args["table"], name, True)
    slots.sort(key=lambda s: s.start)
    tables = tuple(dict.fromkeys(s.name for s in slots if not s.qualifier))
    return tuple(slots), tables


def _slots(schema: exp.Expression | None, table: exp.Expression, name: Name, qualifier: bool) -> Iterator[Slot]:
    start, end = table.meta["start"], table.meta["end"] + 1
    if schema is None:
        yield Slot(start, end, name, "both", qualifier)
    else:
        yield Slot(schema.meta["start"], schema.meta["end"] + 1, name, "schema", qualifier)
        yield Slot(start, end, name, "table", qualifier)
