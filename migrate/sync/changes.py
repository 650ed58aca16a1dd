"""What a batch does to a table, by what it means for the places of its rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from contextlib import suppress
from functools import cached_property
from itertools import islice

from migrate.copy.rowformat import RowRefused
from migrate.model import Target, quote
from migrate.sync.batch import AFTER, BEFORE, NOW, WAS, Batch, Entry, Image, Layout
from migrate.sync.lent import fingerprint
from migrate.sync.shares import shares, unique_values
from migrate.sync.writer import RawRow

Rows = list[tuple[Layout, Image]]
_KEYS = 2000  # keys in one statement


class Group:
    """Rows of one column list, so many that they fit a statement, and what statements say about them."""

    def __init__(self, rows: Rows):
        self.rows, self.layout = rows, rows[0][0]  # the layout of one of them, for what they have in common

    @cached_property
    def where(self) -> str:
        """The condition that names the rows by their keys. RowRefused if the target can't have one."""
        names = [quote(c) for c in self.layout.key_columns]
        left = names[0] if len(names) == 1 else f"({', '.join(names)})"
        return f"{left} IN ({','.join([layout.decoder.key_literal(image) for layout, image in self.rows])})"

    @cached_property
    def shown(self) -> list[tuple[Hashable, RawRow]]:
        """Key and texts of each row as the target shows them. RowRefused if it can't have one."""
        found = []
        for layout, image in self.rows:
            texts = layout.texts(image)
            found.append((layout.row_key(texts), texts))
        return found


class Ready:
    """Rows, and what statements say about them, made when first asked for and kept."""

    def __init__(self, rows: Rows):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def groups(self) -> list[Group]:
        by_columns: dict[tuple[str, ...], Rows] = defaultdict(list)
        for row in self.rows:
            by_columns[row[0].decoder.columns].append(row)
        found = []
        for rows in by_columns.values():
            waiting = iter(rows)
            while some := list(islice(waiting, _KEYS)):
                found.append(Group(some))
        return found

    @cached_property
    def lines(self) -> dict[tuple[str, ...], list[bytes]]:
        """The rows as lines of CSV, by column list. RowRefused if the target can't have one."""
        lines: dict[tuple[str, ...], list[bytes]] = defaultdict(list)
        for layout, image in self.rows:
            lines[layout.decoder.columns].append(layout.decoder.line(image))
        return lines


class Overwriting:
    """What a batch does to a table whose rows may be ahead of the binlog."""

    def __init__(self, entries: list[Entry]):
        self.gone: Rows = [(e[WAS] or e[NOW], e[BEFORE]) for e in entries if e[AFTER] is None]
        self.there = Ready([(e[NOW], e[AFTER]) for e in entries if e[AFTER] is not None])
        self.new: Rows = [
            (e[NOW], e[AFTER]) for e in entries if e[WAS] is None and e[AFTER] is not None and e[NOW].crowded
        ]

    def prepare(self) -> None:
        self.there.lines  # noqa: B018 - kept once it was looked at


class Changes:
    """What a batch does to a table whose rows must be as the binlog says. Not changed once it is made: a batch may
    have to be written again."""

    def __init__(
        self, entries: list[Entry], ahead: frozenset[str] = frozenset(), overtaken: Mapping[str, bool] | None = None
    ) -> None:
        """`ahead`: keys, by fingerprint, of rows whose place may hold anything. `overtaken`: of those in whose place
        another shard's row stands, and whether the batch goes beyond what it has overtaken."""
        self.entries = entries
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
            known = (
                fingerprint((was or now).text_key(after if before is None else before)) if ahead or overtaken else ""
            )
            if overtaken and known in overtaken:
                if overtaken[known]:
                    self.over_gone += [(was, before)] if after is None and was is not None else []
                    self.came += [(now, after)] if after is not None else []
            elif known in ahead:
                self.over_gone += [(was, before)] if after is None and was is not None else []
                self.over += [(now, after)] if after is not None else []
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
        self.leaving = Ready(self.gone + self.given)
        self.standing = Ready(self.changed_from)
        self.replacing = Ready(self.changed)
        self.coming = Ready(self.over + self.fresh + self.came)

    def prepare(self) -> None:
        for known in self.leaving, self.standing:
            for group in known.groups:
                group.where, group.shown  # noqa: B018 - kept once they were looked at
        self.replacing.lines, self.coming.lines  # noqa: B018


Share = dict[Target, Changes | Overwriting]


def prepared(batch: Batch, parts: int) -> list[Share]:
    """What each part of a batch has to write, with all that its statements say: to be worked out while the target is
    busy with the batch before. A row that can't be said is told of when it is to be written."""
    found: list[Share] = []
    for cut in shares(batch, parts):
        share: Share = {t: Overwriting(entries) if batch.fuzzy else Changes(entries) for t, entries in cut.items()}
        for each in share.values():
            with suppress(RowRefused):
                each.prepare()
        found.append(share)
    return found
