"""Writes a part of a batch into the target: rows are compared with what the binlog says they were, then changed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Set
from typing import Protocol

from migrate.copy.rowformat import RowRefused
from migrate.errors import AccessDenied, ConnectionLost, MigrateError, ServerError, TryAgain
from migrate.model import Shard, Target, quote
from migrate.position import Position
from migrate.sync.batch import Batch, Doubt, Image, Layout
from migrate.sync.changes import Changes, Group, Overwriting, Ready, Rows, Share
from migrate.sync.handover import Moved
from migrate.sync.twins import Twin
from migrate.sync.writer import RawRow, Writer

_NOT_YET = (1054, 1146)  # no such column, no such table


class Elsewhere(Protocol):
    """What the other shards of a target table have now."""

    def keys(self, rows: Rows) -> list[tuple[Layout, Image, Shard]]: ...

    def key_sentence(self, rows: Rows) -> str | None: ...

    def unique_sentence(self, rows: Rows) -> str | None: ...

    def twin(self, writer: Writer, target: Target, rows: Rows) -> Twin | None: ...

    def hand_over(self, writer: Writer, target: Target, moved: Moved) -> str: ...

    def lent(self, writer: Writer, target: Target, at: Position) -> frozenset[str]: ...

    def overtaken(self, writer: Writer, target: Target, end: Position) -> Mapping[str, bool]: ...

    def give_way(self, writer: Writer, target: Target, rows: Rows, *, careful: bool) -> set[int]: ...

    def lend_past(self, writer: Writer, target: Target, rows: Rows) -> set[int]: ...


class Collision(Doubt):
    """A row's place is taken on the target. `passing`: by what another shard has too, now, or by what was gone when it
    was looked for; else it may be a row that was on another shard, whose leaving isn't applied yet."""

    def __init__(self, target: Target, reason: str, *, passing: bool):
        super().__init__(target, reason)
        self.passing = passing


def write_share(
    writer: Writer,
    share: Share,
    batch: Batch,
    elsewhere: Elsewhere,
    departed: Set[str],
    leaving: Set[str] | None = None,
) -> None:
    """Writes the share of a batch inside the writer's open transaction. Doubt names the table that can't be applied.

    departed: tables whose rows that leave have left already. leaving: tables of which these alone are to be written.
    """
    for target, changes in list(share.items()):
        if leaving is not None and str(target) not in leaving:
            continue
        try:
            if isinstance(changes, Overwriting):
                _write_over(writer, target, changes, batch, elsewhere)
                continue
            known = batch.lent.get(target, frozenset())
            if (overtaken := elsewhere.overtaken(writer, target, batch.position)) or known:
                changes = Changes(changes.entries, known, overtaken)  # noqa: PLW2901
            try:
                if str(target) not in departed:
                    _depart(writer, target, changes, batch, elsewhere)
                if leaving is None:
                    _arrive(writer, target, changes, batch, elsewhere, left=str(target) in departed)
            except Doubt as doubt:  # where rows may be ahead of us, they are written over
                if (ahead := elsewhere.lent(writer, target, batch.start)) <= known:
                    raise
                batch.lent[target] = known | ahead
                raise Collision(target, doubt.reason, passing=True) from None
        except RowRefused as error:
            raise Doubt(target, str(error)) from None
        except (ConnectionLost, TryAgain, AccessDenied):
            raise
        except ServerError as error:
            if error.where != str(writer.endpoint):
                raise
            # It may be a column that another instance has just added, and that isn't seen everywhere yet.
            refused = f"the target refuses what is asked of the table: {error}; mend it there"
            if error.number in _NOT_YET:
                raise Collision(target, refused, passing=True) from None
            raise Doubt(target, refused) from None


def _depart(writer: Writer, target: Target, changes: Changes, batch: Batch, elsewhere: Elsewhere) -> None:
    """First what leaves, so that what comes finds its unique values free."""
    leaving = changes.leaving
    missing = _compare(writer, target, leaving, careful=batch.careful)
    if missing or (batch.careful and changes.gone):
        gone, given = ([row for row in rows if id(row[1]) not in missing] for rows in (changes.gone, changes.given))
        leaving = Ready((_ours(writer, target, gone, elsewhere) if batch.careful else gone) + given)
    _delete(writer, target, Ready(_ours(writer, target, changes.over_gone, elsewhere)))
    if _delete(writer, target, leaving) != len(leaving):
        raise MigrateError(f"{target}: rows that were read in this transaction could not be deleted in it")


