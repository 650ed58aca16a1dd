"""Checks that the accounts may do what the toolkit does, by their grants."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from migrate.preflight.report import Check, failed, ok, warning
from migrate.preflight.server import Server

_REPLICATION = ("REPLICATION SLAVE", "REPLICATION CLIENT")
_TARGET = ("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE")
_SAME = {"REPLICATION REPLICA": "REPLICATION SLAVE", "BINLOG MONITOR": "REPLICATION CLIENT"}  # MariaDB's names

Grants = dict[str, set[str]]  # by *, schema pattern or schema.table: privileges


def read_grants(server: Server) -> Grants:
    """The session's privileges, those of its active roles too (which MariaDB shows by itself)."""
    session = server.session
    lines = [str(row[0]) for row in session.query("SHOW GRANTS")]
    if server.flavor != "MariaDB" and any(" ON " not in line for line in lines):  # a role
        roles = session.value("SELECT CURRENT_ROLE()")
        if roles and str(roles).upper() != "NONE":
            lines += [str(row[0]) for row in session.query(f"SHOW GRANTS FOR CURRENT_USER() USING {roles}")]
    return parse_grants(lines)


def parse_grants(lines: Iterable[str]) -> Grants:
    """What SHOW GRANTS says: privileges by `*`, by schema pattern, or by schema.table."""
    found: Grants = defaultdict(set)
    for line in lines:
        match = re.match(r"GRANT (.+?) ON (?:TABLE )?(\*|`(?:[^`]|``)+`)\.(\*|`(?:[^`]|``)+`) TO ", line)
        if match:
            schema, table = (m.strip("`").replace("``", "`") for m in match.group(2, 3))
            place = "*" if schema == "*" else schema if table == "*" else f"{schema}.{table}"
            names = {n.strip().upper() for n in re.sub(r"\([^)]*\)", "", match[1]).split(",")}
            found[place] |= {_SAME.get(n, n) for n in names}
    return found


def may(grants: Grants, privilege: str, schema: str | None = None, table: str | None = None) -> bool:
    """Whether the grants hold the privilege: everywhere, or in the schema, or on the table."""
    for place, privileges in grants.items():
        if privilege not in privileges and not privileges & {"ALL", "ALL PRIVILEGES"}:
            continue
        if place == "*" or (schema is not None and _like(place, schema)):
            return True
        if schema is not None and table is not None and place == f"{schema}.{table}":
            return True
    return False


def _like(pattern: str, schema: str) -> bool:
    """Whether a schema pattern of a grant (%, _ and their escapes) takes in the schema."""
    pieces = re.findall(r"\\.|.", pattern, re.DOTALL)
    regex = "".join(
        re.escape(p[1:]) if p.startswith("\\") and len(p) > 1 else {"%": ".*", "_": "."}.get(p, re.escape(p))
        for p in pieces
    )
    return re.fullmatch(regex, schema, re.DOTALL) is not None


def source_privileges(server: Server) -> Iterator[Check]:
    """SELECT on everything (what can't be seen can't be shown to be routed), and the binlog."""
    grants = read_grants(server)
    lacking = [p for p in _REPLICATION if not may(grants, p)]
    user = server.session.endpoint.user
    if lacking:
        yield failed("privileges", server.name, f"{user} lacks {', '.join(lacking)}",
                     f"GRANT {', '.join(lacking)} ON *.* TO '{user}'@...")  # fmt: skip
    if not may(grants, "SELECT"):
        seen = ", ".join(sorted(place for place in grants if place != "*")) or "nothing"
        message = f"{user} may read {seen} only: what it can't see is neither routed nor ignored, and nobody notices"
        yield warning("privileges", server.name, message, f"GRANT SELECT ON *.* TO '{user}'@...")
    elif not lacking:
        yield ok("privileges", server.name, f"SELECT, {', '.join(_REPLICATION)}")
    if not any({"LOCK TABLES", "ALL", "ALL PRIVILEGES"} & privileges for privileges in grants.values()):
        message = f"{user} lacks LOCK TABLES: verification while sync runs takes a lock for a moment"
        yield warning("lock_tables", server.name, message, f"GRANT LOCK TABLES ON `schema`.* TO '{user}'@...")


def target_privileges(server: Server, schemas: Iterable[str]) -> Iterator[Check]:
    """Reading, writing and creating in the target schemas and in the toolkit's own."""
    grants = read_grants(server)
    user = server.session.endpoint.user
    fine = True
    for schema in (*sorted(set(schemas)), "migrate_meta"):
        lacking = [p for p in _TARGET if not may(grants, p, schema)]
        if lacking:
            fine = False
            yield failed("privileges", server.name, f"{user} lacks {', '.join(lacking)} on {schema}",
                         f"GRANT {', '.join(lacking)} ON `{schema}`.* TO '{user}'@...")  # fmt: skip
    if fine:
        yield ok("privileges", server.name, ", ".join(_TARGET))
