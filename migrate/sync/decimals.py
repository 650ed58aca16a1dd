"""DECIMALs in their binary form."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

_DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)  # of so many decimal digits


def groups(precision: int, scale: int) -> Iterator[tuple[int, int]]:
    """(digits, bytes) of each group of a DECIMAL's digits, as they lie one after another."""
    whole = precision - scale
    found = [whole % 9, *[9] * (whole // 9), *[9] * (scale // 9), scale % 9]
    return ((digits, _DIGIT_BYTES[digits]) for digits in found if digits)


@lru_cache
def decimal_text(precision: int, scale: int) -> Callable[[bytes], bytes]:
    """The function from a DECIMAL's bytes to its text: groups of up to nine digits, big-endian, the first bit set if it
    isn't negative, and all bits inverted if it is."""
    parts = list(groups(precision, scale))
    wholes = (precision - scale + 8) // 9
    codes, names, joins = ">", [], []
    for i, (_, size) in enumerate(parts):
        codes += {1: "B", 2: "H", 3: "BH", 4: "I"}[size]
        names += [f"h{i}", f"g{i}"] if size == 3 else [f"g{i}"]
        joins += [f"g{i} |= h{i} << 16"] if size == 3 else []
    sign = 1 << 8 * parts[0][1] - 1
    whole = "0"
    for i, (digits, _) in enumerate(parts[:wholes]):
        whole = f"({whole}) * {10**digits} + g{i}" if i else "g0"
    form = "%d" + ("." if scale else "") + "".join(f"%0{digits}d" for digits, _ in parts[wholes:])
    values = ", ".join([whole, *(f"g{i}" for i in range(wholes, len(parts)))])
    inverted = [f"g0 = {sign - 1} - g0", *(f"g{i} = {(1 << 8 * s) - 1} - g{i}" for i, (_, s) in enumerate(parts) if i)]
    source = f"""
def text(value):
    {", ".join(names)}, = unpack(value)
    {"; ".join(joins) or "pass"}
    if g0 & {sign}:
        g0 ^= {sign}
        return b"{form}" % ({values},)
    {"; ".join(inverted)}
    return b"-{form}" % ({values},)
"""
    namespace: dict[str, Any] = {"unpack": struct.Struct(codes).unpack}
    exec(source, namespace)
    made: Callable[[bytes], bytes] = namespace["text"]
    return made
