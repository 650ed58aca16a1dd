"""Default values and generated columns: which of the source's expressions TiDB computes alike."""

from __future__ import annotations

import re

from migrate.model import BINARIES, INTEGERS, Column

_NO_DEFAULT = frozenset({"tinytext", "text", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob",
                         "json"})  # fmt: skip
# Expression defaults that TiDB takes, by the types it takes them for.
_EXPRESSIONS = {
    "uuid()": ("char", "varchar"),
    "rand()": ("float", "double"),
    "curdate()": ("date",),
    "uuid_to_bin(uuid())": ("binary", "varbinary"),
    "json_object()": ("json",),
    "json_array()": ("json",),
}
# Functions of generated columns that give the same on both sides.
_FUNCTIONS = frozenset({"abs", "adddate", "ascii", "bin", "cast", "ceil", "ceiling", "char_length", "character_length",
                        "coalesce", "concat", "concat_ws", "convert", "date", "date_add", "date_format", "date_sub",
                        "day", "dayofmonth", "dayofweek", "dayofyear", "div", "elt", "field", "floor", "from_unixtime",
                        "greatest", "hour", "if", "ifnull", "in", "interval", "isnull", "json_array", "json_contains",
                        "json_extract", "json_length", "json_object", "json_quote", "json_type", "json_unquote",
                        "json_valid", "lcase", "least", "left", "locate", "lower", "lpad", "ltrim", "microsecond",
                        "mid", "minute", "mod", "month", "not", "nullif", "position", "power", "quarter", "repeat",
                        "replace", "reverse", "right", "round", "rpad", "rtrim", "second", "sign", "strcmp", "subdate",
                        "substr", "substring", "substring_index", "time", "to_days", "trim", "truncate", "ucase",
                        "upper", "weekday", "year", "case", "when", "then", "else", "and", "or", "xor", "as",
                        "decimal", "char", "signed", "unsigned", "binary", "datetime", "values"})  # fmt: skip
# These see the bytes of a text, which are others once it is utf8mb4.
_BYTEWISE = frozenset({"length", "octet_length", "bit_length", "hex", "md5", "sha1", "sha", "sha2", "crc32",
                       "to_base64", "weight_string", "ord"})  # fmt: skip


def unescape(expression: str) -> str:
    """An expression as SQL: information_schema of MySQL 8 and later escapes the quotes in it once more."""
    return re.sub(r"\\(.)", r"\1", expression, flags=re.DOTALL) if re.search(r"_\w+\\'", expression) else expression


def target_default(column: Column) -> tuple[str | None, bool, str | None]:
    """(the default's text, whether it is an expression, what changes) for a column of the target's type."""
    given = column.default
    if given is None or column.generated is not None:
        return None, False, None
    if column.default_is_expression:
        kept = _expression_default(column, unescape(given))
        if kept is not None:
            return *kept, None
    elif column.type in BINARIES and column.type not in _NO_DEFAULT:
        text = _printable(given)
        if text is not None:
            return text, False, None
    elif column.type not in _NO_DEFAULT:
        return given, False, None
    after = "it defaults to NULL now" if column.nullable else "writers must give a value now"
    return None, False, f"its default {unescape(given)!r} is dropped, TiDB has none like it: {after}"


def _expression_default(column: Column, expression: str) -> tuple[str, bool] | None:
    bare = expression.strip().lower()
    now = re.fullmatch(r"(?:now|current_timestamp|localtimestamp)(?:\((\d*)\))?", bare)
    if now and column.type in ("timestamp", "datetime"):
        digits = re.search(r"\((\d)\)", column.full_type)
        if (now[1] or "0") == (digits[1] if digits else "0"):
            return f"CURRENT_TIMESTAMP({digits[1]})" if digits else "CURRENT_TIMESTAMP", True
        return None
    if column.type in _EXPRESSIONS.get(bare, ()):
        return bare, True
    if column.type in _NO_DEFAULT:
        return None
    if re.fullmatch(r"-?\d+(\.\d+)?", bare) and column.type in INTEGERS | {"decimal"}:
        return bare, False
    text = re.fullmatch(r"_utf8mb4'([^'\\]*)'", expression)
    return (text[1], False) if text and column.type in ("char", "varchar") else None


def _printable(default: str) -> str | None:
    """A binary default as plain text, or None: other bytes don't survive information_schema, nor TiDB."""
    if re.fullmatch(r"0x([0-9A-Fa-f]{2})*", default):
        default = bytes.fromhex(default[2:]).decode("latin-1").rstrip("\0")
        whole = default != ""  # MySQL shows a default that starts with a zero byte as none at all
    else:
        default = default.rstrip("\0")
        whole = "?" not in default  # which stands for any byte that isn't utf8
    return default if whole and all(" " <= c <= "~" for c in default) else None


def target_expression(column: Column, bytes_change: bool) -> tuple[str, str | None]:
    """(the generated column's expression for TiDB, why it can't be carried or None).

    `bytes_change`: the table has texts whose bytes change on the way to utf8mb4.
    """
    given = unescape(column.generated or "")
    bare = re.sub(r"'(?:[^'\\]|\\.|'')*'", "''", given, flags=re.DOTALL)
    outside = re.sub(r"`(?:[^`]|``)*`", "``", bare).lower()
    functions = set(re.findall(r"\b([a-z_][a-z0-9_]*)\s*\(", outside))
    unknown = functions - _FUNCTIONS - _BYTEWISE
    if unknown:
        return given, f"TiDB is not known to compute {', '.join(sorted(unknown))}() alike"
    if bytes_change and functions & _BYTEWISE:
        return given, f"{', '.join(sorted(functions & _BYTEWISE))}() sees the bytes of a text, and they change"
    if re.search(r"\b(collate|charset)\b|\busing (?!utf8mb4)", outside):
        return given, "it names a charset or a collation"
    if re.search(r"\b_(?!utf8)\w+''", outside) and not given.isascii():
        return given, "it holds letters in another charset"
    return re.sub(r"(?<!\w)_(utf8mb3|utf8|latin1|ascii|gbk)(?=')", "_utf8mb4", given), None
