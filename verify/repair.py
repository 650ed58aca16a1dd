"""Mending the rows that a stored run named: shown first, written only where both sides still are as that run saw them.

A repair is no verification. It is journalled with who, why and the images before and after, can be undone, and is
followed by a run of verification that knows nothing of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any

from migrate.config import Config, Endpoint
from migrate.db import connect
from migrate.errors import ConfigError, MigrateError, NoGo, ServerError
from migrate.model import ShardTable
from verify.changes import Action, Change, Direction, Order, Repair
from verify.evidence import Record, loaded, mismatches_of, store
from verify.images import Image, Key, Place, differing
from verify.journal import BY_DOUBLE_WRITE, Journal
from verify.readers import Readers
from verify.tables import Pair, load

_BATCH = 100  # rows of one transaction


def repair(
    config: Config,
    order: Order,
    *,
    run: int | None = None,
    tables: Sequence[str] = (),
    direction: Direction = "source",
) -> Repair:
    """Mends the rows that a run named (the last that named rows), or shows what it would do.

    A row that isn't as the run saw it, on either side, is left. NoGo if the run named no rows.
    """
    record = loaded(config, run, "kind = 'verification' AND named > 0")
    if not record.named:
        raise NoGo(f"run {record.run} named no rows; `verify rows` does")
    changes: list[Change] = []
    with Readers(config) as readers, ExitStack() as stack:
        pairs = {pair.name: pair for pair in load(readers)}
        places = _Places(config, stack)
        journal = _begin(config, stack, places, pairs, (record.run, direction, order)) if order.execute else None
        for batch in _batches(mismatches_of(config, record), tables):
            made = [_change(m) for m in batch]
            _plan(made, batch, pairs, places, direction)
            if journal:
                _write(made, pairs, places, direction, journal)
            changes += made
        found = Repair(record.run, direction, tuple(changes), journal.number if journal else None)
        if journal:
            _end(config, journal, found, record, order)
    return found


def undo(config: Config, number: int, order: Order) -> Repair:
    """Takes back a repair: every row of it that still is as the repair left it gets what it was before."""
    with Readers(config) as readers, ExitStack() as stack:
        pairs = {pair.name: pair for pair in load(readers)}
        places = _Places(config, stack)
        run, direction, rows = Journal.rows(config, number)
        if run == BY_DOUBLE_WRITE:
            raise ConfigError(f"repair {number} is of the double write: `migrate double-write repair --undo {number}`")
        journal = _begin(config, stack, places, pairs, (run, direction, order), number) if order.execute else None
        changes = []
        for start in range(0, len(rows), _BATCH):
            made = [_reverse(row) for row in rows[start : start + _BATCH]]
            _check_undo(made, pairs, places, direction)
            if journal:
                _write(made, pairs, places, direction, journal)
            changes += made
        found = Repair(run, direction, tuple(changes), journal.number if journal else None, number)
        if journal:
            _end(config, journal, found, None, order)
    return found


def _begin(
    config: Config,
    stack: ExitStack,
    places: _Places,
    pairs: dict[str, Pair],
    what: tuple[int, Direction, Order],
    undo_of: int | None = None,
) -> Journal:
    """The journal's entry. Of one that is gone on with, what became of each row is known."""
    run, direction, order = what
    journal = stack.enter_context(Journal.begin(config, run, direction, order.why, undo_of))
    for row in journal.planned():
        change = _written(row)
        place = places.of(pairs[change.target], _shard(pairs[change.target], str(change.shard)))
        with place.session.transaction():  # the lock waits for a COMMIT that was on its way
            there = place.read([_key(place, change)], lock=True).get(_key(place, change))
        journal.settle(row["number"], [change], [change] if there == change.after else ())
    return journal


def _end(config: Config, journal: Journal, found: Repair, record: Record | None, order: Order) -> None:
    """Stores the evidence, and only then closes the journal's entry: a repair without evidence isn't over."""
    body = {
        "repair": found.number,
        "undone": found.undone,
        "of_run": found.run,
        "of_digest": record.digest if record else None,
        "direction": found.direction,
        "reason": order.reason,
        "ticket": order.ticket,
    }
    store(config, "repair", "verify repair", found.ok, body, [c.document() for c in found.changes], order.folder)
    journal.end(sum(c.state == "left" for c in found.changes))


class _Places:
    """Sessions of the servers that are read and written, one each."""

    def __init__(self, config: Config, stack: ExitStack):
        self._config, self._stack = config, stack
        self._sessions: dict[Endpoint, Any] = {}

    def of(self, pair: Pair, shard: ShardTable | None) -> Place:
        endpoint = self._config.source(shard.shard.instance) if shard else self._config.target
        if endpoint not in self._sessions:
            patience_s = self._config.run.patience_s
            self._sessions[endpoint] = self._stack.enter_context(connect(endpoint, patience_s=patience_s))
        return Place(self._sessions[endpoint], pair, shard)


