"""Ways to refuse the application's writes on the shards: raised, proven, lifted. Each is safe to repeat."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

from migrate.config import Config, Endpoint
from migrate.cutover.hooks import run_hook
from migrate.db import Session, connect, wait
from migrate.doublewrite import fence as epochs
from migrate.errors import NoGo, ServerError
from migrate.position import Position, capture
from migrate.source import on_every_instance

Keep = Callable[..., None]  # records facts that lifting will need, before they are needed

_OLDER = (
    "SELECT trx_mysql_thread_id, TIMESTAMPDIFF(SECOND, trx_started, NOW()) FROM information_schema.INNODB_TRX "
    "WHERE trx_rows_modified > 0 AND trx_mysql_thread_id <> CONNECTION_ID()"
)


class Fence(Protocol):
    """A way to refuse writes on the shards."""

    def describe(self) -> str:
        """What will be done, for a dry run."""

    def put_up(self, config: Config, run: int, keep: Keep, within_s: float) -> str:
        """Refuses writes from here on; says how. NoGo if it can't."""

    def lift(self, config: Config, run: int, kept: dict[str, Any]) -> str:
        """Lets them go on as before."""


class EpochFence:
    """The library's: an epoch that every transaction of it reads under a lock, changed under an exclusive one."""

    def describe(self) -> str:
        return "raise the epoch on every instance: the library refuses writes from then on"

    def put_up(self, config: Config, run: int, keep: Keep, within_s: float) -> str:
        found = epochs.fence(config, "source", within_s=max(1.0, within_s))
        return f"epoch {found[0].epoch}; waited {max(p.waited_s for p in found):.3f} s for open transactions"

    def lift(self, config: Config, run: int, kept: dict[str, Any]) -> str:
        return f"lifted: {epochs.lift(config).epoch}"


class ReadOnlyFence:
    """read_only on every instance: accounts without SUPER (or CONNECTION_ADMIN) can't write; ours can, for the way
    back. Not super_read_only, which would refuse that too."""

    def describe(self) -> str:
        return "SET GLOBAL read_only = ON on every instance, then end transactions that had written before"

    def put_up(self, config: Config, run: int, keep: Keep, within_s: float) -> str:
        before = on_every_instance(config, lambda s, _: str(s.query("SHOW GLOBAL VARIABLES LIKE 'read_only'")[0][1]))
        keep(read_only=before)

        def close(session: Session, _: Endpoint) -> None:
            session.execute("SET SESSION lock_wait_timeout = %s", [max(1, int(within_s))])
            session.execute("SET GLOBAL read_only = ON")

        on_every_instance(config, close)
        return "read_only is ON on " + ", ".join(sorted(before))

    def lift(self, config: Config, run: int, kept: dict[str, Any]) -> str:
        before = kept.get("read_only", {})

        def open_again(session: Session, endpoint: Endpoint) -> None:
            if before.get(endpoint.name, "OFF") != "ON":
                session.execute("SET GLOBAL read_only = OFF")

        on_every_instance(config, open_again)
        return "read_only is as it was"


