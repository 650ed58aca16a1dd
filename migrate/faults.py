"""Named points where tests stop, kill or break the toolkit. No-ops unless MIGRATE_FAULT names one.

MIGRATE_FAULT is `point:action` or `point:action:N`; the action is taken at the Nth passage (1 if not given)
of any process. Actions: kill (SIGKILL of the process that passes), killall (of its whole process group), stop (SIGSTOP
of the process that passes), raise (a MigrateError).
"""

from __future__ import annotations

import os
import signal
from collections import Counter

from migrate.errors import MigrateError

# There is also one before and one after each step of a cutover and of the way back: before_fence, after_fence ...
POINTS = (
    "after_definitions_saved",
    "after_position_captured",
    "after_shard_planned",
    "after_chunk_claimed",
    "after_chunk_read",
    "after_chunk_loaded",
    "after_chunk_commit",
    "after_file_written",
    "before_manifest_saved",
    "after_manifest_saved",
    "before_consistent_saved",
    "before_finish",
    "inside_transaction",
    "after_batch_prepared",
    "before_position_save",
    "after_departure",
    "after_part_commit",
    "switch_recorded",
    "before_open",
    "after_open",
    "before_deliver",
    "after_deliver",
    "before_decision",
    "switch_decided",
    "before_fence",
    "after_fence",
)

_ARMED = os.environ.get("MIGRATE_FAULT")  # looked up once: some points are passed with every transaction
_passed: Counter[str] = Counter()


def fault_point(name: str) -> None:
    """Passes through the point of that name."""
    if _ARMED:
        _passes(name, *_ARMED.split(":"))


def _passes(name: str, point: str, action: str, count: str = "1") -> None:
    if point != name:
        return
    _passed[name] += 1
    if _passed[name] != int(count):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "killall":
        os.killpg(0, signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action == "raise":
        raise MigrateError(f"fault injected at {name}")
    else:
        raise MigrateError(f"MIGRATE_FAULT: unknown action {action!r}")
