"""What a statement of the application does, read from its text: which tables it names, where their names stand, and
the parts that capture needs. Everything that isn't understood for certain is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlglot
from sqlglot import exp
from sqlglot.dialects.mysql import MySQL
from sqlglot.errors import SqlglotError

from migrate.doublewrite.errors import Refused
from migrate.model import quote

Kind = Literal["read", "insert", "replace", "upsert", "ignore", "update", "delete", "pass", "begin", "commit",
               "rollback", "savepoint", "rollback_to"]  # fmt: skip
Name = tuple[str, str]  # schema ("" if not given) and table
Rename = Callable[[Name], Name]

# Strings, names and comments, which hold no placeholder, and the placeholders of format and pyformat.
_PIECES = re.compile(
    r"""(?P<text>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`(?:[^`]|``)*`)"""
    r"|(?P<hidden>/\*M?!.*?\*/)|(?P<comment>--[ \t\r\n].*?(?:\n|\Z)|--\Z|\#.*?(?:\n|\Z)|/\*.*?\*/)"
    r"|(?P<holder>%s|%\((?P<name>\w+)\)s)|(?P<percent>%%)",
    re.DOTALL,
)
_REMEDY = "write it as single-row or single-table INSERT, UPDATE and DELETE, or run it with the double write off"
_WHY = {
    "CALL": "a stored procedure writes where nobody sees it",
    "LOAD": "its rows aren't in its text",
    "TRUNCATE": "it is no transaction's part and names no rows",
}
_PLAIN = {"SHOW", "DESC", "DESCRIBE", "EXPLAIN", "USE", "HELP"}


@dataclass(frozen=True)
class Slot:
    """A table's name in the text, from start to end. `qualifier`: before a column, where an alias would do."""

    start: int
    end: int
    name: Name
    part: Literal["schema", "table", "both"]
    qualifier: bool = False


@dataclass(frozen=True)
class Value:
    """A value of an INSERT: its text, and its parameters. Only a literal or one parameter is `simple`."""

    start: int
    end: int
    simple: bool
    default: bool  # NULL or DEFAULT


@dataclass(frozen=True)
class Plan:
    """A statement that was understood. Positions are offsets into `text`."""

    kind: Kind
    text: str
    slots: tuple[Slot, ...] = ()
    tables: tuple[Name, ...] = ()  # all that it names
    table: Name | None = None  # the one that it changes
    holders: tuple[tuple[int, str | None], ...] = ()  # where the parameters stand
    columns: tuple[str, ...] | None = None  # of an INSERT, or those that are set
    rows: tuple[tuple[Value, ...], ...] = ()
    where: tuple[int, int] | None = None  # the condition
    tail: int = 0  # where WHERE, ORDER BY or LIMIT begins
    limited: bool = False  # has ORDER BY or LIMIT
    equal: dict[str, int] = field(default_factory=dict, hash=False)  # column to parameter: the whole of WHERE
    savepoint: str = ""

    def render(self, rename: Rename, start: int = 0, end: int | None = None) -> str:
        """The text from start to end with its tables renamed."""
        end = len(self.text) if end is None else end
        pieces, at = [], start
        for slot in self.slots:
            if slot.start < start or slot.end > end:
                continue
            schema, table = rename(slot.name)
            if (schema, table) == slot.name:
                continue
            new = {"schema": quote(schema), "table": quote(table), "both": f"{quote(schema)}.{quote(table)}"}[slot.part]
            if slot.part == "both" and slot.qualifier:
                new = quote(table)
            pieces += [self.text[at : slot.start], new]
            at = slot.end
        return "".join([*pieces, self.text[at:end]])

    def parameters(self, args: Any, start: int, end: int) -> list[Any]:
        """The parameters between start and end, in order."""
        if isinstance(args, dict):
            return [args[name] for at, name in self.holders if start <= at < end]
        return [args[i] for i, (at, _) in enumerate(self.holders) if start <= at < end]


def read(sql: str, formatted: bool, functions: Collection[str] = ()) -> Plan:
    """The plan of a statement. `formatted`: it has parameters, so that %% is a percent sign. `functions`: stored ones,
    lower case, which may write what nobody sees. Refused if it can't be captured, or can't be understood."""
    plain, holders = _neutral(sql, formatted)
    plain, replaces = re.subn(r"\A(\s*)REPLACE(?=\s)", r"\1INSERT ", plain, flags=re.IGNORECASE)  # reads like an INSERT
    try:
        tokens = list(MySQL().tokenize(plain))
    except SqlglotError:
        raise _refused(sql, "it can't be read") from None
    while tokens and tokens[-1].text == ";":
        tokens.pop()
    if not tokens:
        return Plan("pass", sql)
    if any(t.text == ";" and t.token_type.name == "SEMICOLON" for t in tokens):
        raise _refused(sql, "it is more than one statement")
    words = [t.text.upper() for t in tokens]
    first = words[0]
    if first in _PLAIN:
        if first == "EXPLAIN" and "ANALYZE" in words:
            raise _refused(sql, "it executes what it explains")
        return Plan("pass", sql)
    if first == "SET":
        return _setting(sql, words)
    if control := _control(sql, words):
        return control
    if first not in ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "TABLE", "("):
        raise _refused(
            sql, _WHY.get(first, "it is no query and no change of rows (DDL and locks commit by themselves)")
        )
    tree = _parsed(sql, plain)
    for call in tree.find_all(exp.Anonymous):
        if call.name.lower() in functions:
            raise _refused(sql, f"the stored function {call.name} may write where nobody sees it")
    slots, tables = _names(tree)
    if isinstance(tree, exp.Query):
        if list(tree.find_all(exp.Insert, exp.Update, exp.Delete)):
            raise _refused(sql, "it changes rows inside a query")
        return Plan("read", sql, slots, tables, holders=holders)
    reader = _Reader(sql, plain, tokens, words, slots, tables, holders)
    if isinstance(tree, exp.Insert) and first == "INSERT":
        return reader.insert("replace" if replaces else "insert")
    if isinstance(tree, exp.Update) and first == "UPDATE":
        return reader.update(tree)
    if isinstance(tree, exp.Delete) and first == "DELETE":
        return reader.delete(tree)
    raise _refused(sql, "it can't be read for certain")


def _refused(sql: str, why: str) -> Refused:
    return Refused(f"double-write refuses a statement: {why}; {_REMEDY}: {' '.join(sql.split())[:200]}")


def _neutral(sql: str, formatted: bool) -> tuple[str, tuple[tuple[int, str | None], ...]]:
    """The text, of the same length, with a question mark for each parameter; and where the parameters stand."""
    holders: list[tuple[int, str | None]] = []

    def piece(match: re.Match[str]) -> str:
        whole = match[0]
        if match["hidden"]:
            raise _refused(sql, "a comment that is executed hides a part of it")
        if match["text"] and formatted and re.search(r"(?<!%)(?:%%)*%(s|\(\w+\)s)", whole):
            raise _refused(sql, "a parameter stands inside quotes")
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
        raise _refused(sql, "it can't be read for certain") from None
    if len(trees) != 1 or trees[0] is None:
        raise _refused(sql, "it is more than one statement")
    tree: Any = trees[0]
    return tree  # type: ignore[no-any-return]


def _setting(sql: str, words: list[str]) -> Plan:
    for name in ("AUTOCOMMIT", "SQL_LOG_BIN", "SQL_MODE"):
        if any(name in w for w in words):
            raise _refused(sql, f"{name.lower()} is set where the driver doesn't know of it; set it by the driver")
    return Plan("pass", sql)


def _control(sql: str, words: list[str]) -> Plan | None:
    """BEGIN, COMMIT, ROLLBACK and savepoints; None for everything else."""
    if words[0] == "BEGIN" or words[:2] == ["START", "TRANSACTION"]:
        return Plan("begin", sql)
    if words[0] == "COMMIT" and words in (["COMMIT"], ["COMMIT", "WORK"]):
        return Plan("commit", sql)
    if words[0] == "ROLLBACK" and "TO" not in words:
        if "CHAIN" in words:
            raise _refused(sql, "a transaction that begins by itself")
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


class _Reader:
    """Reads a change token by token: where its parts stand."""

    def __init__(
        self, sql: str, plain: str, tokens: list[Any], words: list[str], slots: tuple[Slot, ...],
        tables: tuple[Name, ...], holders: tuple[tuple[int, str | None], ...],
    ):  # fmt: skip
        self.sql, self.plain, self.tokens, self.words = sql, plain, tokens, words
        self.slots, self.tables, self.holders = slots, tables, holders
        self.at = 1

    def insert(self, kind: Kind) -> Plan:
        if kind == "insert" and self._next("IGNORE"):
            kind = "ignore"
        self._next("INTO")
        table = self._table()
        columns = None
        if self._word() == "(":
            columns = tuple(self._name(run) for run in self._list())
        if not (self._next("VALUES") or self._next("VALUE")):
            raise _refused(self.sql, "its rows aren't in its text")
        rows = [tuple(map(self._value, self._list()))]
        while self._next(","):
            rows.append(tuple(map(self._value, self._list())))
        sets: tuple[str, ...] = ()
        if self._word():
            if kind != "insert" or self.words[self.at : self.at + 4] != ["ON", "DUPLICATE", "KEY", "UPDATE"]:
                raise _refused(self.sql, f"{self._word()} isn't understood here")
            kind = "upsert"
            self.at += 4
            sets = tuple(self._assigned())
        plan = Plan(kind, self.sql, self.slots, self.tables, table, self.holders, columns, tuple(rows))
        return plan if not sets else _with_sets(plan, sets)

    def update(self, tree: exp.Update) -> Plan:
        table = self._table(alias=True)
        if not self._next("SET"):
            raise _refused(self.sql, "it changes more than one table, or in a way that isn't understood")
        columns = tuple(self._assigned())
        return self._rest(Plan("update", self.sql, self.slots, self.tables, table, self.holders, columns), tree)

    def delete(self, tree: exp.Delete) -> Plan:
        if not self._next("FROM"):
            raise _refused(self.sql, "it changes more than one table, or in a way that isn't understood")
        table = self._table(alias=True)
        return self._rest(Plan("delete", self.sql, self.slots, self.tables, table, self.holders), tree)

    def _rest(self, plan: Plan, tree: exp.Expression) -> Plan:
        """From WHERE on."""
        word = self._word()
        if word not in ("WHERE", "ORDER", "ORDER BY", "LIMIT", None):
            raise _refused(self.sql, f"it changes more than one table, or {word} isn't understood")
        end = self._end(len(self.tokens) - 1)
        tail = self.tokens[self.at].start if word else end
        limit = self._find("ORDER", "ORDER BY", "LIMIT")
        where = None
        if word == "WHERE":
            where = (self.tokens[self.at].end + 1, self.tokens[limit].start if limit else end)
        values = vars(plan) | {"where": where, "tail": tail, "limited": limit is not None}
        made = Plan(**values)
        return made if made.limited else Plan(**(values | {"equal": _equal(tree, made)}))

    def _find(self, *words: str) -> int | None:
        depth = 0
        for i in range(self.at, len(self.tokens)):
            depth += {"(": 1, ")": -1}.get(self.words[i], 0)
            if depth == 0 and self.words[i] in words and self.tokens[i].token_type.name not in ("STRING", "IDENTIFIER"):
                return i
        return None

    def _assigned(self) -> Iterator[str]:
        """The columns left of = in `a = .., b = ..`, to WHERE, ORDER BY, LIMIT or the end; the reader stands there."""
        depth, start = 0, True
        while self._word() is not None:
            word = self._word()
            if depth == 0 and word in ("WHERE", "ORDER", "ORDER BY", "LIMIT") and self._is_word():
                return
            if start:
                stop = self.at
                while stop < len(self.words) and self.words[stop] != "=":
                    stop += 1
                yield self._name(range(self.at, stop))
                self.at, start = stop, False
            else:
                depth += {"(": 1, ")": -1}.get(word or "", 0)
                start = depth == 0 and word == ","
            self.at += 1

    def _end(self, number: int) -> int:
        """Where a token ends in the statement, in which a parameter is longer than its question mark."""
        token = self.tokens[number]
        name = dict(self.holders).get(token.start, "")
        if token.token_type.name != "PLACEHOLDER" or name == "":
            return int(token.end) + 1
        return int(token.start) + (2 if name is None else len(name) + 4)

    def _is_word(self) -> bool:
        return self.tokens[self.at].token_type.name not in ("STRING", "IDENTIFIER")

    def _word(self) -> str | None:
        return self.words[self.at] if self.at < len(self.words) else None

    def _next(self, word: str) -> bool:
        found = self._word() == word and self._is_word()
        self.at += found
        return found

    def _table(self, alias: bool = False) -> Name:
        name: Name = ("", self.tokens[self.at].text)
        self.at += 1
        if self._next("."):
            name = (name[1], self.tokens[self.at].text)
            self.at += 1
        if name not in self.tables:
            raise _refused(self.sql, "the table that it changes isn't understood")
        if alias and self._word() not in ("SET", "WHERE", "ORDER", "ORDER BY", "LIMIT", None, ",", "JOIN"):
            raise _refused(self.sql, f"{self._word()} after the table isn't understood (an alias isn't needed)")
        return name

    def _list(self) -> list[range]:
        """The tokens of each part of a list in brackets; the reader stands behind it."""
        if self._word() != "(":
            raise _refused(self.sql, f"expected ( before {self._word()}")
        self.at += 1
        parts, depth, start = [], 0, self.at
        while depth >= 0:
            word = self._word()
            if word is None:
                raise _refused(self.sql, "a bracket isn't closed")
            depth += {"(": 1, ")": -1}.get(word, 0) if self._is_word() else 0
            if (depth == 0 and word == ",") or depth < 0:
                parts.append(range(start, self.at))
                start = self.at + 1
            self.at += 1
        return parts

    def _name(self, run: range) -> str:
        """The column of `schema.table.column`."""
        if not run:
            raise _refused(self.sql, "a column isn't understood")
        return str(self.tokens[run[-1]].text)

    def _value(self, run: range) -> Value:
        if not run:
            raise _refused(self.sql, "a value isn't understood")
        words = [self.words[i] for i in run]
        kinds = [self.tokens[i].token_type.name for i in run]
        sign = words[0] == "-" and len(run) == 2
        simple = (len(run) == 1 and kinds[0] in ("PLACEHOLDER", "NUMBER", "STRING", "NULL", "DEFAULT")) or (
            sign and kinds[1] == "NUMBER"
        )
        start, end = self.tokens[run[0]].start, self._end(run[-1])
        return Value(start, end, simple, len(run) == 1 and kinds[0] in ("NULL", "DEFAULT"))


def _with_sets(plan: Plan, sets: tuple[str, ...]) -> Plan:
    """An upsert remembers what it sets in `equal`, by name only."""
    return Plan(**(vars(plan) | {"equal": dict.fromkeys(sets, -1)}))


def _equal(tree: exp.Expression, plan: Plan) -> dict[str, int]:
    """Columns that WHERE compares to a parameter each, if that is all that it does; else nothing."""
    where = tree.args.get("where")
    if where is None or plan.where is None:
        return {}
    first = sum(at < plan.where[0] for at, _ in plan.holders)
    found: dict[str, int] = {}
    for number, term in enumerate(where.this.flatten() if isinstance(where.this, exp.And) else [where.this]):
        column = term.this if isinstance(term, exp.EQ) else None
        if not isinstance(column, exp.Column) or not isinstance(term.expression, exp.Placeholder):
            return {}
        found[column.name] = first + number
    return found