def _arrive(
    writer: Writer, target: Target, changes: Changes, batch: Batch, elsewhere: Elsewhere, *, left: bool
) -> None:
    """The rest: what changes in its place, and what comes. `left`: what leaves did so before this transaction."""
    missing = _compare(writer, target, changes.standing, careful=batch.careful)
    coming, replacing, perhaps = changes.coming, changes.replacing, changes.perhaps
    if target in batch.settled:
        # a row that gave up a unique value has left its own place to others, too, where it left before
        moving = [row for row in changes.came + (changes.fresh if left else []) if row[0].crowded]
        taken = _present(writer, target, moving)
        history = elsewhere.give_way(writer, target, taken, careful=batch.careful)
        fresh, came = ([row for row in rows if id(row[1]) not in history] for rows in (changes.fresh, changes.came))
        if batch.careful:  # else a row like ours is another shard's, which is about to leave
            came = _not_there(writer, target, came)
            perhaps = perhaps + came
        again = changes.over + fresh
        past = elsewhere.lend_past(writer, target, _unique_taken(writer, target, again + came, set()))
        coming = Ready([row for row in again + came if id(row[1]) not in past])
    _delete(writer, target, Ready(_left(writer, target, perhaps, elsewhere)))
    _delete(writer, target, Ready(changes.over))
    if missing:
        gone = {layout.text_key(image) for layout, image in changes.changed_from if id(image) in missing}
        back = [row for row in changes.changed if row[0].text_key(row[1]) in gone]
        replacing = Ready([row for row in changes.changed if row not in back])
        coming = Ready(coming.rows + back)
    for rows, replace in (replacing, True), (coming, False):
        if said := _load(writer, target, rows, replace=replace):
            writer.execute("ROLLBACK")  # what stood there before is to be looked at
            known = changes.changed_from + ([] if left else changes.leaving.rows)
            raise _collision(writer, target, rows.rows, known, said, elsewhere)


def _write_over(writer: Writer, target: Target, rows: Overwriting, batch: Batch, elsewhere: Elsewhere) -> None:
    if present := _present(writer, target, rows.new):
        if sentence := elsewhere.key_sentence(present):
            raise Collision(target, sentence, passing=True)
        if batch.overwriting and target not in batch.settled:
            raise Collision(target, _taken(present), passing=False)
    _delete(writer, target, Ready(_ours(writer, target, rows.gone, elsewhere)))
    others = _unique_taken(writer, target, [row for row in rows.there.rows if row[0].crowded], set())
    if others and (sentence := elsewhere.unique_sentence(others)):
        raise Collision(target, sentence, passing=True)
    there = rows.there
    if not all(row[0].bytewise for row in there.rows):
        there = Ready(_not_taken(writer, target, there.rows, elsewhere))
    for columns, lines in there.lines.items():
        _, warnings = writer.load(target, columns, lines, replace=True)
        if warnings:
            raise Doubt(target, f"the target would not take rows as they are: {'; '.join(writer.warnings()[:3])}")


def _not_taken(writer: Writer, target: Target, rows: Rows, elsewhere: Elsewhere) -> Rows:
    """Writes the rows whose places are free but for what was there of them; gives the others, which may be written over
    what stands there. Collision if that is a row that only the target takes for one of them."""
    _delete(writer, target, Ready(_present(writer, target, rows)))
    said = _load(writer, target, Ready(rows), replace=False)
    taken = _not_there(writer, target, rows) if said else []
    if said and not taken:
        raise Doubt(target, f"the target would not take rows as they are: {said}")
    if twin := elsewhere.twin(writer, target, taken):
        raise Collision(target, twin.sentence, passing=twin.both)
    return taken


def _ours(writer: Writer, target: Target, gone: Rows, elsewhere: Elsewhere) -> Rows:
    """The rows but for those whose key is on another shard now: it moved there, and may have been written already. On
    another instance, whose follower may be anywhere: its row is put in the place."""
    if not all(row[0].bytewise for row in gone):  # or one that the target takes for it would go instead
        gone = _present(writer, target, gone)
    present = _present(writer, target, [row for row in gone if row[0].crowded])
    moved = {id(row[1]): row for row in elsewhere.keys(present)}
    if far := [row for row in moved.values() if row[2].instance != row[0].shard.instance]:
        _delete(writer, target, Ready([(layout, image) for layout, image, _ in far]))
        if said := elsewhere.hand_over(writer, target, far):
            raise Collision(target, f"the target would not take rows of {far[0][2]} as they are: {said}", passing=True)
    return [row for row in gone if id(row[1]) not in moved]


def _left(writer: Writer, target: Target, rows: Rows, elsewhere: Elsewhere) -> Rows:
    """Those of the rows whose key is on the target, but on no other shard: one that had it took ours for it."""
    present = _present(writer, target, rows)
    others = {id(image) for _, image, _ in elsewhere.keys(present)}
    return [row for row in present if id(row[1]) not in others]


def _not_there(writer: Writer, target: Target, rows: Rows) -> Rows:
    """The rows but for those that the target has exactly as they are."""
    missing: Rows = []
    for group in Ready(rows).groups:
        found = _select(writer, target, group)
        for (now, image), (key, _) in zip(group.rows, group.shown, strict=True):
            row = found.get(key)
            if row is None or now.decoder.unlike(image, row):
                missing.append((now, image))
    return missing


