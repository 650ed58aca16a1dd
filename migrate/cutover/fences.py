"""Ways to refuse the application's writes on the shards: raised, and lifted. Each is safe to repeat."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol

from migrate.config import Config, Endpoint
from migrate.cutover.brisk import AWAY, brisk
from migrate.cutover.hooks import run_hook
from migrate.db import Session, wait
from migrate.doublewrite import fence as epochs
from migrate.errors import ServerError
from migrate.preflight.privileges import read_grants
from migrate.preflight.server import look
from migrate.source import on_every_instance

_CONNECTIONS = "information_schema.PROCESSLIST"
_KILL_S = 0.2  # for a thread to run; to roll back may take it longer

Keep = Callable[..., None]  # records facts that lifting will need, before they are needed
Problem = tuple[str, str]  # what is wrong, and what to do about it


class Fence(Protocol):
    """A way to refuse writes on the shards."""

    name: str

    def describe(self, config: Config) -> str:
        """What will be done, for a dry run."""

    def problems(self, config: Config) -> Iterator[Problem]:
        """Why it could not be put up, or lifted."""

    def put_up(self, config: Config, run: int, keep: Keep, within_s: float) -> str:
        """Refuses writes from here on; says how. NoGo if it can't."""

    def lift(self, config: Config, run: int, kept: dict[str, Any], *, target_away: bool) -> str:
        """Lets them go on as before."""


class EpochFence:
    """The library's: an epoch that every transaction of it reads under a lock, changed under an exclusive one."""

    name = "fence"

    def describe(self, config: Config) -> str:
        return (
            "raise the epoch in migrate_outbox.epoch on every instance, waiting for the library's open transactions: it"
            " refuses writes from then on"
        )

    def problems(self, config: Config) -> Iterator[Problem]:
        yield from ()

    def put_up(self, config: Config, run: int, keep: Keep, within_s: float) -> str:
        found = epochs.fence(config, "source", within_s=max(1.0, within_s))
        keep(epoch=found[0].epoch)
        return f"epoch {found[0].epoch}; waited {max(p.waited_s for p in found):.3f} s for open transactions"

    def lift(self, config: Config, run: int, kept: dict[str, Any], *, target_away: bool) -> str:
        if not target_away:
            with suppress(*AWAY):
                return f"lifted: {epochs.lift(brisk(config), of=kept.get('epoch')).epoch}"
        opened = epochs.reopen_sources(config)
        said = f"opened without the target: {', '.join(opened) or 'nothing was closed'}"
        if not target_away:
            with suppress(*AWAY):
                return f"{said}; lifted: {epochs.lift(brisk(config), of=kept.get('epoch')).epoch}"
        return said


class ReadOnlyFence:
    """read_only on every instance: accounts without SUPER (or CONNECTION_ADMIN) can't write; ours can, for the way
    back. Not super_read_only, which would refuse that too."""

    name = "fence-read-only"

    def describe(self, config: Config) -> str:
        return "SET GLOBAL read_only = ON on every instance; our account must be exempt from it, and others must not be"

    def problems(self, config: Config) -> Iterator[Problem]:
        yield from _lacking(
            config, {"SUPER"}, {"SYSTEM_VARIABLES_ADMIN", "CONNECTION_ADMIN"}, "set read_only and go on writing"
        )
        for name, value in on_every_instance(config, lambda s, _: _variable(s, "super_read_only")).items():
            if value == "ON":
                yield (
                    f"{name}: super_read_only is ON, so that nobody can write there",
                    "SET GLOBAL super_read_only = OFF",
                )

    def put_up(self, config: Config, run: int, keep: Keep, within_s: float) -> str:
        before = on_every_instance(config, lambda s, _: _variable(s, "read_only"))
        keep(read_only=before)

        def close(session: Session, _: Endpoint) -> None:
            session.execute("SET SESSION lock_wait_timeout = %s", [max(1, int(within_s))])
            session.execute("SET GLOBAL read_only = ON")

        on_every_instance(config, close)
        return "read_only is ON on " + ", ".join(sorted(before))

    def lift(self, config: Config, run: int, kept: dict[str, Any], *, target_away: bool) -> str:
        before = kept.get("read_only", {})

        def open_again(session: Session, endpoint: Endpoint) -> None:
            if before.get(endpoint.name) == "OFF":
                session.execute("SET GLOBAL read_only = OFF")

        on_every_instance(config, open_again)
        return "read_only is as it was"


