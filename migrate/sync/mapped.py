"""Row images of a shard whose columns are mapped: decoded as the shard has them, then made into the target's."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from migrate.conversion import Text, forward, source_of
from migrate.copy.rowformat import escaped_line
from migrate.model import TEXTS, Column, Renamed, ShardTable, quote
from migrate.sync.image import Image, RowDecoder
from migrate.sync.render import plain_line, texts_of
from migrate.sync.values import Codec

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrate.sync.tablemap import TableMap


class MappedDecoder(RowDecoder):
    """Like RowDecoder, and its images are those of the target. An element of a converted column is its text."""

    def __init__(self, table: ShardTable, table_map: TableMap):
        super().__init__(table.shard, table.physical, table_map, {})
        self._plainly = RowDecoder(table.shard, table.physical, table_map, {})  # which the refused rows are shown by
        stored = table.definition.stored_columns
        places = {name: i for i, name in enumerate(self.columns)}
        self._made = [self._maker(column, places) for column in stored]
        self.columns = tuple(c.name for c in stored)
        self.select = ", ".join(quote(c.name) + (" * 1e0" if c.type == "float" else "") for c in stored)
        self._codecs = tuple(self._coded(column, places) for column in stored)
        self._keys = tuple(self.columns.index(c.name) for c in table.definition.key_columns)
        self.key = itemgetter(*self._keys)
        self.texts = texts_of(self._codecs)
        self._plain = plain_line(self._codecs, [c.nullable for c in stored])
        self._escaped = escaped_line([c.kind for c in self._codecs])

    def _coded(self, column: Column, places: dict[str, int]) -> Codec:
        source = source_of(column)
        if source is not None and (not column.converted or _of_one_type(column, source)):
            return self._plainly._codecs[places[source.name]]
        return Codec("", kind="text" if column.type in TEXTS else "bare")

    def _maker(self, column: Column, places: dict[str, int]) -> tuple[int, Callable[[Text], Text] | None, Codec | None]:
        """Where the element that a column is made of stands in the source's image, and what makes it; -1: nowhere."""
        source = source_of(column)
        if source is None:
            return -1, forward(column), None
        place = places[source.name]
        if _of_one_type(column, source):
            return place, None if column.nullable else _never_null, None
        return (place, forward(column), self._plainly._codecs[place]) if column.converted else (place, None, None)

    def images(self, data: bytes, start: int, end: int) -> list[Image]:
        """The rows of data[start:end] as the target has them. RowRefused for a value that can't be mapped exactly."""
        return [self._map(image) for image in super().images(data, start, end)]

    def _map(self, image: Image) -> Image:
        found: list[Any] = []
        for place, make, coded in self._made:
            element = image[place] if place >= 0 else None
            if make is None:
                found.append(element)
                continue
            try:
                found.append(make(coded.said(element) if coded is not None and element is not None else element))
            except ValueError as error:
                raise self._plainly._refused(image, place, f"it can't be mapped exactly: {error}") from None
        return tuple(found)


def _of_one_type(column: Column, source: Column) -> bool:
    """Whether its values are the source's, and all that may be asked of them is that they aren't NULL."""
    return isinstance(column.origin, Renamed) and column.full_type == source.full_type


def _never_null(element: Any) -> Any:
    if element is None:
        raise ValueError("it is NULL, and the target's column is NOT NULL")
    return element
