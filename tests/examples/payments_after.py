"""A small payment service on Flask and SQLAlchemy, on the double-write library."""

from __future__ import annotations

import os
from decimal import Decimal

from flask import Flask, jsonify, request
from sqlalchemy import insert, select, text, update

from migrate.doublewrite import DoubleWrite, Fenced
from tests.examples.payments_tables import account, entry

ledger = DoubleWrite.open(os.environ["MIGRATE_CONFIG"])
session_of = ledger.session
app = Flask(__name__)


@app.errorhandler(Fenced)
def fenced(error):
    return jsonify(error=str(error)), 503, {"Retry-After": "1"}


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
    with ledger.reading(account_id) as session:
        accounts = account(session)
        found = session.execute(select(accounts).where(accounts.c.id == account_id)).one()
    return jsonify(id=found.id, owner=found.owner, balance=str(found.balance))


@app.get("/health")
def health():
    for server in ledger.phase.servers(ledger.config):  # a secondary that is away is no reason to end
        with ledger.engine_of(server.name).connect() as connection:
            connection.execute(text("SELECT 1"))
    return "ok"
