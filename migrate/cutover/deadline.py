"""The end of a freeze, which nothing may outlast."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic

from migrate.errors import NoGo


class Deadline:
    """So many seconds from now."""

    def __init__(self, seconds: float):
        self._seconds, self._end = seconds, monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left. NoGo if there are none."""
        left = self._end - monotonic()
        if left <= 0:
            raise NoGo(self._over())
        return left

    def wait_for(self, name: str, work: Callable[[], str], give_up: Callable[[], None]) -> str:
        """What the work gives. NoGo when there is no time left: it goes on, in a thread of its own, after `give_up`."""
        future: Future[str] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, name=name, daemon=True).start()
        try:
            return future.result(self.left())
        except TimeoutError:
            # beside us: what hangs may hang on, while the fence is lifted
            threading.Thread(target=give_up, daemon=True).start()
            raise NoGo(f"{name} was not done: {self._over()}") from None

    def _over(self) -> str:
        return f"the freeze had lasted {self._seconds:g} s, which is cutover.freeze_s"
