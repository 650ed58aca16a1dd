"""Writes images as the target shows them and as CSV, by functions that are made for the columns of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from migrate.sync.made import made
from migrate.sync.values import Codec

_BARE = ("bare", "float")


def texts_of(codecs: Sequence[Codec]) -> Callable[[tuple[Any, ...]], tuple[bytes | None, ...]]:
    """The function from an image to its texts. It raises ValueError for a value that the target can't hold."""
    names, values, namespace = _expressions(codecs)
    each = []
    for coded, name, value in zip(codecs, names, values, strict=True):
        text = f"b'%d' % {value}" if coded.form == "%d" else value
        each.append(f"None if {name} is None else {text}, ")
    source = f"def texts(image):\n    {', '.join(names)}, = image\n    return ({''.join(each)})\n"
    function: Callable[[tuple[Any, ...]], tuple[bytes | None, ...]] = made("texts", source, namespace)
    return function


def plain_line(codecs: Sequence[Codec], nullable: Sequence[bool]) -> Callable[[tuple[Any, ...]], bytes]:
    """The function from an image to its line of CSV. It raises ValueError for one with a special character, or with a
    value that the target can't hold.

    As where the server makes the lines, every field that may be NULL stands in quotes: two quotes or one backslash
    belong to each, and a count tells whether values have some of their own.
    """
    names, values, namespace = _expressions(codecs)
    forms, fields, checks = [], [], []
    for coded, name, value, may_be_null in zip(codecs, names, values, nullable, strict=True):
        if may_be_null:
            forms.append("%b")
            fields.append(f"b'\\\\N' if {name} is None else b'\"{coded.form}\"' % ({value},), ")
        else:
            forms.append(coded.form if coded.kind in _BARE else f'"{coded.form}"')
            fields.append(f"{value}, ")
        if coded.kind == "text" and not coded.text:
            checks.append(f"    {name} is None or {name}.isascii() or decode({name})")
    quoted = sum(n or c.kind not in _BARE for c, n in zip(codecs, nullable, strict=True))
    if all(c.kind != "bytes" for c in codecs):  # one look at the whole: no character can begin before a quote
        checks = ["    line.isascii() or decode(line)"] if checks else []
        where = 3
    else:
        where = 2
    source = ["def plain(image):", f"    {', '.join(names)}, = image",
              f"    line = b'{','.join(forms)}\\n' % ({''.join(fields)})"]  # fmt: skip
    source[where:where] = checks
    source += [f"    if line.count(b'\"') != 2 * ({quoted} - line.count(b'\\\\')):", "        raise ValueError",
               "    return line"]  # fmt: skip
    namespace["decode"] = bytes.decode
    function: Callable[[tuple[Any, ...]], bytes] = made("plain", "\n".join(source), namespace)
    return function


def _expressions(codecs: Sequence[Codec]) -> tuple[list[str], list[str], dict[str, Any]]:
    """(names of an image's elements, expressions of what is written for each, the functions that these call)."""
    names = [f"c{i}" for i in range(len(codecs))]
    values = [f"text_{n}({n})" if c.text else n for n, c in zip(names, codecs, strict=True)]
    return names, values, {f"text_{n}": c.text for n, c in zip(names, codecs, strict=True) if c.text}