def _select(writer: Writer, target: Target, group: Group) -> dict[Hashable, RawRow]:
    key_of = group.layout.row_key
    found = writer.rows(f"SELECT {group.layout.decoder.select} FROM {target.sql} WHERE {group.where}")
    return {key_of(row): row for row in found}


def _compare(writer: Writer, target: Target, known: Ready, *, careful: bool) -> set[int]:
    """Doubt if a row of the target isn't what the source's was before its change. `careful`: one may be missing, since
    another shard gave up its key and took ours for it. Gives the images (by id) of these."""
    missing = set()
    for group in known.groups:
        found = _select(writer, target, group)
        for (now, image), (key, texts) in zip(group.rows, group.shown, strict=True):
            row = found.get(key)
            if row == texts:
                continue
            decoder = now.decoder
            if row is None and careful and now.crowded:
                missing.add(id(image))
                continue
            if row is None:
                raise Doubt(target, f"drift: key {decoder.shown(image)} of {now.shard} is not on the target")
            if unlike := decoder.unlike(image, row):
                raise Doubt(
                    target,
                    f"drift: key {decoder.shown(image)} of {now.shard} is on the target, but not as it was on "
                    f"the source before its next change: column {', '.join(unlike)}",
                )
    return missing


def _present(writer: Writer, target: Target, rows: Rows) -> Rows:
    """Those of the rows whose key is on the target."""
    present: Rows = []
    for group in Ready(rows).groups:
        found = _select(writer, target, group)
        present += [row for row, (key, _) in zip(group.rows, group.shown, strict=True) if key in found]
    return present


def _delete(writer: Writer, target: Target, rows: Ready) -> int:
    return sum(writer.execute(f"DELETE FROM {target.sql} WHERE {group.where}") for group in rows.groups)


def _load(writer: Writer, target: Target, rows: Ready, *, replace: bool) -> str:
    """What the target has against some of the rows; '' if all are in."""
    said = ""
    for columns, lines in rows.lines.items():
        affected, warnings = writer.load(target, columns, lines, replace=replace)
        if (affected, warnings) != (len(lines), 0) and not said:
            said = "; ".join(writer.warnings()[:3]) or f"{len(lines)} rows were sent, {affected} changes made"
    return said


def _collision(writer: Writer, target: Target, rows: Rows, known: Rows, said: str, elsewhere: Elsewhere) -> Doubt:
    """Which row found its place taken, and by whom. `known` are those of the target that the batch is about."""
    ours = {layout.text_key(image) for layout, image in known}
    taken = [r for r in _present(writer, target, rows) if r[0].text_key(r[1]) not in ours]
    others = _unique_taken(writer, target, rows, ours)
    if not taken and not others:
        folding = [] if all(row[0].bytewise for row in rows) else _not_there(writer, target, rows)
        if twin := elsewhere.twin(writer, target, folding):
            return Collision(target, twin.sentence, passing=twin.both)
        refused = f"the target would not take rows of {rows[0][0].shard} and others as they are: {said}"
        return Collision(target, refused, passing=True) if "Duplicate entry" in said else Doubt(target, refused)
    sentence = elsewhere.key_sentence(taken) or elsewhere.unique_sentence(others)
    if sentence is None and (twin := elsewhere.twin(writer, target, others)):
        return Collision(target, twin.sentence, passing=twin.both)
    return Collision(target, sentence or _taken(taken or others), passing=sentence is not None)


def _taken(rows: Rows) -> str:
    layout, image = rows[0]
    unique = "".join(f", {words}" for _, _, words in layout.unique_values(image))
    more = f" ({len(rows)} such rows)" if len(rows) > 1 else ""
    return (
        f"drift: key {layout.decoder.shown(image)}{unique} comes on {layout.shard}, but its place on the target is "
        f"taken by a row that is on no other shard{more}"
    )


def _unique_taken(writer: Writer, target: Target, rows: Rows, ours: set[Hashable]) -> Rows:
    """Those of the rows of whose unique values one is on the target with another key, that isn't one of ours."""
    found: Rows = []
    for group in Ready(rows).groups:
        layout = group.layout
        for places in layout.uniques:
            whole = [(now, image) for now, image in group.rows if all(image[i] is not None for i in places)]
            if not whole or not places:
                continue
            names = ", ".join(quote(layout.decoder.columns[i]) for i in places)
            values = ",".join(now.decoder.literals(image, places) for now, image in whole)
            holders = writer.rows(f"SELECT {layout.decoder.select} FROM {target.sql} WHERE ({names}) IN ({values})")
            mine = {now.text_key(image) for now, image in whole}
            strange = [row for row in holders if layout.row_key(row) not in mine | ours]
            if not strange:  # but two of our own rows may have swapped what they hold
                continue
            shown = {tuple(row[i] for i in places) for row in strange}
            match = [r for r in whole if tuple(r[0].decoder.texts(r[1])[i] for i in places) in shown]
            found += match or whole  # no match: values that differ in their bytes are equal there
    return found
