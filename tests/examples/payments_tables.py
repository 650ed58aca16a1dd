"""The service's tables. On the shards they are numbered, as the session says."""

from __future__ import annotations

import os
from functools import cache

from sqlalchemy import BigInteger, Column, DateTime, MetaData, Numeric, String, Table


@cache
def _tables(suffix):
    schema = os.environ["LEDGER"]
    metadata = MetaData(schema=schema)
    return (
        Table("account" + suffix, metadata, Column("id", BigInteger, primary_key=True, autoincrement=False),
              Column("owner", String(40)), Column("balance", Numeric(20, 4)), Column("seq", BigInteger, default=0)),
        Table("entry" + suffix, metadata, Column("id", BigInteger, primary_key=True, autoincrement=False),
              Column("account_id", BigInteger), Column("voucher_id", BigInteger), Column("direction", String(1)),
              Column("amount", Numeric(20, 4)), Column("once", String(40)), Column("at", DateTime)),
    )  # fmt: skip


def _suffix(session):
    shard = session.connection().get_execution_options().get("shard")
    return "" if shard is None else f"_{shard:02}"


def account(session):
    return _tables(_suffix(session))[0]


def entry(session):
    return _tables(_suffix(session))[1]
