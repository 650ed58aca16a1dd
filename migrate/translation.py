"""Whole rows of a mapped shard as the target has them, and back: exactly, or not at all. Values are texts by column."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal, localcontext

from migrate.conversion import bounds, digits, forward, length, made_of, source_of
from migrate.model import (
    BINARIES,
    FLOATS,
    INTEGERS,
    TEXTS,
    TIMES,
    Coded,
    Column,
    Constant,
    Renamed,
    Scaled,
    ShardTable,
    Split,
)
from migrate.schema.column import members

Row = Mapping[str, str | None]
Undo = Callable[[str], str]

_DIGITS = 200  # more than any DECIMAL has
_NUMBERS = INTEGERS | {"decimal"}
_KEPT = INTEGERS | FLOATS | TEXTS | BINARIES | TIMES | {"decimal", "bit"}  # which are the same when written again
_CODECS = {"latin1": "cp1252", "ascii": "ascii"}


class Translation:
    """Both ways of one shard. Columns that a row lacks are left out of what is made of it."""

    def __init__(self, table: ShardTable):
        self.constants = constants(table)
        self.kept = frozenset(not_carried(table))  # the shard's columns that the target knows nothing of
        self._forward = [
            (source.name, column.name, _forth(column, source))
            for column in table.definition.stored_columns
            if (source := source_of(column)) is not None
        ]
        carried = ((table.physical.column(name), columns) for name, columns in made_of(table).items())
        self._back = [(source, [c.name for c in columns], _together(source, columns)) for source, columns in carried]

    def forward(self, row: Row) -> dict[str, str | None]:
        """A row of the shard as the target has it. ValueError names the column whose value can't be mapped."""
        found: dict[str, str | None] = dict(self.constants)
        for source, name, make in self._forward:
            if source in row:
                try:
                    found[name] = make(row[source])
                except ValueError as error:
                    raise ValueError(f"{source} can't become {name} exactly: {error}") from None
        return found

    def back(self, row: Row) -> dict[str, str | None]:
        """A row of the target as the shard has it, of its carried columns. ValueError names the column that the shard
        can't have so."""
        for name, constant in self.constants.items():
            if name in row and row[name] != constant:
                raise ValueError(f"{name} is {row[name]!r}, and {constant!r} in every row of this shard")
        found: dict[str, str | None] = {}
        for source, names, undo in self._back:
            if all(name in row for name in names):
                try:
                    found[source.name] = undo([row[name] for name in names])
                except ValueError as error:
                    raise ValueError(f"{' and '.join(names)} can't become {source.name} exactly: {error}") from None
        return found


def constants(table: ShardTable) -> dict[str, str]:
    """The columns that are the same in all of the shard's rows, with their values."""
    found = ((c, c.origin.value) for c in table.definition.columns if isinstance(c.origin, Constant))
    return {column.name: _plain(column, value) for column, value in found}


def not_carried(table: ShardTable) -> list[str]:
    """The shard's columns that the target knows nothing of."""
    carried = made_of(table)
    return [c.name for c in table.physical.stored_columns if c.name not in carried]


def irreversible(table: ShardTable) -> list[str]:
    """Why rows of the target can't be written back to that shard, a sentence each; none if they can."""
    return [*_of_columns(table), *_of_keys(table)]


def _of_columns(table: ShardTable) -> Iterator[str]:
    carried = made_of(table)
    for column in table.physical.stored_columns:
        dropped = column.name not in carried
        if dropped and not column.nullable and column.default is None and not column.auto_increment:
            yield f"column {column.name} isn't carried, is NOT NULL and has no default"
        if dropped and column.type not in _KEPT:
            yield f"column {column.name} isn't carried, and {column.full_type} can't be kept as it is"
        for made in carried.get(column.name, ()):
            if isinstance(made.origin, Coded):
                news = [_plain(made, new) for _, new in made.origin.codes]
                if twice := sorted({new for new in news if news.count(new) > 1}):
                    yield f"column {column.name}: {', '.join(twice)} stands for several codes"


def _of_keys(table: ShardTable) -> Iterator[str]:
    """What is unique on the shard must be so on the target, or rows could be written there that have no place here."""
    held = {
        frozenset(source.name for name in index.columns if (source := source_of(table.definition.column(name))))
        for index in table.definition.unique_indexes
        if not any(prefix for _, prefix in index.parts)
    }
    for index in table.physical.unique_indexes:
        names = {table.physical.column(name).name for name in index.columns}
        if not any(unique <= names for unique in held):
            yield f"the unique key {index.name} ({', '.join(index.columns)}) isn't on the target"


# -- one column --------------------------------------------------------------------------------------------------------


