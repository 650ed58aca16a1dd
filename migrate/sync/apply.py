"""Writes a part of a batch into the target: rows are compared with what the binlog says they were, then changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import islice
from zlib import crc32

from migrate.copy.rowformat import RowRefused
from migrate.errors import MigrateError
from migrate.model import Target, quote
from migrate.sync.batch import AFTER, BEFORE, NOW, WAS, Batch, Doubt, Entry, Image, Layout
from migrate.sync.writer import RawRow, Writer

_KEYS = 2000  # keys in one statement

Rows = list[tuple[Layout, Image]]
Share = dict[Target, list[Entry]]
# Which other shards of the target hold a row of that key now: (layout, images) -> a sentence, or None.
Elsewhere = Callable[[Rows], str | None]


class Collision(Doubt):
    """A row's place is taken on the target. It may be a row that is about to leave another shard."""


def shares(batch: Batch, parts: int) -> list[Share]:
    """The batch cut into parts that can be written in any order, or at once.

    A row belongs to a part by its key. Rows that hand a unique value on (one gives it up, another takes it) go
    together, and so does the whole table where the server may take two values for one that differ in their bytes.
    Deterministic: a part that was lost is cut the same way again.
    """
    cut: list[Share] = [defaultdict(list) for _ in range(parts)]
    for target, entries in batch.tables.items():
        layouts = {id(e[NOW] or e[WAS]): e[NOW] or e[WAS] for e in entries.values()}
        together = _together(layouts.values(), entries.values())
        home = crc32(str(target).encode()) % parts
        everything = not all(layout.bytewise for layout in layouts.values()) and together is not None
        for key, entry in entries.items():
            if everything or (together and _hands_on(entry, together)):
                part = home
            else:
                part = key % parts if isinstance(key, int) else crc32(repr(key).encode()) % parts
            cut[part][target].append(entry)
    return cut


def _together(layouts: Iterable[Layout], entries: Iterable[Entry]) -> set[Hashable] | None:
    """The unique values that rows of the batch give up; None if no two rows can get into each other's way."""
    layouts = list(layouts)
    if all(layout.bytewise and not layout.uniques for layout in layouts):
        return None
    given: set[Hashable] = set()
    for entry in entries:
        if entry[BEFORE] is not None:
            given.update(_unique_values(entry[WAS] or entry[NOW], entry[BEFORE]) - _kept(entry))
    bytewise = all(layout.bytewise for layout in layouts)
    return given if given or not bytewise else None


def _unique_values(layout: Layout, image: Image) -> set[Hashable]:
    return {(n, *(image[i] for i in places)) for n, places in enumerate(layout.uniques)}


def _kept(entry: Entry) -> set[Hashable]:
    return _unique_values(entry[NOW], entry[AFTER]) if entry[AFTER] is not None else set()


def _hands_on(entry: Entry, given: set[Hashable]) -> bool:
    values = _kept(entry)
    if entry[BEFORE] is not None:
        values = values ^ _unique_values(entry[WAS] or entry[NOW], entry[BEFORE])
    return not values.isdisjoint(given)


def write_share(writer: Writer, share: Share, fuzzy: bool, elsewhere: Elsewhere) -> None:
    """Writes the share inside the writer's open transaction. Doubt names the table that can't be applied and why."""
    for target, entries in share.items():
        try:
            (_write_over if fuzzy else _write_exactly)(writer, target, entries, elsewhere)
        except RowRefused as error:
            raise Doubt(target, str(error)) from None


def _write_exactly(writer: Writer, target: Target, entries: list[Entry], elsewhere: Elsewhere) -> None:
    gone: Rows = []
    fresh: Rows = []
    changed: Rows = []
    known: Rows = []
    for before, after, was, now in entries:
        if before is None:
            fresh.append((now, after))
            continue
        known.append((was, before))
        if after is None:
            gone.append((was, before))
        elif was.decoder.columns != now.decoder.columns or (
            now.uniques and _unique_values(was, before) != _unique_values(now, after)
        ):
            gone.append((was, before))
            fresh.append((now, after))
        elif before != after:
            changed.append((now, after))
    _compare(writer, target, known)
    # First what leaves, so that what comes finds its unique values free.
    if _delete(writer, target, gone) != len(gone):
        raise MigrateError(f"{target}: rows that were read in this transaction could not be deleted in it")
    _load(writer, target, changed, replace=True, elsewhere=elsewhere)
    _load(writer, target, fresh, replace=False, elsewhere=elsewhere)


