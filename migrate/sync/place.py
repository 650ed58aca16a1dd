"""Where a stream stands between two transactions, as its events tell."""

from __future__ import annotations

from migrate.position import Position
from migrate.sync.gtid import GtidSet


class Place:
    """A position in the making. `file` and `offset` are where the last transaction ended, on the server `uuid`.

    `by_place`: the server sends all that follows the start's file and offset. Otherwise it sends what the start's
    GTIDs lack, so what lies before that in its first file says nothing, and the start stays until a transaction ends.
    """

    def __init__(self, start: Position, uuid: str, *, by_place: bool):
        self.file, self.offset = start["file"], int(start["offset"])
        self.gtids = GtidSet.parse(start["gtid_set"])
        self.prepared = set(start.get("prepared", "").split())
        self._position, self._uuid = dict(start), uuid
        self._known, self._described, self._created = by_place, False, ""

    def describe(self, created: int, end: int) -> bool:
        """The format description of the file, made at `created`, was read. True if the start's own file is meant."""
        self._created = str(created)
        first, self._described = not self._described, True
        if not first:
            self.offset, self._known = 4, True
            self.passed(end)
        elif self._known:
            self._position["created"] = self._created
        elif (self.file, self._uuid) != (self._position["file"], self._position["server_uuid"]):
            self.offset = 4  # another file than the start's: its offset has nothing to say there
        return first and self._known

    def between(self, end: int) -> None:
        """An event that belongs to no transaction was read, up to `end`."""
        if self._known:
            self.passed(end)

    def heard(self, file: str, offset: int) -> None:
        """The server has sent all that it has before that place, and nothing of it is open."""
        if file == self.file and self._described and offset > self.offset:
            self.offset, self._known = offset, True
            self.passed(offset & 0xFFFFFFFF)

    def passed(self, end: int) -> None:
        """All up to `end` was read, which is what fits of an offset into 32 bits; nothing of it is open."""
        self.offset = ((self.offset >> 32) + (end < self.offset & 0xFFFFFFFF)) << 32 | end
        self._position = {"file": self.file, "offset": str(self.offset), "server_uuid": self._uuid}
        if self._created:
            self._position["created"] = self._created

    def position(self) -> Position:
        """The place as a position."""
        position = {**self._position, "gtid_set": str(self.gtids)}
        position.pop("prepared", None)
        if self.prepared:
            position["prepared"] = " ".join(sorted(self.prepared))
        return position
