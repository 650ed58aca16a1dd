"""Single values: what is refused, what is kept to the last bit, and what old tables hold."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from migrate.copy.rowformat import RowRefused
from migrate.sync.image import RowDecoder
from tests import row_images as images
from tests.row_images import Field, counted, row
from tests.unit.test_rowformat import parse
from tests.unit.test_sync_image import decoder


def one(full_type: str, code: int, meta: bytes, value: bytes, **options: Any) -> tuple[RowDecoder, Any]:
    """A decoder of a table with that column, and the image of a row with that value."""
    fields = [Field(images.column("id", "int"), 3), Field(images.column("v", full_type, **options), code, meta)]
    made, event = decoder(fields, ("id",)), row([b"\7\0\0\0", value])
    (image,) = made.images(event, 0, len(event))
    return made, image


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (("float", 4, b"\4", b"\0\0\0\x80"), "negative zero"),
        (("double", 5, b"\x08", b"\0\0\0\0\0\0\0\x80"), "negative zero"),
        (("date", 10, b"", images.date(2023, 2, 29)), "no day 2023-02-29"),
        (("date", 10, b"", images.date(0, 0, 1)), "no day 0000-00-01"),
        (("date", 10, b"", images.date(0, 2, 29)), "no day 0000-02-29"),
        (("datetime", 18, b"\0", images.datetime2(1900, 2, 29, 0, 0, 0, 0, 0)), "no day 1900-02-29"),
        (("datetime(2)", 18, b"\2", images.datetime2(2024, 0, 0, 1, 2, 3, 40000, 2)), "no day 2024-00-00"),
        (("enum('a','b')", 254, b"\xf7\x01", b"\0"), "error value"),
        (("enum('a','b')", 254, b"\xf7\x01", b"\3"), "member 3, and the definition has 2"),
        (("enum('a','?')", 254, b"\xf7\x01", b"\2", "utf8mb4"), "4-byte character"),
        (("set('','b')", 254, b"\xf8\x01", b"\1"), "empty member"),
        (("set('a','b')", 254, b"\xf8\x01", b"\4"), "member 3, and the definition has 2"),
        (("varchar(9)", 15, b"\x24\0", b"\2a\xc3", "utf8mb4"), "no valid UTF-8: X'61C3'"),
        (("varchar(9)", 15, b"\x24\0", b"\3\xed\xa0\x80", "utf8"), "no valid UTF-8: X'EDA080'"),
        (("varchar(9)", 15, b"\x12\0", b"\2\xfe\xa0", "gbk"), "gbk: FEA0"),
        (("varchar(9)", 15, b"\x12\0", b"\2\xd8\0", "ucs2"), "ucs2: D800"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("nullable", [False, True])
def test_what_the_target_cannot_hold_is_refused(column: Any, reason: str, nullable: bool) -> None:
    full_type, code, meta, value, *charset = column
    made, image = one(full_type, code, meta, value, charset=charset[0] if charset else None, nullable=nullable)
    with pytest.raises(RowRefused) as refused:
        made.line(image)
    assert f"m1.s.t: a row can't be carried as it is (id = 7)\n    column v: {''}" in str(refused.value)
    assert reason in str(refused.value)
    assert made.key_literal(image) == "7"
    if "UTF-8" not in reason:
        assert made.unlike(image, (b"7", b"0")) == ("v",)


def test_invalid_text_beside_bytes_is_refused_too() -> None:
    """Where a row has bytes, texts are looked at one by one: two halves of a character are not one."""
    fields = [Field(images.column(name, kind, charset=charset), 15, b"\x09\0")
              for name, kind, charset in (("a", "varchar(9)", "utf8mb4"), ("b", "varbinary(9)", None),
                                          ("c", "varchar(9)", "utf8mb4"))]  # fmt: skip
    made = decoder(fields)
    event = row([b"\1\xc3", b"\1\xff", b"\1\xa9"])
    with pytest.raises(RowRefused, match="column a: it is no valid UTF-8: X'C3'"):
        made.line(*made.images(event, 0, len(event)))


@pytest.mark.parametrize(
    ("full_type", "code", "old", "new", "shown"),
    [
        ("datetime", 12, (20240229123456).to_bytes(8, "little"), images.datetime2(2024, 2, 29, 12, 34, 56, 0, 0),
         b"2024-02-29 12:34:56"),
        ("datetime", 12, bytes(8), images.datetime2(0, 0, 0, 0, 0, 0, 0, 0), b"0000-00-00 00:00:00"),
        ("timestamp", 7, (1700000000).to_bytes(4, "little"), images.timestamp2(1700000000, 0, 0),
         b"2023-11-14 22:13:20"),
        ("timestamp", 7, bytes(4), images.timestamp2(0, 0, 0), b"0000-00-00 00:00:00"),
        ("time", 11, (-8385959).to_bytes(3, "little", signed=True), images.time2(True, 838, 59, 59, 0, 0),
         b"-838:59:59"),
        ("time", 11, (102).to_bytes(3, "little"), images.time2(False, 0, 1, 2, 0, 0), b"00:01:02"),
    ],
)  # fmt: skip
def test_times_of_before_5_6_are_equal_to_those_of_today(
    full_type: str, code: int, old: bytes, new: bytes, shown: bytes
) -> None:
    made, before = one(full_type, code, b"", old)
    _, today = one(full_type, {12: 18, 7: 17, 11: 19}[code], b"\0", new)
    assert before == today and made.texts(before) == (b"7", shown)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False).filter(lambda f: f != 0))
@example(3.4028234663852886e38)
@example(1.401298464324817e-45)
def test_a_float_keeps_its_bits(number: float) -> None:
    raw = struct.pack("<f", number)
    made, image = one("float", 4, b"\4", raw)
    text = made.texts(image)[1]
    assert text is not None and struct.pack("<f", float(text)) == raw
    assert made.unlike(image, (b"7", repr(number).encode())) == ()
    (beside,) = struct.unpack("<f", struct.pack("<i", struct.unpack("<i", raw)[0] - 1))
    assert made.unlike(image, (b"7", repr(beside).encode())) == ("v",)


@given(st.floats(allow_nan=False, allow_infinity=False).filter(lambda f: f != 0))
@example(1e22)
@example(5e-324)
@example(1e15)
@example(0.0001)
def test_a_double_keeps_its_bits(number: float) -> None:
    made, image = one("double", 5, b"\x08", struct.pack("<d", number))
    text = made.texts(image)[1]
    assert text is not None and float(text) == number and b"+" not in text
    assert (b"e" in text) == (not 1e-15 <= abs(number) < 1e15)


@pytest.mark.parametrize(
    ("full_type", "code", "meta", "width"),
    [("varchar(500)", 15, b"\xf4\x01", 2), ("text", 252, b"\2", 2), ("mediumtext", 252, b"\3", 3),
     ("longtext", 252, b"\4", 4)],
)  # fmt: skip
def test_long_values(full_type: str, code: int, meta: bytes, width: int) -> None:
    for size in (0, 255, 256, 65535, *((65536, 16_000_001) if width > 2 else ())):
        made, image = one(full_type, code, meta, counted(b"x" * size, width), charset="utf8mb4")
        assert image == (7, b"x" * size) and made.line(image) == b'7,"%b"\n' % (b"x" * size)


@pytest.mark.parametrize("text", ['\\""', '"\\"', '\\\\""""', "\\", '"', "\\N", '""', '\\"'])
@pytest.mark.parametrize("nullable", [False, True])
def test_no_mix_of_quotes_and_backslashes_passes_for_plain(text: str, nullable: bool) -> None:
    fields = [Field(images.column(f"c{i}", "varchar(9)", charset="utf8mb4", nullable=nullable), 15, b"\x24\0")
              for i in range(3)]  # fmt: skip
    made = decoder(fields)
    for values in ((text, "a", ""), ("a", text, text), (text, None, "a") if nullable else (text,) * 3):
        event = row([None if v is None else counted(v.encode(), 1) for v in values])
        (image,) = made.images(event, 0, len(event))
        assert parse(made.line(image)) == [[None if v is None else v.encode() for v in values]]


def test_a_double_is_compared_by_all_its_digits_and_a_float_by_those_that_it_shows() -> None:
    made, image = one("double", 5, b"\x08", struct.pack("<d", 1.0000001e22))
    assert made.unlike(image, (b"7", b"1e22")) == ("v",) and made.unlike(image, (b"7", b"1.0000001e22")) == ()
    made, image = one("float", 4, b"\4", struct.pack("<f", 3.4028234663852886e38))
    assert made.unlike(image, (b"7", b"3.40282e38")) == () and made.unlike(image, (b"7", b"3.40281e38")) == ("v",)
