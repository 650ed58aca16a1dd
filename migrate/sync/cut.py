"""Cuts rows out of an event's data, by a function that is made for the columns of a table."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from migrate.sync.made import made
from migrate.sync.values import Codec

# From data, start, end, and what takes each row, to where the last row ends.
Cutter = Callable[[bytes, int, int, Callable[[tuple[Any, ...]], None]], int]


class Cell(NamedTuple):
    """A column: how its values lie, whether they may be NULL, and whether they are wanted. `remap`: what makes another
    integer of it."""

    codec: Codec
    nullable: bool
    wanted: bool = True
    remap: Callable[[int], int] | None = None


def cutter(cells: Sequence[Cell]) -> Cutter:
    """A function that gives each row as a tuple of the wanted cells' elements, None for NULL. It raises ValueError,
    LookupError or struct.error for data that can't be such rows, or returns an offset that isn't the end."""
    namespace: dict[str, Any] = {"from_bytes": int.from_bytes}
    width = (len(cells) + 7) // 8
    required = sum(1 << i for i, cell in enumerate(cells) if not cell.nullable)
    body = [
        f"nulls = from_bytes(data[at:at + {width}], 'little')",
        f"if nulls & {required}:",
        "    raise ValueError('a NULL where none may be')",
    ]
    run = _Run(namespace, skip=width)
    for i, cell in enumerate(cells):
        name = f"c{i}"
        if cell.nullable:
            body += run.taken()
            body += [f"if nulls & {1 << i}:", f"    {name} = None", "else:"]
            body += [f"    {line}" for line in (*_taken(cell, name, run, namespace), *run.taken(), "pass")]
        else:
            body += _taken(cell, name, run, namespace)
    body += run.taken()
    elements = "".join(f"c{i}, " for i, cell in enumerate(cells) if cell.wanted)
    body.append(f"append(({elements}))")
    source = "\n        ".join(["def cut(data, at, end, append):\n    while at < end:", *body])
    cut: Cutter = made("cut", f"{source}\n    return at\n", namespace)
    return cut


class _Run:
    """Consecutive values that one unpacking takes: fixed ones, and the length of the one of variable width behind."""

    def __init__(self, namespace: dict[str, Any], skip: int = 0):
        self._namespace = namespace
        self._codes, self._size = f"{skip}x" if skip else "", skip
        self._names: list[str] = []

    def add(self, code: str, name: str | None) -> None:
        size = struct.calcsize("<" + code)
        self._codes += code if name else f"{size}x"
        self._size += size
        self._names += [name] if name else []

    def taken(self) -> list[str]:
        """The lines that unpack the run and go behind it; a new one begins."""
        found = []
        if self._names:
            unpack = f"unpack_{self._codes}"
            self._namespace[unpack] = _struct(f"<{self._codes}").unpack_from
            found.append(f"{', '.join(self._names)}, = {unpack}(data, at)")
        if self._size:
            found.append(f"at += {self._size}")
        self._codes, self._size, self._names = "", 0, []
        return found


@lru_cache
def _struct(codes: str) -> struct.Struct:
    return struct.Struct(codes)


def _taken(cell: Cell, name: str, run: _Run, namespace: dict[str, Any]) -> list[str]:
    """The lines that read one value, as far as the run doesn't take it along."""
    steps = [step for step in (cell.codec.adopt, cell.remap) if step and cell.wanted]
    namespace |= {f"{name}_{i}": step for i, step in enumerate(steps)}
    adopted = [f"{name} = {name}_{i}({name})" for i, _ in enumerate(steps)]
    if cell.codec.cut:
        run.add(cell.codec.cut, name if cell.wanted else None)
        return [*run.taken(), *adopted] if adopted else []
    for code, part in {1: [("B", "size")], 2: [("H", "size")], 3: [("H", "size"), ("B", "high")],
                       4: [("I", "size")]}[cell.codec.prefix]:  # fmt: skip
        run.add(code, part)
    lines = run.taken()
    size = "size + (high << 16)" if cell.codec.prefix == 3 else "size"
    return [*lines, f"{name} = data[at:(at := at + {size})]" if cell.wanted else f"at += {size}", *adopted]
