"""Connections for rows in bulk: MySQL Connector's C extension, which reads rows and sends files at a tenth of PyMySQL's
cost and without holding Python's lock."""

from __future__ import annotations

import os
from collections.abc import Sequence
from threading import Lock
from typing import Any

import mysql.vendor
from _mysql_connector import MySQL, MySQLInterfaceError

from migrate.config import Endpoint
from migrate.db import PINNED, Session
from migrate.errors import ServerError, classify

_AUTH_NEEDS_TLS = 2061
# The first mysql_init() of a process sets the library up, and two at once crash it (MySQL's manual, C API, threads).
_one_by_one = Lock()
_PLUGINS = os.path.join(next(iter(mysql.vendor.__path__)), "plugin")  # how the extension authenticates


def open_raw(endpoint: Endpoint, statements: Sequence[str] = (), *, local_infile: bool = False) -> Any:
    """The extension's connection, unbuffered, its rows raw bytes, pinned as every session and set up by `statements`.
    ServerError's subclasses if it can't be had."""
    try:
        connection = _opened(endpoint, local_infile)
        for statement in (*PINNED, *statements):
            connection.query(statement.encode())
    except MySQLInterfaceError as error:
        raise raw_error(error, endpoint) from None
    return connection


def raw_error(error: MySQLInterfaceError, endpoint: Endpoint) -> ServerError:
    """The extension's error as ours, told apart by number."""
    return classify(error.errno, str(error.msg), str(endpoint))


def _opened(endpoint: Endpoint, local_infile: bool) -> Any:
    try:
        return _connected(endpoint, local_infile)
    except MySQLInterfaceError as error:
        # caching_sha2_password asks for TLS unless the server has the account in its cache; a Session can put it
        # there without TLS, by the server's public key.
        if error.errno != _AUTH_NEEDS_TLS or not endpoint.plain:
            raise
        Session(endpoint).close()
        return _connected(endpoint, local_infile)


def _connected(endpoint: Endpoint, local_infile: bool) -> Any:
    # The extension itself: opening it through mysql.connector would cost every worker 50 ms of imports.
    connection = MySQL(
        buffered=False, raw=True, charset_name="utf8mb4", connection_timeout=10, plugin_dir=_PLUGINS
    )  # fmt: skip
    with _one_by_one:
        connection.connect(
            host=endpoint.host,
            port=endpoint.port,
            user=endpoint.user,
            password=endpoint.password,
            ssl_disabled=endpoint.plain,
            local_infile=local_infile,
            **dict(endpoint.tls),
        )
    return connection
