"""A small payment service on Flask and SQLAlchemy, whose accounts are sharded over MySQL by hand."""

from __future__ import annotations

import os
from contextlib import contextmanager
from decimal import Decimal

from flask import Flask, jsonify, request
from sqlalchemy import create_engine, insert, select, text, update
from sqlalchemy.orm import Session

from tests.examples.payments_tables import account, entry

SHARDS = int(os.environ["SHARDS"])
engines = [create_engine(url) for url in os.environ["SHARD_URLS"].split()]
app = Flask(__name__)


@contextmanager
def session_of(account_id):
    number = account_id % SHARDS
    with Session(engines[number % len(engines)]) as session, session.begin():
        session.connection(execution_options={"shard": number})
        yield session


@app.post("/accounts/<int:account_id>")
def open_account(account_id):
    with session_of(account_id) as session:
        session.execute(insert(account(session)).values(id=account_id, owner=request.json["owner"], balance=0))
    return jsonify(id=account_id), 201


@app.post("/accounts/<int:account_id>/entries")
def post(account_id):
    amount = Decimal(request.json["amount"])
    with session_of(account_id) as session:
        accounts, entries = account(session), entry(session)
        session.execute(select(accounts.c.id).where(accounts.c.id == account_id).with_for_update()).one()
        session.execute(
            update(accounts).where(accounts.c.id == account_id)
            .values(balance=accounts.c.balance + amount, seq=accounts.c.seq + 1)
        )  # fmt: skip
        session.execute(
            insert(entries).values(
                id=request.json["id"], account_id=account_id, voucher_id=request.json["id"], amount=abs(amount),
                direction="C" if amount > 0 else "D", once=f"entry-{request.json['id']}",
            )
        )  # fmt: skip
    return jsonify(id=request.json["id"]), 201


@app.get("/accounts/<int:account_id>")
def show(account_id):
    with session_of(account_id) as session:
        accounts = account(session)
        found = session.execute(select(accounts).where(accounts.c.id == account_id)).one()
    return jsonify(id=found.id, owner=found.owner, balance=str(found.balance))


@app.get("/health")
def health():
    for engine in engines:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    return "ok"
