"""Faults that a rehearsal brings about, each with the reaction that it must meet: a no-go with the fence lifted, after
which the application writes on and a later cutover is a go."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from migrate.db import connect, wait
from migrate.errors import MigrateError
from migrate.ledger import load_ledger
from migrate.model import quote
from migrate.rehearse.steps import Done
from migrate.rehearse.tools import Answer

if TYPE_CHECKING:
    from migrate.rehearse.stage import Stage

_SHORT_S = 4.0  # the freeze that a cutover may take where it is to run out of time
_HOOK_S = 1.0
_WITHIN_S = 300  # for what a cutover does before its freeze


@dataclass(frozen=True)
class Fault:
    """A fault by name. `play` takes its steps."""

    name: str
    play: Callable[[Stage], None]


def _slow_hook(stage: Stage) -> None:
    """A hook that hangs: it is ended at its limit, and the cutover is undone."""
    hook = stage.config.path.with_name("hook-that-hangs.sh")
    told = hook.with_suffix(".pid")
    hook.write_text(f"#!/bin/sh\necho $$ > '{told}'\nexec sleep 600\n", encoding="utf-8")
    hook.chmod(0o700)
    config = _variant(stage, "slow-hook", f'[cutover.hooks]\nsmoke = "{hook}"\ntimeout_s = {_HOOK_S}\n')

    def hangs() -> Done:
        answer = stage.cut_over(config)
        pid = int(told.read_text()) if told.exists() else None
        if pid is None:
            return Done(False, f"the hook was never called: {answer.error()}", answer.document)
        if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            return Done(False, f"the hook still runs, as process {pid}", answer.document)
        return _undone(stage, answer, f"the hook was ended after {_HOOK_S:g} s")

    stage.watch.take("fault: slow-hook", hangs)


def _straggler(stage: Stage) -> None:
    """A transaction of the application that stays open: the fence can't be closed in time, and is lifted."""
    config = _variant(stage, "straggler", f"freeze_s = {_SHORT_S}\n")

    def stays_open() -> Done:
        with _transactions(stage) as open_one:

            def in_time() -> None:
                where.append(open_one())

            where: list[str] = []
            answer = _broken_at(stage, config, "before_fence", in_time)
        return _undone(stage, answer, f"a transaction stayed open on {where[0]}")

    stage.watch.take("fault: straggler", stays_open)


def _target_killed(stage: Stage) -> None:
    """The target dies in the drain and comes back when the freeze is over: the cutover is undone."""
    config = _variant(stage, "target-killed", f"freeze_s = {_SHORT_S}\n")

    def dies() -> Done:
        back: list[threading.Timer] = []

        def kill() -> None:
            stage.sandbox.kill("tidb")
            back.append(threading.Timer(_SHORT_S + 1, lambda: stage.sandbox.restart("tidb")))
            back[0].start()

        try:
            answer = _broken_at(stage, config, "before_drain", kill)
        finally:
            for timer in back:
                timer.join()
        return _undone(stage, answer, "the target was killed in the drain")

    stage.watch.take("fault: target-killed-in-drain", dies)
    stage.watch.take("sync after target-killed-in-drain", stage.follows)


def _planted_mismatch(stage: Stage) -> None:
    """A cent more in one row of the target, just written: found in the freeze, a no-go; named, repaired and verified
    afterwards."""
    assert stage.config.pack is not None
    entry = load_ledger(stage.config.pack).role.entry
    table = ".".join(map(quote, entry.table.split(".")))
    planted: list[str] = []

    def plant() -> None:
        # in a row that was written since: of others the freeze sees only what there is time for
        newest, end = f"SELECT MAX({quote(entry.id)}) FROM {table}", time.monotonic() + _WITHIN_S
        with connect(stage.config.target) as session:
            before = session.value(newest)
            while (row := session.value(newest)) == before:
                if time.monotonic() > end:
                    raise MigrateError(f"no new row came to {entry.table} within {_WITHIN_S} s")
                wait(0.02)
            session.execute(
                f"UPDATE {table} SET {quote(entry.amount)} = {quote(entry.amount)} + 0.01 WHERE {quote(entry.id)} = %s",
                [row],
            )
        planted.append(str(row))

    def no_go() -> Done:
        # when all that was verified before the freeze is done: only the verification in it can find this
        answer = _broken_at(stage, stage.config.path, "before_fence", plant)
        return _undone(stage, answer, f"0.01 too much in {entry.table} {planted[0]} of the target")

    def named() -> Done:
        answer = stage.tools.run("verify", "all")
        keys = [str(value) for m in answer.document.get("mismatches", ()) for value in (m["key"] or {}).values()]
        found = answer.code == 1 and planted[0] in keys
        return Done(found, f"verification names {entry.table} {planted[0]}" if found else
                    f"not named by verification: {keys[:5]}, {answer.error()}", answer.document)  # fmt: skip

    take = stage.watch.take
    take("fault: planted-mismatch", no_go)
    take("planted-mismatch is named", named)
    take("repair", lambda: stage.command(
        "verify", "repair", "--execute", "--reason", "planted by the rehearsal", "--ticket", "rehearsal",
        said=lambda d: f"{'mended' if d else 'nothing'}; a repair proves nothing, so everything is verified again",
    ))  # fmt: skip
    take("verify after repair", stage.verify)