class RevokeFence:
    """Takes every right from the application's accounts, whose grants are kept, and ends their connections."""

    name = "fence-revoke"

    def describe(self, config: Config) -> str:
        return (
            f"on every instance REVOKE ALL PRIVILEGES, GRANT OPTION from {', '.join(config.cutover.accounts)}, whose "
            "grants are kept, and end their connections"
        )

    def problems(self, config: Config) -> Iterator[Problem]:
        yield from _lacking(config, {"SUPER"}, {"CONNECTION_ADMIN"}, "end connections of others")
        for name, own in on_every_instance(config, lambda s, _: _grants(s, None)).items():
            if not any(" WITH GRANT OPTION" in line for line in own):
                yield f"{name}: our account can't give rights back", "GRANT ALL ON *.* TO it WITH GRANT OPTION"
        for name, missing in on_every_instance(config, lambda s, _: _missing(s, config.cutover.accounts)).items():
            if missing:
                yield (
                    f"{name} has no account {', '.join(missing)}",
                    "name the accounts of the application in cutover.accounts",
                )

    def put_up(self, config: Config, run: int, keep: Keep, within_s: float) -> str:
        keep(grants=on_every_instance(config, lambda s, _: {a: _grants(s, a) for a in config.cutover.accounts}))

        def close(session: Session, _: Endpoint) -> int:
            for account in config.cutover.accounts:
                session.execute(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {_account(account)}")
            users = {a.partition("@")[0] for a in config.cutover.accounts}
            found = session.query(f"SELECT ID FROM {_CONNECTIONS} WHERE USER IN %s", [sorted(users)])
            return len(kill(session, (number for (number,) in found)))

        ended = on_every_instance(config, close)
        return f"{', '.join(config.cutover.accounts)} have no rights; {sum(ended.values())} connections ended"

    def lift(self, config: Config, run: int, kept: dict[str, Any], *, target_away: bool) -> str:
        grants = kept.get("grants", {})

        def give_back(session: Session, endpoint: Endpoint) -> None:
            for statements in grants.get(endpoint.name, {}).values():
                for statement in statements:
                    session.execute(statement)

        on_every_instance(config, give_back)
        return "rights are given back"


class HookFence:
    """The operator's executables."""

    name = "fence-hook"

    def describe(self, config: Config) -> str:
        return f"run the hook {config.cutover.hooks.fence}, for {config.cutover.hooks.timeout_s:g} s at most"

    def problems(self, config: Config) -> Iterator[Problem]:
        yield from ()

    def put_up(self, config: Config, run: int, keep: Keep, within_s: float) -> str:
        hooks = config.cutover.hooks
        assert hooks.fence is not None
        limit = min(within_s, hooks.timeout_s)
        return run_hook(config, "fence", hooks.fence, direction="cutover", run=run, limit_s=limit)

    def lift(self, config: Config, run: int, kept: dict[str, Any], *, target_away: bool) -> str:
        hooks = config.cutover.hooks
        assert hooks.lift is not None
        return run_hook(config, "lift", hooks.lift, direction="cutover", run=run, limit_s=hooks.timeout_s)


def fences_of(config: Config, *, double: bool) -> list[Fence]:
    """The fences that are put up, in this order, and lifted in the other. Where the double write is installed the epoch
    is one of them: it is what keeps the other side closed to the library until the switch."""
    kinds: dict[str, type] = {"read-only": ReadOnlyFence, "revoke": RevokeFence, "hook": HookFence}
    found: list[Fence] = [EpochFence()] if double else []
    if config.cutover.fence in kinds:
        found.append(kinds[config.cutover.fence]())
    return found


def kill(session: Session, numbers: Iterable[int]) -> set[int]:
    """Ends connections; gives those that weren't gone already. They are waited for a moment, before anybody of ours
    connects anew.

    MySQL 5.6 closes a killed connection's socket under its thread. If a new connection gets that descriptor before the
    thread has run, the thread goes on to wait at it, with its locks, for wait_timeout: no second KILL wakes it.
    """
    ended = {number for number in numbers if _killed(session, number)}
    until = monotonic() + _KILL_S
    left = f"SELECT ID FROM {_CONNECTIONS} WHERE ID IN %s"
    while ended and monotonic() < until and session.query(left, [sorted(ended)]):
        wait(0.001)
    return ended


def _killed(session: Session, number: int) -> bool:
    try:
        session.execute(f"KILL {int(number)}")
    except ServerError as error:
        if error.number != 1094:
            raise
        return False
    return True


def _lacking(config: Config, any_of: set[str], or_all_of: set[str], for_what: str) -> Iterator[Problem]:
    for name, has in on_every_instance(config, lambda s, e: read_grants(look(e.name, s))["*"]).items():
        if not (any_of & has or or_all_of <= has or has & {"ALL", "ALL PRIVILEGES"}):
            yield (
                f"{name}: our account may not {for_what}",
                f"GRANT {', '.join(sorted(any_of))} ON *.* TO it (from MySQL 8: {', '.join(sorted(or_all_of))})",
            )


def _variable(session: Session, name: str) -> str:
    rows = session.query("SHOW GLOBAL VARIABLES LIKE %s", [name])
    return str(rows[0][1]) if rows else "OFF"


def _account(text: str) -> str:
    user, _, host = text.partition("@")
    return "'" + user.replace("'", "''") + "'@'" + (host or "%").replace("'", "''") + "'"


def _missing(session: Session, accounts: Sequence[str]) -> list[str]:
    def there(account: str) -> bool:
        try:
            return bool(_grants(session, account))
        except ServerError as error:
            if error.number != 1141:  # no such grant
                raise
            return False

    return [account for account in accounts if not there(account)]


def _grants(session: Session, account: str | None) -> list[str]:
    """The account's grants, to be given again as they are; without its password, which MySQL 5.6 writes there. Ours if
    none is named."""
    rows = session.query(f"SHOW GRANTS FOR {_account(account) if account else 'CURRENT_USER()'}")
    return [re.sub(r" IDENTIFIED BY PASSWORD (<secret>|'[^']*')", "", str(row[0])) for row in rows]