def _write_over(writer: Writer, target: Target, entries: list[Entry], elsewhere: Elsewhere) -> None:
    gone = [(e[WAS] or e[NOW], e[BEFORE]) for e in entries if e[AFTER] is None]
    there = [(e[NOW], e[AFTER]) for e in entries if e[AFTER] is not None]
    first = [(e[NOW], e[AFTER]) for e in entries if e[WAS] is None and e[AFTER] is not None and e[NOW].crowded]
    if (present := _present(writer, target, first)) and (found := elsewhere(present)):
        raise Doubt(target, found)
    _delete(writer, target, gone)
    for columns, lines in _lines(there).items():
        _, warnings = writer.load(target, columns, lines, replace=True)
        if warnings:
            raise Doubt(target, f"the target would not take rows as they are: {'; '.join(writer.warnings()[:3])}")


def _batches(rows: Rows) -> Iterable[tuple[Layout, Rows]]:
    """The rows in groups of one column list and of a size that fits a statement."""
    groups: dict[tuple[str, ...], Rows] = defaultdict(list)
    for row in rows:
        groups[row[0].decoder.columns].append(row)
    for group in groups.values():
        waiting = iter(group)
        while some := list(islice(waiting, _KEYS)):
            yield some[0][0], some


def _where(layout: Layout, rows: Rows) -> str:
    names = [quote(c) for c in layout.key_columns]
    left = names[0] if len(names) == 1 else f"({', '.join(names)})"
    return f"{left} IN ({','.join([row.decoder.key_literal(image) for row, image in rows])})"


def _select(writer: Writer, target: Target, layout: Layout, rows: Rows) -> dict[Hashable, RawRow]:
    columns = ", ".join(map(quote, layout.decoder.columns))
    key_of = layout.row_key
    found = writer.rows(f"SELECT {columns} FROM {target.sql} WHERE {_where(layout, rows)}")
    return {key_of(row): row for row in found}


def _compare(writer: Writer, target: Target, known: Rows) -> None:
    """Doubt if a row of the target isn't what the source's was before its change."""
    for layout, rows in _batches(known):
        found = _select(writer, target, layout, rows)
        for now, image in rows:
            decoder = now.decoder
            row = found.get(now.text_key(image))
            if row is None:
                raise Doubt(target, f"drift: key {decoder.key_literal(image)} of {now.shard} is not on the target")
            if unlike := decoder.unlike(image, row):
                raise Doubt(
                    target,
                    f"drift: key {decoder.key_literal(image)} of {now.shard} is on the target, but not as it was on "
                    f"the source before its next change: column {', '.join(unlike)}",
                )


def _present(writer: Writer, target: Target, rows: Rows) -> Rows:
    """Those of the rows whose key is on the target."""
    present: Rows = []
    for layout, some in _batches(rows):
        found = _select(writer, target, layout, some)
        present += [(now, image) for now, image in some if now.text_key(image) in found]
    return present


def _delete(writer: Writer, target: Target, rows: Rows) -> int:
    return sum(
        writer.execute(f"DELETE FROM {target.sql} WHERE {_where(layout, some)}") for layout, some in _batches(rows)
    )


def _lines(rows: Rows) -> dict[tuple[str, ...], list[bytes]]:
    lines: dict[tuple[str, ...], list[bytes]] = defaultdict(list)
    for layout, image in rows:
        lines[layout.decoder.columns].append(layout.decoder.line(image))
    return lines


def _load(writer: Writer, target: Target, rows: Rows, *, replace: bool, elsewhere: Elsewhere) -> None:
    for columns, lines in _lines(rows).items():
        affected, warnings = writer.load(target, columns, lines, replace=replace)
        if (affected, warnings) == (len(lines), 0):
            continue
        said = writer.warnings()[:3]
        raise Collision(target, _collision(writer, target, rows, said, affected, len(lines), elsewhere))


def _collision(
    writer: Writer, target: Target, rows: Rows, said: Sequence[str], affected: int, sent: int, elsewhere: Elsewhere
) -> str:
    """In words, which row found its place taken, and by whom."""
    if found := elsewhere(rows):
        return found
    shards = sorted({str(layout.shard) for layout, _ in rows})
    what = "; ".join(said) or f"{sent} rows were sent, {affected} changes made: a unique value was another row's"
    return f"rows of {', '.join(shards[:3])} found their place on the target taken: {what}"
