"""Looks on the other shards of a target table for a row that found its place on the target taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from threading import Lock

from migrate.config import Config
from migrate.model import Shard, Target
from migrate.position import Position, standing
from migrate.sync.asking import Asking
from migrate.sync.batch import Image, Layout
from migrate.sync.changes import Rows
from migrate.sync.handover import Moved, put
from migrate.sync.lent import lend, lent
from migrate.sync.overtaken import give_way, overtaken
from migrate.sync.router import Router
from migrate.sync.twins import Twin, find_twin
from migrate.sync.writer import Writer

_KEYS = 1000
_ONE = "one of them must go; a merged table has room for one row"


class Elsewhere:
    """Sessions to the instances are opened when they are needed, which is hardly ever."""

    def __init__(self, config: Config, router: Router):
        self._config, self._router = config, router
        self._lock = Lock()
        self._overtaken: dict[Target, bool] = {}  # whether rows of ours were; not known before it was asked

    def keys(self, rows: Rows, *, both: bool = False) -> list[tuple[Layout, Image, Shard]]:
        """Those of the rows whose key another shard of their table has now, and which; if `both`, only where their own
        shard has it, too."""
        found = []
        with self._lock, ExitStack() as open_sessions:
            ask = _asker(self._sessions(open_sessions))
            for start in range(0, len(rows), _KEYS):
                for layout, some in _by_shard(rows[start : start + _KEYS]):
                    own = f"SELECT 1 FROM {layout.shard.sql} WHERE ({self._names(layout, layout.shard)}) IN "
                    keys = [layout.decoder.key_literal(image) for image in some]
                    for other in self._router.others(layout.shard, layout.target) if layout.crowded else ():
                        where = f"SELECT 1 FROM {other.sql} WHERE ({self._names(layout, other)}) IN "
                        if ask(other, f"{where} ({','.join(keys)}) LIMIT 1"):
                            found += [
                                (layout, image, other)
                                for image, key in zip(some, keys, strict=True)
                                if ask(other, f"{where} ({key})") and (not both or ask(layout.shard, f"{own} ({key})"))
                            ]
        return found

    def hand_over(self, writer: Writer, target: Target, moved: Moved) -> str:
        """Puts rows on the target as the shards of other instances have them; gives what it has against them."""
        with self._lock, ExitStack() as open_sessions:
            return put(self._config, writer, target, moved, self._sessions(open_sessions))

    def lent(self, writer: Writer, target: Target, at: Position) -> frozenset[str]:
        """The keys of rows that may be ahead of our binlog at a position."""
        return lent(self._config, writer, self._router.instance, target, at)

    def overtaken(self, writer: Writer, target: Target, end: Position) -> Mapping[str, bool]:
        """The keys of rows that our binlog has no say in for a while, and whether that ends before `end`."""
        if not self._overtaken.get(target, True):
            return {}
        found = overtaken(self._config, writer, self._router.instance, target, end)
        self._overtaken.setdefault(target, bool(found))
        return found

    def give_way(self, writer: Writer, target: Target, rows: Rows, *, careful: bool) -> set[int]:
        """Of rows whose place is taken, those (by the id of their image) that our instance has no more: they are
        history, and nothing of them is applied up to where our binlog is now. `careful`: what stands in their place
        may be ours, if no other shard has it."""
        gone = self._gone(rows)
        if careful:
            taken = {id(image) for _, image, _ in self.keys(gone)}
            gone = [row for row in gone if id(row[1]) in taken]
        if gone:
            keys = [layout.text_key(image) for layout, image in gone]
            give_way(self._config, writer, self._router.instance, target, keys, self._here())
            self._overtaken[target] = True
        return {id(image) for _, image in gone}

    def _gone(self, rows: Rows) -> Rows:
        """Those of the rows whose key no shard of our instance has now."""
        with self._lock, ExitStack() as open_sessions:
            ask = _asker(self._sessions(open_sessions))

            def here(layout: Layout, image: Image) -> bool:
                key = layout.decoder.key_literal(image)
                ours = [s for s in self._router.shards(layout.target) if s.instance == self._router.instance]
                return any(ask(s, f"SELECT 1 FROM {s.sql} WHERE ({self._names(layout, s)}) IN ({key})") for s in ours)

            return [(layout, image) for layout, image in rows if not here(layout, image)]

    def lend_past(self, writer: Writer, target: Target, rows: Rows) -> set[int]:
        """Of rows of which a unique value is taken, those (by the id of their image) whose own shard hasn't them so
        any more: they may be left out, since their next change, which stands in our binlog before where it is now, is
        written whatever it finds."""
        past: Rows = []
        with self._lock, ExitStack() as open_sessions:
            ask = _asker(self._sessions(open_sessions))
            for layout, image in rows:
                key = f"({self._names(layout, layout.shard)}) IN ({layout.decoder.key_literal(image)})"
                for columns, values, _ in layout.unique_values(image):
                    has = f"({self._names(layout, layout.shard, columns)}) IN ({values})"
                    if not ask(layout.shard, f"SELECT 1 FROM {layout.shard.sql} WHERE {has} AND {key} LIMIT 1"):
                        past.append((layout, image))
                        break
        if past:
            keys = [layout.text_key(image) for layout, image in past]
            lend(self._config, writer, self._router.instance, target, keys, self._here())
        return {id(image) for _, image in past}

    def key_sentence(self, rows: Rows) -> str | None:
        """In words: a key that two shards have now, if any of the rows' keys is one."""
        for layout, image, other in self.keys(rows, both=True):
            return f"key {layout.decoder.shown(image)} is on two shards, {other} and {layout.shard}: {_ONE}"
        return None

    def unique_sentence(self, rows: Rows) -> str | None:
        """In words: a unique value that a row of another shard has now, with another key, if any is one."""
        with self._lock, ExitStack() as open_sessions:
            ask = _asker(self._sessions(open_sessions))
            for layout, image in rows:
                key = layout.decoder.key_literal(image)
                for other in self._router.others(layout.shard, layout.target):
                    for columns, values, words in layout.unique_values(image):
                        theirs, ours = (
                            f"SELECT 1 FROM {s.sql} WHERE ({self._names(layout, s, columns)}) IN ({values}) AND "
                            f"{'NOT ' if s == other else ''}({self._names(layout, s)}) IN ({key}) LIMIT 1"
                            for s in (other, layout.shard)
                        )
                        if ask(other, theirs) and ask(layout.shard, ours):
                            return (
                                f"{words} is unique and on two shards, {other} and {layout.shard} (there with key "
                                f"{layout.decoder.shown(image)}): {_ONE}"
                            )
        return None

    def twin(self, writer: Writer, target: Target, rows: Rows) -> Twin | None:
        """One of the rows whose place on the target has a row that only the target takes for it, if there is one."""
        with self._lock, ExitStack() as open_sessions:
            return find_twin(writer, target, rows, self._router, self._sessions(open_sessions))

    def _names(self, layout: Layout, shard: Shard, columns: Sequence[str] = ()) -> str:
        """Columns of the target, those of its key if none, as a statement about that shard says them."""
        return self._router.names_on(shard, layout.target, columns or layout.key_columns)

    def _here(self) -> Position:
        """Where our own binlog stands now."""
        with Asking(self._config, self._router.instance) as session:
            return standing(session, self._router.instance)

    def positions(self, target: Target) -> dict[str, Position]:
        """Where the binlog of each instance that has shards of the table stands now."""
        found = {}
        for name in sorted({shard.instance for shard in self._router.shards(target)}):
            with Asking(self._config, name) as session:
                found[name] = standing(session, name)
        return found

    def _sessions(self, open_sessions: ExitStack) -> Callable[[str], Asking]:
        """One to each instance, when it is asked for first."""
        return cache(lambda instance: open_sessions.enter_context(Asking(self._config, instance)))


def _asker(sessions: Callable[[str], Asking]) -> Callable[[Shard, str], bool]:
    return lambda shard, sql: bool(sessions(shard.instance).query(sql))


def _by_shard(rows: Rows) -> Sequence[tuple[Layout, list[Image]]]:
    found: dict[Shard, tuple[Layout, list[Image]]] = {}
    for layout, image in rows:
        found.setdefault(layout.shard, (layout, []))[1].append(image)
    return list(found.values())
