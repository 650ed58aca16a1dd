"""Tables that an online schema change works on beside the table that it alters."""

from __future__ import annotations

import re
from collections.abc import Iterable

_STAMP = r"(?:\d{14}|\d{8}_\d{6}(?:_\d+)?)"
_SHADOW = re.compile(
    rf"_(?P<ghost>.+?)(?:_{_STAMP})?_(?:gho|ghc|del)"  # gh-ost, with --timestamp-old-table too
    rf"|_+(?P<other>[^_].*?|_.*?)_(?:new|old|chkpnt|sentinel)(?:_{_STAMP})?",  # pt-online-schema-change, Spirit
    re.DOTALL,
)
_LONGEST = 64  # characters of a name: a longer one is cut in the middle


def shadow_of(table: str, known: Iterable[str]) -> str | None:
    """The one of the `known` tables that `table` is a shadow of: gh-ost's _x_gho, _x_ghc, _x_del; _x_new and _x_old
    of pt-online-schema-change (with more underscores before them, too) and Spirit. None if it is none, or known."""
    match = _SHADOW.fullmatch(table)
    if not match:
        return None
    tables = set(known)
    if table in tables:
        return None
    if match["ghost"]:
        bases = [match["ghost"]]
        whole = re.fullmatch(r"_(.+)_(?:gho|ghc|del)", table, re.DOTALL)
        bases += [whole[1]] if whole else []
    else:
        inside = re.sub(rf"_(?:new|old|chkpnt|sentinel)(?:_{_STAMP})?$", "", table)
        bases = [inside[n:] for n in range(1, len(inside)) if inside[:n] == "_" * n]
    for base in bases:
        if base in tables:
            return base
    if len(table) == _LONGEST:
        return next((t for t in sorted(tables) if any(t.startswith(b) for b in bases)), None)
    return None