class RevokeFence:
    """Takes every right from the application's accounts, whose grants are kept, and ends their connections."""

    def describe(self) -> str:
        return "REVOKE ALL from the accounts in cutover.accounts on every instance, and end their connections"

    def put_up(self, config: Config, run: int, keep: Keep, within_s: float) -> str:
        keep(grants=on_every_instance(config, lambda s, _: {a: _grants(s, a) for a in config.cutover.accounts}))

        def close(session: Session, _: Endpoint) -> int:
            for account in config.cutover.accounts:
                session.execute(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {_account(account)}")
            users = {a.partition("@")[0] for a in config.cutover.accounts}
            found = session.query("SELECT ID FROM information_schema.PROCESSLIST WHERE USER IN %s", [sorted(users)])
            return sum(_kill(session, number) for (number,) in found)

        ended = on_every_instance(config, close)
        return f"{', '.join(config.cutover.accounts)} have no rights; {sum(ended.values())} connections ended"

    def lift(self, config: Config, run: int, kept: dict[str, Any]) -> str:
        grants = kept.get("grants", {})

        def give_back(session: Session, endpoint: Endpoint) -> None:
            for statements in grants.get(endpoint.name, {}).values():
                for statement in statements:
                    session.execute(statement)

        on_every_instance(config, give_back)
        return "rights are given back"


class HookFence:
    """The operator's executables."""

    def describe(self) -> str:
        return "run the hook cutover.hooks.fence"

    def put_up(self, config: Config, run: int, keep: Keep, within_s: float) -> str:
        assert config.cutover.hooks.fence is not None
        limit = min(within_s, config.cutover.hooks.timeout_s)
        return run_hook(config, "fence", config.cutover.hooks.fence, direction="cutover", run=run, limit_s=limit)

    def lift(self, config: Config, run: int, kept: dict[str, Any]) -> str:
        assert config.cutover.hooks.lift is not None
        return run_hook(
            config,
            "lift",
            config.cutover.hooks.lift,
            direction="cutover",
            run=run,
            limit_s=config.cutover.hooks.timeout_s,
        )


def fence_of(config: Config) -> Fence:
    """The fence that the config names."""
    kinds: dict[str, type] = {
        "epoch": EpochFence, "read-only": ReadOnlyFence, "revoke": RevokeFence, "hook": HookFence,
    }  # fmt: skip
    fence: Fence = kinds[config.cutover.fence]()
    return fence


def prove(config: Config, within_s: float, *, still_s: float = 0.2) -> dict[str, Position]:
    """The final position of every instance: none moves, and no transaction that wrote before is open any more.

    Who is still writing is waited for up to half of `within_s`, then ended; NoGo if that doesn't help.
    """
    waited = 0.0
    while open_ones := _open_writers(config):
        if waited > within_s / 2:
            _end_writers(config, open_ones)
        if waited > within_s:
            named = "; ".join(f"{name}: connection {', '.join(map(str, ids))}" for name, ids in open_ones.items())
            raise NoGo(f"the fence doesn't hold: transactions that wrote before are still open ({named})")
        wait(0.05)
        waited += 0.05
    before = _positions(config)
    wait(still_s)
    after = _positions(config)
    for name, position in after.items():
        if position != before[name]:
            raise NoGo(
                f"the fence doesn't hold: {name} was written after it, from {before[name]['file']}:"
                f"{before[name]['offset']} to {position['file']}:{position['offset']}; find out who writes (a job, an "
                "account with SUPER) before the next try"
            )
    return after


def _positions(config: Config) -> dict[str, Position]:
    return on_every_instance(config, lambda session, endpoint: capture(session, endpoint.name))


def _open_writers(config: Config) -> dict[str, list[int]]:
    def look(session: Session, _: Endpoint) -> list[int]:
        return [int(number) for number, _ in session.query(_OLDER)]

    return {name: ids for name, ids in on_every_instance(config, look).items() if ids}


def _end_writers(config: Config, found: dict[str, list[int]]) -> None:
    for name, ids in found.items():
        with connect(config.source(name), patience_s=config.run.patience_s) as session:
            for number in ids:
                _kill(session, number)


def _kill(session: Session, number: int) -> bool:
    try:
        session.execute(f"KILL {int(number)}")
    except ServerError as error:
        if error.number != 1094:  # it is gone already
            raise
        return False
    return True


def _account(text: str) -> str:
    user, _, host = text.partition("@")
    return "'" + user.replace("'", "''") + "'@'" + (host or "%").replace("'", "''") + "'"


def _grants(session: Session, account: str) -> list[str]:
    """The account's grants, to be given again as they are; without its password, which MySQL 5.6 writes there."""
    rows = session.query(f"SHOW GRANTS FOR {_account(account)}")
    return [re.sub(r" IDENTIFIED BY PASSWORD (<secret>|'[^']*')", "", str(row[0])) for row in rows]