FAULTS = (
    Fault("slow-hook", _slow_hook),
    Fault("straggler", _straggler),
    Fault("target-killed-in-drain", _target_killed),
    Fault("planted-mismatch", _planted_mismatch),
)


def _undone(stage: Stage, answer: Answer, what: str) -> Done:
    """Whether a cutover was undone as it should be: a no-go, no fence, and the application writes on."""
    if answer.code != 1 or answer.document.get("ok") is not False:
        return Done(False, f"{what}: not a no-go: {answer.error()}", answer.document)
    if fenced := stage.fenced():
        return Done(False, f"{what}: a no-go, but {', '.join(fenced)} still fenced", answer.document)
    if answer.document.get("freeze_s") is None:
        return Done(False, f"{what}: a no-go before anything was fenced, so the fault was none", answer.document)
    after = stage.until_posted(1)
    reason = str(answer.document["reason"]).splitlines()[0].rstrip(":")
    return Done(True, f"{what}: a no-go ({reason}); the fence is lifted, the application writes on after {after:.1f} s",
                answer.document)  # fmt: skip


def _variant(stage: Stage, name: str, more: str) -> Path:
    """The config of the rehearsal with another [cutover]; a line of the same key replaces its own."""
    text = stage.config.path.read_text(encoding="utf-8")
    if more.startswith("freeze_s"):
        text = "\n".join(line for line in text.splitlines() if not line.startswith("freeze_s")) + "\n"
    path = stage.config.path.with_name(f"rehearsal-{name}.toml")
    path.write_text(text + more, encoding="utf-8")
    path.chmod(0o600)
    return path


def _broken_at(stage: Stage, config: Path, point: str, work: Callable[[], None]) -> Answer:
    """A cutover that is held at that fault point until the work is done. MigrateError if it never gets there."""
    process = stage.tools.start("cutover", "--execute", config=config, env={"MIGRATE_FAULT": f"{point}:stop"})
    end = time.monotonic() + _WITHIN_S
    while process.poll() is None and psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        if time.monotonic() > end:
            process.kill()
        wait(0.02)
    held = process.poll() is None
    if held:
        try:
            work()
        finally:
            os.kill(process.pid, signal.SIGCONT)
    answer = stage.tools.finish(process)
    if not held:
        raise MigrateError(f"the cutover never got to {point}: {answer.document.get('reason') or answer.error()}")
    return answer


@contextmanager
def _transactions(stage: Stage) -> Iterator[Callable[[], str]]:
    """Gives what opens a transaction of the application, let in by the library, that doesn't end before the block."""
    from migrate.doublewrite import DoubleWrite

    assert stage.config.pack is not None
    account = load_ledger(stage.config.pack).role.account
    ledger = DoubleWrite(stage.config)
    opened: list[Any] = []
    try:
        target, column = account.table, quote(account.id)
        name = ".".join(map(quote, target.split(".")))
        shard = ledger.router.tables[target].shards[0].shard
        with connect(stage.config.source(shard.instance)) as session:
            key = session.value(f"SELECT MIN({column}) FROM {shard.sql}")
        if key is None:
            raise MigrateError(f"{shard}: no account to keep a transaction open on")

        def open_one() -> str:
            opened.append(ledger.connect(int(key)))
            opened[0].cursor().execute(f"UPDATE {name} SET {column} = {column} WHERE {column} = %s", (int(key),))
            return str(shard)

        yield open_one
    finally:
        for connection in opened:
            connection.rollback()
            connection.close()
        ledger.close()
