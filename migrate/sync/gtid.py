"""Sets of GTIDs: MySQL's text and wire formats, with tags, and their arithmetic."""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from uuid import UUID

from migrate.errors import MigrateError

_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}")
_INTERVAL = re.compile(r"(\d+)(?:-(\d+))?")
_COUNT = struct.Struct("<Q")
_BOUNDS = struct.Struct("<QQ")
_TAGGED = 1

Origin = str  # "uuid", or "uuid:tag"; lower case


class GtidSet:
    """A set of GTIDs, grown by `add`. Per origin, its intervals [first, last] in order, apart from one another."""

    __slots__ = ("_intervals",)

    def __init__(self) -> None:
        self._intervals: dict[Origin, list[list[int]]] = {}

    @classmethod
    def parse(cls, text: str) -> GtidSet:
        """The set of a text like `uuid:1-5:7:tag:1-3,uuid:1`. MigrateError if it isn't one."""
        new = cls()
        for part in filter(None, (p.strip() for p in text.split(","))):
            uuid, *pieces = (p.strip().lower() for p in part.split(":"))
            try:
                origin = uuid = str(UUID(uuid))
            except ValueError:
                raise MigrateError(f"not a GTID set: {text!r}") from None
            for piece in pieces:
                if bounds := _INTERVAL.fullmatch(piece):
                    first, last = int(bounds[1]), int(bounds[2] or bounds[1])
                    if first < 1:
                        raise MigrateError(f"not a GTID set: {text!r}")
                    if last >= first:
                        new.add(origin, first, last)
                elif _TAG.fullmatch(piece):
                    origin = f"{uuid}:{piece}"
                else:
                    raise MigrateError(f"not a GTID set: {text!r}")
        return new

    @classmethod
    def decode(cls, data: bytes, at: int = 0) -> GtidSet:
        """The set in the format of PREVIOUS_GTIDS events, tagged or not."""
        new = cls()
        (count,) = _COUNT.unpack_from(data, at)
        at += 8
        tagged = count >> 56 == _TAGGED
        for _ in range((count >> 8) & 0xFFFFFFFFFFFF if tagged else count):
            origin = str(UUID(bytes=bytes(data[at : at + 16])))
            at += 16
            if tagged:
                length = data[at] >> 1  # a tag has 32 characters at most, so its length is one byte
                if length:
                    origin += ":" + data[at + 1 : at + 1 + length].decode("ascii")
                at += 1 + length
            (intervals,) = _COUNT.unpack_from(data, at)
            at += 8
            for _ in range(intervals):
                first, end = _BOUNDS.unpack_from(data, at)
                new.add(origin, first, end - 1)
                at += 16
        return new

    def encode(self) -> bytes:
        """The set as COM_BINLOG_DUMP_GTID takes it; in the tagged format only if it has tags."""
        tagged = any(":" in origin for origin in self._intervals)
        count = len(self._intervals)
        out = [_COUNT.pack(_TAGGED << 56 | count << 8 | _TAGGED if tagged else count)]
        for origin in sorted(self._intervals):
            uuid, _, tag = origin.partition(":")
            intervals = self._intervals[origin]
            out.append(UUID(uuid).bytes)
            if tagged:
                out.append(bytes([len(tag) << 1]) + tag.encode("ascii"))
            out.append(_COUNT.pack(len(intervals)))
            out += [_BOUNDS.pack(first, last + 1) for first, last in intervals]
        return b"".join(out)

    def add(self, origin: Origin, first: int, last: int | None = None) -> None:
        """Adds the GTIDs first..last of an origin, both included; one GTID without `last`."""
        last = first if last is None else last
        intervals = self._intervals.setdefault(origin, [])
        if intervals and intervals[-1][1] + 1 == first:  # what a stream does
            intervals[-1][1] = last
            return
        low = bisect_right(intervals, first, key=lambda i: i[0])
        if low and intervals[low - 1][1] >= first - 1:
            low -= 1
        high = low
        while high < len(intervals) and intervals[high][0] <= last + 1:
            first, last = min(first, intervals[high][0]), max(last, intervals[high][1])
            high += 1
        intervals[low:high] = [[first, last]]

    def add_gtid(self, gtid: str) -> None:
        """Adds one GTID, given as `uuid:7` or `uuid:tag:7`."""
        origin, _, number = gtid.rpartition(":")
        self.add(origin, int(number))

    def contains(self, gtid: str) -> bool:
        """Whether the GTID `uuid:7` or `uuid:tag:7` is in the set."""
        origin, _, number = gtid.rpartition(":")
        intervals = self._intervals.get(origin.lower(), [])
        at = bisect_right(intervals, int(number), key=lambda i: i[0])
        return at > 0 and intervals[at - 1][1] >= int(number)

    def minus(self, other: GtidSet) -> GtidSet:
        """The GTIDs of this set that aren't in the other."""
        left = GtidSet()
        for origin, intervals in self._intervals.items():
            for first, last in intervals:
                at = first
                for gone_first, gone_last in other._intervals.get(origin, ()):
                    if gone_first > last:
                        break
                    if gone_last >= at:
                        if gone_first > at:
                            left.add(origin, at, gone_first - 1)
                        at = gone_last + 1
                if at <= last:
                    left.add(origin, at, last)
        return left

    def within(self, other: GtidSet) -> bool:
        """Whether every GTID of this set is in the other."""
        return not self.minus(other)

    def __iter__(self) -> Iterator[tuple[Origin, int, int]]:
        for origin in sorted(self._intervals):
            for first, last in self._intervals[origin]:
                yield origin, first, last

    def __len__(self) -> int:
        return sum(last - first + 1 for _, first, last in self)

    def __bool__(self) -> bool:
        return bool(self._intervals)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GtidSet) and self._intervals == other._intervals

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        """MySQL's own text of the set: origins in order, the tags of a UUID behind its untagged intervals."""
        uuids: dict[str, list[str]] = {}
        for origin in sorted(self._intervals):
            uuid, _, tag = origin.partition(":")
            texts = [f"{first}-{last}" if last > first else str(first) for first, last in self._intervals[origin]]
            uuids.setdefault(uuid, []).extend([tag, *texts] if tag else texts)
        return ",".join(":".join([uuid, *texts]) for uuid, texts in uuids.items())


@lru_cache(maxsize=64)
def parse_gtid_set(text: str) -> GtidSet:
    """GtidSet.parse, remembered: the set is shared, so don't add to it."""
    return GtidSet.parse(text)
