"""Rows as text: what the server is to be given for each column, from fields of postings and from generators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from migrate.sandbox.workload import Columns, Generator

Fields = dict[str, NDArray[Any]]  # a value per row: money in the smallest unit, times in milliseconds of the epoch
Texts = list[str] | list[str | None]

_MONEY = frozenset({"amount", "opening", "balance", "before", "after"})


def money(units: int, scale: int) -> str:
    """12345 at scale 4 is 1.2345."""
    if not scale:
        return str(units)
    whole, part = divmod(abs(units), 10**scale)
    return f"{'-' if units < 0 else ''}{whole}.{part:0{scale}d}"


def minor(amount: str, scale: int) -> int:
    """12.3400 at scale 2 is 1234. ValueError if it isn't whole."""
    units = Decimal(amount).scaleb(scale)
    if units != int(units):
        raise ValueError(f"{amount} has more than {scale} decimals")
    return int(units)


def clock(times_ms: NDArray[np.int64]) -> list[str]:
    """UTC, to the millisecond."""
    return [str(t).replace("T", " ") for t in np.datetime_as_string(times_ms.astype("datetime64[ms]"), unit="ms")]


def normal(weights: Iterable[float]) -> NDArray[np.float64]:
    """The weights as parts of 1."""
    parts = np.fromiter(weights, dtype=np.float64)
    return np.asarray(parts / parts.sum())


def take(fields: Fields, rows: NDArray[np.int64]) -> Fields:
    """Those rows only."""
    return {name: values[rows] for name, values in fields.items()}


def render(columns: Columns, fields: Fields, scale: int, rng: np.random.Generator) -> dict[str, Texts]:
    """Each column as one text per row; None is NULL. KeyError names a field that these rows don't have."""
    count = len(next(iter(fields.values())))
    texts: dict[str, Texts] = {}

    def field(name: str) -> Texts:
        if name not in texts:
            texts[name] = _texts(name, fields[name], scale)
        return texts[name]

    return {column: _column(g, field(g.field) if g.field else [], count, rng) for column, g in columns.items()}


def _texts(name: str, values: NDArray[Any], scale: int) -> Texts:
    if values.dtype == object:  # texts already
        return list(values.tolist())
    if name == "time":
        return clock(values)
    if name in _MONEY:
        return [money(v, scale) for v in values.tolist()]
    return [str(v) for v in values.tolist()]


def _column(generator: Generator, field: Texts, count: int, rng: np.random.Generator) -> Texts:
    made = _generated(generator, field, count, rng)
    if generator.minor is not None:
        made = [None if v is None else minor(v, generator.minor) for v in made]
    form = generator.format or "{}"
    texts = [None if v is None else form.format(v) for v in made]
    if not generator.null:
        return texts
    nulls = (rng.random(count) < generator.null).tolist()
    return [None if null else text for null, text in zip(nulls, texts, strict=True)]


def _generated(generator: Generator, field: Texts, count: int, rng: np.random.Generator) -> Sequence[Any]:
    if generator.field:
        return field
    if generator.between:
        numbers: list[int] = rng.integers(generator.between[0], generator.between[1] + 1, count).tolist()
        return numbers
    if generator.choice is not None:
        values, weights = list(generator.choice), None
        if isinstance(generator.choice, Mapping):
            weights = normal(generator.choice.values())
        return [values[i] for i in rng.choice(len(values), count, p=weights).tolist()]
    return [generator.value] * count


def tab_separated(columns: dict[str, Texts]) -> bytes:
    """The rows as LOAD DATA reads them by default."""
    cells = [_escaped(texts) for texts in columns.values()]
    return "".join(f"{line}\n" for line in map("\t".join, zip(*cells, strict=True))).encode()


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\0": "\\0"})


def _escaped(texts: Texts) -> list[str]:
    return [
        r"\N" if t is None else t if t.isalnum() else t.translate(_ESCAPES)
        for t in texts
    ]  # fmt: skip
