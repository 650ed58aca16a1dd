"""Reads INSERT, UPDATE and DELETE token by token, for where their parts stand. What isn't understood is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlglot import exp

from migrate.doublewrite.plan import Kind, Name, Plan, Slot, Value, refused


class Clauses:
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
            raise refused(self.sql, "its rows aren't in its text")
        rows = [tuple(map(self._value, self._list()))]
        while self._next(","):
            rows.append(tuple(map(self._value, self._list())))
        sets: tuple[str, ...] = ()
        if self._word():
            if kind != "insert" or self.words[self.at : self.at + 4] != ["ON", "DUPLICATE", "KEY", "UPDATE"]:
                raise refused(self.sql, f"{self._word()} isn't understood here")
            kind = "upsert"
            self.at += 4
            sets = tuple(self._assigned())
        plan = Plan(kind, self.sql, self.slots, self.tables, table, self.holders, columns, tuple(rows))
        return plan if not sets else _with_sets(plan, sets)

    def update(self, tree: exp.Update) -> Plan:
        table = self._table(alias=True)
        if not self._next("SET"):
            raise refused(self.sql, "it changes more than one table, or in a way that isn't understood")
        columns = tuple(self._assigned())
        return self._rest(Plan("update", self.sql, self.slots, self.tables, table, self.holders, columns), tree)

    def delete(self, tree: exp.Delete) -> Plan:
        if not self._next("FROM"):
            raise refused(self.sql, "it changes more than one table, or in a way that isn't understood")
        table = self._table(alias=True)
        return self._rest(Plan("delete", self.sql, self.slots, self.tables, table, self.holders), tree)

    def _rest(self, plan: Plan, tree: exp.Expression) -> Plan:
        """From WHERE on."""
        word = self._word()
        if word not in ("WHERE", "ORDER", "ORDER BY", "LIMIT", None):
            raise refused(self.sql, f"it changes more than one table, or {word} isn't understood")
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
            raise refused(self.sql, "the table that it changes isn't understood")
        if alias and self._word() not in ("SET", "WHERE", "ORDER", "ORDER BY", "LIMIT", None, ",", "JOIN"):
            raise refused(self.sql, f"{self._word()} after the table isn't understood (an alias isn't needed)")
        return name

    def _list(self) -> list[range]:
        """The tokens of each part of a list in brackets; the reader stands behind it."""
        if self._word() != "(":
            raise refused(self.sql, f"expected ( before {self._word()}")
        self.at += 1
        parts, depth, start = [], 0, self.at
        while depth >= 0:
            word = self._word()
            if word is None:
                raise refused(self.sql, "a bracket isn't closed")
            depth += {"(": 1, ")": -1}.get(word, 0) if self._is_word() else 0
            if (depth == 0 and word == ",") or depth < 0:
                parts.append(range(start, self.at))
                start = self.at + 1
            self.at += 1
        return parts

    def _name(self, run: range) -> str:
        """The column of `schema.table.column`."""
        if not run:
            raise refused(self.sql, "a column isn't understood")
        return str(self.tokens[run[-1]].text)

    def _value(self, run: range) -> Value:
        if not run:
            raise refused(self.sql, "a value isn't understood")
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
