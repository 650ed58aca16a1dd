"""Row images of any table come out as they went in, or not at all."""

from __future__ import annotations

import struct
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from migrate.copy.rowformat import RowRefused
from migrate.errors import MigrateError
from migrate.model import Column, Interleave, Shard
from migrate.sync.image import RowDecoder
from tests import row_images as images
from tests.row_images import Field, counted, row
from tests.unit.test_rowformat import parse

SHARD = Shard("m1", "s", "t")
Drawn = tuple[bytes, bytes]  # in the image, as text


def _integer(bits: int, unsigned: bool) -> st.SearchStrategy[Drawn]:
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.integers(low, high).map(
        lambda n: (n.to_bytes(bits // 8, "little", signed=not unsigned), str(n).encode()))  # fmt: skip


@st.composite
def _decimals(draw: st.DrawFn) -> tuple[str, int, bytes, st.SearchStrategy[Drawn]]:
    precision = draw(st.integers(1, 65))
    scale = draw(st.integers(0, min(30, precision)))
    numbers = st.integers(-(10**precision) + 1, 10**precision - 1).map(lambda n: Decimal(f"{n}e-{scale}"))
    values = numbers.map(lambda d: (images.decimal(d, precision, scale), f"{d:.{scale}f}".encode()))
    return f"decimal({precision},{scale})", 246, bytes([precision, scale]), values


def _times(digits: int) -> list[tuple[str, int, bytes, st.SearchStrategy[Drawn]]]:
    micros = st.integers(0, 10**digits - 1).map(lambda n: n * 10 ** (6 - digits))
    clock = (st.integers(0, 59), st.integers(0, 59), micros)

    def tail(n: int) -> str:
        return f".{n // 10 ** (6 - digits):0{digits}}" if digits else ""

    def moment(d: Any, h: int, m: int, s: int, u: int) -> Drawn:
        return (images.datetime2(d.year, d.month, d.day, h, m, s, u, digits),
                f"{d.year:04}-{d.month:02}-{d.day:02} {h:02}:{m:02}:{s:02}{tail(u)}".encode())  # fmt: skip

    def stamp(d: Any, u: int) -> Drawn:
        return images.timestamp2(int(d.timestamp()), u, digits), f"{d:%Y-%m-%d %H:%M:%S}{tail(u)}".encode()

    def span(negative: bool, h: int, m: int, s: int, u: int) -> Drawn:
        sign = "-" if negative and (h or m or s or u) else ""
        return images.time2(negative, h, m, s, u, digits), f"{sign}{h:02}:{m:02}:{s:02}{tail(u)}".encode()

    import datetime

    since = datetime.datetime(1970, 1, 1, 0, 0, 1)
    stamps = st.datetimes(since, datetime.datetime(2038, 1, 19, 3, 14, 7), timezones=st.just(datetime.UTC))
    written, meta = f"({digits})" if digits else "", bytes([digits])
    return [
        (f"datetime{written}", 18, meta, st.builds(moment, st.dates(), st.integers(0, 23), *clock)),
        (f"timestamp{written}", 17, meta, st.builds(stamp, stamps, micros)),
        (f"time{written}", 19, meta, st.builds(span, st.booleans(), st.integers(0, 838), *clock)),
    ]


_TEXTS = st.one_of(st.text(max_size=9), st.text('\\N",\n', max_size=6)).map(str.encode)
_BYTES = st.one_of(st.binary(max_size=9), st.sampled_from([b"\\", b'"', b"\0\0", b"\xc3"]))
KINDS: list[tuple[str, int, bytes, st.SearchStrategy[Drawn], str | None]] = [
    *((f"{name}{sign}", code, b"", _integer(bits, bool(sign)), None)
      for name, code, bits in (("tinyint", 1, 8), ("smallint", 2, 16), ("mediumint", 9, 24), ("int", 3, 32),
                               ("bigint", 8, 64)) for sign in ("", " unsigned")),
    *((*kind, None) for digits in range(7) for kind in _times(digits)),
    ("date", 10, b"", st.dates().map(lambda d: (images.date(d.year, d.month, d.day), d.isoformat().encode())), None),
    ("year", 13, b"", st.integers(0, 255).map(lambda n: (bytes([n]), b"%04d" % (n and n + 1900))), None),
    ("varchar(9)", 15, b"\x24\0", _TEXTS.map(lambda t: (counted(t, 1), t)), "utf8mb4"),
    ("varchar(80)", 15, b"\x40\1", _TEXTS.map(lambda t: (counted(t, 2), t)), "utf8mb4"),
    ("char(9)", 254, b"\xfe\x24", _TEXTS.map(lambda t: (counted(t, 1), t)), "utf8mb4"),
    ("char(255)", 254, b"\xce\xfc", _TEXTS.map(lambda t: (counted(t, 2), t)), "utf8mb4"),
    *((f"{size}text", 252, bytes([width]), _TEXTS.map(lambda t, w=width: (counted(t, w), t)), "utf8mb4")
      for width, size in enumerate(("tiny", "", "medium", "long"), 1)),
    *((f"{size}blob", 252, bytes([width]), _BYTES.map(lambda t, w=width: (counted(t, w), t)), None)
      for width, size in enumerate(("tiny", "", "medium", "long"), 1)),
    ("varbinary(9)", 15, b"\x09\0", _BYTES.map(lambda t: (counted(t, 1), t)), None),
    ("binary(9)", 254, b"\xfe\x09", _BYTES.map(lambda t: (counted(t.rstrip(b"\0"), 1), t.ljust(9, b"\0"))), None),
    ("bit(13)", 16, b"\x05\x01", st.integers(0, 2**13 - 1).map(lambda n: (n.to_bytes(2, "big"),) * 2), None),
    ("enum('a','b''\"\\\\')", 254, b"\xf7\x01",
     st.sampled_from([(b"\x01", b"a"), (b"\x02", b"b'\"\\"[:4])]), "utf8"),
    ("set('a','b','c')", 254, b"\xf8\x01",
     st.sampled_from([(b"\0", b""), (b"\x05", b"a,c"), (b"\x07", b"a,b,c")]), "utf8"),
    ("double", 5, b"\x08",
     st.integers(-(2**40), 2**40).map(lambda n: (struct.pack("<d", n / 8), _plain(n / 8))), None),
    ("json", 245, b"\x04", _TEXTS.map(lambda t: (counted(images.json_document(t.decode()), 4), t)), None),
]  # fmt: skip


def _plain(number: float) -> bytes:
    return f"{Decimal(number):f}".encode()


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Field], list[list[Drawn | None]]]:
    """A table and rows for it. None stands for NULL."""
    fields, columns = [], []
    for i in range(draw(st.integers(1, 9))):
        kind = draw(st.one_of(st.sampled_from(KINDS), _decimals().map(lambda d: (*d, None))))
        full_type, code, meta, values, charset = kind
        nullable, generated = draw(st.booleans()), draw(st.sampled_from([None, None, None, "1"]))
        made = images.column(f"c{i}", full_type, nullable=nullable, charset=charset, generated=generated)
        fields.append(Field(made, code, meta))
        columns.append(st.one_of(st.none(), values) if nullable else values)
    assume(any(f.column.generated is None for f in fields))
    return fields, draw(st.lists(st.tuples(*columns).map(list), min_size=1, max_size=5))


def decoder(fields: list[Field], key: tuple[str, ...] = (), **remap: Interleave) -> RowDecoder:
    return RowDecoder(SHARD, images.table(fields, key), images.table_map(fields), remap)


@given(tables(), st.booleans(), st.binary(max_size=3))
def test_rows_of_any_table_come_out_as_they_went_in(
    drawn: tuple[list[Field], list[list[Drawn | None]]], spare: bool, before: bytes
) -> None:
    fields, rows = drawn
    made = decoder(fields)
    event = before + b"".join(row([v and v[0] for v in r], spare) for r in rows)
    found = made.images(event + b"tail", len(before), len(event))
    stored = [[v and v[1] for v, f in zip(r, fields, strict=True) if f.column.generated is None] for r in rows]
    json = [f.column.type == "json" for f in fields if f.column.generated is None]
    for image, texts in zip(found, stored, strict=True):
        expected = [images_json(t) if j and t is not None else t for t, j in zip(texts, json, strict=True)]
        assert list(made.texts(image)) == expected
        assert parse(made.line(image)) == [expected]
        assert made.unlike(image, expected) == ()
        hash(image)
    for image, texts in zip(found, stored, strict=True):
        for other, others in zip(found, stored, strict=True):
            assert (image == other) == (texts == others)
            different = tuple(n for n, a, b in zip(made.columns, texts, others, strict=True) if a != b)
            assert made.unlike(image, list(made.texts(other))) == different
    if len(rows) % 2 == 0:
        assert made.pairs(event, len(before), len(event)) == list(zip(found[::2], found[1::2], strict=True))


_ALL = [Field(images.column(f"c{i}_{null}", k[0], nullable=null, charset=k[4]), k[1], k[2])
        for i, k in enumerate(KINDS) for null in (False, True)]  # fmt: skip
_ALL_DECODER = decoder(_ALL)


@given(st.tuples(*(st.one_of(st.none(), k[3]) if null else k[3] for k in KINDS for null in (False, True))))
def test_every_type_comes_out_as_it_went_in(values: tuple[Drawn | None, ...]) -> None:
    event = row([v and v[0] for v in values])
    (image,) = _ALL_DECODER.images(event, 0, len(event))
    texts = [images_json(v[1]) if v and f.column.type == "json" else v and v[1]
             for v, f in zip(values, _ALL, strict=True)]  # fmt: skip
    assert list(_ALL_DECODER.texts(image)) == texts
    assert parse(_ALL_DECODER.line(image)) == [texts]


def images_json(text: bytes) -> bytes:
    import json

    return json.dumps(text.decode(), ensure_ascii=False).encode()


@given(tables(), st.integers(1, 9), st.booleans())
def test_an_event_of_another_length_is_not_taken(
    drawn: tuple[list[Field], list[list[Drawn | None]]], by: int, longer: bool
) -> None:
    fields, rows = drawn
    event = b"".join(row([v and v[0] for v in r]) for r in rows)
    with pytest.raises(MigrateError, match=r"m1\.s\.t: a row event doesn't fit"):
        found = decoder(fields).images(event + b"\xff" * by, 0, len(event) + by if longer else len(event) - by)
        if len(found) != len(rows):  # what is left is as many whole rows, or one more of nothing but NULLs
            raise MigrateError(f"{SHARD}: a row event doesn't fit")


def test_an_odd_number_of_images_makes_no_pairs() -> None:
    fields = [Field(images.column("id", "int"), 3)]
    with pytest.raises(MigrateError, match="3 images make no pairs"):
        decoder(fields).pairs(row([b"\1\0\0\0"]) * 3, 0, 15)


def test_a_null_where_none_may_be_is_damage() -> None:
    fields = [Field(images.column("id", "int"), 3), Field(images.column("v", "int", nullable=True), 3)]
    with pytest.raises(MigrateError, match="a NULL where none may be"):
        decoder(fields).images(row([None, b"\1\0\0\0"]), 0, 5)


def _misfit(field: Field, words: str, *more: Field) -> None:
    with pytest.raises(MigrateError, match=words):
        decoder([field, *more])


def test_a_table_map_that_does_not_fit_the_definition_is_refused_by_table_and_column() -> None:
    col = images.column
    _misfit(Field(col("v", "int"), 8), r"m1\.s\.t, column v: it is int by the definition, and of type 8")
    _misfit(Field(col("v", "decimal(20,4)"), 246, b"\x0a\x02"), r"decimal\(20,4\) by the definition, and \(10, 2\)")
    _misfit(Field(col("v", "datetime(3)"), 18, b"\6"), r"datetime\(3\) by the definition, and has 6 digits")
    _misfit(Field(col("v", "datetime(3)"), 12), r"before MySQL 5\.6")
    _misfit(Field(col("v", "binary(8)"), 254, b"\xfe\x09"), r"binary\(8\) by the definition, and \(9\)")
    _misfit(
        Field(col("v", "char(8)", charset="utf8"), 254, b"\xf7\x01"), r"char\(8\) by the definition, and of type 247"
    )
    _misfit(Field(col("v", "point"), 255, b"\4"), "TiDB has no type like point")
    _misfit(Field(col("v", "varchar(9)", charset="cp932"), 15, b"\x12\0"), "texts in cp932 can't be followed")
    _misfit(Field(col("v", "bit(9)"), 16, b"\0\1"), r"bit\(9\) by the definition, and \(8\)")
    fields = [Field(col("id", "int"), 3), Field(col("v", "int"), 3)]
    with pytest.raises(MigrateError, match=r"m1\.s\.t has 1 columns by the definition in force, and 2 in the binlog"):
        RowDecoder(SHARD, images.table(fields[:1]), images.table_map(fields), {})


def test_signs_and_names_that_the_binlog_tells_are_checked() -> None:
    fields = [Field(images.column("id", "int"), 3), Field(images.column("v", "bigint unsigned"), 8)]
    told = images.table_map(fields, optional=b"\x01\x01\x40\x04\x05\x02Id\x01v")
    assert told.unsigned == (False, True) and told.names == ("Id", "v")
    RowDecoder(SHARD, images.table(fields), told, {})
    signed = [fields[0], replace(fields[1], column=replace(fields[1].column, full_type="bigint"))]
    with pytest.raises(MigrateError, match="column v: it is bigint by the definition, and UNSIGNED in the binlog"):
        RowDecoder(SHARD, images.table(signed), told, {})
    renamed = [fields[0], replace(fields[1], column=replace(fields[1].column, name="w"))]
    with pytest.raises(MigrateError, match="column w: it is called v in the binlog"):
        RowDecoder(SHARD, images.table(renamed), told, {})


def test_images_without_all_columns_are_refused() -> None:
    made = decoder([Field(images.column(name, "int"), 3) for name in ("id", "v", "w")])
    made.require_full(None, b"\x07", b"\xff")
    with pytest.raises(MigrateError, match=r"m1\.s\.t: .* without v, w; SET GLOBAL binlog_row_image = FULL"):
        made.require_full(b"\xff", b"\xf9")


def test_keys() -> None:
    fields = [
        Field(images.column("a", "varchar(9)", charset="latin1"), 15, b"\x09\0"),
        Field(images.column("b", "bigint"), 8),
        Field(images.column("c", "varbinary(9)"), 15, b"\x09\0"),
    ]
    event = row([b"\2\x80'", b"\xff" * 8, b"\2\0\xff"])
    for key, expected, literal in (
        (("b",), -1, "-1"),
        (("c", "b"), (b"\0\xff", -1), "(X'00ff',-1)"),
        (("a",), b"\x80'", "_utf8mb4 X'e282ac27'"),
    ):
        made = decoder(fields, key)
        (image,) = made.images(event, 0, len(event))
        assert made.key(image) == expected and made.key_literal(image) == literal
    keyless = decoder(fields)
    assert keyless.key(image) == image
    with pytest.raises(MigrateError, match="no key"):
        keyless.key_literal(image)


def test_an_interleaved_column_stays_within_64_bits() -> None:
    fields = [Field(images.column("id", "bigint"), 8), Field(images.column("v", "int", nullable=True), 3)]
    made = decoder(fields, ("id",), id=Interleave(2, 3), v=Interleave(2, 1))
    event = row([(2**61 - 1).to_bytes(8, "little"), None]) + row([b"\xff" * 8, b"\1\0\0\0"])
    assert made.images(event, 0, len(event)) == [(2**63 - 1, None), (-1, 5)]
    beyond = row([bytes(8), None]) + row([(2**61).to_bytes(8, "little"), None])
    with pytest.raises(
        RowRefused, match=rf"id = {2**61}\)\n    column id: interleaved, .* becomes {2**63 + 3}, beyond"
    ):
        made.images(beyond, 0, len(beyond))


def test_columns_are_selected_so_that_no_digit_is_lost() -> None:
    fields = [Field(Column("a`b", "int", "int", False), 3), Field(images.column("f", "float"), 4, b"\4")]
    assert decoder(fields).select == "`a``b`, `f` * 1e0"
