"""Documents as one exact text each, and the chain of hashes over them. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

NOTHING = "0" * 64  # what the first record follows


def plain(value: Any) -> Any:
    """The value with nothing in it that JSON can't say exactly: Decimals and floats become their text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, float):
        return repr(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def canonical(document: Any) -> str:
    """The one text of a document: keys sorted, no blanks, no escapes but JSON's own. Equal documents have equal texts
    whatever the order of their keys, and a text read back gives the same text."""
    return json.dumps(plain(document), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def link(previous: str, text: str) -> str:
    """The digest of a record that follows the one of that digest."""
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def digest_of_lines(lines: Iterable[str]) -> str:
    """One digest over lines in their order. No line holds a line break: they are canonical."""
    made = hashlib.sha256()
    for line in lines:
        made.update(line.encode() + b"\n")
    return made.hexdigest()
