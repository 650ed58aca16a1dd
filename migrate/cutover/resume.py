"""Where `migrate sync` goes on after a rollback: the target has all that the shards have, by the way back."""

from __future__ import annotations

import json
from collections.abc import Sequence

from migrate.config import Config
from migrate.model import MergedTable
from migrate.position import Position, reached
from migrate.state import State
from migrate.sync.marks import Marks
from migrate.sync.status import read_sync_status


def sync_goes_on_at(config: Config, positions: dict[str, Position], tables: Sequence[MergedTable]) -> str:
    """Moves sync to these positions, at which both sides hold the same: all that the binlogs have before them came from
    the target. So it needs neither the binlogs of the days in between nor their time. Safe to repeat.

    A sync that runs is left alone: it reads its way there.
    """

    def move(state: State) -> str:
        running = [f.instance for f in read_sync_status(config, state.session).followers if f.running]
        if running:
            return f"sync runs, and goes on by itself ({', '.join(running)})"
        definitions = {t.shard: t.physical for table in tables for t in table.shards}
        if any(
            not reached(m.position, positions[n]) for n in positions for m in Marks(config.name, n).read(state.session)
        ):
            if state.definitions() != definitions:
                state.save_definitions(definitions)
            with state.session.transaction():
                for name, position in positions.items():
                    state.session.execute(
                        "UPDATE migrate_meta.applied a JOIN (SELECT MAX(seq) AS last FROM migrate_meta.applied WHERE "
                        "migration = %s AND instance = %s AND target = '') b SET a.seq = b.last + 1, a.position = %s, "
                        "a.inside = 0, a.departed = NULL, a.committed_at = NOW(6) WHERE a.migration = %s AND "
                        "a.instance = %s AND a.target = ''",
                        (config.name, name, json.dumps(position), config.name, name),
                    )
        return ", ".join(f"{name} from {p['file']}:{p['offset']}" for name, p in positions.items())

    return State.settled(config, move)
