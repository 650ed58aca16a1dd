"""Texts of the numbers that stand for members of an ENUM or SET."""

from __future__ import annotations

from migrate.model import Column
from migrate.schema.column import members

# Have no character that information_schema would show as '?'.
_NARROW = frozenset({"ascii", "latin1", "utf8", "utf8mb3", "binary"})


class Labels(dict[int, bytes]):
    """Texts of the numbers of an ENUM, or of the bits of a SET."""

    def __init__(self, column: Column):
        self._names = members(column.full_type)
        self._set = column.type == "set"
        self._narrow = column.charset in _NARROW

    def __missing__(self, number: int) -> bytes:
        numbers = self._bits(number) if self._set else [number - 1]
        if not self._set and number == 0:
            raise ValueError("it is number 0, the error value of an ENUM, which the target doesn't take")
        if numbers and numbers[-1] >= len(self._names):
            raise ValueError(f"it is member {numbers[-1] + 1}, and the definition has {len(self._names)}")
        names = [self._names[n] for n in numbers]
        if self._set and "" in names:
            raise ValueError("it is not to be told from its empty member")
        if not self._narrow and any("?" in name for name in names):
            raise ValueError(f"its member shows as {','.join(names)!r}, where the ? may stand for a 4-byte character")
        if len(self) > 50_000:
            self.clear()
        text = self[number] = ",".join(names).encode()
        return text

    @staticmethod
    def _bits(number: int) -> list[int]:
        return [n for n in range(number.bit_length()) if number >> n & 1]
