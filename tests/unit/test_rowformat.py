"""Lines of CSV: what is escaped parses back, what passes for plain is plain, and no type is trusted too far."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from migrate.copy.culprit import split_lines
from migrate.copy.rowformat import escaped_line, header, is_plain, row_select
from migrate.model import Column, Interleave, TableDef

_TEXT = st.one_of(st.text(max_size=12), st.text('\\N",\n\r\t\0a', max_size=8))
VALUES = st.one_of(st.none(), _TEXT.map(lambda text: text.encode(errors="replace")))


def parse(data: bytes) -> list[list[bytes | None]]:
    """CSV as TiDB's documentation tells it, read byte by byte; a bare \\N is NULL."""
    lines: list[list[bytes | None]] = []
    fields: list[bytes | None] = []
    at = 0
    while at < len(data):
        field, quoted = bytearray(), data[at : at + 1] == b'"'
        at += quoted
        while data[at : at + 1] not in ((b'"',) if quoted else (b",", b"\n")):
            if data[at : at + 1] == b"\\" and quoted:
                at += 1
                assert data[at : at + 1] in (b"\\", b'"'), "an escape that means something else"
            field += data[at : at + 1]
            at += 1
            assert at < len(data), "a field without an end"
        at += quoted
        fields.append(None if not quoted and field == b"\\N" else bytes(field))
        assert data[at : at + 1] in (b",", b"\n")
        if data[at : at + 1] == b"\n":
            lines.append(fields)
            fields = []
        at += 1
    assert not fields
    return lines


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(VALUES, min_size=n, max_size=n), max_size=6)))
@example([[b"\\"], [b"\\N"], [None], [b""], [b'"'], [b"\n"], [b'\\"']])
def test_escaped_lines_parse_back(rows: list[list[bytes | None]]) -> None:
    line = escaped_line(["text"] * (len(rows[0]) if rows else 1))
    data = b"".join(line(row) + b"\n" for row in rows)
    assert parse(data) == rows
    assert b"".join(split_lines(data)) == data and len(split_lines(data)) == len(rows)


def test_bare_fields_stand_as_they_are() -> None:
    line = escaped_line(["float", "text", "bare"])
    assert line((b"-1.5", b"1", b"2024-01-01 00:00:00")) == b'-1.5,"1",2024-01-01 00:00:00'
    assert line((None, None, None)) == b"\\N,\\N,\\N"
    assert line((b"-0.5", b"-0", b"0")) == b'-0.5,"-0",0'


@given(st.binary(max_size=9))
def test_bytes_are_taken_as_they_are_and_texts_only_as_utf8(value: bytes) -> None:
    assert parse(escaped_line(["bytes"])((value,)) + b"\n") == [[value]]
    try:
        value.decode()
    except UnicodeDecodeError:
        with pytest.raises(ValueError, match="valid UTF-8") as refused:
            escaped_line(["bytes", "text"])((value, value))
        assert refused.value.args[0] == 1
    else:
        assert parse(escaped_line(["text"])((value,)) + b"\n") == [[value]]


def test_what_cannot_be_carried_is_refused_with_its_column_and_the_reason() -> None:
    with pytest.raises(ValueError, match="negative zero") as refused:
        escaped_line(["bare", "float"])((b"-0", b"-0"))
    assert refused.value.args[0] == 1
    with pytest.raises(ValueError, match="no such member"):
        escaped_line(["text"])((b"\xfe\x00\xfeno such member",))


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4))
@example(["a\nb", '"', "\\", ","])
def test_a_header_parses_back(names: list[str]) -> None:
    names = [n.encode(errors="replace").decode() for n in names]
    assert parse(header(names)) == [[n.encode() for n in names]]


FIELDS = st.one_of(st.none(), st.text('\\"N,a\n中', max_size=6).map(str.encode))


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(FIELDS, min_size=n, max_size=n), min_size=1, max_size=8)))
@example([[b'"'], [b"\\"]])
@example([[None], [b'""'], [b"\\"]])
@example([[b'"\\'], [None]])
def test_a_block_passes_for_plain_only_if_it_is(rows: list[list[bytes | None]]) -> None:
    """Fast lines are not escaped: a block that holds a quote or a backslash of a value must never pass."""
    block = b"".join(
        b",".join(b"\\N" if value is None else b'"' + value + b'"' for value in row) + b"\n" for row in rows
    )
    special = any(b'"' in value or b"\\" in value for row in rows for value in row if value is not None)
    assert is_plain(block, len(rows), len(rows[0])) == (not special)
    if not special:
        assert parse(block) == rows


def column(kind: str, *, nullable: bool = False, charset: str | None = None, generated: str | None = None) -> Column:
    return Column(kind, kind.partition("(")[0], kind, nullable, charset, generated=generated)


def table(*columns: Column) -> TableDef:
    return TableDef(columns, (), "utf8mb4", "utf8mb4_bin")


def test_a_type_that_needs_escaping_or_that_loses_digits_forbids_fast_rows() -> None:
    plain = [column("bigint"), column("decimal(20,4)"), column("varchar(9)", charset="utf8")]
    assert row_select(table(*plain), {}).fast
    for kind in ("double", "float", "blob", "varbinary(9)", "bit(8)", "json", "mediumtext"):
        assert row_select(table(*plain, column(kind)), {}).fast is None, kind


def test_fields_in_quotes_are_counted() -> None:
    select = row_select(
        table(column("int"), column("int", nullable=True), column("char(1)"), column("date", nullable=True),
              column("text", generated="1")), {})  # fmt: skip
    assert select.quoted == 3
    assert select.kinds == ("bare", "bare", "text", "bare")
    assert len(select.columns) == 4


def test_an_interleaved_key_is_computed_by_the_source() -> None:
    select = row_select(table(column("bigint")), {"bigint": Interleave(3, 5)})
    assert select.exact == ("(`bigint` * 8 + 5)",)


def test_a_text_of_another_charset_is_converted_and_proven_whole() -> None:
    latin, gbk, utf8 = row_select(
        table(*(column("text", charset=c) for c in ("latin1", "gbk", "utf8mb3"))), {}
    ).exact  # fmt: skip
    assert latin == "CONVERT(`text` USING utf8mb4)"
    assert "X'FE00FE" in gbk and "CONVERT(CONVERT(`text` USING utf8mb4) USING gbk)" in gbk
    assert utf8 == "`text`"
