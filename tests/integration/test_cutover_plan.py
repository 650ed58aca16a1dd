"""Without --execute: every action in order, and not one write on any server, by the servers' own general logs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from migrate.sandbox import Sandbox
from tests.cutover_lab import Lab, cutover_lab
from tests.integration.shards import run

_READS = re.compile(
    r"(SELECT|SHOW|SET (SESSION|@@SESSION|NAMES|AUTOCOMMIT)|BEGIN|START TRANSACTION|ROLLBACK|ADMIN SHOW|USE) ?\b",
    re.IGNORECASE,
)
_LOOKER = "looker"


class Logs:
    """What an account of its own asks of all servers."""

    def __init__(self, lab: Lab):
        self._lab = lab
        self._tidb = lab.scene.target
        self._log: Path = lab.scene.target.folder / "server.log"  # type: ignore[attr-defined]

    @contextmanager
    def on(self) -> Iterator[None]:
        sources = self._lab.scene.sources
        for server in (*sources, self._tidb):
            run(server, f"CREATE USER '{_LOOKER}'@'%' IDENTIFIED BY 'x'", f"GRANT ALL ON *.* TO '{_LOOKER}'@'%'")
        for server in sources:
            run(server, f"CREATE USER '{_LOOKER}'@'localhost' IDENTIFIED BY 'x'")
            run(server, f"GRANT ALL ON *.* TO '{_LOOKER}'@'localhost'")
            run(server, "SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = ON")
        run(self._tidb, "SET GLOBAL tidb_general_log = ON")
        try:
            yield
        finally:
            run(self._tidb, "SET GLOBAL tidb_general_log = OFF")
            for server in sources:
                run(server, "SET GLOBAL general_log = OFF", "TRUNCATE mysql.general_log")
                run(server, f"DROP USER '{_LOOKER}'@'localhost'")
            for server in (*sources, self._tidb):
                run(server, f"DROP USER '{_LOOKER}'@'%'")

    def statements(self) -> list[str]:
        """All that it has asked so far."""
        found = []
        for server in self._lab.scene.sources:
            rows = run(server, "SELECT argument FROM mysql.general_log WHERE command_type = 'Query' AND user_host LIKE "
                       f"'%{_LOOKER}%'")  # fmt: skip
            assert rows, "the log has nothing"
            found += [text.decode() if isinstance(text, bytes) else str(text) for (text,) in rows]
        lines = [line for line in self._log.read_text().splitlines() if "GENERAL_LOG" in line and _LOOKER in line]
        assert lines, "the log has nothing"
        return found + [line.partition("[sql=")[2].strip('"]') for line in lines]


def meta(lab: Lab) -> list[Any]:
    """What a cutover would leave behind."""
    target, name = lab.scene.target, lab.config.name
    tables = {t for (t,) in run(target, "SHOW TABLES FROM migrate_meta")}
    rows = [run(target, f"SELECT * FROM migrate_meta.{t} WHERE migration = '{name}'") for t in ("phase", "journal")]
    return [tables, run(target, "SELECT name FROM migrate_meta.migration"), *rows]


def shown(lab: Lab, verb: str, *more: str) -> dict[str, Any]:
    client = lab.client(verb, *more, "--json").ended()
    document: dict[str, Any] = json.loads(client.out)
    assert client.code == (0 if document["ok"] else 1)
    return document


def test_every_action_is_shown_and_nothing_is_written(servers: Sandbox, tmp_path: Path) -> None:
    with cutover_lab(servers, tmp_path) as lab:
        lab.write_config(hooks__switch=lab.hook("switch", ":"), hooks__back=lab.hook("back", ":"))
        url = re.compile(r"mysql://[^@]+@")
        mine = lab.path.read_text()
        logs = Logs(lab)
        with logs.on():
            before = meta(lab)
            lab.path.write_text(url.sub(f"mysql://{_LOOKER}:x@", mine))
            there = shown(lab, "cutover")
            text = lab.client("cutover").ok().out
            lab.path.write_text(mine)
            assert meta(lab) == before
            assert lab.hooks_called() == []
            outcome = lab.cut_over()
            assert outcome.go, outcome.text()
            before = meta(lab)
            lab.path.write_text(url.sub(f"mysql://{_LOOKER}:x@", mine))
            back = shown(lab, "rollback")
            lab.path.write_text(mine)
            assert meta(lab) == before
            asked = logs.statements()
        writes = [s for s in asked if not _READS.match(s.strip())]
        assert not writes, writes[:10]
        assert len(asked) > 100
        taken = [s.name for s in outcome.steps]
        assert [s["name"] for s in there["steps"]] == taken, "it took other steps than it had shown"
        assert text.index("fence: raise the epoch") < text.index("there is only forward") < text.index("switch: open")
        outcome = lab.roll_back()
        assert outcome.go, outcome.text()
        assert [s["name"] for s in back["steps"]] == [s.name for s in outcome.steps]
        assert lab.hooks_called() == ["switch", "back"]
