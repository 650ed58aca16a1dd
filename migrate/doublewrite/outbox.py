"""The tables of schema migrate_outbox, the same on every instance and on the target: what was written here and has
yet to reach the other side (outbox), what came from there (applied), and which side may be written (epoch)."""

from __future__ import annotations

import json
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from migrate.db import Session
from migrate.doublewrite.image import dump, load
from migrate.doublewrite.router import Image
from migrate.errors import ConfigError, ServerError

SCHEMA = "migrate_outbox"
SLOTS = 1024  # rows of `epoch` on the target, where locks aren't shared: transactions lock one of them each
_NAME = "VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL"
_TABLES = {
    # `row_hash` orders: rows of one key have one hash, so what is pending before a row is found by an index.
    "outbox": f"""(seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, migration {_NAME}, txn CHAR(32) NOT NULL,
        row_no INT NOT NULL, target VARCHAR(130) NOT NULL, shard VARCHAR(200) NOT NULL, row_key TEXT NOT NULL,
        row_hash BIGINT NOT NULL, op CHAR(1) NOT NULL, before_image LONGTEXT, after_image LONGTEXT,
        idempotency VARCHAR(48) NOT NULL, epoch BIGINT NOT NULL, money DECIMAL(38,10) NOT NULL DEFAULT 0,
        currency VARCHAR(16), created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), held VARCHAR(1000),
        KEY in_order (migration, row_hash, seq))""",
    # A change's row is written first in the transaction that applies it: that makes it exactly once, and tells a
    # reader of the binlog, from the transaction's first row event, that it isn't news.
    "applied": f"""(migration {_NAME}, source {_NAME}, seq BIGINT NOT NULL, item BIGINT NOT NULL,
        idempotency VARCHAR(48) NOT NULL, target VARCHAR(130) NOT NULL, shard VARCHAR(200) NOT NULL,
        row_key TEXT NOT NULL, applied_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
        PRIMARY KEY (migration, source, seq, item), KEY by_age (applied_at))""",
    # Read and locked by every transaction that writes, so that none of an older epoch is open once it has changed.
    "epoch": f"""(migration {_NAME}, slot INT NOT NULL, epoch BIGINT NOT NULL, phase VARCHAR(16) NOT NULL,
        share INT NOT NULL, primary_side VARCHAR(8) NOT NULL, writable TINYINT NOT NULL,
        PRIMARY KEY (migration, slot))""",
}
COLUMNS = (
    "seq, txn, row_no, target, shard, row_key, row_hash, before_image, after_image, idempotency, epoch, money, "
    "currency, created_at"
)


@dataclass(frozen=True, eq=False)
class Change:
    """A changed row as the outbox of `source` holds it. Images and key are as on that side."""

    source: str
    seq: int
    target: str
    shard: str
    key: tuple[str, ...]
    row_hash: int
    before: Image | None
    after: Image | None
    txn: str
    row_no: int
    idempotency: str
    epoch: int
    money: Decimal
    currency: str | None
    created_at: str = ""
    item: int = 0  # tells changes of one `seq` apart where the source has no sequence of its own

    @property
    def op(self) -> str:
        return "i" if self.before is None else "d" if self.after is None else "u"

    def __str__(self) -> str:
        return f"{self.target} {', '.join(self.key)} (seq {self.seq} of {self.source}, shard {self.shard})"


def install(session: Session, migration: str, *, target: bool) -> None:
    """Creates the tables and the epoch's rows, in phase off with the shards primary. Safe to repeat."""
    session.execute(f"CREATE DATABASE IF NOT EXISTS {SCHEMA} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    for name, body in _TABLES.items():
        # AUTO_ID_CACHE 1: numbers rise over all TiDB servers; without it each has a range of its own
        options = " AUTO_ID_CACHE 1" if target and name == "outbox" else "" if target else " ENGINE=InnoDB"
        session.execute(f"CREATE TABLE IF NOT EXISTS {SCHEMA}.{name} {body} DEFAULT CHARSET utf8mb4{options}")
    session.executemany(
        f"INSERT IGNORE INTO {SCHEMA}.epoch (migration, slot, epoch, phase, share, primary_side, writable) "
        "VALUES (%s, %s, 0, 'off', 0, 'source', %s)",
        [(migration, slot, int(not target)) for slot in range(SLOTS if target else 1)],
    )


def check_installed(session: Session, migration: str) -> None:
    """ConfigError, with what to do, if the tables aren't there."""
    try:
        if session.value(f"SELECT COUNT(*) FROM {SCHEMA}.epoch WHERE migration = %s", [migration]):
            return
    except ServerError as error:
        if error.number not in (1049, 1146):
            raise
    raise ConfigError(
        f"{session.endpoint}: double-write isn't installed for migration {migration!r}: run "
        "`migrate double-write install --execute`"
    )


def insert(migration: str, changes: Sequence[Change]) -> tuple[str, list[Any]]:
    """The statement that puts changes into the outbox, with its parameters."""
    one = f"({', '.join(['%s'] * 14)})"
    sql = (
        f"INSERT INTO {SCHEMA}.outbox (migration, txn, row_no, target, shard, row_key, row_hash, op, before_image, "
        f"after_image, idempotency, epoch, money, currency) VALUES {', '.join([one] * len(changes))}"
    )
    values: list[Any] = []
    for c in changes:
        values += (migration, c.txn, c.row_no, c.target, c.shard, json.dumps(c.key, ensure_ascii=False), c.row_hash)
        values += (c.op, dump(c.before), dump(c.after), c.idempotency, c.epoch, c.money, c.currency)
    return sql, values


def read(session: Session, migration: str, where: str, args: Sequence[Any] = (), *, limit: int = 0) -> list[Change]:
    """Pending changes of the session's server, in order."""
    rows = session.query(
        f"SELECT {COLUMNS} FROM {SCHEMA}.outbox WHERE migration = %s AND {where} ORDER BY seq"
        + (f" LIMIT {limit}" if limit else ""),
        [migration, *args],
    )
    name = session.endpoint.name
    return [
        Change(name, seq, target, shard, tuple(json.loads(key)), row_hash, load(before), load(after), txn, row_no, idem,
               epoch, money, currency, str(at))
        for seq, txn, row_no, target, shard, key, row_hash, before, after, idem, epoch, money, currency, at in rows
    ]  # fmt: skip


def remove(session: Session, migration: str, seqs: Iterable[int]) -> None:
    """Takes delivered changes out of the outbox."""
    numbers = sorted(seqs)
    for i in range(0, len(numbers), 500):
        some = numbers[i : i + 500]
        session.execute(
            f"DELETE FROM {SCHEMA}.outbox WHERE seq IN ({', '.join(['%s'] * len(some))}) AND migration = %s",
            [*some, migration],
        )


def row_hash(target: str, key: Sequence[str]) -> int:
    """A number that equal keys share under every collation. Others may share it too: order is all it is for."""
    text = unicodedata.normalize("NFKD", "\0".join((target, *key))).casefold()
    plain = "".join(c for c in text if not unicodedata.combining(c)).replace(" ", "").encode()
    return zlib.crc32(plain) << 30 | zlib.adler32(plain) >> 2
