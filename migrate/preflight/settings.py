"""Checks of what servers are and how they are set: versions, modes, time, packets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from migrate.preflight.report import Check, failed, ok, warning
from migrate.preflight.server import Server

_PACKET = 4 << 20  # MySQL 5.6's default, and four times what we ask servers to send at once


def source_version(server: Server) -> Iterator[Check]:
    """MySQL from 5.6 on; MariaDB from 10.6 on, with a word on its GTIDs."""
    name, text = "version", server.version_text
    if server.flavor == "TiDB":
        yield failed(name, server.name, f"is TiDB ({text}), not MySQL", "name a MySQL instance in [[source]]")
    elif server.flavor == "MariaDB":
        if server.version < (10, 6):
            yield failed(name, server.name, f"{text} is too old", "upgrade it to MariaDB 10.6 or later")
        else:
            yield warning(name, server.name, f"{text}: MariaDB's GTIDs aren't MySQL's, positions are file:pos",
                          "name the master itself in [[source]], not an address that may fail over")  # fmt: skip
    elif server.version < (5, 6):
        yield failed(name, server.name, f"{text} is too old", "upgrade it to MySQL 5.6 or later")
    else:
        yield ok(name, server.name, text)


def target_version(server: Server) -> Iterator[Check]:
    """TiDB, and one that we know."""
    name, text = "version", server.version_text
    if server.flavor != "TiDB":
        yield failed(name, server.name, f"is {server.flavor} ({text}), not TiDB", "name a TiDB in [target]")
    elif server.version < (6, 5):
        yield warning(name, server.name, f"{text}: not tested below 6.5", "upgrade TiDB to an LTS release, 8.5 say")
    else:
        yield ok(name, server.name, text)
    alike = server.session.value("SELECT _utf8mb4'a' COLLATE utf8mb4_general_ci = _utf8mb4'A'")
    if server.flavor == "TiDB" and not alike:
        yield failed("collations", server.name, "TiDB was bootstrapped without its new collations: every text would "
                     "compare byte for byte", "bootstrap the cluster with new_collations_enabled_on_first_bootstrap = "
                     "true")  # fmt: skip


def sql_modes(sources: Sequence[Server], target: Server) -> Iterator[Check]:
    """Our sessions are pinned; but the application will meet the target's mode, and writes CHARs by the source's."""
    theirs = _modes(target)
    for server in sources:
        modes = _modes(server)
        if "PAD_CHAR_TO_FULL_LENGTH" in modes:
            yield warning("sql_mode", server.name, "has PAD_CHAR_TO_FULL_LENGTH: the application reads CHAR columns "
                          "with spaces that TiDB won't give it", "take it out of sql_mode, or trim in the "
                          "application")  # fmt: skip
        if modes != theirs:
            apart = [f"{m} only here" for m in sorted(modes - theirs)] + [
                f"{m} only on the target" for m in sorted(theirs - modes)
            ]
            yield warning("sql_mode", server.name, f"differs from the target's: {', '.join(apart)}",
                          "the toolkit pins its own; set the application's sql_mode on the target before it "
                          "writes there")  # fmt: skip
        else:
            yield ok("sql_mode", server.name, "the same as the target's")


def _modes(server: Server) -> set[str]:
    return {m for m in server.variable("sql_mode").upper().split(",") if m}


def time_zones(sources: Sequence[Server], target: Server) -> Iterator[Check]:
    """TIMESTAMPs travel as UTC; but NOW() and DATETIME defaults go by the server's zone."""
    there = _zone(target)
    for server in sources:
        here = _zone(server)
        if here == there:
            yield ok("time_zone", server.name, here)
        else:
            yield warning("time_zone", server.name, f"is {here}, the target's is {there}: DATETIME defaults and NOW() "
                          "will differ after the cutover", "values are carried unchanged, sessions are pinned to UTC; "
                          f"set the target's time_zone to {here}")  # fmt: skip


def _zone(server: Server) -> str:
    zone = server.variable("time_zone")
    if zone.upper() == "SYSTEM":
        zone = server.variable("system_time_zone") or "SYSTEM"
    return "UTC" if zone in ("+00:00", "UTC", "Etc/UTC", "GMT", "Etc/GMT") else zone


def packets(sources: Sequence[Server], target: Server) -> Iterator[Check]:
    """max_allowed_packet: a row that one side may hold must fit through the other."""
    there = target.number("max_allowed_packet")
    for server in sources:
        here = server.number("max_allowed_packet")
        if here < _PACKET:
            yield warning("max_allowed_packet", server.name, f"is {here} bytes: longer rows can't be read",
                          f"SET GLOBAL max_allowed_packet = {_PACKET}")  # fmt: skip
        elif there < here:
            message = f"is {here} bytes, the target's {there}: a row that fits here may not fit there"
            yield warning("max_allowed_packet", server.name, message,
                          f"on the target: SET GLOBAL max_allowed_packet = {here}")  # fmt: skip
        else:
            yield ok("max_allowed_packet", server.name, f"{here} bytes, the target's {there}")


def clocks(servers: Sequence[Server]) -> Iterator[Check]:
    """Clocks of all servers and of this machine: lag, leases and cuts are told by them."""
    for server in servers:
        apart = max((abs(server.ahead_s - other.ahead_s), other.name) for other in servers)
        far, whom = max(apart, (abs(server.ahead_s), "this machine"))
        message = f"is {far:.1f} s away from {whom}'s clock"
        remedy = f"set the clock of {server.name} or of {whom} by NTP"
        if far > 60:
            yield failed("clock", server.name, message, remedy)
        elif far > 2:
            yield warning("clock", server.name, message, remedy)
        else:
            yield ok("clock", server.name, "agrees within 2 s with all others")
