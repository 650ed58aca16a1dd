"""Looks on the other shards of a target table for the key of a row that found its place taken."""

from __future__ import annotations

from threading import Lock

from migrate.config import Config
from migrate.db import Session
from migrate.model import Shard, quote
from migrate.sync.apply import Rows
from migrate.sync.router import Router

_KEYS = 1000


class Elsewhere:
    """Sessions to the instances are opened when they are needed, which is hardly ever."""

    def __init__(self, config: Config, router: Router):
        self._config, self._router = config, router
        self._lock = Lock()

    def __call__(self, rows: Rows) -> str | None:
        """A sentence that names a key which two shards hold, or None if no other shard holds any of them now."""
        with self._lock:
            sessions: dict[str, Session] = {}
            try:
                return self._search(rows, sessions)
            finally:
                for session in sessions.values():
                    session.close()

    def _search(self, rows: Rows, sessions: dict[str, Session]) -> str | None:
        for start in range(0, len(rows), _KEYS):
            some = rows[start : start + _KEYS]
            owners: dict[Shard, list[str]] = {}
            layouts = {}
            for layout, image in some:
                owners.setdefault(layout.shard, []).append(layout.decoder.key_literal(image))
                layouts[layout.shard] = layout
            for shard, keys in owners.items():
                layout = layouts[shard]
                if not layout.crowded:
                    continue
                names = ", ".join(quote(c) for c in layout.key_columns)
                for other in self._router.others(shard, layout.target):
                    session = sessions.get(other.instance)
                    if session is None:
                        session = sessions[other.instance] = Session(self._config.source(other.instance))
                    found = session.query(
                        f"SELECT {names} FROM {other.sql} WHERE ({names}) IN ({','.join(keys)}) LIMIT 1"
                    )
                    if found:
                        key = ", ".join(str(v) for v in found[0])
                        return (
                            f"key {key} is on two shards, {other} and {shard}: one of them must go; a merged table has "
                            "room for one row"
                        )
        return None
