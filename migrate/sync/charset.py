"""Texts in the character sets of MySQL, as the server itself converts them to utf8mb4; what it can't is refused.

Python's codecs were compared with the conversions of MySQL 5.6 and 9.7, character by character
(tests/integration/test_sync_charset.py): where they differ, the server is followed, or the text refused.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from functools import partial

UTF8 = frozenset({"utf8mb4", "utf8", "utf8mb3", "ascii"})  # their bytes are those of utf8mb4

CODECS = {
    "cp1250": "cp1250", "cp1251": "cp1251", "cp1256": "cp1256", "cp1257": "cp1257", "cp850": "cp850", "cp852": "cp852",
    "cp866": "cp866", "greek": "iso8859-7", "hebrew": "iso8859-8", "hp8": "hp-roman8", "koi8r": "koi8-r",
    "koi8u": "koi8-u", "latin1": "cp1252", "latin2": "latin2", "latin5": "iso8859-9", "latin7": "iso8859-13",
    "macce": "mac_latin2", "macroman": "mac_roman", "tis620": "tis-620", "gbk": "gbk", "gb2312": "gb2312",
    "gb18030": "gb18030", "big5": "big5", "sjis": "shift_jis", "ujis": "euc_jp", "euckr": "cp949",
    "utf16": "utf-16-be", "utf16le": "utf-16-le", "utf32": "utf-32-be",
}  # fmt: skip
# What the codec lacks.
_MORE = {
    "latin1": {bytes([b]): chr(b) for b in (0x81, 0x8D, 0x8F, 0x90, 0x9D)},
    "tis620": {b"\xff": "\ufffd"},
    "big5": {b"\xf9" + bytes([0xD6 + i]): c for i, c in enumerate("碁銹裏墻恒粧嫺")},
}
# What the codec has for the server's other character.
_OTHERS = {
    "cp866": {"№": "ⁿ", "¤": "²"}, "greek": {"‘": "ʽ", "’": "ʼ"}, "hebrew": {"¯": "‾"}, "koi8u": {"∙": "•"},
    "gb18030": {"\ue7c7": "ḿ"}, "sjis": {"＼": "\\"},
}  # fmt: skip
# What the codec has, and the server hasn't, or not in both directions.
_LOST = {
    "cp1256": "ٹڈکڑںھہے", "greek": "€₯ͺ", "big5": "╴￣ˍ", "sjis": "\\", "ujis": "＼",
}  # fmt: skip
_TWICE = frozenset({"big5", "ujis"})  # have two codes for some characters, one of which the server takes back


def to_utf8(charset: str) -> Callable[[bytes], bytes]:
    """The function from a text's bytes in that charset to utf8mb4. It raises ValueError with the reason for a text that
    the server couldn't convert there and back. ValueError for a charset that can't be followed at all."""
    if charset == "ucs2":
        return _ucs2
    if charset not in CODECS:
        raise ValueError(f"texts in {charset} can't be followed; ALTER TABLE .. CONVERT TO CHARACTER SET utf8mb4 there")
    errors = "strict"
    if charset in _MORE:
        errors = f"mysql-{charset}"
        codecs.register_error(errors, partial(_supply, _MORE[charset]))
    wide = charset.startswith("utf")
    if not wide and charset not in _OTHERS and charset not in _LOST and charset not in _TWICE:
        return partial(_plain, charset, CODECS[charset], errors)
    return partial(_careful, charset, CODECS[charset], errors)


def _plain(charset: str, codec: str, errors: str, value: bytes) -> bytes:
    if value.isascii():
        return value
    try:
        return value.decode(codec, errors).encode()
    except UnicodeError:
        raise _refusal(charset, value) from None


def _careful(charset: str, codec: str, errors: str, value: bytes) -> bytes:
    try:
        text = value.decode(codec, errors)
        if not set(_LOST.get(charset, "")).isdisjoint(text) or (charset in _TWICE and _back(charset, text) != value):
            raise _refusal(charset, value)
        for theirs, ours in _OTHERS.get(charset, {}).items():
            text = text.replace(theirs, ours)
        return text.encode()
    except UnicodeError:
        raise _refusal(charset, value) from None


def _back(charset: str, text: str) -> bytes:
    supplied = {c: b for b, c in _MORE.get(charset, {}).items()}
    return b"".join(supplied.get(c) or c.encode(CODECS[charset]) for c in text)


def _ucs2(value: bytes) -> bytes:
    """Two bytes a character; a pair of surrogates is none."""
    if any(0xD8 <= high <= 0xDF for high in value[::2]) or len(value) % 2:
        raise _refusal("ucs2", value)
    return value.decode("utf-16-be").encode()


def _supply(more: dict[bytes, str], error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    for size in (1, 2):
        if found := more.get(error.object[error.start : error.start + size]):
            return found, error.start + size
    raise error


def _refusal(charset: str, value: bytes) -> ValueError:
    return ValueError(f"it does not come back from Unicode to {charset}: {value[:99].hex().upper()}")
