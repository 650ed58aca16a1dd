"""Row images of a shard, decoded by the definition in force."""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from migrate.copy.rowformat import RowRefused, escaped_line
from migrate.errors import MigrateError
from migrate.model import FLOATS, INTEGERS, Interleave, Shard, TableDef, quote
from migrate.sync.cut import Cell, Cutter, cutter
from migrate.sync.render import plain_line, texts_of
from migrate.sync.values import Codec, codec, wire

if TYPE_CHECKING:
    from migrate.sync.tablemap import TableMap

Image = tuple[Any, ...]


class RowDecoder:
    """Decodes the row images of one shard, by the definition in force.

    An image has one element for each stored column, None for NULL. Elements are raw where that is faster; they are
    hashable, and equal if and only if the stored values are. Interleaved columns are remapped in it.
    """

    columns: tuple[str, ...]  # the stored ones, in the definition's order
    select: str  # SQL that gives the texts of the columns: a FLOAT's own text lacks digits
    # From an image to what its row looks like when `select` reads it. ValueError if the target can't hold the row.
    texts: Callable[[Image], tuple[bytes | None, ...]]
    # The values of the key columns; the bare element where that is one column; the image where the table has no key.
    key: Callable[[Image], Hashable]

    def __init__(self, shard: Shard, definition: TableDef, table_map: TableMap, remap: dict[str, Interleave]):
        """MigrateError, naming table and column, if the binlog's table map doesn't fit the definition."""
        self.shard, self._definition, self._table_map, self._remap = shard, definition, table_map, remap
        stored = definition.stored_columns
        self.columns = tuple(c.name for c in stored)
        self.select = ", ".join(quote(c.name) + (" * 1e0" if c.type == "float" else "") for c in stored)
        self._codecs = self._fitting()
        self._keys = tuple(self.columns.index(c.name) for c in definition.key_columns)
        self.key = itemgetter(*self._keys) if self._keys else lambda image: image
        self._cut = self._cutter()
        self.texts = texts_of(self._codecs)
        self._plain = plain_line(self._codecs, [c.nullable for c in stored])
        self._escaped = escaped_line([c.kind for c in self._codecs])

    # -- what the binlog says of the table ----------------------------------------------------------------------------

    def _fitting(self) -> tuple[Codec, ...]:
        columns, told = self._definition.columns, self._table_map
        if len(columns) != len(told.types):
            raise MigrateError(
                f"{self.shard} has {len(columns)} columns by the definition in force, and {len(told.types)} in the "
                "binlog: a change of it was missed"
            )
        found = []
        for i, column in enumerate(columns):
            if told.names and told.names[i].lower() != column.name.lower():
                raise self._misfit(column.name, f"it is called {told.names[i]} in the binlog")
            numeric = column.type in INTEGERS | FLOATS | {"decimal"}
            if told.unsigned and numeric and told.unsigned[i] != column.unsigned:
                sign = "UNSIGNED" if told.unsigned[i] else "signed"
                raise self._misfit(column.name, f"it is {column.full_type} by the definition, and {sign} in the binlog")
            try:
                if column.generated is None:
                    found.append(codec(column, told.types[i], told.metas[i]))
                else:
                    wire(told.types[i], told.metas[i])
            except ValueError as error:
                raise self._misfit(column.name, str(error)) from None
        return tuple(found)

    def _misfit(self, column: str, reason: str) -> MigrateError:
        return MigrateError(f"{self.shard}, column {column}: {reason}")

    def require_full(self, *bitmaps: bytes | None) -> None:
        """MigrateError unless each bitmap of used columns names all of them; None stands for one that does."""
        for bitmap in bitmaps:
            used = -1 if bitmap is None else int.from_bytes(bitmap, "little")
            missing = [c.name for i, c in enumerate(self._definition.columns) if not used >> i & 1]
            if missing:
                raise MigrateError(
                    f"{self.shard}: the binlog has row images without {', '.join(missing)}; SET GLOBAL "
                    "binlog_row_image = FULL on the instance, let its clients reconnect, and copy the table anew"
                )

    # -- reading ------------------------------------------------------------------------------------------------------

    def images(self, data: bytes, start: int, end: int) -> list[Image]:
        """The rows of data[start:end]. MigrateError if they don't end where they should; RowRefused for an interleaved
        value beyond 64 bits."""
        rows: list[Image] = []
        try:
            at = self._cut(data, start, end, rows.append)
        except (ValueError, LookupError, struct.error) as error:
            self._refuse_beyond(data, start, end)
            raise self._damaged(str(error)) from None
        if at != end:
            raise self._damaged(f"the last of its {len(rows)} rows ends {at - end} bytes behind the event")
        return rows

    def pairs(self, data: bytes, start: int, end: int) -> list[tuple[Image, Image]]:
        """The rows of an update: each before it, and after it."""
        rows = self.images(data, start, end)
        if len(rows) % 2:
            raise self._damaged(f"{len(rows)} images make no pairs")
        each = iter(rows)
        return list(zip(each, each, strict=True))

    def _damaged(self, what: str) -> MigrateError:
        return MigrateError(
            f"{self.shard}: a row event doesn't fit the definition in force: {what}; a change of the table was missed"
        )

    def _refuse_beyond(self, data: bytes, start: int, end: int) -> None:
        """RowRefused for the first interleaved value that is too great, if there is one."""
        if not self._remap:
            return
        plain = RowDecoder(self.shard, self._definition, self._table_map, {})
        for image in plain.images(data, start, end):
            for name, step in self._remap.items():
                number = self.columns.index(name)
                try:
                    if image[number] is not None:
                        self._interleaved(name, step)(image[number])
                except ValueError as error:
                    raise plain._refused(image, number, str(error)) from None

    def _cutter(self) -> Cutter:
        told, codecs = self._table_map, iter(self._codecs)
        cells = []
        for i, column in enumerate(self._definition.columns):
            nullable = bool(told.nullable[i >> 3] >> (i & 7) & 1)
            if column.generated is None:
                step = self._remap.get(column.name)
                cells.append(Cell(next(codecs), nullable, remap=self._interleaved(column.name, step) if step else None))
            else:
                cells.append(Cell(wire(told.types[i], told.metas[i]), nullable, wanted=False))
        return cutter(cells)

    def _interleaved(self, name: str, step: Interleave) -> Callable[[int], int]:
        unsigned = self._definition.column(name).unsigned
        low, high = (0, 2**64 - 1) if unsigned else (-(2**63), 2**63 - 1)
        return partial(_interleaved, 1 << step.bits, step.number, low, high)

    # -- writing ------------------------------------------------------------------------------------------------------

    def line(self, image: Image) -> bytes:
        """The row as a line of CSV, with its end. RowRefused if the target can't hold it as it is."""
        try:
            return self._plain(image)
        except ValueError:
            return self._careful(image)

    def _careful(self, image: Image) -> bytes:
        texts: list[bytes | None] = []
        for number, (coded, element) in enumerate(zip(self._codecs, image, strict=True)):
            try:
                texts.append(None if element is None else coded.said(element))
            except ValueError as error:
                raise self._refused(image, number, str(error)) from None
        try:
            return self._escaped(texts) + b"\n"
        except ValueError as error:
            number, reason = error.args
            raise self._refused(image, number, reason) from None

    def _refused(self, image: Image, number: int, reason: str) -> RowRefused:
        shown = ", ".join(f"{self.columns[k]} = {self._shown(k, image[k])}" for k in self._keys or (0,))
        return RowRefused(
            f"{self.shard}: a row can't be carried as it is ({shown})\n    column {self.columns[number]}: {reason}"
        )

    def shown(self, image: Image, places: Sequence[int] | None = None) -> str:
        """The elements at these places, or the key, for people to read; long ones cut."""
        found = []
        for number in self._keys if places is None else places:
            text = self._shown(number, image[number])
            found.append(
                repr(text) if self._codecs[number].kind in ("text", "bytes") and image[number] is not None else text
            )
        return ", ".join(found)

    def _shown(self, number: int, element: Any) -> str:
        try:
            text = b"NULL" if element is None else self._codecs[number].said(element)
        except ValueError:
            return repr(element)
        return text[:80].decode(errors="backslashreplace")

    def key_literal(self, image: Image) -> str:
        """The key as SQL literals, in parentheses if it has several columns. RowRefused if the target can't have it."""
        if not self._keys:
            raise MigrateError(f"{self.shard} has no key that identifies its rows")
        return self.literals(image, self._keys)

    def literals(self, image: Image, places: Sequence[int]) -> str:
        """The elements at these places as SQL literals, in parentheses if they are several. None of them is NULL."""
        found = []
        for number in places:
            try:
                found.append(self._codecs[number].literal(image[number]))
            except ValueError as error:
                raise self._refused(image, number, str(error)) from None
        return found[0] if len(found) == 1 else f"({','.join(found)})"

    def unlike(self, image: Image, row: Sequence[bytes | None]) -> tuple[str, ...]:
        """The columns in which a row of the target isn't that image: the raw utf8mb4 texts of `select`."""
        try:
            if self.texts(image) == tuple(row):
                return ()
        except ValueError:
            pass
        each = zip(self.columns, self._codecs, image, row, strict=True)
        return tuple(name for name, coded, element, shown in each if not _is_shown(coded, element, shown))


def _interleaved(factor: int, number: int, low: int, high: int, old: int) -> int:
    new = old * factor + number
    if not low <= new <= high:
        raise ValueError(
            f"interleaved, {old} becomes {new}, beyond BIGINT; renumber the row, or use key_collision = 'error'"
        )
    return new


def _is_shown(coded: Codec, element: Any, shown: bytes | None) -> bool:
    if element is None or shown is None:
        return element is shown
    try:
        return coded.same(element, shown) if coded.same else coded.said(element) == shown
    except ValueError:
        return False
