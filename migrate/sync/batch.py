"""Changes of many transactions, merged per key: what a row was before them, and what it is after them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from operator import itemgetter
from time import monotonic
from typing import TYPE_CHECKING, Any

from migrate.errors import MigrateError
from migrate.model import MergedTable, Shard, TableDef, Target
from migrate.position import Position
from migrate.sync.image import RowDecoder
from migrate.sync.writer import RawRow

if TYPE_CHECKING:
    from migrate.sync.changes import Share

Image = tuple[Any, ...]


class Layout:
    """How the rows of one shard look now, and where they go. `valid` ends when the shard's definition changes.

    uniques: per secondary unique index, where its columns stand in an image; bytewise: whether keys and unique values
    that differ in bytes differ for the server too (a collation that folds case makes them equal); crowded: whether
    another shard may hold the same key.
    """

    __slots__ = (
        "bytewise", "crowded", "decoder", "definition", "engine", "key_columns", "places", "row_key", "shard", "table",
        "target", "uniques", "valid",
    )  # fmt: skip

    def __init__(self, shard: Shard, table: MergedTable, definition: TableDef, decoder: RowDecoder):
        self.shard, self.table, self.target, self.decoder = shard, table, table.target, decoder
        place = {name: i for i, name in enumerate(decoder.columns)}
        self.key_columns = tuple(c.name for c in definition.key_columns)
        self.places = tuple(place[name] for name in self.key_columns)
        # The key of a row as it was read from the target.
        self.row_key: Callable[[RawRow], Hashable] = itemgetter(*self.places) if self.places else lambda _: ()
        key = definition.key
        secondary = [i for i in definition.unique_indexes if key is None or i.name != key.name]
        self.uniques = tuple(tuple(place[c] for c in i.columns if c in place) for i in secondary)
        whole = all(c in place and p is None for i in secondary for c, p in i.parts)
        columns = [definition.column(c) for i in definition.unique_indexes for c in i.columns]
        self.bytewise = whole and all(c.charset is None or c.collation == "binary" for c in columns)
        self.crowded = len(table.shards) > 1 and table.key_collision == "error"
        self.definition, self.engine = definition, definition.engine
        self.valid = True

    def texts(self, image: Image) -> RawRow:
        """The row as the target shows it. RowRefused if the target can't have it."""
        try:
            return self.decoder.texts(image)
        except ValueError:
            self.decoder.line(image)  # says which column, and why
            raise

    def text_key(self, image: Image) -> Hashable:
        """The key as the target shows it, as row_key gives it. RowRefused if the target can't have the row."""
        return self.row_key(self.texts(image))

    def unique_values(self, image: Image) -> list[tuple[tuple[str, ...], str, str]]:
        """The unique values without NULL, but for the key: the columns, literals, and in words."""
        columns = self.decoder.columns
        return [
            (
                tuple(columns[i] for i in places),
                self.decoder.literals(image, places),
                f"{', '.join(columns[i] for i in places)} = {self.decoder.shown(image, places)}",
            )
            for places in self.uniques
            if places and all(image[i] is not None for i in places)
        ]

    def twice(self, batch: Batch, image: Image) -> str:
        """In words: a row of this shard has the key of a row that another shard still has."""
        other = batch.tables[self.target][self.decoder.key(image)][NOW]
        return (
            f"key {self.decoder.shown(image)} is on two shards, {other.shard} and {self.shard}: one of them must "
            "go; a merged table has room for one row"
        )

    def require_full(self, *bitmaps: bytes | None) -> None:
        """Doubt if a row event leaves columns out."""
        if any(bitmap is not None for bitmap in bitmaps):
            raise Doubt(
                self.target,
                f"row events of {self.shard} leave columns out: SET GLOBAL binlog_row_image = FULL on its instance, "
                "let writers reconnect, then repair the rows or copy the table anew",
            )