def _batches(mismatches: Iterator[dict[str, Any]], tables: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    rows = (m for m in mismatches if m["source_row"] or m["target_row"])  # not the sums of accounts
    chosen = (m for m in rows if not tables or m["target"] in tables)
    while batch := list(islice(chosen, _BATCH)):
        yield batch


def _change(m: dict[str, Any]) -> Change:
    return Change(m["target"], m["key"], m["kind"], m["shard"], m["at_risk"])


def _plan(
    made: Sequence[Change],
    seen: Sequence[dict[str, Any]],
    pairs: dict[str, Pair],
    places: _Places,
    direction: Direction,
) -> None:
    """Says for each what would be done, from what both sides hold now."""
    groups: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for number, change in enumerate(made):
        change.why = _refusal(change, pairs, direction)
        if not change.why:
            groups[change.target, change.shard].append(number)
    for (target, shard), numbers in groups.items():
        pair = pairs[target]
        key = {n: tuple((made[n].key or {})[name] for name in pair.key) for n in numbers}
        on_target = places.of(pair, None).read(key.values())
        on_source = places.of(pair, _shard(pair, shard)).read(key.values()) if shard else {}
        for n in numbers:
            change, source, other = made[n], on_source.get(key[n]), on_target.get(key[n])
            if (source.values if source else None) == (other.values if other else None):
                change.state, change.why = "agreed", "both sides agree by now"
            elif wrong := differing(source, seen[n]["source_row"]):
                change.why = f"the source has changed since the run saw it: {', '.join(wrong)}"
            elif wrong := differing(other, seen[n]["target_row"]):
                change.why = f"the target has changed since the run saw it: {', '.join(wrong)}"
            else:
                right, written = (source, other) if direction == "source" else (other, source)
                change.before, change.after, change.state = written, right, "planned"
                change.action = "insert" if written is None else "delete" if right is None else "update"


def _refusal(change: Change, pairs: dict[str, Pair], direction: Direction) -> str:
    pair = pairs.get(change.target)
    if pair is None:
        return "no route leads to that table any more"
    if change.kind == "late":
        return "it was equal when it was read again"
    if change.kind == "duplicate":
        return "the key stands more than once: which row is right, nobody but its owner can say"
    if not pair.key or change.key is None:
        return "the table has no key to find the row by"
    if direction == "target" and change.shard is None:
        return "which shard such a row belongs to isn't known: insert it there by hand"
    return ""


def _shard(pair: Pair, name: str) -> ShardTable:
    for table in pair.merged.shards:
        if str(table.shard) == name:
            return table
    raise NoGo(f"{name} is no shard of {pair.name} any more; verify again")


def _write(
    made: Sequence[Change], pairs: dict[str, Pair], places: _Places, direction: Direction, journal: Journal
) -> None:
    """Writes what is planned: each place's rows in one transaction, or one by one if that fails."""
    groups: dict[tuple[str, str | None], list[Change]] = defaultdict(list)
    for change in made:
        if change.state == "planned":
            groups[change.target, change.shard if direction == "target" else None].append(change)
    for (target, shard), changes in groups.items():
        place = places.of(pairs[target], _shard(pairs[target], shard) if shard else None)
        try:
            _transact(place, changes, journal)
        except (ServerError, NoGo):
            for change in changes:
                try:
                    _transact(place, [change], journal)
                except (ServerError, NoGo) as error:
                    change.state, change.why = "left", str(error)
    journal.left([c for c in made if c.state == "left" and not (direction == "target" and c.action)])


def _transact(place: Place, changes: Sequence[Change], journal: Journal) -> None:
    """Locks the rows, checks that they still are as planned, writes them, reads them back, and commits; on the target
    the journal commits with them, of a shard it is told before and after. A row that isn't as planned is left."""
    first = journal.plan(changes) if place.shard else 0
    written: list[Change] = []
    try:
        with place.session.transaction("BEGIN" if place.shard else "BEGIN PESSIMISTIC"):
            _change_rows(place, changes, written)
            if not place.shard:
                journal.put(place.session, written, "done")
    except (ServerError, NoGo):
        if place.shard:
            journal.settle(first, changes, ())
        raise
    if place.shard:
        journal.settle(first, changes, written)
    for change in written:
        change.state = "done"


def _change_rows(place: Place, changes: Sequence[Change], written: list[Change]) -> None:
    keys = {id(c): _key(place, c) for c in changes}
    there = place.read(keys.values(), lock=True)
    for change in changes:
        if there.get(keys[id(change)]) != change.before:
            change.state, change.why = "left", "the row has changed since it was planned"
            continue
        if change.before is None and change.after:
            place.insert(change.after)
        elif change.before and change.after is None:
            place.delete(change.before)
        elif change.before and change.after:
            place.update(change.before, change.after)
        written.append(change)
    back = place.read([keys[id(c)] for c in written])
    for change in written:
        if back.get(keys[id(change)]) != change.after:
            raise NoGo(f"{place}: the row doesn't read back as it was to be; nothing was kept")


def _key(place: Place, change: Change) -> Key:
    image = change.before or change.after
    if image is None:
        raise MigrateError(f"{change.target}: the journal has no image of the row")
    return place.key_of(image.values)


def _written(row: dict[str, Any]) -> Change:
    """A row of the journal."""
    change = Change(row["target"], row["key"], "repair", row["shard"], {}, row["action"])
    change.before, change.after = Image.of(row["before"]), Image.of(row["after"])
    return change


def _reverse(row: dict[str, Any]) -> Change:
    actions: dict[str, Action] = {"insert": "delete", "delete": "insert", "update": "update"}
    change = _written(row)
    change.kind, change.action = "undo", actions[row["action"]]
    change.before, change.after = change.after, change.before
    return change


def _check_undo(made: Sequence[Change], pairs: dict[str, Pair], places: _Places, direction: Direction) -> None:
    for change in made:
        pair = pairs.get(change.target)
        if pair is None:
            change.why = "no route leads to that table any more"
            continue
        place = places.of(pair, _shard(pair, change.shard) if direction == "target" and change.shard else None)
        key = _key(place, change)
        there = place.read([key]).get(key)
        if there == change.before:
            change.state = "planned"
        elif there == change.after:
            change.state, change.why = "agreed", "the row is as it was before the repair"
        else:
            change.why = "the row has changed since the repair"
