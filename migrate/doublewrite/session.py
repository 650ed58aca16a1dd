"""What the application opens: sessions and connections on whichever side is primary, for a sharding key."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session as OrmSession
from sqlalchemy.util import await_only

from migrate.config import Config, Endpoint, load_config
from migrate.db import Session
from migrate.doublewrite import metrics
from migrate.doublewrite import phase as phases
from migrate.doublewrite.connection import Connection
from migrate.doublewrite.courier import Courier
from migrate.doublewrite.epoch import Epoch, Side
from migrate.doublewrite.errors import NotOnBothSides
from migrate.doublewrite.outbox import Change
from migrate.doublewrite.phase import Phase
from migrate.doublewrite.reading import Ask, Comparer, Question, Row, answer, from_target
from migrate.doublewrite.router import Router
from migrate.doublewrite.server import Server, meet_servers
from migrate.doublewrite.sharding import Key
from migrate.doublewrite.timed import timed
from migrate.errors import ConnectionLost, MigrateError, ServerError

log = logging.getLogger("migrate")
POLL_S = 1.0
_ANSWER_S = 5.0  # the target doesn't take longer to say the phase
_AVOID_S = 10.0
_KEY = "sharding_key"


class DoubleWrite:
    """The double write of one application process. Threads share it; a forked child may use it too.

    `deadline_s`: how long phase strict waits for the secondary. Every other option is SQLAlchemy's, for the engines.
    """

    def __init__(self, config: Config, *, deadline_s: float = 2.0, **engine_options: Any):
        self.config, self.deadline_s = config, deadline_s
        self.router = _router(config)
        self.servers = {
            endpoint.name: Server(config, self.router, endpoint, self._committed, self._seen)
            for endpoint in (*config.sources, config.target)
        }
        self._options = engine_options
        self._engines: dict[str, Engine] = {}
        self._async_engines: dict[str, AsyncEngine] = {}
        self._lock = threading.RLock()
        self._phase = meet_servers(config, self.servers)
        self._courier = Courier(config, self.servers[config.target.name], lambda: self._phase.delivers)
        self._comparer = Comparer(config, self.servers)
        self._avoided_until = 0.0  # until when no read is tried on the target, by the monotonic clock
        self._watching = 0
        self._ended = threading.Event()

    @classmethod
    def open(cls, path: str | Path, **options: Any) -> DoubleWrite:
        """The double write of a migration's configuration file. ConfigError if it isn't installed, Refused if a table
        has triggers or cascades."""
        return cls(load_config(Path(path)), **options)

    @property
    def phase(self) -> Phase:
        """The phase as this process knows it: at most about a second old. Every write asks the server itself."""
        self._watch()
        return self._phase

    def server(self, key: Key, target: str | None = None) -> str:
        """The name of the server that a write for this sharding key goes to now."""
        if self.phase.epoch.primary == "target":
            return self.config.target.name
        return self.router.instance(key, target)

    @contextmanager
    def session(self, key: Key, *, target: str | None = None, **options: Any) -> Iterator[OrmSession]:
        """A SQLAlchemy session for a sharding key, in a transaction that commits at the end of the block.

        Tables are named as on the target; those whose columns are mapped as on the side that `info["side"]` of the
        session says, source or target. `target` names the table where the shards of the key lie on several instances.
        Raises Fenced (try again), WrongPrimary (again, with a new session), Refused and NotOnBothSides.
        """
        name = self.server(key, target)
        engine = self.engine_of(name).execution_options(**{_KEY: key})
        with OrmSession(engine, **_told(self.servers[name].side, options)) as session, session.begin():
            yield session

    @asynccontextmanager
    async def async_session(
        self, key: Key, *, target: str | None = None, **options: Any
    ) -> AsyncIterator[AsyncSession]:
        """The same for asyncio, over aiomysql."""
        name = self.server(key, target)
        engine = self.async_engine(name).execution_options(**{_KEY: key})
        async with AsyncSession(engine, **_told(self.servers[name].side, options)) as session, session.begin():
            yield session

    @contextmanager
    def reading(self, key: Key, *, target: str | None = None, **options: Any) -> Iterator[OrmSession]:
        """A session that only reads, from the side that the phase says for that key; its queries may be compared.

        Read for showing and searching here; what a write is based on, read in the session that writes. Of tables whose
        columns are mapped, `ask`.
        """
        epoch = self.phase.epoch
        instance = self.router.instance(key, target)
        asked: list[tuple[str, Any]] = []
        with self._reader(epoch, key, instance) as reader:
            connection: Any = reader.connection.dbapi_connection
            connection.reading = lambda sql, args: asked.append((sql, args))
            with OrmSession(reader, **_told(connection.side, options)) as session:
                yield session
        if self._comparer.wants(epoch, key):
            for sql, args in asked:
                self._comparer.ask(Question(key, sql, args, epoch, instance))

    def ask(self, key: Key, *, old: Ask, new: Ask, target: str | None = None) -> list[Row]:
        """The same of tables whose columns are mapped: `old` asks a shard, `new` the target, each in the words of its
        side, over a session that only reads. Both give the same rows, as the application wants them; rows are compared.
        """
        epoch = self.phase.epoch
        instance = self.router.instance(key, target)
        with self._reader(epoch, key, instance) as reader:
            rows = answer(reader, old, new)

        def again(name: str) -> list[Row]:
            with self._connected(name, key) as reader:
                return answer(reader, old, new)

        if self._comparer.wants(epoch, key):
            said = " and ".join(getattr(asked, "__qualname__", repr(asked)) for asked in (old, new))
            self._comparer.ask(Question(key, said, None, epoch, instance, again))
        return rows

    def _connected(self, name: str, key: Key) -> SqlConnection:
        return self.engine_of(name).execution_options(**{_KEY: key}).connect()

    def _reader(self, epoch: Epoch, key: Key, instance: str) -> SqlConnection:
        """A connection to read over. As long as the shards are primary, they answer for a target that is away."""
        target = self.config.target.name
        if epoch.primary == "target":
            return self._connected(target, key)
        backed_off = self._comparer.backed_off == epoch.number or time.monotonic() < self._avoided_until
        if from_target(epoch, key) and not backed_off:
            try:
                return self._connected(target, key)
            except DBAPIError as error:
                self._avoided_until = time.monotonic() + _AVOID_S
                log.warning("the shards answer for the target, which is away: %s", error.orig)
        return self._connected(instance, key)

    def engine(self, key: Key, *, target: str | None = None) -> Engine:
        """An engine whose connections are for that sharding key, on the server that is primary for it now."""
        return self.engine_of(self.server(key, target)).execution_options(**{_KEY: key})

    def engine_of(self, name: str) -> Engine:
        """The engine of a server, with a pool of its own."""
        with self._lock:
            if name not in self._engines:
                url, arguments = _address(self.servers[name].endpoint, "mysql+pymysql")
                options = {"pool_pre_ping": True, **self._options}
                self._engines[name] = self.attach(create_engine(url, connect_args=arguments, **options), name)
            return self._engines[name]

    def async_engine(self, name: str) -> AsyncEngine:
        """The asyncio engine of a server, with a pool of its own."""
        with self._lock:
            if name not in self._async_engines:
                url, arguments = _address(self.servers[name].endpoint, "mysql+aiomysql")
                engine = create_async_engine(url, connect_args=arguments, **self._options)
                self.attach(engine.sync_engine, name)
                self._async_engines[name] = engine
            return self._async_engines[name]

    def attach(self, engine: Engine, name: str) -> Engine:
        """Makes every connection of an engine of the application's own double-write to that server."""

        @event.listens_for(engine, "do_connect")
        def connect(dialect: Any, record: Any, args: Any, options: Any) -> Any:
            del record
            return Connection(dialect.connect(*args, **options), self.servers[name])

        @event.listens_for(engine, "engine_connect")
        def take(connection: Any) -> None:
            connection.connection.dbapi_connection.key = connection.get_execution_options().get(_KEY)

        @event.listens_for(engine, "checkin")
        def give_back(connection: Any, record: Any) -> None:
            del record
            if connection is not None:
                connection.key = connection.reading = None

        return engine

    def wrap(self, raw: Any, name: str, key: Key | None = None) -> Connection:
        """A plain DB-API connection (of PyMySQL or one alike) to that server, double-writing."""
        connection = Connection(raw, self.servers[name])
        connection.key = key
        return connection

    def connect(self, key: Key, *, target: str | None = None) -> Any:
        """A plain DB-API connection out of the pool, for a sharding key."""
        fairy = self.engine_of(self.server(key, target)).raw_connection()
        fairy.dbapi_connection.key = key  # type: ignore[union-attr]
        return fairy

    def close(self, timeout_s: float = 5.0) -> None:
        """Lets deliveries under way come to an end, and closes the pools."""
        self._courier.rest(timeout_s)
        self._ended.set()
        for engine in self._engines.values():
            engine.dispose()

    def _committed(self, server: Server, epoch: Epoch, changes: Sequence[Change]) -> None:
        """A transaction is in, with its outbox rows. Whatever happens here, it stays in."""
        metrics.CAPTURED.labels(server.name).inc(len(changes))
        if epoch.primary != "source":
            return  # `migrate reverse` takes it from here
        sent = self._courier.send(server.endpoint, changes, self.deadline_s)
        if epoch.phase != "shadow" and not self._arrived(sent):
            raise NotOnBothSides(
                f"committed on {server.name}, and not on the target within {self.deadline_s} s: it is in the outbox, "
                f"will get there: don't write it again ({len(changes)} rows, transaction {changes[0].txn})"
            )

    def _arrived(self, sent: Future[bool]) -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            try:
                return sent.result(self.deadline_s)
            except TimeoutError:
                return False
        try:  # SQLAlchemy's greenlet: other tasks go on meanwhile
            return bool(await_only(asyncio.wait_for(asyncio.wrap_future(sent), self.deadline_s)))
        except TimeoutError:
            return False

    def _seen(self, epoch: Epoch) -> None:
        """A server said its epoch. A newer one than ours is the truth."""
        if epoch.number > self._phase.epoch.number:
            fresh = self._refresh()
            if epoch.number > self._phase.epoch.number:  # a change of the phase is under way, or its command died
                self._adopt(Phase(epoch, self._phase.forward if fresh else "", None))

    def _refresh(self) -> bool:
        """Reads the phase now; False if the target is away."""
        try:
            with timed(self.config.target, _ANSWER_S) as session:
                self._learn(session)
                return True
        except MigrateError as error:
            log.warning("the phase can't be read, the last one known holds: %s", error)
            return False

    def _learn(self, session: Session) -> None:
        """Reads the phase, and what the target holds if it was away at the start."""
        self._adopt(phases.read(session, self.config.name))
        target = self.servers[self.config.target.name]
        if not target.met:
            target.meet(session)

    def _adopt(self, phase: Phase) -> None:
        if phase.epoch.number >= self._phase.epoch.number:
            self._phase = phase
        elif not self._phase.forward:
            self._phase = replace(self._phase, forward=phase.forward)

    def _watch(self) -> None:
        """Starts the thread that looks for changes of the phase, in this process."""
        if self._watching == os.getpid():
            return
        with self._lock:
            if self._watching == os.getpid():
                return
            self._watching = os.getpid()
        threading.Thread(target=self._look, name="double-write-phase", daemon=True).start()

    def _look(self) -> None:
        session: Session | None = None
        while not self._ended.wait(POLL_S):
            try:
                session = session or timed(self.config.target, _ANSWER_S)
                self._learn(session)
            except MigrateError as error:
                log.log(logging.DEBUG if isinstance(error, ServerError) else logging.ERROR, "no phase: %s", error)
                if session is not None:
                    session.close()
                session = None


def _told(side: Side, options: dict[str, Any]) -> dict[str, Any]:
    """A session's options, with the side that it is on."""
    return options | {"info": {**options.get("info", {}), "side": side}}


def _router(config: Config) -> Router:
    try:
        return Router.of(config)
    except ConnectionLost as error:
        text = (f"{error.message}; where rows live is known from all instances together: the application can't start "
                f"without this one, and has waited for it for {config.run.patience_s} s (patience_s)")  # fmt: skip
        raise ConnectionLost(error.number, text, error.where) from None


def _address(endpoint: Endpoint, driver: str) -> tuple[URL, dict[str, Any]]:
    url = URL.create(driver, endpoint.user, endpoint.password, endpoint.host, endpoint.port)
    arguments: dict[str, Any] = {"charset": "utf8mb4"}
    tls = dict(endpoint.tls)
    if tls:
        context = ssl.create_default_context(cafile=tls.get("ssl_ca"))
        if "ssl_cert" in tls:
            context.load_cert_chain(tls["ssl_cert"], tls.get("ssl_key"))
        arguments["ssl"] = context
    elif endpoint.plain and driver == "mysql+pymysql":  # aiomysql uses none unless it is given a context
        arguments["ssl_disabled"] = True
    return url, arguments
