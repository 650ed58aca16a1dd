"""A statement of MySQL or MariaDB as tokens, and a cursor over them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from migrate.sync.dialect import Dialect

REAL_AS_FLOAT, ANSI_QUOTES, NO_BACKSLASH_ESCAPES = 1, 4, 1 << 20  # bits of sql_mode, as a binlog event has it

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<comment>--(?=[\s\x00-\x1f]|$)[^\n]*|\#[^\n]*)
      | /\*(?P<run>M?!)(?P<number>\d{5,6})?
      | (?P<block>/\*(?s:.)*?\*/)
      | (?P<close>\*/)
      | `(?P<quoted>(?:[^`]|``)*)`
      | (?P<bits>[bBxX]'[0-9a-fA-F]*')
      | (?P<hex>0x[0-9a-fA-F]+|0b[01]+)(?![\w$])
      | (?P<number_>(?:\d+(?:\.\d*)?|(?<![\w$`])\.\d+)(?:[eE][+-]?\d+)?)(?![\w$])
      | (?P<word>[\w$\u0080-\uffff]+)
      | (?P<punct>:=|<=>|->>|->|<<|>>|<=|>=|<>|!=|\|\||&&|[(),;.=@*/+\-<>%!~^&|?:{}\[\]])
    """,
    re.VERBOSE,
)
_ESCAPES = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}

TokenKind = Literal["word", "quoted", "text", "number", "bits", "punct", "end"]


class Unreadable(Exception):
    """The statement can't be read safely; the text says which part."""


@dataclass(frozen=True, slots=True)
class Token:
    """`value` is a word as it stands, an identifier or text without quotes, a number, 0x.. or 0b.. in any spelling.

    `double`: the text stood in double quotes.
    """

    kind: TokenKind
    value: str
    double: bool = False

    def __str__(self) -> str:
        return {"end": "the end", "text": f"'{self.value}'"}.get(self.kind, self.value)


_END = Token("end", "")


def tokens(sql: str, dialect: Dialect, sql_mode: int = 0) -> list[Token]:
    """The tokens that the server runs: without comments, with what its versioned comments hold. Unreadable if the text
    is no SQL."""
    found: list[Token] = []
    at, depth = 0, 0
    while at < len(sql):
        if sql[at] in "'\"":
            quote = sql[at]
            text, at = _string(sql, at, bool(sql_mode & NO_BACKSLASH_ESCAPES))
            if quote == '"' and sql_mode & ANSI_QUOTES:
                found.append(Token("quoted", text))
            elif found and found[-1].kind == "text":  # 'a' 'b' is 'ab'
                found[-1] = Token("text", found[-1].value + text, found[-1].double)
            else:
                found.append(Token("text", text, quote == '"'))
            continue
        match = _TOKEN.match(sql, at)
        if not match:
            raise Unreadable(f"near {sql[at : at + 30]!r}")
        at, kind, value = match.end(), match.lastgroup, match[0]
        if kind in ("run", "number"):
            if (match["run"] == "M!" and not dialect.mariadb) or not dialect.runs(int(match["number"] or 0)):
                at = _skip(sql, at)
            else:
                depth += 1
        elif kind == "close":
            depth -= 1
            if depth < 0:
                raise Unreadable("near '*/'")
        elif kind == "quoted":
            found.append(Token("quoted", match["quoted"].replace("``", "`")))
        elif kind == "bits":
            found.append(Token("bits", "0" + value[0].lower() + value[2:-1]))
        elif kind == "hex":
            found.append(Token("bits", value))
        elif kind == "number_":
            found.append(Token("number", value))
        elif kind == "word":
            found.append(Token("word", value))
        elif kind == "punct":
            found.append(Token("punct", value))
    if depth:
        raise Unreadable("a comment has no end")
    return found


def _string(sql: str, at: int, raw: bool) -> tuple[str, int]:
    """The string that begins at `at` and where it ends."""
    quote = sql[at]
    inside = rf"[^{quote}]" if raw else rf"[^{quote}\\]|\\(?s:.)"
    match = re.compile(f"{quote}((?:{inside}|{quote}{quote})*){quote}").match(sql, at)
    if not match:
        raise Unreadable("a string has no end")
    if raw:
        return match[1].replace(quote * 2, quote), match.end()

    def plain(escape: re.Match[str]) -> str:
        if escape[1] is None:
            return quote
        return escape[0] if escape[1] in "%_" else _ESCAPES.get(escape[1], escape[1])

    return re.sub(rf"\\((?s:.))|{quote}{quote}", plain, match[1]), match.end()


def _skip(sql: str, at: int) -> int:
    """Where the comment ends that is open at `at`; comments may stand in it."""
    while match := re.compile(r"/\*(?s:.)*?\*/|\*/").search(sql, at):
        at = match.end()
        if match[0] == "*/":
            return at
    raise Unreadable("a comment has no end")


class Cursor:
    """Reads tokens one after the other; what doesn't fit raises Unreadable."""

    def __init__(self, found: list[Token]):
        self._tokens, self.at = found, 0

    @property
    def next(self) -> Token:
        return self.peek(0)

    def peek(self, ahead: int) -> Token:
        return self._tokens[self.at + ahead] if self.at + ahead < len(self._tokens) else _END

    def take(self) -> Token:
        token = self.next
        self.at += 1
        return token

    def sees(self, *words: str) -> bool:
        """Whether these keywords or signs come next."""
        return all((t := self.peek(i)).kind in ("word", "punct") and t.value.upper() == w for i, w in enumerate(words))

    def skip(self, *words: str) -> bool:
        """Takes these keywords or signs if they come next."""
        if not self.sees(*words):
            return False
        self.at += len(words)
        return True

    def one_of(self, *words: str) -> str | None:
        """Takes the one of the words that comes next, or none."""
        return next((w for w in words if self.skip(w)), None)

    def expect(self, *words: str) -> None:
        if not self.skip(*words):
            raise Unreadable(f"{' '.join(words)} expected, not {self.next}")

    def name(self) -> str:
        """An identifier."""
        token = self.take()
        if token.kind not in ("word", "quoted"):
            raise Unreadable(f"a name expected, not {token}")
        return token.value

    def named(self) -> bool:
        """Whether an identifier could come next."""
        return self.next.kind in ("word", "quoted")

    def table(self, schema: str) -> tuple[str, str]:
        """schema.table, or table of the default schema."""
        first = self.name()
        return (first, self.name()) if self.skip(".") else (schema, first)

    def text(self) -> str:
        token = self.take()
        if token.kind != "text":
            raise Unreadable(f"a string expected, not {token}")
        return token.value

    def integer(self) -> int:
        token = self.take()
        if token.kind != "number" or not token.value.isdigit():
            raise Unreadable(f"a number expected, not {token}")
        return int(token.value)

    def parenthesis(self) -> list[Token]:
        """What stands in the parenthesis that comes next."""
        self.expect("(")
        start, depth = self.at, 1
        while depth:
            if self.next.kind == "end":
                raise Unreadable("a parenthesis has no end")
            token = self.take()
            if token.kind == "punct":
                depth += (token.value == "(") - (token.value == ")")
        return self._tokens[start : self.at - 1]

    def end(self) -> None:
        self.skip(";")
        if self.next.kind != "end":
            raise Unreadable(f"near {self.next}")
