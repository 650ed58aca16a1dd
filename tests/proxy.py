"""A TCP proxy before a database server that breaks connections at chosen moments."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

_COMMIT = b"\x03COMMIT"  # COM_QUERY and its text


class Proxy:
    """Forwards 127.0.0.1:`port` to another port of this machine until told otherwise. It counts the connections that
    it `opened`, and its `cuts`."""

    def __init__(self, upstream: int):
        self._upstream = upstream
        self._listener: socket.socket | None = None
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._rules: list[_Rule] = []
        self._last_words = b""
        self.cuts = self.opened = 0
        self.pause_s = 0.0  # before each piece that is forwarded
        self.port = 0
        self.accept()

    def accept(self) -> None:
        """Listens (again, on the same port)."""
        listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def refuse(self) -> None:
        """Cuts every connection and refuses new ones."""
        listener, self._listener = self._listener, None
        if listener:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def cut(self) -> None:
        """Cuts every connection now."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._cut(pair)

    def stall(self) -> None:
        """Holds every byte back until `flow`."""
        self._flowing.clear()

    def stall_at(self, words: bytes) -> None:
        """Holds every byte back from when a client first says that."""
        self._last_words = words

    def flow(self) -> None:
        self._flowing.set()

    def cut_after(self, count: int, way: Literal["up", "down"], *, times: int = 1, having: bytes = b"") -> None:
        """Cuts a connection after that many bytes to the server (up) or from it (down), the next `times` times.
        Bytes count from when the client has sent `having`."""
        self._rules.append(_Rule(way, count, times, having))

    def cut_commit(self, when: Literal["before", "after"], *, then_refuse: bool = False) -> None:
        """Cuts the next connection that commits after a LOAD DATA: before the server gets the COMMIT, or after it
        has answered it, but before the client hears of it."""
        self._rules.append(_Rule(when, 0, 1, b"LOAD DATA", then_refuse))

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._upstream))
            except OSError:
                client.close()
                continue
            pair = (client, server)
            with self._lock:
                self._pairs.add(pair)
                self.opened += 1
            threading.Thread(target=self._forward, args=(pair,), daemon=True).start()

    def _forward(self, pair: tuple[socket.socket, socket.socket]) -> None:
        client, server = pair
        seen: dict[_Rule, int] = {}  # the bytes that count for a rule, once it holds for this connection
        with suppress(OSError, ValueError):  # another thread may close the pair, and then its number is -1
            while True:
                for source in select.select(pair, [], [])[0]:
                    data = source.recv(65_536)
                    if source is client and self._last_words and self._last_words in data:
                        self._last_words = b""
                        self.stall()
                    self._flowing.wait()
                    time.sleep(self.pause_s)
                    if not data or not self._passes(data, source is client, pair, seen):
                        self._cut(pair, count=bool(data))
                        return
                    (server if source is client else client).sendall(data)
        self._cut(pair, count=False)

    def _passes(self, data: bytes, up: bool, pair: tuple[socket.socket, socket.socket], seen: dict[_Rule, int]) -> bool:
        for rule in [r for r in self._rules if r.times > 0]:
            if rule not in seen:
                if not up or rule.having not in data:
                    continue
                seen[rule] = 0
            if rule.way in ("before", "after"):
                if up and data.endswith(_COMMIT):
                    rule.times -= 1
                    if rule.way == "after":
                        pair[1].sendall(data)
                        pair[1].recv(65_536)
                    if rule.then_refuse:
                        self.refuse()
                    return False
            elif (rule.way == "up") == up:
                seen[rule] += len(data)
                if seen[rule] > rule.count:
                    rule.times -= 1
                    return False
        return True

    def _cut(self, pair: tuple[socket.socket, socket.socket], *, count: bool = True) -> None:
        with self._lock:
            if pair not in self._pairs:
                return
            self._pairs.discard(pair)
            self.cuts += count
        for end in pair:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class _Rule:
    def __init__(self, way: str, count: int, times: int, having: bytes, then_refuse: bool = False):
        self.way, self.count, self.times, self.having, self.then_refuse = way, count, times, having, then_refuse


@contextmanager
def proxy(upstream: int) -> Iterator[Proxy]:
    """A proxy that ends with the block."""
    made = Proxy(upstream)
    try:
        yield made
    finally:
        made.flow()
        made.refuse()
