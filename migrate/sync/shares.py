"""What of a batch each part has to write, and what that means for the places of rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from zlib import crc32

from migrate.model import Target
from migrate.sync.batch import AFTER, BEFORE, NOW, WAS, Batch, Entry, Image, Layout


def shares(batch: Batch, parts: int) -> list[dict[Target, list[Entry]]]:
    """The batch cut into parts that can be written in any order, or at once.

    A row belongs to a part by its key. Rows that hand a unique value on (one gives it up, another takes it) go
    together, and so does the whole table where the server may take two values for one that differ in their bytes.
    Deterministic: a part that was lost is cut the same way again.
    """
    cut: list[dict[Target, list[Entry]]] = [defaultdict(list) for _ in range(parts)]
    for target, entries in batch.tables.items():
        # One that came and went counts in a fuzzy batch only: whether it is looked for in another may be seen
        # differently when the part is written again.
        count = [e for e in entries.values() if batch.fuzzy or e[WAS] is not None or e[AFTER] is not None]
        layouts = {id(e[NOW] or e[WAS]): e[NOW] or e[WAS] for e in count}
        together = _together(layouts.values(), count, batch.fuzzy)
        home = crc32(str(target).encode()) % parts
        everything = not all(layout.bytewise for layout in layouts.values()) and together is not None
        for key, entry in entries.items():
            if everything or (together and _hands_on(entry, together, batch.fuzzy)):
                part = home
            else:
                part = key % parts if isinstance(key, int) else crc32(repr(key).encode()) % parts
            cut[part][target].append(entry)
    return cut


def _together(layouts: Iterable[Layout], entries: Iterable[Entry], fuzzy: bool) -> set[Hashable] | None:
    """The unique values that rows of the batch give up; None if no two rows can get into each other's way."""
    layouts = list(layouts)
    if all(layout.bytewise and not layout.uniques for layout in layouts):
        return None
    given: set[Hashable] = set()
    for entry in entries:
        if _stood(entry, fuzzy):
            given.update(unique_values(entry[WAS] or entry[NOW], entry[BEFORE]) - _kept(entry))
    bytewise = all(layout.bytewise for layout in layouts)
    return given if given or not bytewise else None


def unique_values(layout: Layout, image: Image) -> set[Hashable]:
    return {(n, *(image[i] for i in places)) for n, places in enumerate(layout.uniques)}


def _kept(entry: Entry) -> set[Hashable]:
    return unique_values(entry[NOW], entry[AFTER]) if entry[AFTER] is not None else set()


def _stood(entry: Entry, fuzzy: bool) -> bool:
    """Whether the row was there before the batch, or may have been if it is fuzzy."""
    return entry[BEFORE] is not None and (fuzzy or entry[WAS] is not None)


def _hands_on(entry: Entry, given: set[Hashable], fuzzy: bool) -> bool:
    values = _kept(entry)
    if _stood(entry, fuzzy):
        values = values ^ unique_values(entry[WAS] or entry[NOW], entry[BEFORE])
    return not values.isdisjoint(given)