class Doubt(MigrateError):
    """Changes of one target table can't be applied as they are; the table waits for the operator."""

    def __init__(self, target: Target, reason: str, statement: str | None = None):
        self.target, self.reason, self.statement = target, reason, statement
        super().__init__(f"{target}: {reason}")


@dataclass(frozen=True)
class Hold:
    """Why a target table waits for the operator, and the statement that it waits at, if it is one; which parts of the
    batch had rows of it, None if no part has any in."""

    reason: str
    statement: str | None = None
    parts: frozenset[int] | None = None


# An entry: the row before the batch and the row after it (None: it isn't there), and the layouts of both. An entry
# whose WAS is None began with an insert.
BEFORE, AFTER, WAS, NOW = range(4)
Entry = list[Any]
Entries = dict[Hashable, Entry]


@dataclass
class Batch:
    """Changes in the order of the binlog. `fuzzy`: the target may be ahead of them, since the copy read rows later.
    `careful`: rows may have been written over that another shard is still to give up, on this instance or another.
    `overwriting`: what the target has beyond that is to be overwritten, too."""

    fuzzy: bool
    careful: bool = False
    overwriting: bool = False
    tables: dict[Target, Entries] = field(default_factory=dict)
    # What each part has to write, once the batch is whole.
    shares: list[Share] = field(default_factory=list)
    # Rows whose key is still another shard's: a row that moves is inserted at its new place before it leaves the old.
    doubled: dict[tuple[Target, Hashable], tuple[Layout, Image]] = field(default_factory=dict)
    doubled_at: float = 0.0  # since when, by the monotonic clock
    doubts: dict[Target, Hold] = field(default_factory=dict)
    # Tables of which each row that no shard has any more has left the target, by all that was to be applied before.
    settled: set[Target] = field(default_factory=set)
    # Tables whose rows that leave are to leave before the rest of the batch is written: others wait for their places.
    leaving: set[Target] = field(default_factory=set)
    # Keys (by fingerprint) of rows that were found to be ahead of the batch, put there from another shard.
    lent: dict[Target, frozenset[str]] = field(default_factory=dict)
    grows_until: float | None = None  # it was assembled again, longer, and may be until then, by the monotonic clock
    # What a statement made of tables; None: dropped. Such a batch has no rows.
    definitions: dict[tuple[str, str], TableDef | None] = field(default_factory=dict)
    # To be run on the target, by the operator's wish, in place of the statement that its table was held at.
    replacements: list[tuple[str, str]] = field(default_factory=list)
    changes: int = 0
    bytes: int = 0
    transactions: int = 0
    start: Position = field(default_factory=dict)
    start_inside: int = 0
    # Where the batch ends: after a transaction, or after `inside` row events of the one that follows it.
    position: Position = field(default_factory=dict)
    inside: int = 0
    source_time: float = 0.0

    def _entries(self, layout: Layout) -> Entries:
        found = self.tables.get(layout.target)
        if found is None:
            found = self.tables[layout.target] = {}
        return found

    def insert(self, layout: Layout, images: Iterable[Image]) -> None:
        """Takes rows in. Doubt if one is there already, by what the binlog itself says."""
        entries, key_of = self._entries(layout), layout.decoder.key
        for image in images:
            key = key_of(image)
            entry = entries.get(key)
            if entry is None:
                entries[key] = [None, image, None, layout]
            elif entry[AFTER] is None:
                entry[AFTER], entry[NOW] = image, layout
            elif entry[NOW].shard == layout.shard or (layout.target, key) in self.doubled:
                raise Doubt(layout.target, f"{_named(layout, image)} is inserted a second time: changes are missing")
            else:
                self.doubled_at = self.doubled_at if self.doubled else monotonic()
                self.doubled[layout.target, key] = (layout, image)
            self.changes += 1

    def delete(self, layout: Layout, images: Iterable[Image]) -> None:
        """Takes rows out. Doubt if one isn't what the binlog said before."""
        entries, key_of = self._entries(layout), layout.decoder.key
        for image in images:
            key = key_of(image)
            entry = entries.get(key)
            if entry is None:
                entries[key] = [image, None, layout, None]
            else:
                self._leave(entries, entry, layout, key, image)
            self.changes += 1

    def _came_first(self, entry: Entry, layout: Layout, key: Hashable) -> bool:
        """Whether an entry began with an insert on another shard, before its row leaves this one."""
        other = entry[NOW].shard != layout.shard
        return other and layout.crowded and (layout.target, key) not in self.doubled

    def _stood(self, entry: Entry, layout: Layout, key: Hashable, image: Image) -> None:
        """Sets such an entry right: the row stood on this shard."""
        mover = entry[NOW], entry[AFTER]
        entry[BEFORE], entry[AFTER], entry[WAS], entry[NOW] = image, image, layout, layout
        if mover[1] is not None:
            self.doubled_at = self.doubled_at if self.doubled else monotonic()
            self.doubled[layout.target, key] = mover

    def _leave(self, entries: Entries, entry: Entry, layout: Layout, key: Hashable, image: Image) -> None:
        if entry[WAS] is None and self._came_first(entry, layout, key):
            self._stood(entry, layout, key, image)
        if self.doubled:
            mover = self.doubled.get((layout.target, key))
            if mover is not None and mover[0].shard == layout.shard:  # it came and left again
                del self.doubled[layout.target, key]
                return
        if entry[AFTER] != image:
            raise Doubt(layout.target, _missed(layout, image))
        entry[AFTER] = None
        if self.doubled and (mover := self.doubled.pop((layout.target, key), None)) is not None:
            entry[NOW], entry[AFTER] = mover
        elif entry[BEFORE] is None:  # it came and went
            # But the copy may have read it meanwhile, or another shard, whose it was before, left it in its place for
            # us. WAS stays None: whether it is there is not known.
            if self.fuzzy or self.careful:
                entry[BEFORE] = image
            else:
                del entries[key]

    def update(self, layout: Layout, pairs: Iterable[tuple[Image, Image]]) -> None:
        """Changes rows. Doubt if one isn't what the binlog said before."""
        entries, key_of = self._entries(layout), layout.decoder.key
        for before, after in pairs:
            key = key_of(before)
            if key != key_of(after):
                self.delete(layout, (before,))
                self.insert(layout, (after,))
                continue
            entry = entries.get(key)
            if entry is None:
                entries[key] = [before, after, layout, layout]
                self.changes += 1
                continue
            if entry[WAS] is None and self._came_first(entry, layout, key):
                self._stood(entry, layout, key, before)
            if self.doubled and self._moves(layout, key, before):
                self.doubled[layout.target, key] = (layout, after)
            elif entry[AFTER] == before:
                entry[AFTER], entry[NOW] = after, layout
            else:
                raise Doubt(layout.target, _missed(layout, before))
            self.changes += 1

    def _moves(self, layout: Layout, key: Hashable, before: Image) -> bool:
        mover = self.doubled.get((layout.target, key))
        return mover is not None and mover[0].shard == layout.shard and mover[1] == before

    def hold(
        self, target: Target, reason: str, statement: str | None = None, parts: frozenset[int] | None = None
    ) -> None:
        """Forgets the changes of a table, which is to be held from before this batch on."""
        self.forget(target)
        self.doubts[target] = Hold(reason, statement, parts)

    def forget(self, target: Target) -> None:
        """Leaves the changes of a table out, and what was doubtful about them."""
        self.tables.pop(target, None)
        for share in self.shares:
            share.pop(target, None)
        self.doubts.pop(target, None)
        self.leaving.discard(target)
        self.doubled = {k: v for k, v in self.doubled.items() if k[0] != target}


def _named(layout: Layout, image: Image) -> str:
    return f"key {layout.decoder.shown(image)} of {layout.shard}"


def _missed(layout: Layout, image: Image) -> str:
    return (
        f"{_named(layout, image)} was changed without a trace in the binlog: its row before this change is not the one "
        "after the last (sql_log_bin = 0, a statement, or a filter of the binlog?)"
    )
