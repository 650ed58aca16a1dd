"""What of a batch each part has to write, and what that means for the places of rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from zlib import crc32

from migrate.model import Target
from migrate.sync.batch import AFTER, BEFORE, NOW, WAS, Batch, Entry, Image, Layout
from migrate.sync.lent import fingerprint

Rows = list[tuple[Layout, Image]]
Share = dict[Target, list[Entry]]


def shares(batch: Batch, parts: int) -> list[Share]:
    """The batch cut into parts that can be written in any order, or at once.

    A row belongs to a part by its key. Rows that hand a unique value on (one gives it up, another takes it) go
    together, and so does the whole table where the server may take two values for one that differ in their bytes.
    Deterministic: a part that was lost is cut the same way again.
    """
    cut: list[Share] = [defaultdict(list) for _ in range(parts)]
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


class Changes:
    """What a batch does to a table whose rows must be as the binlog says, by what it means for their places."""

    def __init__(self, entries: list[Entry], ahead: frozenset[str]) -> None:
        self.over: Rows = []  # whose place may hold anything, which goes
        self.over_gone: Rows = []  # and which don't stay
        self.gone: Rows = []
        self.given: Rows = []  # what they were before they give up a unique value, or their columns change
        self.fresh: Rows = []  # and what they are then
        self.changed: Rows = []
        self.changed_from: Rows = []
        self.came: Rows = []
        self.perhaps: Rows = []  # there, left by a shard that had the key before us and gave it up
        for before, after, was, now in entries:
            if ahead and fingerprint((was or now).text_key(after if was is None else before)) in ahead:
                self.over_gone += [(was, before)] if after is None and was is not None else []
                self.over += [(now, after)] if after is not None else []
                self.fresh += [(now, after)] if after is not None else []
            elif was is None:
                self.came += [(now, after)] if after is not None else []
                self.perhaps += [(now, before)] if after is None else []
            elif after is None:
                self.gone.append((was, before))
            elif was.decoder.columns != now.decoder.columns or (
                now.uniques and unique_values(was, before) != unique_values(now, after)
            ):
                self.given.append((was, before))
                self.fresh.append((now, after))
            else:
                self.changed_from.append((was, before))
                if before != after:
                    self.changed.append((now, after))

    def leave(self) -> None:
        """What leaves has left."""
        self.gone, self.given, self.over_gone = [], [], []
