"""Rows that the target takes for one, by a collation that isn't their shards', while they are two there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from migrate.copy.folded import sql_values, unlike
from migrate.db import Session
from migrate.model import Shard, Target, quote
from migrate.sync.batch import Image, Layout
from migrate.sync.changes import Rows
from migrate.sync.router import Router
from migrate.sync.writer import Writer


@dataclass(frozen=True)
class Twin:
    """Such a row and the one that stands in its place, in words; whether both are on their shards now."""

    sentence: str
    both: bool


def find_twin(
    writer: Writer, target: Target, rows: Rows, router: Router, sessions: Callable[[str], Session]
) -> Twin | None:
    """The first of the rows whose place on the target another row has for no other reason, if its leaving or theirs
    isn't to be read further on: whoever is there may not be written over."""
    for layout, image in rows:
        for places, theirs in _holders(writer, target, layout, image):
            decoder = layout.decoder
            columns = [layout.definition.column(decoder.columns[i]) for i in places]
            ours = tuple((decoder.texts(image)[i] or b"").decode(errors="surrogateescape") for i in places)
            if not unlike(sessions(layout.shard.instance), columns, ours, theirs):
                continue
            names = [c.name for c in columns]

            def stands(shard: Shard, where: dict[tuple[str, ...], str]) -> bool:
                pairs = [f"({router.names_on(shard, target, c)}) IN ({v})" for c, v in where.items()]
                sql = f"SELECT 1 FROM {shard.sql} WHERE {' AND '.join(pairs)} LIMIT 1"
                return bool(sessions(shard.instance).query(sql))

            values = sql_values(columns, theirs)
            other = next((s for s in router.shards(target) if stands(s, {tuple(names): values})), None)
            mine = {layout.key_columns: decoder.key_literal(image), tuple(names): decoder.literals(image, places)}
            here = stands(layout.shard, mine)
            told = not any(c.converted or c.name in layout.table.remap(layout.shard) for c in columns)
            if here and other is None and told:
                continue  # what became of the other one is read further on
            return Twin(
                f"key {decoder.shown(image)} of {layout.shard} has {', '.join(names)} = {decoder.shown(image, places)},"
                f" and a row of {other or 'another shard'} {', '.join(map(repr, theirs))}: they are two for their "
                "shards, and one for the target's collation; change or remove one of them there",
                here,
            )
    return None


def _holders(
    writer: Writer, target: Target, layout: Layout, image: Image
) -> Iterator[tuple[tuple[int, ...], tuple[str, ...]]]:
    """The values of the target's rows that it takes for the row's, but for those that are the same."""
    texts = layout.decoder.texts(image)
    for places in (layout.places, *layout.uniques):
        if not places or any(image[i] is None for i in places):
            continue
        names = ", ".join(quote(layout.decoder.columns[i]) for i in places)
        found = writer.rows(
            f"SELECT {names} FROM {target.sql} WHERE ({names}) IN ({layout.decoder.literals(image, places)})"
        )
        ours = tuple(texts[i] for i in places)
        yield from (
            (places, tuple((t or b"").decode(errors="surrogateescape") for t in row)) for row in found if row != ours
        )
