"""Every character of every character set becomes what the server itself makes of it, or is refused."""

from __future__ import annotations

import pytest

from migrate.sandbox import Sandbox, Server
from migrate.sync.charset import CODECS, to_utf8
from tests.fidelity import rows

_MANY = 1000
# Characters of the server's that are refused all the same: of users' own areas, and one that the server breaks.
_FORGONE = {"big5": 1, "ujis": 1880}


def _sequences(charset: str) -> list[bytes]:
    """Every byte, and where there are such, pair and triple that can be a character."""
    found = [bytes([b]) for b in range(256)]
    if charset not in ("gbk", "gb2312", "gb18030", "big5", "sjis", "ujis", "euckr") and not charset.startswith("u"):
        return found
    found += [bytes([a, b]) for a in range(0x80, 256) for b in range(0x30, 256)]
    if charset == "ujis":
        found += [bytes([0x8F, a, b]) for a in range(0xA1, 255) for b in range(0xA1, 255)]
    if charset == "gb18030":
        found += [bytes([a, 0x30 + b % 10, c, 0x30 + d]) for a in (0x81, 0x82, 0x84, 0x90, 0x94, 0xE3)
                  for b in range(0, 10, 3) for c in range(0x81, 0xFF, 5) for d in range(10)]  # fmt: skip
    if charset != "ujis" and charset.startswith("u"):
        points = [*range(0, 0xD800, 97), *range(0xD7F0, 0xE010), 0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x1F600, 0x10FFFF]
        wide = [chr(p).encode("utf-16-be", "surrogatepass") for p in points] + [b"\xd8\x3d\xde\x00", b"\x00a\xdc\x00"]
        if charset == "ucs2":
            return wide
        little = [bytes(w[i ^ 1] for i in range(len(w))) for w in wide]
        return {"utf16": wide, "utf16le": little, "utf32": [p.to_bytes(4, "big") for p in points]}[charset]
    return found


def _converted(server: Server, charset: str, sequences: list[bytes]) -> list[str | None]:
    """What copy would carry: valid UTF-8 that becomes the same bytes again."""
    found: list[str | None] = []
    for at in range(0, len(sequences), _MANY):
        cells = []
        for data in sequences[at : at + _MANY]:
            value = f"CONVERT(X'{data.hex()}' USING {charset})"
            wide = f"CONVERT({value} USING utf8mb4)"
            same = f"CAST(CONVERT({wide} USING {charset}) AS BINARY) = X'{data.hex()}' AND CAST({value} AS BINARY) = "
            cells.append(f"IF({same} X'{data.hex()}', HEX({wide}), NULL)")
        (row,) = rows(server, f"SELECT {', '.join(cells)}")
        texts = [v.decode() if isinstance(v, bytes) else v for v in row]
        found += [t if t is not None and _is_text(t) else None for t in texts]
    return found


def _ours(charset: str, data: bytes) -> str | None:
    try:
        return to_utf8(charset)(data).hex().upper()
    except ValueError:
        return None


def _is_text(digits: str) -> bool:
    try:
        bytes.fromhex(digits).decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("charset", [*CODECS, "ucs2"])
@pytest.mark.parametrize("version", ["5.6", "9.7"])
def test_characters_are_those_of_the_server(request: pytest.FixtureRequest, version: str, charset: str) -> None:
    if (version, charset) == ("5.6", "gb18030"):
        return  # not yet known there
    sandbox: Sandbox = request.getfixturevalue("servers" if version == "5.6" else "sandbox97")
    sequences = _sequences(charset)
    wrong, forgone, carried = {}, [], 0
    for data, theirs in zip(sequences, _converted(sandbox.sources[0], charset, sequences), strict=True):
        ours = _ours(charset, data)
        carried += ours is not None and ours == theirs
        if ours is None and theirs is not None:
            forgone.append(data.hex())
        elif ours != theirs:
            wrong[data.hex()] = (theirs, ours)
    assert not wrong
    assert carried > 100
    assert len(forgone) == _FORGONE.get(charset, 0), forgone[:20]


@pytest.mark.parametrize("charset", ["cp932", "eucjpms", "armscii8", "no_such"])
def test_other_charsets_are_refused(charset: str) -> None:
    with pytest.raises(ValueError, match=f"texts in {charset} can't be followed"):
        to_utf8(charset)