def _forth(column: Column, source: Column) -> Callable[[str | None], str | None]:
    if not column.converted:
        return lambda text: text
    convert = forward(column)

    def make(text: str | None) -> str | None:
        made = convert(None if text is None else _plain(source, text).encode())
        return None if made is None else made.decode()

    return make


def _together(source: Column, columns: list[Column]) -> Callable[[list[str | None]], str | None]:
    """What a source column is, of all that was made of it."""
    hold = _holder(source)
    split = columns[0].origin if isinstance(columns[0].origin, Split) else None
    undos = [_undo(column, source) for column in columns]

    def undo(values: list[str | None]) -> str | None:
        if None in values:
            if any(value is not None for value in values):
                raise ValueError("one is NULL, the other isn't")
            if not source.nullable:
                raise ValueError("it is NULL, and the shard's column is NOT NULL")
            return None
        texts = [one(str(value)) for one, value in zip(undos, values, strict=True)]
        if split is not None:
            if wrong := next((t for t in texts if split.separator in t), None):
                raise ValueError(f"{wrong!r} has a {split.separator!r} of its own")
            return hold(split.separator.join(texts))
        if len({_plain(source, text) for text in texts}) > 1:
            raise ValueError(f"they say different things: {', '.join(texts)}")
        return hold(texts[0])

    return undo


def _undo(column: Column, source: Column) -> Undo:
    """From the text of the target's value to that of the source's, whether the source's column holds it or not."""
    match column.origin:
        case Scaled(_, scale):
            return lambda text: _number(text, scale, source)
        case Coded(_, codes):
            olds = {_plain(column, new): old for old, new in codes if _is_shown(source, old)}
            if len({_plain(column, new) for _, new in codes}) < len(codes):
                return _no_code

            def decoded(text: str) -> str:
                if _plain(column, text) not in olds:
                    raise ValueError(f"no code becomes {text!r}")
                return olds[_plain(column, text)]

            return decoded
        case Renamed(_, True) if source.type in _NUMBERS:
            return lambda text: _number(text, 0, source)
    return lambda text: text


def _is_shown(source: Column, code: str) -> bool:
    """Whether the source's column has a value of that very text."""
    if source.type in _NUMBERS:
        return re.fullmatch(r"-?\d+(\.\d+)?", code) is not None and _plain(source, code) == code
    return source.type != "enum" or code in members(source.full_type)


def _no_code(text: str) -> str:
    raise ValueError(f"{text!r} may stand for several codes")


def _number(text: str, shift: int, source: Column) -> str:
    _, scale = digits(source)
    with localcontext(prec=_DIGITS):
        exact = Decimal(text).scaleb(shift)
        fitting = exact.quantize(Decimal(1).scaleb(-scale))
        if fitting != exact:
            raise ValueError(f"{text} has more than {scale + shift} digits behind the point, and isn't rounded")
        return f"{fitting if fitting else abs(fitting):f}"


def _plain(column: Column, text: str) -> str:
    """A number without zeros before it, as ZEROFILL has them; any other text as it is."""
    if column.type in INTEGERS:
        return str(int(text))
    return f"{Decimal(text):f}" if column.type == "decimal" else text


def _holder(source: Column) -> Undo:
    """Passes what the source's column holds as it is. ValueError for everything else."""
    if source.type in INTEGERS:
        low, high = bounds(source)
        return lambda text: _within(text, low, high, source)
    if source.type == "decimal":
        precision, scale = digits(source)
        most = 10 ** (precision - scale)
        return lambda text: _within(text, 0 if source.unsigned else 1 - most, most - 1, source)
    if source.charset is None:
        return lambda text: text
    limit = length(source) if source.type in ("char", "varchar") else None
    codec = _CODECS.get(source.charset)
    narrow = source.charset in ("utf8", "utf8mb3")

    def held(text: str) -> str:
        if limit is not None and len(text) > limit:
            raise ValueError(f"{text!r} has more than {limit} characters")
        if source.type == "char" and text.endswith(" "):
            raise ValueError(f"{text!r} would lose the spaces at its end")
        if (narrow and any(c > "\uffff" for c in text)) or (codec and not _writable(text, codec)):
            raise ValueError(f"{text!r} can't be written in {source.charset}")
        return text

    return held


def _within(text: str, low: int, high: int, source: Column) -> str:
    with localcontext(prec=_DIGITS):
        whole = int(Decimal(text))  # what is behind the point fits already
    if not low <= whole <= high or (source.unsigned and text.startswith("-")):
        raise ValueError(f"{text} is beyond {source.full_type}")
    return text


def _writable(text: str, codec: str) -> bool:
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return False
    return True
