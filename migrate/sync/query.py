"""Statements in the binlog: QUERY events, and the ids of XA statements."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from pymysql.charset import charset_by_id

from migrate.sync.events import EXECUTE_LOAD_QUERY, QUERY, QUERY_COMPRESSED, EventError, inflate


class Query(NamedTuple):
    """A statement. `error` is the number with which it ended on the source, 0 for none."""

    schema: str
    sql: bytes
    encoding: str
    error: int

    @property
    def text(self) -> str:
        """The statement in its session's charset; a byte that is none there comes as a lone surrogate."""
        if self.encoding == "cp1252":  # MySQL's latin1, which has the five bytes that cp1252 hasn't
            return "".join(_LATIN1[byte] for byte in self.sql)
        return self.sql.decode(self.encoding, "surrogateescape")


_LATIN1 = [bytes([b]).decode("cp1252", "ignore") or chr(b) for b in range(256)]
_QUERY = struct.Struct("<8xBHH")
_VARIABLE_SIZES = {0: 4, 1: 8, 3: 4, 7: 2, 8: 2, 9: 8, 10: 4, 13: 3, 14: 2, 16: 1, 17: 8, 18: 2, 19: 1, 20: 1,
                   128: 3, 129: 8}  # fmt: skip


def query_sql(data: bytes, start: int) -> int:
    """Where the statement of a QUERY's body stands."""
    schema_size, _, variables_size = _QUERY.unpack_from(data, start)
    return start + 14 + int(variables_size) + int(schema_size)


def query(data: bytes, start: int, stop: int, *, kind: int = QUERY) -> Query:
    """Reads the body of QUERY, of EXECUTE_LOAD_QUERY or of MariaDB's QUERY_COMPRESSED."""
    schema_size, error, variables_size = _QUERY.unpack_from(data, start)
    at = start + (26 if kind == EXECUTE_LOAD_QUERY else 13)
    schema_at = at + variables_size
    sql_at = schema_at + schema_size + 1
    sql = inflate(data, sql_at, stop) if kind == QUERY_COMPRESSED else data[sql_at:stop]
    schema = data[schema_at : schema_at + schema_size].decode()
    return Query(schema, sql, _encoding(data, at, schema_at), error)


def _encoding(data: bytes, at: int, stop: int) -> str:
    """The encoding of the session's character_set_client, from a statement's status variables."""
    while at < stop:
        code = data[at]
        at += 1
        if code == 4:
            number = int.from_bytes(data[at : at + 2], "little")
            return _charset_encoding(number)
        if code in _VARIABLE_SIZES:
            at += _VARIABLE_SIZES[code]
        elif code == 2:
            at += data[at] + 2
        elif code in (5, 6):
            at += data[at] + 1
        elif code == 11:
            at += data[at] + 1
            at += data[at] + 1
        else:
            break  # none that comes before the charset
    return "utf-8"


def _charset_encoding(collation: int) -> str:
    try:
        name = charset_by_id(collation).encoding
    except KeyError:
        return "utf-8"  # collations newer than the driver are utf8mb4's
    return _ENCODINGS.get(name, name)


_ENCODINGS = {
    "binary": "utf-8", "ujis": "euc_jp", "sjis": "shift_jis", "euckr": "euc_kr", "tis620": "tis_620",
    "latin2": "iso8859_2", "latin5": "iso8859_9", "latin7": "iso8859_13", "greek": "iso8859_7",
    "hebrew": "iso8859_8", "macroman": "mac_roman", "macce": "mac_latin2", "hp8": "hp_roman8", "dec8": "latin1",
    "swe7": "ascii", "geostd8": "latin1", "armscii8": "latin1", "keybcs2": "cp852", "eucjpms": "euc_jp",
}  # fmt: skip


_XID = re.compile(rb"X'([0-9a-f]*)',X'([0-9a-f]*)',(\d+)", re.IGNORECASE)


def xid_of(sql: bytes) -> str:
    """The id in an XA statement, as the binlog has it: hexadecimal id, branch and format, with dots between."""
    found = _XID.search(sql)
    if not found:
        raise EventError(f"no XA transaction's id in {sql[:200]!r}")
    return b".".join(found.groups()).decode("ascii").lower()
